"""What measurements of bridges to other systems share: a node of ours, its load and its counters."""
import json
import os
import socket
import subprocess
import threading
import time

from load import cpu_seconds, fill, fill_singly, free_port, shard_seconds, wait_until_open

PAYLOAD = b"x" * 256
PUBLISHERS = 4
DEVICES = 500
# Messages of the devices, each one at a time.
SINGLY = 100_000
# The control sockets of nodes by their ports.
SOCKETS = {}


def start_tidewire(binary, directory, port, bridge):
    path = os.path.join(directory, f"{port}.toml")
    SOCKETS[port] = os.path.join(directory, f"{port}.socket")
    with open(path, "w") as file:
        file.write(f'shards = 1\ncontrol_socket = "{SOCKETS[port]}"\n[[listeners]]\nbind = "127.0.0.1:{port}"\n'
                   f'{bridge}[limits]\nqueue_messages_max = 10000000\nqueue_bytes_max = 4000000000\n'
                   '[store]\nengine = "memory"\n[log]\nlevel = "error"\n')
    broker = subprocess.Popen([binary, "run", "-c", path], stdout=subprocess.DEVNULL)
    wait_until_open(port)
    while not os.path.exists(SOCKETS[port]):
        time.sleep(0.02)
    return broker


def state(port):
    """What the bridge says about itself now; `$SYS` says it once a second."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(SOCKETS[port])
        link.sendall(b"bridge b state\n")
        with link.makefile() as answer:
            word, _, text = answer.readline().partition(" ")
    if word != "ok":
        raise RuntimeError(text)
    return json.loads(text)


def measure(what, broker, port, key, count, base, server, act=lambda: None):
    before = [cpu_seconds(it.pid) for it in (broker, server)]
    begin = time.monotonic()
    act()
    while state(port)[key] - base < count and time.monotonic() - begin < 120:
        time.sleep(0.05)
    seconds = time.monotonic() - begin
    done = state(port)[key] - base
    ours, theirs = (cpu_seconds(it.pid) - was for it, was in zip((broker, server), before))
    print(f"{what}: {done} of {count} in {seconds:.1f} s, {done / seconds:,.0f} msg/s, CPU-us per "
          f"message tidewire {ours * 1e6 / count:.2f} server {theirs * 1e6 / count:.2f}, load "
          f"{os.getloadavg()[0]:.1f}", flush=True)


def publish(port, count):
    threads = [threading.Thread(target=fill, args=(port, f"t/{it}", 1, PAYLOAD, count // PUBLISHERS))
               for it in range(PUBLISHERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def publish_singly(port, count):
    fill_singly(port, DEVICES, PAYLOAD, count)


def measure_singly(what, broker, port, server):
    """As many devices publish: each waits for one acknowledgement before its next message."""
    base = state(port)["sent"]
    before = cpu_seconds(broker.pid), shard_seconds(broker.pid)
    measure(f"{DEVICES} devices -> {what}", broker, port, "sent", SINGLY, base, server,
            lambda: publish_singly(port, SINGLY))
    ours, shard = (now - was for now, was in
                   zip((cpu_seconds(broker.pid), shard_seconds(broker.pid)), before))
    print(f"  of which MQTT side {shard * 1e6 / SINGLY:.2f}, bridge {(ours - shard) * 1e6 / SINGLY:.2f}",
          flush=True)


def measure_alone(binary, directory, count):
    """What the MQTT side costs without a bridge."""
    port = free_port()
    broker = start_tidewire(binary, directory, port, "")
    try:
        for what, act, count in (("MQTT alone", publish, count),
                                 (f"{DEVICES} devices alone", publish_singly, SINGLY)):
            before, begin = cpu_seconds(broker.pid), time.monotonic()
            act(port, count)
            seconds = time.monotonic() - begin
            cost = (cpu_seconds(broker.pid) - before) * 1e6 / count
            print(f"{what}: {count / seconds:,.0f} msg/s, CPU-us per message {cost:.2f}", flush=True)
    finally:
        broker.kill()
        broker.wait()
