#!/usr/bin/env python3
"""Measures the bridge to a Kafka of its own on this machine: MQTT QoS 1 to acks = all and back.

kafka.py BROKER [MESSAGES]: BROKER is a tidewire built with `--features kafka`. Kafka's jars are those
that tests/run has fetched. Everything shares the cores: the numbers are of this mixture.
"""
import os
import subprocess
import sys
import tempfile
import time

from crossing import PAYLOAD, measure, measure_alone, publish, start_tidewire, state
from load import fill, free_port, wait_until_open

LIBS = os.path.join(os.path.dirname(__file__), "..", "..", "target", "kafka", "libs")


def start_kafka(directory):
    port, controller = free_port(), free_port()
    with open(os.path.join(directory, "server.properties"), "w") as file:
        file.write(f"""process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={directory}/data
num.partitions=3
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=true
""")
    java = ["java", "-Xms512m", "-Xmx512m", "-XX:+UseSerialGC",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-cp", os.path.join(os.path.abspath(LIBS), "*")]
    subprocess.run(java + ["kafka.tools.StorageTool", "format", "--standalone", "-t",
                           "MkU3OEVBNTcwNTJENDM2Qg", "-c", "server.properties"],
                   cwd=directory, check=True, stdout=subprocess.DEVNULL)
    server = subprocess.Popen(java + ["kafka.Kafka", "server.properties"], cwd=directory,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until_open(port)
    return server, port


def bridge(kafka_port, rules):
    return (f'[[bridges]]\nname = "b"\nkind = "kafka"\nservers = ["kafka://127.0.0.1:{kafka_port}"]\n'
            'restart_base_ms = 100\nrestart_max_ms = 200\nqueue_messages_max = 10000000\n'
            'queue_bytes_max = 4000000000\n[bridges.kafka]\ncreate_topics = true\n'
            f'start = "earliest"\n{rules}')


def main():
    binary = os.path.abspath(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 400_000
    with tempfile.TemporaryDirectory() as directory:
        kafka, kafka_port = start_kafka(directory)
        processes = [kafka]
        try:
            out = '[[bridges.out]]\nfilters = ["t/#"]\ntopic = "bench"\n'
            measure_alone(binary, directory, count)
            port = free_port()
            broker = start_tidewire(binary, directory, port, bridge(kafka_port, out))
            processes.append(broker)
            fill(port, "t/first", 1, PAYLOAD, 100)
            while state(port)["sent"] < 100:
                time.sleep(0.1)
            measure("MQTT QoS 1 -> Kafka", broker, port, "sent", count, 100, kafka,
                    lambda: publish(port, count))
            kafka.kill()
            kafka.wait()
            publish(port, count)
            kafka = subprocess.Popen(kafka.args, cwd=directory, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
            processes.append(kafka)
            while state(port)["sent"] < count + 101:
                time.sleep(0.05)
            base = state(port)["sent"]
            measure("backlog -> Kafka", broker, port, "sent", 2 * count + 100 - base, base, kafka)
            port = free_port()
            rules = '[[bridges.in]]\nfilters = ["bench"]\ntopic = "in"\n'
            broker = start_tidewire(binary, directory, port, bridge(kafka_port, rules))
            processes.append(broker)
            measure("Kafka -> MQTT", broker, port, "received", 2 * count, 0, kafka)
        finally:
            for process in processes:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
