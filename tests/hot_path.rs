//! What a message costs on its way through the broker: allocations and system calls.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use tidewire::auth::Identity;
use tidewire::config::{Config, Listener};
use tidewire::exchange::{Exchange, ShardId};
use tidewire::metrics::ShardMetrics;
use tidewire::retained::Retained;
use tidewire::server::Server;
use tidewire::shard::{Handshake, Key, Shard, Shared};
use tidewire_protocol::codec::{
    Connect, Packet, PacketId, ProtocolVersion, Publish, QoS, Subscribe, Subscription,
    SubscriptionOptions, UserProperties, encode,
};

const BATCH: usize = 100;

/// One shard without sockets.
struct Broker {
    shard: Shard,
    touched: Vec<Key>,
}

impl Broker {
    fn new() -> Self {
        let shared = Arc::new(Shared {
            config: Config::default(),
            shards: 1,
            acl: Arc::default(),
            users: None,
            exchange: Arc::new(Exchange::new()),
            retained: Arc::new(Retained::new()),
            store: Arc::new(tidewire::store::Store::memory()),
            census: Arc::default(),
        });
        Self {
            shard: Shard::new(ShardId(0), shared, Arc::default()),
            touched: Vec::new(),
        }
    }

    fn connect(&mut self, client_id: &str, version: ProtocolVersion) -> Key {
        let handshake = Handshake {
            connect: &connect(client_id, version),
            client_id,
            identity: &Identity::default(),
            peer: "test",
            mount_point: None,
        };
        let key = self.shard.connect(&handshake, 0).connection;
        self.write_all();
        key
    }

    fn subscribe(&mut self, key: Key, version: ProtocolVersion, qos: QoS) {
        let bytes = bytes_of(&subscribe("t", qos), version);
        self.receive(key, &bytes);
    }

    /// What the driver does in a turn, with sockets that take everything.
    fn receive(&mut self, key: Key, bytes: &[u8]) -> usize {
        assert_eq!(self.shard.receive(key, bytes, 0), bytes.len());
        self.write_all()
    }

    fn write_all(&mut self) -> usize {
        let mut written = 0;
        self.shard.take_touched(&mut self.touched);
        for key in self.touched.drain(..) {
            while let Some(output) = self.shard.output(key) {
                let count = output.buffer.front().len();
                if count == 0 {
                    break;
                }
                written += count;
                self.shard.written(key, count);
            }
        }
        written
    }
}

#[test]
fn a_qos_0_message_for_one_receiver_allocates_nothing() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        assert_eq!(allocations(version, 1, BATCH), 0, "{version:?}");
    }
}

#[test]
fn allocations_grow_neither_with_the_receivers_nor_with_the_messages_of_a_batch() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        // The run itself, and its bytes for either kind of receiver.
        for (receivers, messages) in [(2, 100), (500, 100), (500, 400)] {
            let count = allocations(version, receivers, messages);
            assert!(
                count <= 3,
                "{version:?}: {count} for {receivers}, {messages}"
            );
        }
        assert_eq!(allocations(version, 500, 1), 0, "{version:?}");
    }
}

#[test]
fn a_qos_1_message_is_one_allocation_for_all_its_receivers() {
    let mut broker = Broker::new();
    let version = ProtocolVersion::V5;
    let publisher = broker.connect("p", version);
    for number in 0..50 {
        let key = broker.connect(&format!("s{number}"), version);
        broker.subscribe(key, version, QoS::AtLeastOnce);
    }
    let bytes = bytes_of(&publish(QoS::AtLeastOnce), version);
    // The windows grow with the first messages.
    for _ in 0..1_000 {
        broker.receive(publisher, &bytes);
    }
    let info = allocation_counter::measure(|| {
        broker.receive(publisher, &bytes);
    });
    assert_eq!(info.count_total, 1);
}

/// How often one batch allocates once everything has its size.
fn allocations(version: ProtocolVersion, receivers: usize, messages: usize) -> u64 {
    let mut broker = Broker::new();
    let publisher = broker.connect("p", version);
    for number in 0..receivers {
        let key = broker.connect(&format!("s{number}"), version);
        broker.subscribe(key, version, QoS::AtMostOnce);
    }
    let packet = bytes_of(&publish(QoS::AtMostOnce), version);
    let bytes = packet.repeat(messages);
    for _ in 0..3 {
        broker.receive(publisher, &bytes);
    }
    let mut written = 0;
    let info = allocation_counter::measure(|| written = broker.receive(publisher, &bytes));
    assert_eq!(written, bytes.len() * receivers);
    info.count_total
}

#[test]
fn a_batch_is_read_and_written_with_one_system_call_each() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let config = Config {
            shards: 1,
            sys_interval_seconds: 0,
            listeners: vec![Listener {
                bind: "127.0.0.1:0".into(),
                ..Listener::default()
            }],
            ..Config::default()
        };
        let server = Server::start(config).unwrap();
        let address = server.addresses()[0].replace("mqtt://", "");
        let version = ProtocolVersion::V3_1_1;
        let mut subscriber = client(&address, "s", version);
        subscriber
            .write_all(&bytes_of(&subscribe("t", qos), version))
            .unwrap();
        subscriber.read_exact(&mut [0; 5]).unwrap();
        let mut publisher = client(&address, "p", version);
        let batch = bytes_of(&publish(qos), version).repeat(BATCH);

        let before = calls(&server);
        publisher.write_all(&batch).unwrap();
        subscriber.read_exact(&mut vec![0; batch.len()]).unwrap();
        if qos == QoS::AtLeastOnce {
            publisher.read_exact(&mut [0; 4 * BATCH]).unwrap();
        }
        // The bytes may be here before they are counted there.
        let answers = u64::from(qos == QoS::AtLeastOnce);
        let counted = std::iter::repeat_with(|| calls(&server))
            .map(|(reads, writes)| (reads - before.0, writes - before.1))
            .inspect(|_| std::thread::sleep(Duration::from_millis(1)))
            .take(5_000)
            .find(|(_, writes)| *writes > answers);
        let (reads, writes) = counted.unwrap();
        // The kernel may hand over a batch in two pieces.
        assert!((1..=2).contains(&reads), "{qos:?}: {reads} reads");
        assert!(writes <= 2 + 2 * answers, "{qos:?}: {writes} writes");
        server.stop().unwrap();
    }
}

fn calls(server: &Server) -> (u64, u64) {
    let sum = |of: fn(&ShardMetrics) -> u64| server.metrics().iter().map(|it| of(it)).sum();
    (
        sum(|it| it.socket_reads.value()),
        sum(|it| it.socket_writes.value()),
    )
}

fn client(address: &str, client_id: &str, version: ProtocolVersion) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let connect = connect(client_id, version);
    stream
        .write_all(&bytes_of(&Packet::Connect(Box::new(connect)), version))
        .unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    stream
}

fn connect(client_id: &str, version: ProtocolVersion) -> Connect<'_> {
    Connect {
        keep_alive_seconds: 60,
        ..Connect::new(version, client_id)
    }
}

fn subscribe(filter: &str, qos: QoS) -> Packet<'_> {
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(1).unwrap(),
        subscription_id: None,
        user_properties: UserProperties::default(),
        subscriptions: vec![Subscription {
            filter,
            options: SubscriptionOptions {
                qos,
                ..SubscriptionOptions::default()
            },
        }],
    })
}

fn publish(qos: QoS) -> Packet<'static> {
    Packet::Publish(Publish {
        qos,
        packet_id: (qos != QoS::AtMostOnce).then(|| PacketId::new(7).unwrap()),
        ..Publish::new("t", &[7; 64])
    })
}

fn bytes_of(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes).unwrap();
    bytes
}
