#!/usr/bin/env python3
"""Measures the bridge over AMQP 0-9-1 to a RabbitMQ of its own: MQTT QoS 1 out and in, and the latency.

rabbitmq.py BROKER [MESSAGES]: BROKER is a tidewire, RabbitMQ that of the system. Messages are persistent,
the queue is durable, each is confirmed. Everything shares the cores: the numbers are of this mixture.
"""
import os
import sys
import tempfile
import time

from crossing import (PAYLOAD, SINGLY, measure, measure_alone, measure_singly, publish, start_tidewire,
                      state)
from latency import measure_latency
from load import fill, free_port
from rabbit_server import Machine, end_rabbitmq, start_rabbitmq


def bridge(port, rules):
    return (f'[[bridges]]\nname = "b"\nkind = "amqp091"\nservers = ["amqp://127.0.0.1:{port}"]\n'
            'restart_base_ms = 100\nrestart_max_ms = 200\nqueue_messages_max = 10000000\n'
            'queue_bytes_max = 4000000000\ninflight_max = 1000\nreceive_maximum = 1000\n'
            'exchange = "bench"\nqueue = "bench"\n[bridges.amqp091]\ndeclare = "create"\n'
            f'{rules}')


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
            measure_latency("MQTT -> RabbitMQ -> MQTT", near, far)
            receiver.kill()
            receiver.wait()
            base = state(near)["sent"]
            machine = Machine(server)
            measure("MQTT QoS 1 -> RabbitMQ", broker, near, "sent", count, base, machine,
                    lambda: publish(near, count))
            measure_singly("RabbitMQ", broker, near, machine)
            far = free_port()
            receiver = start_tidewire(binary, directory, far, bridge(server_port, inward))
            processes.append(receiver)
            measure("RabbitMQ -> MQTT", receiver, far, "received", count + SINGLY, 0, machine)
        finally:
            for process in processes:
                process.kill()
                process.wait()
            end_rabbitmq(server)


if __name__ == "__main__":
    main()
