//! A client that does exactly what a test says, and the broker it talks to.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::time::Duration;

use tidewire::config::{Config, Listener};
use tidewire::server::Server;
use tidewire_protocol::codec::{
    Ack, Connect, ConnectProperties, Disconnect, Packet, PacketId, PacketType, ProtocolVersion,
    Publish, PublishProperties, QoS, ReasonCode, Receiver, Subscribe, Subscription,
    SubscriptionOptions, Unsubscribe, UserProperties, Will, WillProperties, decode, encode,
};

pub(crate) const Q0: QoS = QoS::AtMostOnce;
pub(crate) const Q1: QoS = QoS::AtLeastOnce;
pub(crate) const Q2: QoS = QoS::ExactlyOnce;

/// Runs a test at a broker of one shard and at one of three.
pub(crate) fn at_brokers(test: impl Fn(&Broker)) {
    at_brokers_with(|_| {}, test);
}

pub(crate) fn at_brokers_with(change: impl Fn(&mut Config), test: impl Fn(&Broker)) {
    for shards in [1, 3] {
        let mut config = Config {
            shards,
            listeners: vec![Listener {
                bind: "127.0.0.1:0".into(),
                ..Listener::default()
            }],
            ..Config::default()
        };
        change(&mut config);
        let server = Server::start(config).expect("the broker starts");
        let address = server.addresses()[0]
            .strip_prefix("mqtt://")
            .expect("an MQTT listener")
            .to_owned();
        test(&Broker { address });
        server.stop().expect("the broker stops");
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

    /// Resumes or begins a session that outlives its connection.
    pub(crate) fn resume(&self, client_id: &str) -> (Client, bool) {
        self.connect_with(&lasting(client_id))
    }
}

pub(crate) fn connect(client_id: &str) -> Connect<'_> {
    Connect {
        version: ProtocolVersion::V5,
        is_bridge: false,
        clean_start: true,
        keep_alive_seconds: 60,
        properties: ConnectProperties::default(),
        client_id,
        will: None,
        user_name: None,
        password: None,
    }
}

pub(crate) fn lasting(client_id: &str) -> Connect<'_> {
    let mut connect = connect(client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_seconds = Some(600);
    connect
}

pub(crate) fn will(topic: &str) -> Will<'_> {
    Will {
        qos: Q1,
        retain: false,
        topic,
        payload: b"gone",
        properties: WillProperties::default(),
    }
}

pub(crate) fn message<'a>(topic: &'a str, payload: &'a str, qos: QoS, id: u16) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: PacketId::new(id),
        properties: PublishProperties::default(),
        payload: payload.as_bytes(),
    }
}

pub(crate) fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    }
}

/// A packet from the broker.
#[derive(Debug, PartialEq)]
pub(crate) enum Got {
    ConnAck {
        is_present: bool,
        reason: ReasonCode,
        assigned: Option<String>,
    },
    Message(Message),
    Ack(PacketType, u16, ReasonCode),
    SubAck(Vec<ReasonCode>),
    UnsubAck(Vec<ReasonCode>),
    Pong,
    Disconnect(ReasonCode),
    Closed,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) topic: String,
    pub(crate) id: u16,
    pub(crate) payload: String,
    pub(crate) expiry: Option<u32>,
    pub(crate) ids: Vec<u32>,
    pub(crate) user: Vec<(String, String)>,
}

pub(crate) struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
    version: ProtocolVersion,
}

impl Client {
    pub(crate) fn send_connect(&mut self, connect: &Connect<'_>) {
        self.version = connect.version;
        self.send(&Packet::Connect(Box::new(connect.clone())));
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
        let ack = Ack {
            packet_id: PacketId::new(id).expect("not zero"),
            reason: ReasonCode::Success,
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
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(1).expect("not zero"),
            subscription_id: id.and_then(NonZeroU32::new),
            user_properties: UserProperties::default(),
            subscriptions: vec![Subscription { filter, options }],
        }));
        match self.receive() {
            Got::SubAck(reasons) => reasons[0],
            other => panic!("no SUBACK: {other:?}"),
        }
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) -> ReasonCode {
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id: PacketId::new(2).expect("not zero"),
            user_properties: UserProperties::default(),
            filters: vec![filter],
        }));
        match self.receive() {
            Got::UnsubAck(reasons) => reasons[0],
            other => panic!("no UNSUBACK: {other:?}"),
        }
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

    pub(crate) fn expect_end(&mut self, reason: ReasonCode) {
        assert_eq!(self.receive(), Got::Disconnect(reason));
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

fn owned(packet: &Packet<'_>) -> Got {
    let ack = |kind, ack: &Ack<'_>| Got::Ack(kind, ack.packet_id.value(), ack.reason);
    match packet {
        Packet::ConnAck(it) => Got::ConnAck {
            is_present: it.session_present,
            reason: it.reason,
            assigned: it.properties.assigned_client_id.map(str::to_owned),
        },
        Packet::Publish(it) => Got::Message(Message {
            dup: it.dup,
            qos: it.qos,
            retain: it.retain,
            topic: it.topic.to_owned(),
            id: it.packet_id.map_or(0, PacketId::value),
            payload: String::from_utf8_lossy(it.payload).into_owned(),
            expiry: it.properties.message_expiry_seconds,
            ids: it
                .properties
                .subscription_ids
                .iter()
                .map(u32::from)
                .collect(),
            user: it
                .properties
                .user_properties
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }),
        Packet::PubAck(it) => ack(PacketType::PubAck, it),
        Packet::PubRec(it) => ack(PacketType::PubRec, it),
        Packet::PubRel(it) => ack(PacketType::PubRel, it),
        Packet::PubComp(it) => ack(PacketType::PubComp, it),
        Packet::SubAck(it) => Got::SubAck(it.reasons.clone()),
        Packet::UnsubAck(it) => Got::UnsubAck(it.reasons.clone()),
        Packet::PingResp => Got::Pong,
        Packet::Disconnect(it) => Got::Disconnect(it.reason),
        other => panic!("not for clients: {other:?}"),
    }
}
