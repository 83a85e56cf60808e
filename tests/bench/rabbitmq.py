#!/usr/bin/env python3
"""Measures the bridge over AMQP 0-9-1 to a RabbitMQ of its own: MQTT QoS 1 out and in, and the latency.

rabbitmq.py BROKER [MESSAGES]: BROKER is a tidewire, RabbitMQ that of the system. Messages are persistent,
the queue is durable, each is confirmed. Everything shares the cores: the numbers are of this mixture.
"""
import os
import socket
import sys
import tempfile
import threading
import time

from crossing import PAYLOAD, measure, measure_alone, publish, start_tidewire, state
from load import fill, free_port, read
from rabbit_server import Machine, end_rabbitmq, start_rabbitmq

SAMPLES = 2_000
PER_SECOND = 500


def bridge(port, rules):
    return (f'[[bridges]]\nname = "b"\nkind = "amqp091"\nservers = ["amqp://127.0.0.1:{port}"]\n'
            'restart_base_ms = 100\nrestart_max_ms = 200\nqueue_messages_max = 10000000\n'
            'queue_bytes_max = 4000000000\ninflight_max = 1000\nreceive_maximum = 1000\n'
            'exchange = "bench"\nqueue = "bench"\n[bridges.amqp091]\ndeclare = "create"\n'
            f'{rules}')


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


def measure_latency(near, far):
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
    print(f"MQTT -> RabbitMQ -> MQTT at {PER_SECOND}/s: {len(latencies)} messages, p50 {ms[0]:.1f} ms, "
          f"p99 {ms[1]:.1f} ms, load {os.getloadavg()[0]:.1f}", flush=True)


def main():
    binary = os.path.abspath(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    with tempfile.TemporaryDirectory() as directory:
        processes, server_port = start_rabbitmq(directory)
        server = processes[0]
        try:
            measure_alone(binary, directory, count)
            inward = '[[bridges.in]]\nfilters = ["t/#"]\n'
            far = free_port()
            receiver = start_tidewire(binary, directory, far, bridge(server_port, inward))
            processes.append(receiver)
            time.sleep(2)
            near = free_port()
            out = bridge(server_port, '[[bridges.out]]\nfilters = ["t/#"]\n')
            out = out.replace('queue = "bench"\n', "")
            broker = start_tidewire(binary, directory, near, out)
            processes.append(broker)
            fill(near, "t/first", 1, PAYLOAD, 100)
            while state(far)["received"] < 100:
                time.sleep(0.1)
            measure_latency(near, far)
            receiver.kill()
            receiver.wait()
            base = state(near)["sent"]
            machine = Machine(server)
            measure("MQTT QoS 1 -> RabbitMQ", broker, near, "sent", count, base, machine,
                    lambda: publish(near, count))
            far = free_port()
            receiver = start_tidewire(binary, directory, far, bridge(server_port, inward))
            processes.append(receiver)
            measure("RabbitMQ -> MQTT", receiver, far, "received", count, 0, machine)
        finally:
            for process in processes:
                process.kill()
                process.wait()
            end_rabbitmq(server)


if __name__ == "__main__":
    main()
