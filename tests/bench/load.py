"""What the measurements share: free ports, CPU time of a process, and a publisher with windows."""
import os
import select
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


def shard_seconds(pid):
    """CPU time of the threads of a node that speak MQTT and keep its queues."""
    nanoseconds = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        directory = f"/proc/{pid}/task/{thread}"
        with open(f"{directory}/comm") as name, open(f"{directory}/schedstat") as times:
            if name.read().startswith("shard-"):
                nanoseconds += int(times.read().split()[0])
    return nanoseconds / 1e9


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
    head = publish_head(name, qos, len(payload))
    ids = [number.to_bytes(2, "big") for number in range(1, WINDOW + 1)]
    publishes = b"".join(head + it + payload for it in ids)
    releases = b"".join(b"\x62\2" + it for it in ids)
    with connect(port, name) as link:
        while count > 0:
            part = min(count, WINDOW)
            link.sendall(publishes[:part * len(publishes) // WINDOW])
            read(link, 4 * part)
            if qos == 2:
                link.sendall(releases[:4 * part])
                read(link, 4 * part)
            count -= part


def fill_singly(port, clients, payload, count):
    """Publishes at QoS 1 from many clients; each waits for the acknowledgement of one message before the
    next, as devices do."""
    poll = select.epoll()
    links = {}
    for number in range(clients):
        name = f"t/{number}".encode()
        link = connect(port, name)
        packet = publish_head(name, 1, len(payload)) + b"\0\1" + payload
        links[link.fileno()] = link, packet
        poll.register(link, select.EPOLLIN)
    begun = min(clients, count)
    for link, packet in list(links.values())[:begun]:
        link.sendall(packet)
    answered = 0
    while answered < count:
        for file, _ in poll.poll():
            link, packet = links[file]
            read(link, 4)
            answered += 1
            if begun < count:
                link.sendall(packet)
                begun += 1
    for link, _ in links.values():
        link.close()


def publish_head(name, qos, payload_bytes):
    size = 4 + len(name) + payload_bytes
    length = bytes([size & 127 | 128, size >> 7]) if size > 127 else bytes([size])
    return bytes([0x30 | qos << 1]) + length + bytes([0, len(name)]) + name


def connect(port, name):
    link = socket.create_connection(("127.0.0.1", port))
    link.settimeout(60)
    link.sendall(b"\x10" + bytes([12 + len(name)]) + b"\0\4MQTT\4\2\0\0\0" + bytes([len(name)]) + name)
    read(link, 4)
    return link


def read(link, size):
    while size > 0:
        got = link.recv(size)
        if not got:
            raise ConnectionError("the broker closed the connection")
        size -= len(got)
