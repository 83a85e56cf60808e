#!/usr/bin/env python3
"""Measures the bridge to a Kafka of its own on this machine: MQTT QoS 1 to acks = all and back.

kafka.py BROKER [MESSAGES]: BROKER is a tidewire built with `--features kafka`. Kafka's jars are those
that tests/run has fetched. Everything shares the cores: the numbers are of this mixture.
"""
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

from load import cpu_seconds, fill, free_port, wait_until_open

PAYLOAD = b"x" * 256
PUBLISHERS = 4
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


def start_tidewire(binary, directory, port, bridge):
    path = os.path.join(directory, f"{port}.toml")
    with open(path, "w") as file:
        file.write(f'shards = 1\nsys_interval_seconds = 1\n[[listeners]]\nbind = "127.0.0.1:{port}"\n'
                   f'{bridge}[limits]\nqueue_messages_max = 10000000\nqueue_bytes_max = 4000000000\n'
                   '[store]\nengine = "memory"\n[log]\nlevel = "error"\n')
    broker = subprocess.Popen([binary, "run", "-c", path], stdout=subprocess.DEVNULL)
    wait_until_open(port)
    return broker


def bridge(kafka_port, rules):
    return (f'[[bridges]]\nname = "b"\nkind = "kafka"\nservers = ["kafka://127.0.0.1:{kafka_port}"]\n'
            'restart_base_ms = 100\nrestart_max_ms = 200\nqueue_messages_max = 10000000\n'
            'queue_bytes_max = 4000000000\n[bridges.kafka]\ncreate_topics = true\n'
            f'start = "earliest"\n{rules}')


def state(port):
    out = subprocess.run(["mosquitto_sub", "-p", str(port), "-t", "$SYS/bridges/b/state", "-C", "1",
                          "-W", "10"], capture_output=True, text=True, check=False).stdout
    return json.loads(out) if out.strip() else {"sent": 0, "received": 0}


def measure(what, broker, port, key, count, base, kafka, act=lambda: None):
    before = [cpu_seconds(it.pid) for it in (broker, kafka)]
    begin = time.monotonic()
    act()
    while state(port)[key] - base < count and time.monotonic() - begin < 120:
        time.sleep(0.05)
    seconds = time.monotonic() - begin
    done = state(port)[key] - base
    ours, theirs = (cpu_seconds(it.pid) - was for it, was in zip((broker, kafka), before))
    print(f"{what}: {done} of {count} in {seconds:.1f} s, {done / seconds:,.0f} msg/s, CPU-us per "
          f"message tidewire {ours * 1e6 / count:.2f} kafka {theirs * 1e6 / count:.2f}", flush=True)


def publish(port, count):
    threads = [threading.Thread(target=fill, args=(port, f"t/{it}", 1, PAYLOAD, count // PUBLISHERS))
               for it in range(PUBLISHERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    binary = os.path.abspath(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 400_000
    with tempfile.TemporaryDirectory() as directory:
        kafka, kafka_port = start_kafka(directory)
        processes = [kafka]
        try:
            out = '[[bridges.out]]\nfilters = ["t/#"]\ntopic = "bench"\n'
            port = free_port()
            plain = start_tidewire(binary, directory, port, "")
            processes.append(plain)
            before, begin = cpu_seconds(plain.pid), time.monotonic()
            publish(port, count)
            seconds = time.monotonic() - begin
            alone = (cpu_seconds(plain.pid) - before) * 1e6 / count
            print(f"MQTT alone: {count / seconds:,.0f} msg/s, CPU-us per message {alone:.2f}")
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
