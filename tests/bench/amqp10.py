#!/usr/bin/env python3
"""Measures the bridge over AMQP 1.0 to a server of its own on this machine: MQTT QoS 1 out and in, and the
latency.

amqp10.py BROKER artemis|rabbitmq [MESSAGES]: BROKER is a tidewire. Artemis is the one that tests/run has
fetched, RabbitMQ that of the system. Messages are durable, and go to one queue. Everything shares the
cores: the numbers are of this mixture.
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
from rabbit_server import Machine, end_rabbitmq, start_rabbitmq

ARTEMIS = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "target", "artemis",
                                       "apache-artemis-2.44.0"))


def start_artemis(directory):
    """Answers the process, and the port where everybody may do everything."""
    port, etc = free_port(), os.path.join(directory, "etc")
    os.mkdir(etc)
    files = {
        "bootstrap.xml": '<broker xmlns="http://activemq.apache.org/schema">'
                         f'<jaas-security domain="a"/><server configuration="file:{etc}/broker.xml"/>'
                         "</broker>",
        "management.xml": '<management-context xmlns="http://activemq.apache.org/schema"/>',
        "log4j2.properties": "rootLogger.level = ERROR\n",
        "broker.xml": f"""<configuration xmlns="urn:activemq"><core xmlns="urn:activemq:core">
<name>bench</name><security-enabled>false</security-enabled><journal-type>NIO</journal-type>
<journal-pool-files>10</journal-pool-files><max-disk-usage>100</max-disk-usage>
<paging-directory>data/paging</paging-directory><bindings-directory>data/bindings</bindings-directory>
<journal-directory>data/journal</journal-directory>
<large-messages-directory>data/large</large-messages-directory>
<acceptors><acceptor name="a">tcp://127.0.0.1:{port}?protocols=AMQP</acceptor></acceptors>
</core></configuration>""",
    }
    for name, text in files.items():
        with open(os.path.join(etc, name), "w") as file:
            file.write(text)
    java = ["java", "-Xms1g", "-Xmx1g", "-XX:+UseParallelGC", "--add-opens",
            "java.base/jdk.internal.misc=ALL-UNNAMED", f"-Dartemis.home={ARTEMIS}",
            f"-Dartemis.instance={directory}", f"-Dartemis.instance.etc={etc}",
            f"-Ddata.dir={directory}/data", f"-Dlog4j2.configurationFile={etc}/log4j2.properties",
            "-Dlog4j2.disableJmx=true", "-cp", f"{ARTEMIS}/lib/*:{etc}"]
    server = subprocess.Popen(java + ["org.apache.activemq.artemis.cli.Artemis", "run"], cwd=directory,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until_open(port)
    return [server], port


def start_with_plugin(directory):
    return start_rabbitmq(directory, "rabbitmq_amqp1_0")


def bridge(port, dialect, own, rules):
    return (f'[[bridges]]\nname = "b"\nkind = "amqp10"\nservers = ["amqp://127.0.0.1:{port}"]\n'
            'restart_base_ms = 100\nrestart_max_ms = 200\nqueue_messages_max = 10000000\n'
            'queue_bytes_max = 4000000000\ninflight_max = 1000\nreceive_maximum = 1000\n'
            f'[bridges.amqp10]\ndialect = "{dialect}"\ntarget = "queue"\n{own}{rules}')


def main():
    binary, kind = os.path.abspath(sys.argv[1]), sys.argv[2]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 200_000
    # RabbitMQ makes the queue of such an address by itself.
    start, dialect, queue = {"artemis": (start_artemis, "artemis", "bench"),
                             "rabbitmq": (start_with_plugin, "plain", "/queue/bench")}[kind]
    with tempfile.TemporaryDirectory() as directory:
        processes, server_port = start(directory)
        server = processes[0]

        def node(own, rules):
            port = free_port()
            lines = bridge(server_port, dialect, own, rules)
            broker = start_tidewire(binary, directory, port, lines)
            processes.append(broker)
            return broker, port

        def way_in():
            rules = f'[[bridges.in]]\nfilters = ["{queue}"]\ntopic = "t/lat"\n'
            return node(f'address = "{queue}"\n', rules)

        try:
            measure_alone(binary, directory, count)
            broker, near = node("", f'[[bridges.out]]\nfilters = ["t/#"]\ntopic = "{queue}"\n')
            receiver, far = way_in()
            fill(near, "t/first", 1, PAYLOAD, 100)
            while state(far)["received"] < 100:
                time.sleep(0.1)
            measure_latency(f"MQTT -> {kind} -> MQTT", near, far)
            receiver.terminate()
            receiver.wait()
            base = state(near)["sent"]
            machine = Machine(server)
            measure(f"MQTT QoS 1 -> {kind}", broker, near, "sent", count, base, machine,
                    lambda: publish(near, count))
            measure_singly(kind, broker, near, machine)
            receiver, far = way_in()
            measure(f"{kind} -> MQTT", receiver, far, "received", count + SINGLY, 0, machine)
        finally:
            for process in processes:
                process.kill()
                process.wait()
            if kind == "rabbitmq":
                end_rabbitmq(server)


if __name__ == "__main__":
    main()
