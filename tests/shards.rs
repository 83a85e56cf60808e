//! Three shards in one thread, with a virtual clock and no sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use tidewire::auth::Identity;
use tidewire::config::Config;
use tidewire::exchange::{Exchange, ShardId};
use tidewire::retained::Retained;
use tidewire::shard::{Handshake, Key, Shard, Shared};
use tidewire_protocol::codec::{
    Connect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Receiver, Subscribe,
    Subscription, SubscriptionOptions, UserProperties, Will, WillProperties, decode, encode,
};

const SHARDS: u16 = 3;

/// A broker whose time and mail the test moves.
struct Broker {
    shards: Vec<Shard>,
    now_ms: u64,
}

/// One client's connection.
#[derive(Clone, Copy)]
struct Client {
    shard: usize,
    key: Key,
}

impl Broker {
    fn new() -> Self {
        let shared = Arc::new(Shared {
            config: Config::default(),
            shards: SHARDS,
            acl: Arc::default(),
            users: None,
            exchange: Arc::new(Exchange::new()),
            retained: Arc::new(Retained::new()),
            store: Arc::new(tidewire::store::Store::memory()),
            census: Arc::default(),
        });
        let shards = (0..SHARDS)
            .map(|id| Shard::new(ShardId(id), Arc::clone(&shared), Arc::default()))
            .collect();
        Self { shards, now_ms: 0 }
    }

    fn connect(&mut self, shard: usize, connect: &Connect<'_>) -> Client {
        let handshake = Handshake {
            connect,
            client_id: connect.client_id,
            peer: "test",
            identity: &Identity::default(),
            mount_point: None,
        };
        let key = self.shards[shard]
            .connect(&handshake, self.now_ms)
            .connection;
        self.settle();
        Client { shard, key }
    }

    fn send(&mut self, client: Client, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, ProtocolVersion::V5, &mut bytes).unwrap();
        let used = self.shards[client.shard].receive(client.key, &bytes, self.now_ms);
        assert_eq!(used, bytes.len());
        self.settle();
    }

    /// Carries mail until nobody has any.
    fn settle(&mut self) {
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

    fn pass(&mut self, milliseconds: u64) {
        self.now_ms += milliseconds;
        for shard in &mut self.shards {
            shard.tick(self.now_ms);
        }
        self.settle();
    }

    /// What a client receives, as text.
    fn received(&mut self, client: Client) -> Vec<String> {
        let Some(output) = self.shards[client.shard].output(client.key) else {
            return Vec::new();
        };
        let bytes = output.buffer.take();
        let mut rest = &bytes[..];
        let mut seen = Vec::new();
        while let Some((packet, length)) =
            decode(rest, ProtocolVersion::V5, Receiver::Client, usize::MAX).unwrap()
        {
            seen.push(match packet {
                Packet::Publish(it) => {
                    format!("{}={}", it.topic, String::from_utf8_lossy(it.payload))
                }
                Packet::ConnAck(it) => format!("connack {}", it.session_present),
                Packet::Disconnect(it) => format!("disconnect {:?}", it.reason),
                other => format!("{other:?}")
                    .split(['(', ' '])
                    .next()
                    .unwrap()
                    .to_owned(),
            });
            rest = &rest[length..];
        }
        seen
    }
}

fn connect(client_id: &str) -> Connect<'_> {
    Connect::new(ProtocolVersion::V5, client_id)
}

fn subscribe(filter: &str) -> Packet<'_> {
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(1).unwrap(),
        subscription_id: None,
        user_properties: UserProperties::default(),
        subscriptions: vec![Subscription {
            filter,
            options: SubscriptionOptions {
                qos: QoS::AtLeastOnce,
                ..Default::default()
            },
        }],
    })
}

fn publish<'a>(topic: &'a str, payload: &'a str) -> Packet<'a> {
    Packet::Publish(Publish {
        qos: QoS::AtLeastOnce,
        packet_id: PacketId::new(1),
        ..Publish::new(topic, payload.as_bytes())
    })
}

#[test]
fn messages_cross_shards_in_order() {
    let mut broker = Broker::new();
    let subscriber = broker.connect(1, &connect("s"));
    broker.send(subscriber, &subscribe("a/+"));
    let publisher = broker.connect(0, &connect("p"));
    for payload in ["1", "2", "3"] {
        broker.send(publisher, &publish("a/b", payload));
    }
    assert_eq!(
        broker.received(subscriber),
        ["connack false", "SubAck", "a/b=1", "a/b=2", "a/b=3"]
    );
    assert_eq!(
        broker.received(publisher),
        ["connack false", "PubAck", "PubAck", "PubAck"]
    );
}

#[test]
fn a_takeover_ends_the_older_connection_and_keeps_the_session() {
    let mut broker = Broker::new();
    let mut persistent = connect("c");
    persistent.clean_start = false;
    persistent.properties.session_expiry_seconds = Some(60);
    let older = broker.connect(2, &persistent);
    broker.send(older, &subscribe("t"));
    let newer = broker.connect(2, &persistent);
    assert_eq!(
        broker.received(older),
        ["connack false", "SubAck", "disconnect SessionTakenOver"]
    );
    let publisher = broker.connect(0, &connect("p"));
    broker.send(publisher, &publish("t", "x"));
    assert_eq!(broker.received(newer), ["connack true", "t=x"]);
}

#[test]
fn a_delayed_will_waits_and_a_reconnect_stops_it() {
    let mut broker = Broker::new();
    let watcher = broker.connect(0, &connect("w"));
    broker.send(watcher, &subscribe("will"));
    let mut mortal = connect("m");
    mortal.clean_start = false;
    mortal.properties.session_expiry_seconds = Some(60);
    mortal.will = Some(Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "will",
        payload: b"gone",
        properties: WillProperties {
            delay_seconds: Some(5),
            ..WillProperties::default()
        },
    });
    let first = broker.connect(1, &mortal);
    broker.shards[1].closed(first.key, broker.now_ms);
    broker.pass(4_000);
    let second = broker.connect(1, &mortal);
    broker.pass(10_000);
    assert_eq!(broker.received(watcher), ["connack false", "SubAck"]);
    broker.shards[1].closed(second.key, broker.now_ms);
    broker.pass(5_000);
    assert_eq!(broker.received(watcher), ["will=gone"]);
}

#[test]
fn what_a_lost_member_of_a_share_group_had_not_settled_goes_to_another() {
    let mut broker = Broker::new();
    let first = broker.connect(1, &connect("first"));
    broker.send(first, &subscribe("$share/g/t"));
    let publisher = broker.connect(0, &connect("p"));
    broker.send(publisher, &publish("t", "x"));
    assert_eq!(broker.received(first), ["connack false", "SubAck", "t=x"]);
    let second = broker.connect(2, &connect("second"));
    broker.send(second, &subscribe("$share/g/t"));
    broker.shards[1].closed(first.key, broker.now_ms);
    broker.settle();
    assert_eq!(broker.received(second), ["connack false", "SubAck", "t=x"]);
}

#[test]
fn a_silent_client_is_disconnected_after_one_and_a_half_times_its_keep_alive() {
    let mut broker = Broker::new();
    let mut silent = connect("silent");
    silent.keep_alive_seconds = 10;
    let client = broker.connect(0, &silent);
    broker.pass(14_999);
    assert_eq!(broker.received(client), ["connack false"]);
    broker.pass(1);
    let expected = format!("disconnect {:?}", ReasonCode::KeepAliveTimeout);
    assert_eq!(broker.received(client), [expected]);
}
