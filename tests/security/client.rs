//! A client that does exactly what a test says.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tidewire_protocol::codec::{
    Ack, Connect, Packet, PacketId, PacketType, ProtocolVersion, Publish, QoS, ReasonCode,
    Receiver, Subscribe, Subscription, SubscriptionOptions, UserProperties, Will, WillProperties,
    decode, encode,
};

pub(crate) const Q0: QoS = QoS::AtMostOnce;
pub(crate) const Q1: QoS = QoS::AtLeastOnce;
pub(crate) const Q2: QoS = QoS::ExactlyOnce;

/// A packet from the broker.
#[derive(Debug, PartialEq)]
pub(crate) enum Got {
    /// Session present, and the reason.
    ConnAck(bool, ReasonCode),
    /// Topic, payload, packet id.
    Message(String, String, u16),
    Ack(PacketType, ReasonCode),
    SubAck(ReasonCode),
    Pong,
    Disconnect(ReasonCode),
    Closed,
}

pub(crate) struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
    version: ProtocolVersion,
}

impl Client {
    pub(crate) fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            bytes: Vec::new(),
            version: ProtocolVersion::V5,
        }
    }

    pub(crate) fn send_connect(&mut self, connect: &Connect<'_>) {
        self.version = connect.version;
        self.send(&Packet::Connect(Box::new(connect.clone())));
    }

    pub(crate) fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, self.version, &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Publishes, and waits for the PUBACK or PUBREC whose reason is returned. QoS 2 is completed.
    pub(crate) fn publish(&mut self, topic: &str, qos: QoS) -> ReasonCode {
        self.publish_as(message(topic, qos))
    }

    pub(crate) fn publish_as(&mut self, publish: Publish<'_>) -> ReasonCode {
        let qos = publish.qos;
        self.send(&Packet::Publish(publish));
        if qos == Q0 {
            self.expect_nothing();
            return ReasonCode::Success;
        }
        let Got::Ack(kind, reason) = self.receive() else {
            panic!("no acknowledgement");
        };
        if kind == PacketType::PubRec && !reason.is_error() {
            self.send(&Packet::PubRel(Ack::plain(ID, ReasonCode::Success)));
            let done = Got::Ack(PacketType::PubComp, ReasonCode::Success);
            assert_eq!(self.receive(), done);
        }
        reason
    }

    pub(crate) fn retain(&mut self, topic: &str) -> ReasonCode {
        self.publish_as(Publish {
            retain: true,
            ..message(topic, Q1)
        })
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) -> ReasonCode {
        let options = SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        };
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: ID,
            subscription_id: None,
            user_properties: UserProperties::default(),
            subscriptions: vec![Subscription { filter, options }],
        }));
        match self.receive() {
            Got::SubAck(reason) => reason,
            other => panic!("no SUBACK: {other:?}"),
        }
    }

    /// The topics of the messages that come before the answer to a PINGREQ, all acknowledged.
    pub(crate) fn topics(&mut self) -> Vec<String> {
        let mut topics = Vec::new();
        self.send(&Packet::PingReq);
        loop {
            match self.receive() {
                Got::Pong => return topics,
                other => topics.push(self.topic_of(other)),
            }
        }
    }

    /// The topics of the next messages, all acknowledged, and that nothing else follows.
    pub(crate) fn expect_topics(&mut self, count: usize) -> Vec<String> {
        let mut topics = Vec::new();
        while topics.len() < count {
            let got = self.receive();
            topics.push(self.topic_of(got));
        }
        topics.extend(self.topics());
        topics
    }

    fn topic_of(&mut self, got: Got) -> String {
        let Got::Message(topic, _, id) = got else {
            panic!("no PUBLISH: {got:?}");
        };
        if let Some(id) = PacketId::new(id) {
            self.send(&Packet::PubAck(Ack::plain(id, ReasonCode::Success)));
        }
        topic
    }

    /// The next packet answers a PINGREQ: nothing else was on its way on this connection.
    pub(crate) fn expect_nothing(&mut self) {
        assert_eq!(self.topics(), [""; 0]);
    }

    pub(crate) fn expect_end(&mut self, reason: ReasonCode) {
        assert_eq!(self.receive(), Got::Disconnect(reason));
        assert_eq!(self.receive(), Got::Closed);
    }

    /// Ends the connection without DISCONNECT, so that the will is due.
    pub(crate) fn vanish(self) {
        drop(self);
    }

    pub(crate) fn receive(&mut self) -> Got {
        loop {
            if let Some(got) = self.take() {
                return got;
            }
            let mut chunk = [0; 4_096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Got::Closed,
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Got::Closed,
                Err(error) => panic!("nothing received: {error}"),
            }
        }
    }

    fn take(&mut self) -> Option<Got> {
        let (packet, length) =
            decode(&self.bytes, self.version, Receiver::Client, usize::MAX).unwrap()?;
        let got = owned(&packet);
        drop(packet);
        self.bytes.drain(..length);
        Some(got)
    }
}

fn owned(packet: &Packet<'_>) -> Got {
    match packet {
        Packet::ConnAck(it) => Got::ConnAck(it.session_present, it.reason),
        Packet::Publish(it) => Got::Message(
            it.topic.to_owned(),
            String::from_utf8_lossy(it.payload).into_owned(),
            it.packet_id.map_or(0, PacketId::value),
        ),
        Packet::PubAck(it) => Got::Ack(PacketType::PubAck, it.reason),
        Packet::PubRec(it) => Got::Ack(PacketType::PubRec, it.reason),
        Packet::PubComp(it) => Got::Ack(PacketType::PubComp, it.reason),
        Packet::SubAck(it) => Got::SubAck(it.reasons[0]),
        Packet::PingResp => Got::Pong,
        Packet::Disconnect(it) => Got::Disconnect(it.reason),
        other => panic!("not expected: {other:?}"),
    }
}

/// A clean CONNECT without any user name.
pub(crate) fn connect(client_id: &str) -> Connect<'_> {
    Connect::new(ProtocolVersion::V5, client_id)
}

pub(crate) fn message(topic: &str, qos: QoS) -> Publish<'_> {
    Publish {
        qos,
        packet_id: (qos != Q0).then_some(ID),
        ..Publish::new(topic, b"x")
    }
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

const ID: PacketId = PacketId(std::num::NonZeroU16::MIN);
