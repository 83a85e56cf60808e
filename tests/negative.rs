//! Clients that break the rules: each is turned away, and nobody else notices.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tidewire::config::{Config, Listener};
use tidewire::server::Server;

#[path = "wire/read.rs"]
mod read;
#[path = "wire/mod.rs"]
mod wire;

use read::{Packet, read_packet};
use wire::{packet, text};

const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds for CONNECT that no test waits for.
const NEVER: u32 = 3_600;

struct Broker {
    server: Option<Server>,
    address: String,
}

impl Broker {
    /// With a deadline for CONNECT.
    fn start(connect_seconds: u32) -> Self {
        let mut config = Config {
            shards: 2,
            sys_interval_seconds: 0,
            listeners: vec![Listener {
                bind: "127.0.0.1:0".into(),
                ..Listener::default()
            }],
            ..Config::default()
        };
        config.limits.connect_seconds = connect_seconds;
        config.mqtt.shutdown_seconds = 1;
        let server = Server::start(config).unwrap();
        let url = &server.addresses()[0];
        let address = url.strip_prefix("mqtt://").unwrap().to_owned();
        Self {
            server: Some(server),
            address,
        }
    }

    fn open(&self) -> Client {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream }
    }

    fn client(&self, id: &str) -> Client {
        let mut client = self.open();
        client.send(&connect(id, None));
        let connack = client.packet();
        assert_eq!((connack.first, connack.body[1]), (0x20, 0), "CONNACK");
        client
    }

    /// A new pair of clients can talk.
    fn serves(&self) {
        let mut client = self.client("witness");
        client.subscribe("witness/#", 1);
        client.send(&publish("witness/a", 1, 7, b"alive"));
        let mut first_bytes = [client.packet().first, client.packet().first];
        first_bytes.sort_unstable();
        assert_eq!(first_bytes, [0x32, 0x40], "PUBLISH and PUBACK");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let stopped = self.server.take().map(Server::stop);
        if !std::thread::panicking() {
            stopped.unwrap().unwrap();
        }
    }
}

struct Client {
    stream: TcpStream,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn packet(&mut self) -> Packet {
        read_packet(&mut self.stream)
    }

    /// Everything up to the end of the connection, which has to come.
    fn until_closed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }

    fn subscribe(&mut self, filter: &str, qos: u8) {
        let mut body = vec![0, 9, 0];
        body.extend(text(filter.as_bytes()));
        body.push(qos);
        self.send(&packet(0x82, &body));
        let suback = self.packet();
        assert_eq!((suback.first, suback.body[3]), (0x90, qos), "SUBACK");
    }

    /// A PINGREQ has been answered, with nothing in between.
    fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        let answer = self.packet();
        assert_eq!(answer.first, 0xd0, "{answer:?}");
    }
}

/// A CONNECT of MQTT 5.0 with a clean start.
fn connect(id: &str, receive_maximum: Option<u16>) -> Vec<u8> {
    let properties = receive_maximum.map_or_else(Vec::new, |maximum| {
        [&[0x21][..], &maximum.to_be_bytes()].concat()
    });
    let mut body = text(b"MQTT");
    body.extend([5, 0x02, 0, 0]);
    body.push(u8::try_from(properties.len()).unwrap());
    body.extend(properties);
    body.extend(text(id.as_bytes()));
    packet(0x10, &body)
}

fn publish_bytes(topic: &[u8], qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.push(0);
    body.extend(payload);
    packet(0x30 | qos << 1, &body)
}

fn publish(topic: &str, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    publish_bytes(topic.as_bytes(), qos, id, payload)
}

/// The broker closes a connection that begins with `bytes`, and not because of its deadline.
fn closes_at_once(bytes: &[u8]) {
    let broker = Broker::start(NEVER);
    let mut client = broker.open();
    client.send(bytes);
    client.until_closed();
    broker.serves();
}

/// The broker closes a connection that sends `bytes` after its CONNECT; others are served.
fn disconnects(bytes: &[u8]) {
    let broker = Broker::start(NEVER);
    let mut other = broker.client("other");
    other.subscribe("#", 0);
    let mut client = broker.client("culprit");
    client.send(bytes);
    let last_words = client.until_closed();
    let first = last_words.first();
    assert!(matches!(first, None | Some(0xe0)), "{last_words:02x?}");
    other.ping();
    broker.serves();
}

#[test]
fn the_first_packet_is_connect() {
    closes_at_once(&[0xc0, 0]);
    closes_at_once(&publish("a", 0, 0, b"x"));
    closes_at_once(&[0xe0, 0]);
    closes_at_once(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn a_huge_connect_is_refused_before_it_comes() {
    closes_at_once(&[0x10, 0xff, 0xff, 0xff, 0x7f]);
}

#[test]
fn a_length_of_five_bytes_is_refused() {
    closes_at_once(&[0x10, 0x80, 0x80, 0x80, 0x80, 0x01]);
    disconnects(&[0x30, 0x80, 0x80, 0x80, 0x80, 0x01]);
}

#[test]
fn a_dribbled_connect_meets_the_deadline() {
    let broker = Broker::start(1);
    let mut client = broker.open();
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let bytes = connect(&"x".repeat(1_000), None);
    for byte in bytes.iter().take(100) {
        // The read is the pause between two bytes.
        let is_closed = client.stream.write_all(&[*byte]).is_err()
            || match client.stream.read(&mut [0; 16]) {
                Ok(count) => count == 0,
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            };
        if is_closed {
            broker.serves();
            return;
        }
    }
    panic!("ten seconds and still open");
}

#[test]
fn a_silent_connection_meets_the_deadline() {
    let broker = Broker::start(1);
    let mut client = broker.open();
    assert_eq!(client.until_closed(), b"");
    broker.serves();
}

#[test]
fn type_0_is_refused() {
    closes_at_once(&[0x00, 0]);
    disconnects(&[0x00, 0]);
}

#[test]
fn a_second_connect_is_refused() {
    disconnects(&connect("culprit", None));
}

#[test]
fn packets_for_clients_are_refused() {
    disconnects(&[0x20, 3, 0, 0, 0]);
    disconnects(&[0xd0, 0]);
}

#[test]
fn bad_topics_are_refused() {
    for topic in [&b"a\0b"[..], b"a/+", b"a/#", b"#", b"\xff\xfe", b""] {
        disconnects(&publish_bytes(topic, 0, 0, b"x"));
    }
}

#[test]
fn a_topic_of_65535_slashes_hurts_nobody() {
    let broker = Broker::start(NEVER);
    let mut other = broker.client("other");
    other.subscribe("#", 0);
    let slashes = vec![b'/'; 65_535];
    let mut client = broker.client("publisher");
    client.send(&publish_bytes(&slashes, 1, 1, b"x"));
    // PUBACK with a reason, or the end: not success.
    match client.packet() {
        Packet { first: 0x40, body } => assert!(body.get(2) >= Some(&0x80), "{body:02x?}"),
        other => assert_eq!(other.first, 0xe0, "{other:02x?}"),
    }
    let mut client = broker.client("subscriber");
    let mut body = vec![0, 9, 0];
    body.extend(text(&slashes));
    body.push(0);
    client.send(&packet(0x82, &body));
    match client.packet() {
        Packet { first: 0x90, body } => assert!(body.last() >= Some(&0x80), "{body:02x?}"),
        other => assert_eq!(other.first, 0xe0, "{other:02x?}"),
    }
    other.ping();
    broker.serves();
}

#[test]
fn a_repeated_qos_2_publish_is_delivered_once() {
    let broker = Broker::start(NEVER);
    let mut subscriber = broker.client("subscriber");
    subscriber.subscribe("once", 0);
    let mut publisher = broker.client("publisher");
    for number in 0..1_000 {
        let mut bytes = publish("once", 2, 5, b"x");
        // All but the first are marked as duplicates.
        bytes[0] |= if number > 0 { 0x08 } else { 0 };
        publisher.send(&bytes);
        let pubrec = publisher.packet();
        assert_eq!((pubrec.first, &pubrec.body[..2]), (0x50, &[0, 5][..]));
    }
    publisher.send(&[0x62, 2, 0, 5]);
    assert_eq!(publisher.packet().first, 0x70, "PUBCOMP");
    publisher.send(&publish("once", 1, 6, b"end"));
    assert_eq!(publisher.packet().first, 0x40, "PUBACK");
    let first = subscriber.packet();
    assert!(first.body.ends_with(b"x"), "{first:?}");
    let second = subscriber.packet();
    assert!(second.body.ends_with(b"end"), "{second:?}");
}

#[test]
fn unknown_acknowledgements_give_no_quota() {
    let broker = Broker::start(NEVER);
    let mut subscriber = broker.open();
    subscriber.send(&connect("subscriber", Some(2)));
    assert_eq!(subscriber.packet().first, 0x20, "CONNACK");
    subscriber.subscribe("quota", 1);
    let mut publisher = broker.client("publisher");
    for id in 1..=6 {
        publisher.send(&publish("quota", 1, id, &id.to_be_bytes()));
        assert_eq!(publisher.packet().first, 0x40, "PUBACK");
    }
    let known = [subscriber.packet(), subscriber.packet()];
    let id_of = |packet: &Packet| {
        assert_eq!(packet.first, 0x32, "{packet:?}");
        [packet.body[7], packet.body[8]]
    };
    let ids = [id_of(&known[0]), id_of(&known[1])];
    for unknown in 60_000_u16..60_020 {
        let [high, low] = unknown.to_be_bytes();
        subscriber.send(&[0x40, 2, high, low]);
        subscriber.send(&[0x70, 2, high, low]);
    }
    // Answered in order: had an unknown identifier freed quota, a PUBLISH came first.
    subscriber.ping();
    subscriber.send(&[0x40, 2, ids[0][0], ids[0][1]]);
    let third = subscriber.packet();
    assert!(third.body.ends_with(&[0, 3]), "{third:?}");
    subscriber.ping();
}

#[test]
fn a_flood_of_pings_without_a_reader_hurts_nobody() {
    let broker = Broker::start(NEVER);
    let mut flood = broker.client("flood");
    flood
        .stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let pings = [0xc0, 0].repeat(32_768);
    // Until the broker no longer reads, or hangs up, or 64 MiB are in.
    for _ in 0..1_024 {
        if flood.stream.write_all(&pings).is_err() {
            break;
        }
    }
    broker.serves();
    // Both shards.
    for number in 0..8 {
        broker.client(&format!("client-{number}")).ping();
    }
}
