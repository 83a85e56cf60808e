//! A client that acknowledges everything and remembers what came.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tidewire_protocol::codec::{
    Ack, Connect, ConnectProperties, Packet, PacketId, ProtocolVersion, Publish, PublishProperties,
    QoS, ReasonCode, Receiver, Subscribe, Subscription, SubscriptionOptions, UserProperties, Will,
    WillProperties, decode, encode,
};

use crate::process::{Broker, PATIENCE_MS};
use tidewire::clock::Clock;

pub(crate) const Q0: QoS = QoS::AtMostOnce;
pub(crate) const Q1: QoS = QoS::AtLeastOnce;
pub(crate) const Q2: QoS = QoS::ExactlyOnce;

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) content_type: Option<String>,
    pub(crate) response_topic: Option<String>,
    pub(crate) correlation_data: Option<Vec<u8>>,
    pub(crate) expiry_seconds: Option<u32>,
}

impl Message {
    /// Why it came to the dead letter topic.
    pub(crate) fn error(&self) -> String {
        let error = self.headers.iter().find(|it| it.0 == "tidewire-error");
        error.expect("an error").1.clone()
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    version: ProtocolVersion,
    messages: VecDeque<Message>,
    /// Identifiers whose exchange has ended.
    settled: Vec<PacketId>,
    subscribed: usize,
    last_id: u16,
}

impl Client {
    pub(crate) fn connect(broker: &Broker, id: &str) -> Self {
        Self::open(
            &broker.host,
            broker.port,
            Connect::new(ProtocolVersion::V5, id),
        )
    }

    pub(crate) fn connect_as(port: u16, id: &str, version: ProtocolVersion) -> Self {
        Self::open("127.0.0.1", port, Connect::new(version, id))
    }

    /// With a session that outlives the connection and the broker's process.
    pub(crate) fn resume(broker: &Broker, id: &str) -> Self {
        Self::open(&broker.host, broker.port, lasting(id))
    }

    /// As [`Client::resume`], with a will that waits for a second.
    pub(crate) fn resume_with_will(broker: &Broker, id: &str, topic: &str, payload: &str) -> Self {
        let will = Will {
            qos: Q1,
            retain: false,
            topic,
            payload: payload.as_bytes(),
            properties: WillProperties {
                delay_seconds: Some(1),
                ..WillProperties::default()
            },
        };
        let connect = Connect {
            will: Some(will),
            ..lasting(id)
        };
        Self::open(&broker.host, broker.port, connect)
    }

    fn open(host: &str, port: u16, connect: Connect<'_>) -> Self {
        let stream = TcpStream::connect((host, port)).expect("connected");
        stream.set_nodelay(true).expect("option set");
        let mut client = Self {
            stream,
            input: Vec::new(),
            version: connect.version,
            messages: VecDeque::new(),
            settled: Vec::new(),
            subscribed: 0,
            last_id: 0,
        };
        client.send(&Packet::Connect(Box::new(connect)));
        client.pump_until("CONNACK", |it| it.subscribed == 0 && it.is_greeted());
        client
    }

    pub(crate) fn subscribe(&mut self, filter: &str) -> &mut Self {
        let packet_id = self.next_id();
        let before = self.subscribed;
        let options = SubscriptionOptions {
            qos: Q2,
            retain_as_published: true,
            ..SubscriptionOptions::default()
        };
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: None,
            user_properties: UserProperties::default(),
            subscriptions: vec![Subscription { filter, options }],
        }));
        self.pump_until("SUBACK", |it| it.subscribed > before);
        self
    }

    pub(crate) fn publish(&mut self, topic: &str, payload: &str, qos: QoS) {
        self.publish_with(topic, payload, qos, false, &PublishProperties::default());
    }

    pub(crate) fn retain(&mut self, topic: &str, payload: &str) {
        self.publish_with(topic, payload, Q1, true, &PublishProperties::default());
    }

    /// Publishes and waits until the exchange has ended.
    pub(crate) fn publish_with(
        &mut self,
        topic: &str,
        payload: &str,
        qos: QoS,
        retain: bool,
        properties: &PublishProperties<'_>,
    ) {
        let packet_id = (qos != Q0).then(|| self.next_id());
        self.send(&Packet::Publish(Publish {
            qos,
            retain,
            packet_id,
            properties: properties.clone(),
            ..Publish::new(topic, payload.as_bytes())
        }));
        if let Some(id) = packet_id {
            self.pump_until("acknowledgement", |it| it.settled.contains(&id));
            self.settled.clear();
        }
    }

    /// Publishes all, and waits until the last exchange has ended.
    pub(crate) fn publish_all(&mut self, topic: &str, payloads: &[String], qos: QoS) {
        let pairs: Vec<_> = payloads.iter().map(|it| (topic, &**it)).collect();
        self.publish_each(&pairs, qos);
    }

    /// As [`Client::publish_all`], of topics and payloads.
    pub(crate) fn publish_each(&mut self, messages: &[(&str, &str)], qos: QoS) {
        for some in messages.chunks(WINDOW) {
            let ids: Vec<PacketId> = some
                .iter()
                .map(|(topic, payload)| {
                    let packet_id = self.next_id();
                    self.send(&Packet::Publish(Publish {
                        qos,
                        packet_id: Some(packet_id),
                        ..Publish::new(topic, payload.as_bytes())
                    }));
                    packet_id
                })
                .collect();
            let is_done = |it: &Self| ids.iter().all(|id| it.settled.contains(id));
            self.pump_until("acknowledgements", is_done);
            self.settled.clear();
        }
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Message {
        self.pump_until("message", |it| !it.messages.is_empty());
        self.messages.pop_front().expect("it is there")
    }

    /// The next message, whose topic and payload these are.
    pub(crate) fn expect(&mut self, topic: &str, payload: &str) -> Message {
        let message = self.next();
        assert_eq!((&*message.topic, &*message.payload), (topic, payload));
        message
    }

    /// The payloads of the next messages.
    pub(crate) fn payloads(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next().payload).collect()
    }

    /// What else comes, until nothing has come for a while.
    pub(crate) fn rest(&mut self) -> Vec<Message> {
        let mut rest = Vec::new();
        let mut clock = Clock::start();
        while clock.now_ms() < QUIET_MS {
            self.pump(Duration::from_millis(50));
            if !self.messages.is_empty() {
                rest.extend(self.messages.drain(..));
                clock = Clock::start();
            }
        }
        rest
    }

    /// Nothing more comes for a while.
    pub(crate) fn expect_silence(&mut self) {
        let clock = Clock::start();
        while clock.now_ms() < QUIET_MS {
            self.pump(Duration::from_millis(50));
            assert_eq!(self.messages.front(), None, "an unexpected message");
        }
    }

    /// Waits until a retained topic has a payload that contains this text.
    pub(crate) fn wait_for(&mut self, topic: &str, text: &str) -> Message {
        loop {
            let message = self.next();
            if message.topic == topic && message.payload.contains(text) {
                return message;
            }
        }
    }

    fn is_greeted(&self) -> bool {
        self.last_id > 0
    }

    fn next_id(&mut self) -> PacketId {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.last_id).expect("not zero")
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, self.version, &mut bytes).expect("encoded");
        self.stream.write_all(&bytes).expect("written");
    }

    fn pump_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let clock = Clock::start();
        while !done(self) {
            assert!(clock.now_ms() < PATIENCE_MS, "no {what}");
            self.pump(Duration::from_millis(200));
        }
    }

    /// Reads once and answers what came.
    fn pump(&mut self, timeout: Duration) {
        self.stream.set_read_timeout(Some(timeout)).expect("set");
        let mut bytes = [0; 65_536];
        match self.stream.read(&mut bytes) {
            Ok(0) => panic!("the broker closed the connection"),
            Ok(count) => self.input.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
        let input = std::mem::take(&mut self.input);
        let mut used = 0;
        while let Some((packet, count)) =
            decode(&input[used..], self.version, Receiver::Client, usize::MAX).expect("MQTT")
        {
            self.take(&packet);
            used += count;
        }
        self.input = input[used..].to_vec();
    }

    fn take(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(answer) => {
                assert_eq!(answer.reason, ReasonCode::Success);
                self.last_id = 1;
            }
            Packet::SubAck(answer) => {
                assert!(answer.reasons.iter().all(|it| !it.is_error()), "{answer:?}");
                self.subscribed += 1;
            }
            Packet::Publish(publish) => {
                self.messages.push_back(message_of(publish));
                match (publish.qos, publish.packet_id) {
                    (Q1, Some(id)) => self.send(&Packet::PubAck(good(id))),
                    (Q2, Some(id)) => self.send(&Packet::PubRec(good(id))),
                    _ => {}
                }
            }
            Packet::PubRel(ack) => self.send(&Packet::PubComp(good(ack.packet_id))),
            Packet::PubRec(ack) => self.send(&Packet::PubRel(good(ack.packet_id))),
            Packet::PubAck(ack) | Packet::PubComp(ack) => self.settled.push(ack.packet_id),
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn message_of(publish: &Publish<'_>) -> Message {
    let headers = publish.properties.user_properties.iter();
    Message {
        topic: publish.topic.to_owned(),
        payload: String::from_utf8_lossy(publish.payload).into_owned(),
        qos: publish.qos,
        retain: publish.retain,
        headers: headers.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        content_type: publish.properties.content_type.map(str::to_owned),
        response_topic: publish.properties.response_topic.map(str::to_owned),
        correlation_data: publish.properties.correlation_data.map(<[u8]>::to_vec),
        expiry_seconds: publish.properties.message_expiry_seconds,
    }
}

/// A session that outlives the connection and the broker's process.
fn lasting(id: &str) -> Connect<'_> {
    Connect {
        clean_start: false,
        properties: ConnectProperties {
            session_expiry_seconds: Some(u32::MAX),
            ..ConnectProperties::default()
        },
        ..Connect::new(ProtocolVersion::V5, id)
    }
}

fn good(packet_id: PacketId) -> Ack<'static> {
    Ack::plain(packet_id, ReasonCode::Success)
}

/// Messages that are published before acknowledgements are awaited.
const WINDOW: usize = 15;
/// How long nothing has to come until nothing more is expected.
const QUIET_MS: u64 = 700;
