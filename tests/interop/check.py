"""Starts the broker; Mosquitto's programs, Paho, MQTT.js and rumqttc talk through it."""

import queue
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

DEADLINE_SECONDS = 20
WHOLE_RUN_SECONDS = 300
# The password "secret", by mosquitto_passwd.
HASH_OF_MOSQUITTO = (
    "$7$101$2bSkxZjOXB7wqEER$8ox8N1ION7JiLBsNQCGt+5jJ2qx9PH3ah3hvSryvXJsoVf4Ahcuy9wWkbjWBV2+azksyO"
    "oyYjrANllfdQN93Sg=="
)
HERE = Path(__file__).resolve().parent


class Failure(Exception):
    pass


class Process:
    """A child whose output is read line by line, each wait with a deadline."""

    def __init__(self, *command):
        self.command = " ".join(map(str, command))
        self.child = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.lines = queue.Queue()
        self.seen = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def wait_for(self, pattern):
        while True:
            try:
                line = self.lines.get(timeout=DEADLINE_SECONDS)
            except queue.Empty:
                raise self.failure(f"no line like '{pattern}' in {DEADLINE_SECONDS} s") from None
            if line is None:
                raise self.failure(f"ended without a line like '{pattern}'")
            self.seen.append(line)
            found = re.search(pattern, line)
            if found:
                return found

    def ends_with(self, status):
        try:
            actual = self.child.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            raise self.failure(f"does not end in {DEADLINE_SECONDS} s") from None
        if actual != status:
            raise self.failure(f"exit status {actual}, expected {status}")

    def failure(self, what):
        while not self.lines.empty():
            self.seen.append(self.lines.get())
        output = "\n    ".join(line for line in self.seen if line is not None)
        return Failure(f"{what}\n  command: {self.command}\n  output:\n    {output}")

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait(DEADLINE_SECONDS)


class Broker(Process):
    def __init__(self, program, folder):
        certificates = folder / "certs"
        run(program, "certs", "--out", certificates)
        self.authority = certificates / "ca.crt"
        self.socket = folder / "t.sock"
        tls = f"cert={certificates}/server.crt&key={certificates}/server.key"
        listeners = [
            # Those without a login are let in as well, which has to be said where there is a login.
            "tcp://127.0.0.1:0?allow_anonymous=true",
            f"tls://127.0.0.1:0?{tls}&allow_anonymous=true",
            "ws://127.0.0.1:0/mqtt?allow_anonymous=true",
            f"unix://{self.socket}?allow_anonymous=true",
            # Last, since its URL looks like that of the first.
            "tcp://127.0.0.1:0?allow_anonymous=false",
        ]
        users = folder / "users"
        add_user(program, "-c", users, "alice", "secret")
        add_user(program, users, "bob", "other")
        with users.open("a") as lines:
            lines.write(f"carol:{HASH_OF_MOSQUITTO}\n")
        arguments = [word for url in listeners for word in ("--listen", url)]
        super().__init__(program, "run", "--password-file", users, *arguments)
        port = r"  listening on {}://[^/]*:(\d+)"
        try:
            self.tcp = int(self.wait_for(port.format("mqtt"))[1])
            self.tls = int(self.wait_for(port.format("mqtts"))[1])
            self.ws = int(self.wait_for(port.format("ws") + "/mqtt")[1])
            self.wait_for(r"  listening on .*t\.sock")
            self.closed = int(self.wait_for(port.format("mqtt"))[1])
        except BaseException:
            self.kill()
            raise


def run(*command, status=0):
    process = Process(*command)
    try:
        process.ends_with(status)
    finally:
        process.kill()


def add_user(program, *arguments):
    *arguments, password = arguments
    command = [program, "passwd", "--password-stdin", *arguments]
    limits = {"check": True, "timeout": DEADLINE_SECONDS}
    subprocess.run(command, input=password, text=True, capture_output=True, **limits)


def equal(actual, expected, what):
    if actual != expected:
        raise Failure(f"{what}: {actual!r}, expected {expected!r}")


# Mosquitto


def mosquitto_address(broker, transport):
    if transport == "tls":
        return ["-h", "127.0.0.1", "-p", broker.tls, "--cafile", broker.authority]
    return ["-h", "127.0.0.1", "-p", broker.tcp]


def mosquitto_sub(*arguments):
    """A subscriber whose subscription is in force; payloads come as 'payload <topic> <text>'."""
    shape = "payload %t %q %r %p"
    process = Process(
        "stdbuf", "-oL", "mosquitto_sub", "-d", "-F", shape, "-W", DEADLINE_SECONDS, *arguments
    )
    try:
        process.wait_for("^Subscribed ")
    except BaseException:
        process.kill()
        raise
    return process


def mosquitto_delivers(broker, transport, version, qos):
    address = [*mosquitto_address(broker, transport), "-V", version, "-q", qos]
    topic = f"mosquitto/{transport}/{version}/{qos}"
    subscriber = mosquitto_sub(*address, "-t", topic, "-C", 3)
    try:
        for number in range(3):
            run("mosquitto_pub", *address, "-t", topic, "-m", f"message {number}")
        for number in range(3):
            subscriber.wait_for(f"^payload {topic} {qos} 0 message {number}$")
        subscriber.ends_with(0)
    finally:
        subscriber.kill()


def mosquitto_retains(broker, transport, version):
    address = [*mosquitto_address(broker, transport), "-V", version, "-q", 1]
    topic = f"mosquitto/retained/{transport}/{version}"
    run("mosquitto_pub", *address, "-t", topic, "-m", "kept", "-r")
    subscriber = mosquitto_sub(*address, "-t", topic, "-C", 1)
    try:
        subscriber.wait_for(f"^payload {topic} 1 1 kept$")
        subscriber.ends_with(0)
    finally:
        subscriber.kill()
    # Removed again: the next retained message below the filter is the one that follows.
    run("mosquitto_pub", *address, "-t", topic, "-n", "-r")
    run("mosquitto_pub", *address, "-t", topic + "/next", "-m", "later", "-r")
    subscriber = mosquitto_sub(*address, "-t", topic + "/#", "-C", 1)
    try:
        found = subscriber.wait_for("^payload (.*)$")[1]
        equal(found, f"{topic}/next 1 1 later", "first retained message after a removal")
    finally:
        subscriber.kill()


def mosquitto_leaves_a_will(broker, transport, version):
    address = [*mosquitto_address(broker, transport), "-V", version]
    topic = f"mosquitto/will/{transport}/{version}"
    watcher = mosquitto_sub(*address, "-q", 1, "-t", topic, "-C", 1)
    will = ["--will-topic", topic, "--will-payload", "gone", "--will-qos", 1]
    mortal = mosquitto_sub(*address, "-t", "mosquitto/unused", *will)
    try:
        mortal.kill()
        watcher.wait_for(f"^payload {topic} 1 0 gone$")
        watcher.ends_with(0)
    finally:
        mortal.kill()
        watcher.kill()


def mosquitto_logs_in(broker, version):
    # The status is the code of CONNACK, or that the client gave up.
    address = ["-h", "127.0.0.1", "-p", broker.closed, "-V", version, "-t", "a", "-m", "b"]
    for user, password in (("alice", "secret"), ("bob", "other"), ("carol", "secret")):
        run("mosquitto_pub", *address, "-u", user, "-P", password)
    is_v5 = version == "mqttv5"
    wrong = 134 if is_v5 else 4
    run("mosquitto_pub", *address, "-u", "alice", "-P", "other", status=wrong)
    run("mosquitto_pub", *address, "-u", "mallory", "-P", "secret", status=wrong)
    run("mosquitto_pub", *address, status=135 if is_v5 else 5)


def mosquitto_rr_is_answered(broker, version):
    client = Paho(broker, "tcp", 5)
    try:
        topic = f"mosquitto/request/{version}"
        answer = f"mosquitto/response/{version}"

        def respond(_client, _data, message):
            properties = Properties(PacketTypes.PUBLISH)
            where = getattr(message.properties, "ResponseTopic", answer)
            if hasattr(message.properties, "CorrelationData"):
                properties.CorrelationData = message.properties.CorrelationData
            client.client.publish(where, b"re: " + message.payload, 1, properties=properties)

        client.subscribe(topic, 1)
        client.client.on_message = respond
        process = Process(
            "stdbuf", "-oL", "mosquitto_rr", *mosquitto_address(broker, "tcp"), "-V", version,
            "-t", topic, "-e", answer, "-m", "question", "-q", 1, "-W", DEADLINE_SECONDS,
        )
        try:
            process.wait_for("^re: question$")
            process.ends_with(0)
        finally:
            process.kill()
    finally:
        client.close()


# Paho for Python


class Paho:
    def __init__(self, broker, transport, version, **options):
        protocol = {3: paho.MQTTv31, 4: paho.MQTTv311, 5: paho.MQTTv5}[version]
        kind = {"ws": "websockets", "unix": "unix"}.get(transport, "tcp")
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=options.get("client_id", ""),
            protocol=protocol,
            transport=kind,
            **({} if version == 5 else {"clean_session": options.get("clean", True)}),
        )
        if transport == "tls":
            self.client.tls_set(ca_certs=str(broker.authority), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        if transport == "ws":
            self.client.ws_set_options(path="/mqtt")
        self.events = queue.Queue()
        self.messages = queue.Queue()
        self.client.on_connect = lambda *it: self.events.put(("connected", it[3], it[2]))
        self.client.on_subscribe = lambda *it: self.events.put(("subscribed", it[2], it[3]))
        self.client.on_message = lambda *it: self.messages.put(it[2])
        extra = {}
        if version == 5:
            extra["clean_start"] = options.get("clean", True)
            extra["properties"] = Properties(PacketTypes.CONNECT)
            extra["properties"].SessionExpiryInterval = options.get("expiry", 0)
        host = str(broker.socket) if transport == "unix" else "127.0.0.1"
        port = {"tcp": broker.tcp, "tls": broker.tls, "ws": broker.ws}.get(transport, 1)
        if "password" in options:
            self.client.username_pw_set(options.get("user"), options["password"])
            port = broker.closed
        self.client.connect(host, port, keepalive=30, **extra)
        self.client.loop_start()
        _, reason, self.flags = self._event("connected")
        equal(str(reason), options.get("reason", "Success"), "CONNACK")

    def _event(self, kind):
        try:
            event = self.events.get(timeout=DEADLINE_SECONDS)
        except queue.Empty:
            raise Failure(f"Paho: not {kind} in {DEADLINE_SECONDS} s") from None
        equal(event[0], kind, "event of Paho")
        return event

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        granted = self._event("subscribed")[2]
        equal([int(code.value) for code in granted], [qos], f"SUBACK for {topic}")

    def publish(self, topic, payload, qos, **options):
        sent = self.client.publish(topic, payload, qos, **options)
        sent.wait_for_publish(DEADLINE_SECONDS)
        if not sent.is_published():
            raise Failure(f"Paho: {topic} is not acknowledged in {DEADLINE_SECONDS} s")

    def message(self):
        try:
            return self.messages.get(timeout=DEADLINE_SECONDS)
        except queue.Empty:
            raise Failure(f"Paho: no message in {DEADLINE_SECONDS} s") from None

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def paho_delivers(broker, transport, version):
    client = Paho(broker, transport, version)
    try:
        for qos in range(3):
            topic = f"paho/{transport}/{version}/{qos}"
            client.subscribe(topic, qos)
            for payload in (b"", b"\x00\xff", b"x" * 300_000):
                client.publish(topic, payload, qos)
                message = client.message()
                equal(
                    (message.topic, message.qos, message.retain, message.payload == payload),
                    (topic, qos, False, True),
                    f"message over {transport}",
                )
    finally:
        client.close()


def paho_retains_and_resumes(broker, transport, version):
    topic = f"paho/kept/{transport}/{version}"
    names = {"client_id": f"resume-{transport}-{version}", "expiry": 300}
    first = Paho(broker, transport, version, clean=version == 5, **names)
    try:
        equal(first.flags.session_present, False, "session present at first")
        first.subscribe(topic, 2)
    finally:
        first.close()
    publisher = Paho(broker, transport, version)
    try:
        for number in range(5):
            publisher.publish(topic, f"{number}", 2, retain=number == 4)
        publisher.subscribe(topic, 1)
        message = publisher.message()
        equal((message.payload, message.retain), (b"4", True), "retained message")
    finally:
        publisher.close()
    second = Paho(broker, transport, version, clean=False, **names)
    try:
        # MQTT 3.1 has no such flag.
        equal(second.flags.session_present, version != 3, "session present after resuming")
        got = [second.message().payload for _ in range(5)]
        equal(got, [b"0", b"1", b"2", b"3", b"4"], "messages kept for a session")
    finally:
        second.close()


def paho_properties_arrive(broker, transport):
    client = Paho(broker, transport, 5)
    try:
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "text/plain"
        properties.UserProperty = [("a", "1"), ("a", "2")]
        properties.MessageExpiryInterval = 100
        client.subscribe("paho/properties/#", 1)
        client.publish(f"paho/properties/{transport}", "x", 1, properties=properties)
        found = client.message().properties
        equal(found.ContentType, "text/plain", "content type")
        equal(found.UserProperty, [("a", "1"), ("a", "2")], "user properties")
        equal(found.MessageExpiryInterval in (99, 100), True, "message expiry interval")
    finally:
        client.close()


# All


def paho_logs_in(broker, version):
    client = Paho(broker, "tcp", version, user="alice", password="secret")
    try:
        client.subscribe("paho/login", 1)
        client.publish("paho/login", b"hello", 1)
        equal(client.message().payload, b"hello", "message of a user")
    finally:
        client.close()
    refused = "Bad user name or password"
    Paho(broker, "tcp", version, user="alice", password="other", reason=refused).close()
    Paho(broker, "tcp", version, user="mallory", password="secret", reason=refused).close()


def mqttjs_logs_in_by_scram(broker, modules, user, password, is_right):
    url = f"mqtt://127.0.0.1:{broker.closed}"
    words = (user, password, str(is_right).lower())
    run("node", HERE / "scram.cjs", modules, url, *words, DEADLINE_SECONDS - 5)


def mqttjs_talks(broker, modules, transport, version):
    url = f"mqtt://127.0.0.1:{broker.tcp}"
    if transport == "ws":
        url = f"ws://127.0.0.1:{broker.ws}/mqtt"
    run("node", HERE / "mqttjs.cjs", modules, url, version, DEADLINE_SECONDS - 5)


def rumqttc_talks(broker, rumqttc, transport, version):
    url = {
        "tcp": f"tcp://127.0.0.1:{broker.tcp}",
        "tls": f"tls://127.0.0.1:{broker.tls}?ca={broker.authority}",
        "ws": f"ws://127.0.0.1:{broker.ws}/mqtt",
        "unix": f"unix://{broker.socket}",
    }[transport]
    run(rumqttc, url, version, DEADLINE_SECONDS - 5)


def all_checks(broker, modules, rumqttc):
    for transport in ("tcp", "tls"):
        for version in ("mqttv31", "mqttv311", "mqttv5"):
            for qos in range(3):
                yield mosquitto_delivers, (broker, transport, version, qos)
            yield mosquitto_retains, (broker, transport, version)
            yield mosquitto_leaves_a_will, (broker, transport, version)
    for version in ("mqttv311", "mqttv5"):
        yield mosquitto_rr_is_answered, (broker, version)
    for transport in ("tcp", "tls", "ws", "unix"):
        for version in (3, 4, 5):
            yield paho_delivers, (broker, transport, version)
            yield paho_retains_and_resumes, (broker, transport, version)
        yield paho_properties_arrive, (broker, transport)
    for transport in ("tcp", "ws"):
        for version in (3, 4, 5):
            yield mqttjs_talks, (broker, modules, transport, version)
    for version in ("mqttv31", "mqttv311", "mqttv5"):
        yield mosquitto_logs_in, (broker, version)
    for version in (3, 4, 5):
        yield paho_logs_in, (broker, version)
    for user, password, is_right in (
        ("alice", "secret", True),
        ("alice", "other", False),
        ("mallory", "secret", False),
    ):
        yield mqttjs_logs_in_by_scram, (broker, modules, user, password, is_right)
    for transport in ("tcp", "tls", "ws", "unix"):
        for version in (4, 5):
            yield rumqttc_talks, (broker, rumqttc, transport, version)


def check_everything(program, modules, rumqttc, folder):
    failures = 0
    broker = Broker(program, folder)
    try:
        for check, arguments in all_checks(broker, modules, rumqttc):
            words = [str(word) for word in arguments if isinstance(word, (str, int))]
            words = [word for word in words if word not in (modules, rumqttc)]
            name = " ".join([check.__name__, *words])
            try:
                check(*arguments)
                print(f"ok      {name}", flush=True)
            except Exception as error:
                failures += 1
                if not isinstance(error, Failure):
                    traceback.print_exc()
                print(f"FAILED  {name}: {error}", flush=True)
            if broker.child.poll() is not None:
                raise broker.failure("the broker has ended")
        broker.child.send_signal(signal.SIGTERM)
        broker.ends_with(0)
        print("ok      SIGTERM ends the broker with status 0", flush=True)
    finally:
        broker.kill()
    wrong = folder / "wrong.toml"
    wrong.write_text("[limits]\nconnections_maxx = 1\n")
    run(program, "run", "--config", wrong, status=2)
    print("ok      a wrong configuration ends with status 2", flush=True)
    return failures


def too_late(_signal, _frame):
    raise Failure(f"the whole run took more than {WHOLE_RUN_SECONDS} s")


def main():
    program, modules, rumqttc = sys.argv[1:]
    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(WHOLE_RUN_SECONDS)
    folder = Path(tempfile.mkdtemp(prefix="tidewire-interop-"))
    try:
        failures = check_everything(program, modules, rumqttc, folder)
    except Failure as error:
        print(f"interop: FAILED: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if failures:
        print(f"interop: FAILED: {failures} check(s)", file=sys.stderr)
        return 1
    print("interop: all passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
