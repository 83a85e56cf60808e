//! A client that does exactly what a test says, and the broker it talks to.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::got::{Got, Message, owned};
pub(crate) use crate::packets::{connect, lasting, message, options, will};
use tidewire::config::{Config, Listener, StoreConfig, StoreEngine};
use tidewire::server::Server;
use tidewire_protocol::codec::{
    Ack, Connect, Disconnect, Packet, PacketId, PacketType, ProtocolVersion, Publish, QoS,
    ReasonCode, Receiver, Subscribe, Subscription, SubscriptionOptions, Unsubscribe,
    UserProperties, decode, encode,
};

pub(crate) const VERSIONS: [ProtocolVersion; 3] = [
    ProtocolVersion::V3_1,
    ProtocolVersion::V3_1_1,
    ProtocolVersion::V5,
];
pub(crate) const Q0: QoS = QoS::AtMostOnce;
pub(crate) const Q1: QoS = QoS::AtLeastOnce;
pub(crate) const Q2: QoS = QoS::ExactlyOnce;

/// Runs a test with each version, each time at new brokers.
pub(crate) fn in_all_versions(test: impl Fn(&Broker, ProtocolVersion) + Sync) {
    for version in VERSIONS {
        at_brokers(|broker| test(broker, version));
    }
}

/// Runs a test at a broker of one shard and at one of three, at the same time.
pub(crate) fn at_brokers(test: impl Fn(&Broker) + Sync) {
    at_brokers_with(|_| {}, test);
}

pub(crate) fn at_brokers_with(change: impl Fn(&mut Config) + Sync, test: impl Fn(&Broker) + Sync) {
    std::thread::scope(|scope| {
        for shards in [1, 3] {
            let (change, test) = (&change, &test);
            scope.spawn(move || at_broker(shards, change, test));
        }
    });
}

/// With `TIDEWIRE_TEST_STORE=lmdb` all tests run with a durable store.
fn durable_directory() -> Option<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let is_durable = std::env::var("TIDEWIRE_TEST_STORE").is_ok_and(|it| it == "lmdb");
    is_durable.then(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidewire-conformance-{}-{number}", std::process::id());
        std::env::temp_dir().join(name)
    })
}

fn at_broker(shards: u16, change: impl Fn(&mut Config), test: impl Fn(&Broker)) {
    let directory = durable_directory();
    let mut config = Config {
        store: match &directory {
            None => StoreConfig::default(),
            Some(directory) => StoreConfig {
                engine: StoreEngine::Lmdb,
                directory: directory.clone(),
                map_bytes_max: 1 << 28,
                ..StoreConfig::default()
            },
        },
        shards,
        listeners: vec![Listener {
            bind: "127.0.0.1:0".into(),
            ..Listener::default()
        }],
        ..Config::default()
    };
    config.mqtt.shutdown_seconds = 1;
    change(&mut config);
    let server = Server::start(config).expect("the broker starts");
    let address = server.addresses()[0]
        .strip_prefix("mqtt://")
        .expect("an MQTT listener")
        .to_owned();
    test(&Broker { address });
    server.stop().expect("the broker stops");
    if let Some(directory) = directory {
        std::fs::remove_dir_all(directory).expect("the store is removed");
    }
}

pub(crate) struct Broker {
    address: String,
}

impl Broker {
    pub(crate) fn open(&self) -> Client {
        let stream = TcpStream::connect(&self.address).expect("connected");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("timeout set");
        stream.set_nodelay(true).expect("option set");
        Client {
            stream,
            bytes: Vec::new(),
            version: ProtocolVersion::V5,
        }
    }

    /// A connection whose CONNECT is accepted, and whether its session was present.
    pub(crate) fn connect_with(&self, connect: &Connect<'_>) -> (Client, bool) {
        let mut client = self.open();
        client.send_connect(connect);
        match client.receive() {
            Got::ConnAck {
                reason: ReasonCode::Success,
                is_present,
                ..
            } => (client, is_present),
            other => panic!("no CONNACK: {other:?}"),
        }
    }

    pub(crate) fn connect(&self, client_id: &str) -> Client {
        self.connect_with(&connect(client_id)).0
    }

    /// Connects with a clean start.
    pub(crate) fn connect_as(&self, client_id: &str, version: ProtocolVersion) -> Client {
        let mut connect = connect(client_id);
        connect.version = version;
        self.connect_with(&connect).0
    }

    /// Resumes or begins a session that outlives its connection.
    pub(crate) fn resume_as(&self, client_id: &str, version: ProtocolVersion) -> (Client, bool) {
        let mut connect = lasting(client_id);
        connect.version = version;
        self.connect_with(&connect)
    }

    /// Resumes or begins a session that outlives its connection.
    pub(crate) fn resume(&self, client_id: &str) -> (Client, bool) {
        self.connect_with(&lasting(client_id))
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
    version: ProtocolVersion,
}

impl Client {
    /// Reads what comes as packets of this version; CONNECT says it by itself.
    pub(crate) fn speak(&mut self, version: ProtocolVersion) {
        self.version = version;
    }

    pub(crate) fn send_connect(&mut self, connect: &Connect<'_>) {
        self.version = connect.version;
        self.send(&Packet::Connect(Box::new(connect.clone())));
    }

    /// CONNECT and more, in one write, before any answer.
    pub(crate) fn send_pipelined(&mut self, connect: &Connect<'_>, then: &[Publish<'_>]) {
        self.version = connect.version;
        let mut bytes = Vec::new();
        let first = Packet::Connect(Box::new(connect.clone()));
        encode(&first, self.version, &mut bytes).expect("a packet to send");
        for publish in then {
            let packet = Packet::Publish(publish.clone());
            encode(&packet, self.version, &mut bytes).expect("a packet to send");
        }
        self.send_bytes(&bytes);
    }

    pub(crate) fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, self.version, &mut bytes).expect("a packet to send");
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("written");
    }

    pub(crate) fn publish(&mut self, publish: Publish<'_>) {
        self.send(&Packet::Publish(publish));
    }

    /// Publishes with QoS 1 and waits for the PUBACK, whose reason is returned.
    pub(crate) fn publish_acked(&mut self, topic: &str, payload: &str) -> ReasonCode {
        self.publish(message(topic, payload, Q1, 60_000));
        self.ack_of(PacketType::PubAck, 60_000)
    }

    /// Leaves a retained message.
    pub(crate) fn retain(&mut self, topic: &str, payload: &str) {
        self.publish(Publish {
            retain: true,
            ..message(topic, payload, Q1, 60_001)
        });
        self.ack_of(PacketType::PubAck, 60_001);
    }

    pub(crate) fn ack_of(&mut self, kind: PacketType, id: u16) -> ReasonCode {
        match self.receive() {
            Got::Ack(got, got_id, reason) if (got, got_id) == (kind, id) => reason,
            other => panic!("no {kind:?} {id}: {other:?}"),
        }
    }

    pub(crate) fn send_ack(&mut self, kind: PacketType, id: u16) {
        self.send_ack_with(kind, id, ReasonCode::Success);
    }

    pub(crate) fn send_ack_with(&mut self, kind: PacketType, id: u16, reason: ReasonCode) {
        let ack = Ack {
            packet_id: PacketId::new(id).expect("not zero"),
            reason,
            reason_string: None,
            user_properties: UserProperties::default(),
        };
        self.send(&match kind {
            PacketType::PubAck => Packet::PubAck(ack),
            PacketType::PubRec => Packet::PubRec(ack),
            PacketType::PubRel => Packet::PubRel(ack),
            PacketType::PubComp => Packet::PubComp(ack),
            other => panic!("{other:?} is no acknowledgement"),
        });
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) -> ReasonCode {
        self.subscribe_with(filter, options(qos), None)
    }

    pub(crate) fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
        id: Option<u32>,
    ) -> ReasonCode {
        self.subscribe_at(1, &[(filter, options)], id);
        match self.receive() {
            Got::SubAck(1, reasons) => reasons[0],
            other => panic!("no SUBACK: {other:?}"),
        }
    }

    pub(crate) fn send_subscribe(&mut self, packet_id: u16, asked: &[(&str, SubscriptionOptions)]) {
        self.subscribe_at(packet_id, asked, None);
    }

    fn subscribe_at(
        &mut self,
        packet_id: u16,
        asked: &[(&str, SubscriptionOptions)],
        id: Option<u32>,
    ) {
        let subscriptions = asked.iter();
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(packet_id).expect("not zero"),
            subscription_id: id.and_then(NonZeroU32::new),
            user_properties: UserProperties::default(),
            subscriptions: subscriptions
                .map(|(filter, options)| Subscription {
                    filter,
                    options: *options,
                })
                .collect(),
        }));
    }

    pub(crate) fn send_unsubscribe(&mut self, packet_id: u16, filters: &[&str]) {
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id: PacketId::new(packet_id).expect("not zero"),
            user_properties: UserProperties::default(),
            filters: filters.to_vec(),
        }));
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) -> ReasonCode {
        self.send_unsubscribe(2, &[filter]);
        match self.receive() {
            // Before 5.0 there are no reasons.
            Got::UnsubAck(2, reasons) => reasons.first().copied().unwrap_or(ReasonCode::Success),
            other => panic!("no UNSUBACK: {other:?}"),
        }
    }

    /// Publishes with QoS 2 and goes through its handshake.
    pub(crate) fn publish_exactly_once(&mut self, topic: &str, payload: &str) {
        self.publish(message(topic, payload, Q2, 60_002));
        self.ack_of(PacketType::PubRec, 60_002);
        self.send_ack(PacketType::PubRel, 60_002);
        self.ack_of(PacketType::PubComp, 60_002);
    }

    /// Says goodbye and waits until the broker has closed.
    pub(crate) fn leave(mut self, reason: ReasonCode, session_expiry_seconds: Option<u32>) {
        self.send(&Packet::Disconnect(Disconnect {
            reason,
            session_expiry_seconds,
            reason_string: None,
            user_properties: UserProperties::default(),
            server_reference: None,
        }));
        assert_eq!(self.receive(), Got::Closed);
    }

    /// DISCONNECT with 0.
    pub(crate) fn bye(self) {
        self.leave(ReasonCode::Success, None);
    }

    /// The next packet answers a PINGREQ: nothing else was on its way on this connection.
    pub(crate) fn expect_nothing(&mut self) {
        self.send(&Packet::PingReq);
        assert_eq!(self.receive(), Got::Pong);
    }

    pub(crate) fn expect_message(&mut self) -> Message {
        match self.receive() {
            Got::Message(message) => message,
            other => panic!("no PUBLISH: {other:?}"),
        }
    }

    pub(crate) fn expect_payload(&mut self, payload: &str) -> Message {
        let message = self.expect_message();
        assert_eq!(message.payload, payload, "{message:?}");
        message
    }

    /// DISCONNECT where the version has it, then the end.
    pub(crate) fn expect_end(&mut self, reason: ReasonCode) {
        if self.version == ProtocolVersion::V5 {
            assert_eq!(self.receive(), Got::Disconnect(reason));
        }
        assert_eq!(self.receive(), Got::Closed);
    }

    pub(crate) fn receive(&mut self) -> Got {
        loop {
            if let Some(got) = self.take() {
                return got;
            }
            match self.read() {
                Ok(0) => return Got::Closed,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Got::Closed,
                Err(error) => panic!("nothing received: {error}"),
            }
        }
    }

    /// The next bytes as they are; nothing has been decoded beyond them.
    pub(crate) fn receive_bytes(&mut self, count: usize) -> Vec<u8> {
        while self.bytes.len() < count {
            assert_ne!(self.read().expect("bytes"), 0, "closed");
        }
        self.bytes.drain(..count).collect()
    }

    fn read(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 4_096];
        let count = self.stream.read(&mut chunk)?;
        self.bytes.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn take(&mut self) -> Option<Got> {
        let (packet, length) = decode(&self.bytes, self.version, Receiver::Client, usize::MAX)
            .expect("the broker's packets are well-formed")?;
        let got = owned(&packet);
        drop(packet);
        self.bytes.drain(..length);
        Some(got)
    }
}

/// The next message at any of the clients, with the index of the client.
pub(crate) fn next_of(clients: &mut [&mut Client]) -> (usize, Message) {
    for _ in 0..2_000 {
        for (index, client) in clients.iter_mut().enumerate() {
            if let Some(Got::Message(message)) = client.take() {
                return (index, message);
            }
            let long = Some(Duration::from_secs(10));
            let short = Some(Duration::from_millis(2));
            client.stream.set_read_timeout(short).expect("timeout set");
            // Nothing yet is no error here.
            let _ = client.read();
            client.stream.set_read_timeout(long).expect("timeout set");
        }
    }
    panic!("no message at any client");
}
