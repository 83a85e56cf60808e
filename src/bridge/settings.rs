//! From the configuration of a bridge to the settings of its connector.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "kafka")]
use tidewire_bridges::kafka;
use tidewire_bridges::mqtt::{Settings, Subscription};
use tidewire_bridges::{self as bridges, CredentialsSource};
use tidewire_protocol::codec::ProtocolVersion;

use super::map::Map;
#[cfg(feature = "kafka")]
use super::tokens;
use super::{BridgeError, dial};
use crate::config::{Bridge, BridgeProtocol, Config, ServerOrder};
#[cfg(feature = "kafka")]
use crate::config::{
    KafkaAcks, KafkaCompression, KafkaGuarantee, KafkaIsolation, KafkaPartitioner, KafkaStart,
    SaslMechanism,
};

pub(super) fn settings(
    bridge: &Bridge,
    map: &Map,
    node: &str,
    config: &Config,
    is_durable: bool,
) -> Result<Settings, BridgeError> {
    let subscriptions: Vec<Subscription> = map
        .remote_filters()
        .into_iter()
        .map(|(filter, qos)| Subscription { filter, qos })
        .collect();
    let source = bridge.clone();
    let notify = |state: &[u8]| Some((bridge.notify_topic.clone()?, state.to_vec()));
    Ok(Settings {
        servers: bridge.servers.len(),
        order: server_order(bridge),
        home_probe: match bridge.first_server_probe_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        },
        dial: dial::dial(bridge)?,
        version: match bridge.protocol {
            BridgeProtocol::Auto => None,
            BridgeProtocol::V5 => Some(ProtocolVersion::V5),
            BridgeProtocol::V3_1_1 => Some(ProtocolVersion::V3_1_1),
            BridgeProtocol::V3_1 => Some(ProtocolVersion::V3_1),
        },
        bridge_bit: bridge.bridge_bit,
        client_id: client_id(bridge, node),
        node: node.to_owned(),
        credentials: CredentialsSource(Arc::new(move || dial::credentials(&source))),
        keep_alive_seconds: bridge.keep_alive_seconds,
        session_expiry_seconds: bridge.session_expiry_seconds,
        // Without a store and anything to receive there is nothing to resume after a restart, and a
        // session that remembers our identifiers of before would take new messages for old ones.
        starts_clean: subscriptions.is_empty() && !is_durable,
        is_durable,
        receive_maximum: NonZeroU16::new(bridge.receive_maximum).unwrap_or(NonZeroU16::MIN),
        inflight_max: bridge.inflight_max,
        topic_aliases_max: bridge.topic_alias_maximum,
        packet_bytes_max: config.limits.packet_bytes_max,
        connect_timeout: Duration::from_millis(bridge.connect_timeout_ms),
        ack_timeout: Duration::from_secs(bridge.ack_timeout_seconds),
        subscriptions,
        will: notify(b"0"),
        greeting: notify(b"1"),
    })
}

/// What a bridge to Kafka is told.
#[cfg(feature = "kafka")]
pub(super) fn kafka(
    bridge: &Bridge,
    map: &Map,
    node: &str,
) -> Result<kafka::Settings, BridgeError> {
    // Certificates are librdkafka's affair, but whether they can be read is seen here.
    dial::dial(bridge)?;
    let (source, own) = (bridge.clone(), &bridge.kafka);
    let name = format!("{}.{node}", bridge.name);
    Ok(kafka::Settings {
        name: name.clone(),
        servers: dial::addresses(bridge).join(","),
        tls: bridge.is_encrypted().then(|| kafka::Tls {
            ca: bridge.ca.clone(),
            pair: bridge.certificate.clone().zip(bridge.key.clone()),
        }),
        credentials: CredentialsSource(Arc::new(move || dial::credentials(&source))),
        sasl_mechanism: match own.sasl_mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            SaslMechanism::OauthBearer => "OAUTHBEARER",
        }
        .to_owned(),
        tokens: tokens::source(bridge)?,
        connect_timeout: Duration::from_millis(bridge.connect_timeout_ms),
        ack_timeout: Duration::from_secs(bridge.ack_timeout_seconds),
        statistics_interval: Duration::from_millis(u64::from(own.statistics_interval_ms)),
        producer: bridge
            .sends()
            .then(|| Arc::new(kafka_producer(bridge, map, &name))),
        consumer: bridge
            .receives()
            .then(|| Arc::new(kafka_consumer(bridge, map))),
    })
}

#[cfg(feature = "kafka")]
fn kafka_producer(bridge: &Bridge, map: &Map, name: &str) -> kafka::ProducerSettings {
    let own = &bridge.kafka;
    kafka::ProducerSettings {
        topics: map.fixed_topics().map(|it| kafka::topic_of(&it)).collect(),
        acks: match own.acks {
            KafkaAcks::All => "all",
            KafkaAcks::Leader => "1",
            KafkaAcks::None => "0",
        }
        .to_owned(),
        is_idempotent: own.idempotence,
        compression: match own.compression {
            KafkaCompression::None => "none",
            KafkaCompression::Gzip => "gzip",
            KafkaCompression::Snappy => "snappy",
            KafkaCompression::Lz4 => "lz4",
            KafkaCompression::Zstd => "zstd",
        }
        .to_owned(),
        partitioner: match own.partitioner {
            KafkaPartitioner::Murmur2 => "murmur2_random",
            KafkaPartitioner::Crc32 => "consistent_random",
            KafkaPartitioner::Random => "random",
        }
        .to_owned(),
        linger_ms: own.linger_ms,
        batch_messages_max: own.batch_messages_max,
        batch_bytes_max: own.batch_bytes_max,
        message_bytes_max: own.message_bytes_max,
        inflight_max: usize::try_from(own.inflight_max).unwrap_or(usize::MAX),
        creates_topics: own.create_topics,
        has_tombstones: own.tombstones,
        exactly_once: (own.guarantee == KafkaGuarantee::ExactlyOnce).then(|| {
            let id = own.transactional_id.clone();
            let topic = own.cursor_topic.clone();
            Arc::new(kafka::ExactlyOnce {
                transactional_id: id.map_or_else(|| name.to_owned(), |id| part_of(&id, bridge)),
                cursor_topic: topic.unwrap_or_else(|| format!("{}-cursor", base_name(bridge))),
            })
        }),
    }
}

/// Each connection of a bridge has its own.
#[cfg(feature = "kafka")]
fn part_of(id: &str, bridge: &Bridge) -> String {
    match bridge.name.split_once(':') {
        Some((_, number)) => format!("{id}:{number}"),
        None => id.to_owned(),
    }
}

#[cfg(feature = "kafka")]
fn base_name(bridge: &Bridge) -> &str {
    let parts = bridge.name.split_once(':');
    parts.map_or(&*bridge.name, |(name, _)| name)
}

#[cfg(feature = "kafka")]
fn kafka_consumer(bridge: &Bridge, map: &Map) -> kafka::ConsumerSettings {
    let own = &bridge.kafka;
    let filters = map.remote_filters().into_iter();
    let topics = match own.topics.is_empty() {
        true => filters.map(|(it, _)| kafka::topics_of(&it)).collect(),
        false => own.topics.clone(),
    };
    let group = own.group.clone();
    kafka::ConsumerSettings {
        topics,
        group: group.unwrap_or_else(|| format!("tidewire.{}", bridge.name)),
        start: match own.start {
            KafkaStart::Earliest => kafka::Start::Earliest,
            KafkaStart::Latest => kafka::Start::Latest,
            KafkaStart::Stored => kafka::Start::Stored,
            KafkaStart::At(unix_ms) => kafka::Start::At(unix_ms),
        },
        isolation: match own.isolation {
            KafkaIsolation::ReadCommitted => "read_committed",
            KafkaIsolation::ReadUncommitted => "read_uncommitted",
        }
        .to_owned(),
        unaccepted_max: usize::try_from(own.unaccepted_max).unwrap_or(usize::MAX),
    }
}

pub(super) fn server_order(bridge: &Bridge) -> bridges::ServerOrder {
    match bridge.server_order {
        ServerOrder::Failover => bridges::ServerOrder::Failover,
        ServerOrder::RoundRobin => bridges::ServerOrder::RoundRobin,
    }
}

/// The same after a restart, so that the session over there is found again.
fn client_id(bridge: &Bridge, node: &str) -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let host = if host.is_empty() { node.into() } else { host };
    let text = bridge.client_id_template();
    text.replace("{bridge}", &bridge.name)
        .replace("{node}", node)
        .replace("{host}", &host)
}
