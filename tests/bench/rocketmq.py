#!/usr/bin/env python3
"""Measures the bridge to a RocketMQ of its own on this machine: MQTT QoS 1 out, and in.

rocketmq.py BROKER [MESSAGES]: BROKER is a tidewire. RocketMQ's jars are those that tests/run has
fetched. Everything shares the cores: the numbers are of this mixture.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

from crossing import (PAYLOAD, SINGLY, measure, measure_alone, measure_singly, publish, start_tidewire,
                      state)
from latency import measure_latency
from load import fill, free_port, wait_until_open

LIBS = os.path.join(os.path.dirname(__file__), "..", "..", "target", "rocketmq", "libs")
TOPICS = {"bench": "NORMAL", "line": "FIFO", "latency": "NORMAL"}


def write(directory, name, text):
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def topics():
    table = {name: {"topicName": name, "attributes": {"message.type": kind}, "readQueueNums": 8,
                    "writeQueueNums": 8, "perm": 6, "topicFilterType": "SINGLE_TAG",
                    "topicSysFlag": 0} for name, kind in TOPICS.items()}
    version = {"counter": 1, "stateVersion": 0, "timestamp": 1}
    return json.dumps({"dataVersion": version, "topicConfigTable": table})


def start_rocketmq(directory):
    """Answers the processes, the proxy with the broker in it first, and its port."""
    names, broker, replicas, port, remoting = (free_port() for _ in range(5))
    write(directory, "names.conf", f"listenPort={names}\nbindAddress=127.0.0.1\n")
    write(directory, "broker.conf", f"""brokerClusterName=DefaultCluster
brokerName=one
brokerIP1=127.0.0.1
bindAddress=127.0.0.1
listenPort={broker}
haListenPort={replicas}
namesrvAddr=127.0.0.1:{names}
storePathRootDir={directory}/data
mappedFileSizeCommitLog=134217728
diskMaxUsedSpaceRatio=99
""")
    write(directory, "conf/rmq-proxy.json", json.dumps({
        "rocketMQClusterName": "DefaultCluster", "proxyMode": "LOCAL", "localServeAddr": "127.0.0.1",
        "namesrvAddr": f"127.0.0.1:{names}", "grpcServerPort": port, "remotingListenPort": remoting}))
    write(directory, "data/config/topics.json", topics())
    java = ["java", "-Xms1g", "-Xmx1g", "-XX:+UseParallelGC", f"-Duser.home={directory}",
            "--add-opens", "java.base/java.nio=ALL-UNNAMED",
            "--add-opens", "java.base/sun.nio.ch=ALL-UNNAMED",
            "--add-exports", "java.base/jdk.internal.ref=ALL-UNNAMED",
            "-cp", os.path.join(os.path.abspath(LIBS), "*")]
    environment = dict(os.environ, ROCKETMQ_HOME=directory)

    def start(*rest):
        return subprocess.Popen(java + list(rest), cwd=directory, env=environment,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    name_server = start("org.apache.rocketmq.namesrv.NamesrvStartup", "-c", "names.conf")
    wait_until_open(names)
    proxy = start("org.apache.rocketmq.proxy.ProxyStartup", "-pm", "local", "-bc", "broker.conf",
                  "-pc", "conf/rmq-proxy.json")
    wait_until_open(port)
    return [proxy, name_server], port


def bridge(port, rules):
    return (f'[[bridges]]\nname = "b"\nkind = "rocketmq"\nservers = ["rocketmq://127.0.0.1:{port}"]\n'
            'restart_base_ms = 100\nrestart_max_ms = 200\nqueue_messages_max = 10000000\n'
            'queue_bytes_max = 4000000000\ninflight_max = 2000\nreceive_maximum = 2000\n'
            f'{rules}')


def main():
    binary = os.path.abspath(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    with tempfile.TemporaryDirectory() as directory:
        processes, server_port = start_rocketmq(directory)
        server = processes[0]

        def start(rules):
            port = free_port()
            broker = start_tidewire(binary, directory, port, bridge(server_port, rules))
            processes.append(broker)
            return broker, port

        def way_out(what, rules, amount):
            broker, port = start('[[bridges.out]]\nfilters = ["t/#"]\n' + rules)
            fill(port, "t/first", 1, PAYLOAD, 100)
            while state(port)["sent"] < 100:
                time.sleep(0.1)
            measure(what, broker, port, "sent", amount, 100, server, lambda: publish(port, amount))
            return broker, port

        def way_in(topic):
            return start(f'[[bridges.in]]\nfilters = ["{topic}"]\ntopic = "t/lat"\n')

        try:
            measure_alone(binary, directory, count)
            _, near = start('[[bridges.out]]\nfilters = ["t/#"]\ntopic = "latency"\n')
            _, far = way_in("latency")
            time.sleep(3)
            fill(near, "t/first", 1, PAYLOAD, 100)
            while state(far)["received"] < 100:
                time.sleep(0.1)
            measure_latency("MQTT -> RocketMQ -> MQTT", near, far)
            # The group is to be there before messages are, or it begins after them.
            receiver, far = way_in("bench")
            time.sleep(3)
            receiver.terminate()
            receiver.wait()
            broker, port = way_out("MQTT QoS 1 -> RocketMQ, normal", 'topic = "bench"\n', count)
            measure_singly("RocketMQ", broker, port, server)
            receiver, far = way_in("bench")
            measure("RocketMQ -> MQTT", receiver, far, "received", count + SINGLY + 100, 0, server)
            way_out("MQTT QoS 1 -> RocketMQ, FIFO of four groups",
                    'topic = "line"\nkey = "{topic}"\n', count // 10)
        finally:
            for process in processes:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
