#!/usr/bin/env python3
"""Sends messages over a bridge between two brokers of one kind, and says what it cost.

Once while the link is up (flow), once as a backlog that waits for it (drain). BROKER is a tidewire
binary, compared with mosquitto of the PATH; with --store messages outlive the near broker.
"""
import argparse
import os
import subprocess
import tempfile
import time

from load import cpu_seconds, fill, free_port, wait_until_open

PAYLOAD = b"x" * 56


def memory_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        peak = next(line for line in status if line.startswith("VmRSS"))
    return int(peak.split()[1]) // 1024


def start(kind, options, port, directory, remote, qos, name):
    path = os.path.join(directory, name)
    if kind == "tidewire":
        text = f'shards = 1\nsys_interval_seconds = 1\n[[listeners]]\nbind = "127.0.0.1:{port}"\n'
        if remote:
            text += (f'[[bridges]]\nname = "b"\nservers = ["mqtt://127.0.0.1:{remote}"]\n'
                     f'restart_base_ms = 100\nrestart_max_ms = 200\nqueue_messages_max = 10000000\n'
                     f'queue_bytes_max = 4000000000\nprotocol = "3.1.1"\ninflight_max = 1000\n'
                     f'[[bridges.out]]\nfilters = ["t"]\nqos_max = {qos}\n')
        if options.store and remote:
            store = os.path.join(directory, "store")
            text += f'[store]\nengine = "lmdb"\ndirectory = "{store}"\nmap_bytes_max = 8589934592\n'
        text += '[log]\nlevel = "error"\n'
        command = [options.broker, "run", "-c", path]
    else:
        text = (f"listener {port} 127.0.0.1\nallow_anonymous true\nsys_interval 1\n"
                "max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\n"
                "log_type none\n")
        if qos == 0:
            text += "queue_qos0_messages true\n"
        if options.store and remote:
            text += f"user root\npersistence true\npersistence_location {directory}/\n"
        if remote:
            text += (f"connection b\naddress 127.0.0.1:{remote}\ntopic t out {qos}\n"
                     "cleansession false\nrestart_timeout 1\nnotifications false\n")
        command = ["mosquitto", "-c", path]
    with open(path, "w") as file:
        file.write(text)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until_open(port)
    return process


def received(port, kind, qos):
    """How many messages the broker has got."""
    # mosquitto 2.0 does not count PUBLISH at QoS 2: each comes with a PUBREL.
    by_packets = kind == "mosquitto" and qos == 2
    topic = f"$SYS/broker/{'' if by_packets else 'publish/'}messages/received"
    out = subprocess.run(["mosquitto_sub", "-p", str(port), "-t", topic, "-C", "1", "-W", "10"],
                         capture_output=True, text=True, check=False).stdout.strip()
    return int(out or 0) // (2 if by_packets else 1)


def measure(kind, options, qos, mode):
    count = options.messages
    with tempfile.TemporaryDirectory() as directory:
        near_port, far_port = free_port(), free_port()
        processes = []
        try:
            if mode == "flow":
                far = start(kind, options, far_port, directory, None, qos, "far")
                processes.append(far)
            near = start(kind, options, near_port, directory, far_port, qos, "near")
            processes.append(near)
            if mode == "flow":
                # The bridge connects in the meantime.
                time.sleep(3)
                before = cpu_seconds(near.pid)
                begin = time.monotonic()
                fill(near_port, "t", max(qos, 1), PAYLOAD, count)
                memory = memory_mib(near.pid)
            else:
                fill(near_port, "t", max(qos, 1), PAYLOAD, count)
                memory = memory_mib(near.pid)
                before = cpu_seconds(near.pid)
                far = start(kind, options, far_port, directory, None, qos, "far")
                processes.append(far)
                begin = time.monotonic()
            first = None
            while (got := received(far_port, kind, qos)) < count:
                time.sleep(0.05)
                now = time.monotonic()
                if mode == "drain" and got and first is None:
                    first = (now, got)
                if now - begin > options.patience:
                    break
            end = time.monotonic()
            # A drain begins with the first report of messages: connecting is not draining.
            since, base = first or (begin, 0)
            rate = (got - base) / (end - since) if end > since else 0
            near_us = (cpu_seconds(near.pid) - before) * 1e6 / max(got, 1)
            far_us = cpu_seconds(far.pid) * 1e6 / max(got, 1)
            print(f"{mode:5} {kind:9} QoS {qos}: {got} of {count} in {end - begin:.1f} s, "
                  f"{rate:,.0f} msg/s, CPU-us per message near {near_us:.2f} far {far_us:.2f}, "
                  f"near {memory} MiB, load {os.getloadavg()[0]:.1f}", flush=True)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("broker", metavar="BROKER")
    parser.add_argument("messages", metavar="MESSAGES", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--modes", default="flow,drain")
    parser.add_argument("--patience", type=int, default=60, metavar="SECONDS")
    options = parser.parse_args()
    for mode in options.modes.split(","):
        for qos in (0, 1, 2):
            for kind in ("tidewire", "mosquitto"):
                measure(kind, options, qos, mode)


if __name__ == "__main__":
    main()
