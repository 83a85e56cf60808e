"""How long a message takes from one broker to another, at a fixed rate."""
import os
import socket
import threading
import time

from load import read

SAMPLES = 2_000
PER_SECOND = 500


def open_link(port, name):
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(b"\x10" + bytes([12 + len(name)]) + b"\0\4MQTT\4\2\0\0\0" + bytes([len(name)]) + name)
    read(link, 4)
    return link


def receive(link, latencies):
    """Reads publishes at QoS 0 whose payload begins with the time of sending."""
    with link.makefile("rb") as packets:
        while len(latencies) < SAMPLES:
            packets.read(1)
            length, shift = 0, 0
            while True:
                byte = packets.read(1)[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            body = packets.read(length)
            payload = body[2 + int.from_bytes(body[:2], "big"):]
            latencies.append(time.monotonic() - float(payload.split(b" ", 1)[0]))


def measure_latency(what, near, far):
    """From the sending to the broker at port `near` to the coming from the one at `far`."""
    latencies = []
    link = open_link(far, b"reader")
    link.sendall(b"\x82\x0a\0\1\0\5t/lat\0")
    read(link, 5)
    reader = threading.Thread(target=receive, args=(link, latencies))
    reader.start()
    sender = open_link(near, b"sender")
    begin = time.monotonic()
    for number in range(SAMPLES):
        time.sleep(max(0, begin + number / PER_SECOND - time.monotonic()))
        payload = str(time.monotonic()).encode() + b" " + b"x" * 200
        size = 2 + 5 + 2 + len(payload)
        head = b"\x32" + bytes([size & 127 | 128, size >> 7]) + b"\0\5t/lat"
        sender.sendall(head + (number % 65535 + 1).to_bytes(2, "big") + payload)
        read(sender, 4)
    reader.join(60)
    latencies.sort()
    ms = [latencies[int(len(latencies) * part)] * 1e3 for part in (0.5, 0.99)]
    print(f"{what} at {PER_SECOND}/s: {len(latencies)} messages, p50 {ms[0]:.1f} ms, "
          f"p99 {ms[1]:.1f} ms, load {os.getloadavg()[0]:.1f}", flush=True)
