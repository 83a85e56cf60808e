"""What the measurements share: free ports, CPU time of a process, and a publisher with windows."""
import os
import socket
import time

TICKS = os.sysconf("SC_CLK_TCK")
WINDOW = 500


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def wait_until_open(port):
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.02)


def fill(port, topic, qos, payload, count):
    """Publishes at QoS 1 or 2 with MQTT 3.1.1, a window at a time, until all is acknowledged."""
    name = topic.encode()
    size = 4 + len(name) + len(payload)
    length = bytes([size & 127 | 128, size >> 7]) if size > 127 else bytes([size])
    head = bytes([0x30 | qos << 1]) + length + bytes([0, len(name)]) + name
    ids = [number.to_bytes(2, "big") for number in range(1, WINDOW + 1)]
    publishes = b"".join(head + it + payload for it in ids)
    releases = b"".join(b"\x62\2" + it for it in ids)
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.settimeout(60)
        link.sendall(b"\x10" + bytes([12 + len(name)]) + b"\0\4MQTT\4\2\0\0\0" +
                     bytes([len(name)]) + name)
        read(link, 4)
        while count > 0:
            part = min(count, WINDOW)
            link.sendall(publishes[:part * len(publishes) // WINDOW])
            read(link, 4 * part)
            if qos == 2:
                link.sendall(releases[:4 * part])
                read(link, 4 * part)
            count -= part


def read(link, size):
    while size > 0:
        got = link.recv(size)
        if not got:
            raise ConnectionError("the broker closed the connection")
        size -= len(got)
