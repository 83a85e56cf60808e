//! Shards without sockets, and clients whose packets are read with the rules of a client.

use std::num::NonZeroU16;
use std::sync::Arc;

use tidewire::auth::Identity;
use tidewire::config::Config;
use tidewire::exchange::{Exchange, ShardId};
use tidewire::retained::Retained;
use tidewire::shard::{Handshake, Key, Shard, Shared};
use tidewire_protocol::codec::{
    Connect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Receiver, Subscribe,
    Subscription, SubscriptionOptions, Unsubscribe, UserProperties, decode, encode,
};
use tidewire_protocol::session::InboundAliases;

const SHARDS: u16 = 3;

/// A broker whose time and mail the test moves.
pub(crate) struct Broker {
    pub(crate) shards: Vec<Shard>,
    pub(crate) now_ms: u64,
    pub(crate) shared: Arc<Shared>,
}

/// One client's connection.
pub(crate) struct Client {
    pub(crate) shard: usize,
    pub(crate) key: Key,
    version: ProtocolVersion,
    aliases: InboundAliases,
    /// How many bytes the last packets took.
    pub(crate) bytes: usize,
}

/// What a client gets.
#[derive(Debug, PartialEq)]
pub(crate) enum Got {
    /// Reason string, server keep alive, response information.
    ConnAck(ReasonCode, Option<String>, Option<u16>, Option<String>),
    /// `topic=payload`, and whether an alias stood for the topic.
    Message(String, bool),
    /// An acknowledgement of any kind: its first reason and its reason string.
    Ack(ReasonCode, Option<String>),
    Disconnect(ReasonCode, Option<String>),
    Pong,
}

impl Broker {
    pub(crate) fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let shared = Arc::new(Shared {
            config,
            shards: SHARDS,
            acl: Arc::default(),
            users: None,
            exchange: Exchange::new().into(),
            retained: Retained::new().into(),
            store: Arc::new(tidewire::store::Store::memory()),
            census: Arc::default(),
        });
        let shards = (0..SHARDS)
            .map(|id| Shard::new(ShardId(id), Arc::clone(&shared), Arc::default()))
            .collect();
        Self {
            shards,
            now_ms: 0,
            shared,
        }
    }

    pub(crate) fn connect(&mut self, connect: &Connect<'_>, mount_point: Option<&str>) -> Client {
        let shard = connect.client_id.len() % usize::from(SHARDS);
        let handshake = Handshake {
            connect,
            client_id: connect.client_id,
            peer: "test",
            identity: &Identity::default(),
            mount_point,
        };
        let key = self.shards[shard]
            .connect(&handshake, self.now_ms)
            .connection;
        self.settle();
        Client {
            shard,
            key,
            version: connect.version,
            aliases: InboundAliases::default(),
            bytes: 0,
        }
    }

    /// A client whose CONNACK is read.
    pub(crate) fn join(&mut self, client_id: &str, mount_point: Option<&str>) -> Client {
        let mut client = self.connect(&connect(client_id), mount_point);
        self.received(&mut client);
        client
    }

    pub(crate) fn send(&mut self, client: &Client, packet: &Packet<'_>) {
        let bytes = encoded(packet, client.version);
        let used = self.shards[client.shard].receive(client.key, &bytes, self.now_ms);
        assert_eq!(used, bytes.len());
        self.settle();
    }

    /// Sends and reads everything that came.
    pub(crate) fn ask(&mut self, client: &mut Client, packet: &Packet<'_>) -> Vec<Got> {
        self.send(client, packet);
        self.received(client)
    }

    pub(crate) fn subscribe(&mut self, client: &mut Client, filter: &str, qos: QoS) -> Vec<Got> {
        self.ask(client, &subscribe(filter, qos))
    }

    pub(crate) fn close(&mut self, client: &Client) {
        self.shards[client.shard].closed(client.key, self.now_ms);
        self.settle();
    }

    /// Carries mail until nobody has any.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            for from in 0..self.shards.len() {
                for to in 0..SHARDS {
                    for mail in self.shards[from].take_mail(ShardId(to)) {
                        is_quiet = false;
                        self.shards[usize::from(to)].take_in(mail, self.now_ms);
                    }
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    pub(crate) fn pass(&mut self, milliseconds: u64) {
        self.now_ms += milliseconds;
        for shard in &mut self.shards {
            shard.tick(self.now_ms);
        }
        self.settle();
    }

    pub(crate) fn received(&mut self, client: &mut Client) -> Vec<Got> {
        let Some(output) = self.shards[client.shard].output(client.key) else {
            return Vec::new();
        };
        let bytes = output.buffer.take();
        client.bytes = bytes.len();
        let mut rest = &bytes[..];
        let mut seen = Vec::new();
        while let Some((packet, length)) =
            decode(rest, client.version, Receiver::Client, usize::MAX).unwrap()
        {
            seen.push(client.understand(&packet));
            rest = &rest[length..];
        }
        seen
    }
}

impl Client {
    fn understand(&mut self, packet: &Packet<'_>) -> Got {
        let owned = |text: &Option<&str>| text.map(str::to_owned);
        match packet {
            Packet::ConnAck(it) => Got::ConnAck(
                it.reason,
                owned(&it.properties.reason_string),
                it.properties.server_keep_alive_seconds,
                owned(&it.properties.response_information),
            ),
            Packet::Publish(it) => {
                let topic = match it.properties.topic_alias {
                    Some(alias) => self.aliases.resolve(it.topic, alias, u16::MAX).unwrap(),
                    None => it.topic,
                };
                let payload = String::from_utf8_lossy(it.payload);
                Got::Message(format!("{topic}={payload}"), it.topic.is_empty())
            }
            Packet::PubAck(it) | Packet::PubRec(it) | Packet::PubComp(it) => {
                Got::Ack(it.reason, owned(&it.reason_string))
            }
            Packet::SubAck(it) => Got::Ack(it.reasons[0], owned(&it.reason_string)),
            Packet::UnsubAck(it) => Got::Ack(it.reasons[0], owned(&it.reason_string)),
            Packet::Disconnect(it) => Got::Disconnect(it.reason, owned(&it.reason_string)),
            Packet::PingResp => Got::Pong,
            other => panic!("not for clients: {other:?}"),
        }
    }
}

/// A message whose topic is written in full.
pub(crate) fn full(text: &str) -> Got {
    Got::Message(text.to_owned(), false)
}

/// A message with an alias in place of its topic.
pub(crate) fn aliased(text: &str) -> Got {
    Got::Message(text.to_owned(), true)
}

pub(crate) fn encoded(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes).unwrap();
    bytes
}

pub(crate) fn connect(client_id: &str) -> Connect<'_> {
    Connect::new(ProtocolVersion::V5, client_id)
}

/// A session that outlives its connection.
pub(crate) fn lasting(client_id: &str) -> Connect<'_> {
    let mut connect = connect(client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_seconds = Some(600);
    connect
}

pub(crate) fn subscribe(filter: &str, qos: QoS) -> Packet<'_> {
    Packet::Subscribe(Subscribe {
        packet_id: PacketId(NonZeroU16::MIN),
        subscription_id: None,
        user_properties: UserProperties::default(),
        subscriptions: vec![Subscription {
            filter,
            options: SubscriptionOptions {
                qos,
                ..Default::default()
            },
        }],
    })
}

pub(crate) fn unsubscribe(filter: &str) -> Packet<'_> {
    Packet::Unsubscribe(Unsubscribe {
        packet_id: PacketId(NonZeroU16::MIN),
        user_properties: UserProperties::default(),
        filters: vec![filter],
    })
}

pub(crate) fn publish<'a>(topic: &'a str, payload: &'a str, qos: QoS) -> Packet<'a> {
    Packet::Publish(message(topic, payload, qos))
}

pub(crate) fn retained<'a>(topic: &'a str, payload: &'a str) -> Packet<'a> {
    Packet::Publish(Publish {
        retain: true,
        ..message(topic, payload, QoS::AtLeastOnce)
    })
}

fn message<'a>(topic: &'a str, payload: &'a str, qos: QoS) -> Publish<'a> {
    Publish {
        qos,
        packet_id: PacketId::new(1).filter(|_| qos != QoS::AtMostOnce),
        ..Publish::new(topic, payload.as_bytes())
    }
}
