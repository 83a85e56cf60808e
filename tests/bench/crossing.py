"""What measurements of bridges to other systems share: a node of ours, its load and its counters."""
import json
import os
import subprocess
import threading
import time

from load import cpu_seconds, fill, free_port, wait_until_open

PAYLOAD = b"x" * 256
PUBLISHERS = 4


def start_tidewire(binary, directory, port, bridge):
    path = os.path.join(directory, f"{port}.toml")
    with open(path, "w") as file:
        file.write(f'shards = 1\nsys_interval_seconds = 1\n[[listeners]]\nbind = "127.0.0.1:{port}"\n'
                   f'{bridge}[limits]\nqueue_messages_max = 10000000\nqueue_bytes_max = 4000000000\n'
                   '[store]\nengine = "memory"\n[log]\nlevel = "error"\n')
    broker = subprocess.Popen([binary, "run", "-c", path], stdout=subprocess.DEVNULL)
    wait_until_open(port)
    return broker


def state(port):
    out = subprocess.run(["mosquitto_sub", "-p", str(port), "-t", "$SYS/bridges/b/state", "-C", "1",
                          "-W", "10"], capture_output=True, text=True, check=False).stdout
    return json.loads(out) if out.strip() else {"sent": 0, "received": 0}


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
          f"message tidewire {ours * 1e6 / count:.2f} server {theirs * 1e6 / count:.2f}", flush=True)


def publish(port, count):
    threads = [threading.Thread(target=fill, args=(port, f"t/{it}", 1, PAYLOAD, count // PUBLISHERS))
               for it in range(PUBLISHERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure_alone(binary, directory, count):
    """What the MQTT side costs without a bridge."""
    port = free_port()
    broker = start_tidewire(binary, directory, port, "")
    try:
        before, begin = cpu_seconds(broker.pid), time.monotonic()
        publish(port, count)
        seconds = time.monotonic() - begin
        cost = (cpu_seconds(broker.pid) - before) * 1e6 / count
        print(f"MQTT alone: {count / seconds:,.0f} msg/s, CPU-us per message {cost:.2f}", flush=True)
    finally:
        broker.kill()
        broker.wait()
