#!/usr/bin/env python3
"""Measures the bridge to a Kafka of its own on this machine: MQTT QoS 1 to acks = all and back,
at least once and exactly once, and how long a message takes.

kafka.py BROKER [MESSAGES]: BROKER is a tidewire built with `--features kafka`. Kafka's jars are those
that tests/run has fetched. Everything shares the cores: the numbers are of this mixture.
"""
import os
import subprocess
import sys
import tempfile
import time

from crossing import (PAYLOAD, SINGLY, measure, measure_alone, measure_singly, publish, start_tidewire,
                      state)
from latency import measure_latency
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
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
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


def bridge(kafka_port, lines):
    return (f'[[bridges]]\nname = "b"\nkind = "kafka"\nservers = ["kafka://127.0.0.1:{kafka_port}"]\n'
            'restart_base_ms = 100\nrestart_max_ms = 200\nqueue_messages_max = 10000000\n'
            'queue_bytes_max = 4000000000\n[bridges.kafka]\ncreate_topics = true\n'
            f'start = "earliest"\n{lines}')


def out(topic, guarantee):
    return (f'guarantee = "{guarantee}"\n[[bridges.out]]\nfilters = ["t/#"]\ntopic = "{topic}"\n')


def inward(topic):
    return f'[[bridges.in]]\nfilters = ["{topic}"]\ntopic = "t/lat"\n'


class Bench:
    def __init__(self, binary, directory, count):
        self.binary, self.directory, self.count = binary, directory, count
        self.kafka, self.kafka_port = start_kafka(directory)

    def node(self, lines):
        port = free_port()
        lines = bridge(self.kafka_port, lines)
        if "exactly_once" in lines:
            lines = lines.replace("[[bridges.out]]", 'transactional_id = "b"\n[[bridges.out]]', 1)
        return start_tidewire(self.binary, self.directory, port, lines), port

    def restart_kafka(self):
        self.kafka = subprocess.Popen(self.kafka.args, cwd=self.directory, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)

    def outward(self, guarantee):
        broker, port = self.node(out(guarantee, guarantee))
        try:
            fill(port, "t/first", 1, PAYLOAD, 100)
            wait_for(port, "sent", 100)
            measure(f"MQTT QoS 1 -> Kafka, {guarantee}", broker, port, "sent", self.count, 100,
                    self.kafka, lambda: publish(port, self.count))
            measure_singly(f"Kafka, {guarantee}", broker, port, self.kafka)
            sent = state(port)["sent"]
            self.kafka.kill()
            self.kafka.wait()
            publish(port, self.count)
            self.restart_kafka()
            wait_for(port, "sent", sent + 1)
            base = state(port)["sent"]
            measure(f"backlog -> Kafka, {guarantee}", broker, port, "sent",
                    sent + self.count - base, base, self.kafka)
        finally:
            end(broker)

    def inward(self):
        broker, port = self.node(inward("at_least_once"))
        try:
            wait_for(port, "received", 1)
            base = state(port)["received"]
            measure("Kafka -> MQTT", broker, port, "received", 2 * self.count + SINGLY - base, base,
                    self.kafka)
        finally:
            end(broker)

    def latency(self, guarantee):
        far, far_port = self.node(inward("latency-" + guarantee))
        near, near_port = self.node(out("latency-" + guarantee, guarantee))
        try:
            fill(near_port, "t/first", 1, PAYLOAD, 100)
            wait_for(far_port, "received", 100)
            measure_latency(f"MQTT -> Kafka -> MQTT, {guarantee},", near_port, far_port)
        finally:
            end(near)
            end(far)


def wait_for(port, key, count):
    begin = time.monotonic()
    while state(port)[key] < count:
        if time.monotonic() - begin > 120:
            raise TimeoutError(str(state(port)))
        time.sleep(0.02)


def end(process):
    process.kill()
    process.wait()


def main():
    binary = os.path.abspath(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(binary, directory, count)
        try:
            measure_alone(binary, directory, count)
            for guarantee in ("at_least_once", "exactly_once"):
                bench.outward(guarantee)
            bench.inward()
            for guarantee in ("at_least_once", "exactly_once"):
                bench.latency(guarantee)
        finally:
            end(bench.kafka)


if __name__ == "__main__":
    main()
