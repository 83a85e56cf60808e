#!/usr/bin/env python3
"""What connected clients notice of a flood before the login: 10,000 half-open connections, and
bursts of connects that are refused for their rate.

flood.py BROKER: BROKER is a tidewire binary. Prints the round trips of one pair of clients that
publishes 500 messages a second, quiet and while flooded. Nothing is asserted: it is a measurement.
"""
import multiprocessing
import os
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time

from load import free_port

HALF_OPEN = 10_000
CONNECTS_PER_SECOND = 30_000
FLOODERS = 2
BURST_SECONDS, PAUSE_SECONDS, BURSTS = 1, 1, 5
CONFIG = """
shards = 2
sys_interval_seconds = 0
allow_anonymous = true
[[listeners]]
bind = "127.0.0.1:{port}"
backlog = 4096
[limits]
connect_seconds = 60
connects_per_second_per_address = 1
connects_burst_per_address = 20
"""


def packet(first, body):
    return bytes([first, len(body)]) + body


def text(value):
    return struct.pack(">H", len(value)) + value


def client(port, name):
    stream = socket.create_connection(("127.0.0.1", port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.settimeout(60)
    stream.sendall(packet(0x10, text(b"MQTT") + b"\x04\x02\0\0" + text(name)))
    assert stream.recv(4)[3] == 0
    return stream


def measure(port, seconds, is_counted, results):
    """Sorted round trips in milliseconds of the times that count."""
    subscriber, publisher = client(port, b"s"), client(port, b"p")
    subscriber.sendall(packet(0x82, b"\0\1" + text(b"t") + b"\0"))
    subscriber.recv(5)
    message = packet(0x30, text(b"t") + b"x" * 16)
    samples, begin = [], time.monotonic()
    while time.monotonic() - begin < seconds:
        start = time.monotonic()
        publisher.sendall(message)
        got = b""
        while len(got) < len(message):
            got += subscriber.recv(len(message) - len(got))
        if is_counted.value:
            samples.append((time.monotonic() - start) * 1_000)
        time.sleep(max(0.0, 0.002 - (time.monotonic() - start)))
    results.put(sorted(samples))


def flood(port, source, bursts, count):
    """Connects as fast as it may in each burst and closes at once, whatever comes of it."""
    # A flood comes from elsewhere: what it costs to send is not to be measured.
    os.nice(10)
    per_burst = CONNECTS_PER_SECOND * BURST_SECONDS // FLOODERS
    made = 0
    for _ in range(bursts):
        begin = time.monotonic()
        for number in range(per_burst):
            stream = socket.socket()
            # No port stays behind.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.bind((f"127.0.{source}.{1 + number % 8}", 0))
            stream.setblocking(False)
            stream.connect_ex(("127.0.0.1", port))
            stream.close()
            made += 1
            if time.monotonic() - begin > BURST_SECONDS:
                break
        time.sleep(max(0.0, BURST_SECONDS + PAUSE_SECONDS - (time.monotonic() - begin)))
    with count.get_lock():
        count.value += made


def half_open(port):
    streams = []
    for number in range(HALF_OPEN):
        stream = socket.socket()
        stream.bind((f"127.0.{32 + number % 8}.{1 + number // 8 % 250}", 0))
        stream.connect(("127.0.0.1", port))
        stream.sendall(b"\x10\x40\0\x04MQTT")
        streams.append(stream)
    return streams


def report(name, samples):
    at = lambda part: samples[min(len(samples) - 1, int(len(samples) * part))]
    print(f"{name:34} n={len(samples):6} p50={at(.5):7.2f} ms p99={at(.99):7.2f} ms"
          f" max={samples[-1]:7.2f} ms", flush=True)


def run(port, name, seconds, during=lambda is_counted: None, counted=True):
    results, is_counted = multiprocessing.Queue(), multiprocessing.Value("b", counted)
    meter = multiprocessing.Process(target=measure, args=(port, seconds, is_counted, results))
    meter.start()
    during(is_counted)
    samples = results.get()
    meter.join()
    report(name, samples)


def burst(port):
    def during(is_counted):
        count = multiprocessing.Value("i", 0)
        time.sleep(0.5)
        flooders = [multiprocessing.Process(target=flood, args=(port, 16 + it, BURSTS, count))
                    for it in range(FLOODERS)]
        for flooder in flooders:
            flooder.start()
        for _ in range(BURSTS):
            is_counted.value = 1
            time.sleep(BURST_SECONDS)
            is_counted.value = 0
            time.sleep(PAUSE_SECONDS)
        for flooder in flooders:
            flooder.join()
        rate = count.value // (BURSTS * BURST_SECONDS)
        print(f"connects: {rate} a second within bursts", flush=True)
    return during


def main():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "tidewire.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(port=port))
        with open(os.path.join(directory, "log"), "wb") as log:
            broker = subprocess.Popen([sys.argv[1], "run", "-c", path], stdout=log, stderr=log)
        try:
            time.sleep(1)
            print(f"load of the machine: {os.getloadavg()[0]:.1f}", flush=True)
            run(port, "quiet", 8)
            total = BURSTS * (BURST_SECONDS + PAUSE_SECONDS) + 1
            run(port, "bursts of refused connects", total, burst(port), counted=False)
            run(port, "quiet", 8)
            begin = time.monotonic()
            streams = half_open(port)
            print(f"{len(streams)} half-open within {time.monotonic() - begin:.1f} s", flush=True)
            run(port, "10,000 half-open", 8)
            print(f"load of the machine: {os.getloadavg()[0]:.1f}", flush=True)
        finally:
            broker.terminate()
            broker.wait()


if __name__ == "__main__":
    main()
