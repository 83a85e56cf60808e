//! One bridge to another broker.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroize;

use super::url::Scheme;
use super::{BridgeAmqp10, BridgeAmqp091, BridgeKafka, BridgeRocketmq, QueueOverflow};

/// One bridge to another broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// What it is called in logs, `$SYS` and at the other broker.
    pub name: String,
    /// What is spoken.
    pub kind: BridgeKind,
    /// Whether it is started.
    pub enabled: bool,
    /// URLs of the other broker, at least one.
    pub servers: Vec<String>,
    /// Which server is next.
    pub server_order: ServerOrder,
    /// Seconds between looks for the first server while another stands in, 0 = never.
    pub first_server_probe_seconds: u64,
    /// The protocol version.
    pub protocol: BridgeProtocol,
    /// Whether 3.x connections say that they are bridges.
    pub bridge_bit: bool,
    /// Connections that share the way out.
    pub connections: u16,
    /// How messages are divided among them.
    pub connections_by: ConnectionsBy,
    /// When it connects.
    pub start: BridgeStart,
    /// lazy: messages that wait until it connects.
    pub start_messages: u64,
    /// lazy: seconds without a message until it disconnects.
    pub idle_seconds: u64,
    /// The client id at the other broker, in which `{bridge}`, `{node}` and `{host}` stand for
    /// names; `None` is `{bridge}.{host}`.
    pub client_id: Option<String>,
    /// The user name at the other broker.
    pub user_name: Option<String>,
    /// The password at the other broker.
    pub password: Option<Secret>,
    /// A file with the password, read before each connect.
    pub password_file: Option<PathBuf>,
    /// The environment variable with the password.
    pub password_env: Option<String>,
    /// Authorities that sign the other broker's certificate; `None` trusts those of the system.
    pub ca: Option<PathBuf>,
    /// Our certificate, for brokers that ask for one.
    pub certificate: Option<PathBuf>,
    /// The private key of the certificate.
    pub key: Option<PathBuf>,
    /// The name in the other broker's certificate; `None` takes the host of the URL.
    pub server_name: Option<String>,
    /// Seconds between signs of life, 0 = off.
    pub keep_alive_seconds: u16,
    /// Idle seconds before TCP probes the peer, 0 = off.
    pub tcp_keep_alive_seconds: u32,
    /// Milliseconds that sent bytes may be unacknowledged by TCP, 0 = the system's default.
    pub tcp_user_timeout_ms: u32,
    /// Milliseconds from the first byte to the end of the handshake.
    pub connect_timeout_ms: u64,
    /// Seconds without an acknowledgement until the connection counts as dead.
    pub ack_timeout_seconds: u64,
    /// Shortest pause before the next connect.
    pub restart_base_ms: u64,
    /// Longest pause before the next connect.
    pub restart_max_ms: u64,
    /// Seconds a connection lasts until the pause starts over.
    pub restart_stable_seconds: u64,
    /// Seconds that the other broker keeps our session.
    pub session_expiry_seconds: u32,
    /// Unacknowledged messages on the way in.
    pub receive_maximum: u16,
    /// Unacknowledged messages on the way out.
    pub inflight_max: u16,
    /// Topic aliases on the way out.
    pub topic_alias_maximum: u16,
    /// Messages a second on the way out, 0 = as many as possible.
    pub messages_per_second_max: u32,
    /// Bridges that one message may cross; `None` is 1 with a rule for both directions, else 4.
    pub max_hops: Option<u16>,
    /// Whether `both` is taken without anything that ends loops.
    pub allow_loops: bool,
    /// Messages waiting for the other broker, those on their way included.
    pub queue_messages_max: usize,
    /// Bytes of the messages waiting for the other broker.
    pub queue_bytes_max: usize,
    /// Seconds a message waits at the most, 0 = for ever.
    pub queue_age_seconds_max: u64,
    /// What happens to a message that finds the queue full.
    pub queue_overflow: QueueOverflow,
    /// amqp091, RabbitMQ over amqp10: the virtual host; `None` is `/`.
    pub virtual_host: Option<String>,
    /// amqp091, RabbitMQ over amqp10: the exchange that messages are published to; `None` is
    /// `amq.topic`.
    pub exchange: Option<String>,
    /// amqp091: the queue that is consumed.
    pub queue: Option<String>,
    /// amqp091: whether a message that reaches no queue is refused.
    pub mandatory: bool,
    /// amqp091: what else only it has.
    pub amqp091: BridgeAmqp091,
    /// amqp10: all that only it has.
    pub amqp10: BridgeAmqp10,
    /// kafka: all that only it has.
    pub kafka: BridgeKafka,
    /// rocketmq: all that only it has.
    pub rocketmq: BridgeRocketmq,
    /// Where messages go that the other broker will never take; `None` drops them.
    pub dead_letter: Option<String>,
    /// The retained topic at the other broker that says whether the bridge is up: 1 or 0.
    pub notify_topic: Option<String>,
    /// From here to there.
    pub out: Vec<BridgeRule>,
    /// From there to here.
    pub inward: Vec<BridgeRule>,
    /// In both directions.
    pub both: Vec<BridgeRule>,
}

impl Default for Bridge {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: BridgeKind::Mqtt,
            enabled: true,
            servers: Vec::new(),
            server_order: ServerOrder::Failover,
            first_server_probe_seconds: 60,
            protocol: BridgeProtocol::Auto,
            bridge_bit: true,
            connections: 1,
            connections_by: ConnectionsBy::Client,
            start: BridgeStart::Automatic,
            start_messages: 1,
            idle_seconds: 60,
            client_id: None,
            user_name: None,
            password: None,
            password_file: None,
            password_env: None,
            ca: None,
            certificate: None,
            key: None,
            server_name: None,
            keep_alive_seconds: 60,
            tcp_keep_alive_seconds: 60,
            tcp_user_timeout_ms: 30_000,
            connect_timeout_ms: 10_000,
            ack_timeout_seconds: 60,
            restart_base_ms: 1_000,
            restart_max_ms: 60_000,
            restart_stable_seconds: 30,
            session_expiry_seconds: 86_400,
            receive_maximum: 200,
            inflight_max: 200,
            topic_alias_maximum: 32,
            messages_per_second_max: 0,
            max_hops: None,
            allow_loops: false,
            queue_messages_max: 1_000_000,
            queue_bytes_max: 256 << 20,
            queue_age_seconds_max: 0,
            queue_overflow: QueueOverflow::DropOldest,
            virtual_host: None,
            exchange: None,
            queue: None,
            mandatory: true,
            amqp091: BridgeAmqp091::default(),
            amqp10: BridgeAmqp10::default(),
            kafka: BridgeKafka::default(),
            rocketmq: BridgeRocketmq::default(),
            dead_letter: None,
            notify_topic: None,
            out: Vec::new(),
            inward: Vec::new(),
            both: Vec::new(),
        }
    }
}

impl Bridge {
    /// Whether a password is given, in whatever way.
    pub(super) fn has_password(&self) -> bool {
        self.password.is_some() || self.password_file.is_some() || self.password_env.is_some()
    }

    /// Whether anything goes out.
    pub fn sends(&self) -> bool {
        !self.out.is_empty() || !self.both.is_empty()
    }

    /// Whether anything comes in.
    pub fn receives(&self) -> bool {
        !self.inward.is_empty() || !self.both.is_empty()
    }

    /// Whether any of the servers is spoken to through TLS.
    pub fn is_encrypted(&self) -> bool {
        let mut servers = self.servers.iter();
        servers.any(|url| {
            let scheme = Scheme::of_server(self.kind, url);
            scheme.is_ok_and(|it| it.transport.is_encrypted())
        })
    }

    /// The client id at the other broker, with its placeholders.
    pub fn client_id_template(&self) -> &str {
        self.client_id.as_deref().unwrap_or("{bridge}.{host}")
    }
}

/// Which topics cross a bridge, and what they are called on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeRule {
    /// Topic filters without the prefixes.
    pub filters: Vec<String>,
    /// Filters of what is left out, without the prefixes.
    pub exclude: Vec<String>,
    /// What topics begin with on this side, and not on the other.
    pub local_prefix: String,
    /// What topics begin with on the other side, and not on this one.
    pub remote_prefix: String,
    /// The topic on the other side in the mapping language; `None` exchanges the prefixes.
    pub topic: Option<String>,
    /// `out`, in the mapping language. kafka: the key; `None` is the topic here, empty is no key.
    /// rocketmq: the message group, which makes a FIFO message.
    pub key: Option<String>,
    /// kafka, `out`: the partition in the mapping language; `None` follows from the key.
    pub partition: Option<String>,
    /// kafka, amqp091 and amqp10, `out`: milliseconds since 1970 in the mapping language; `None` is
    /// now for kafka, and none for the others.
    pub timestamp_ms: Option<String>,
    /// rocketmq, `out`: the tag in the mapping language.
    pub tag: Option<String>,
    /// rocketmq, `out`: keys to look a message up by, in the mapping language.
    pub keys: Vec<String>,
    /// rocketmq, `out`: milliseconds until it is delivered, in the mapping language; makes a delay
    /// message.
    pub delay_ms: Option<String>,
    /// amqp091 and amqp10, `out`: the priority in the mapping language; `None` is that of the
    /// bridge.
    pub priority: Option<String>,
    /// `out` and `in`: how payloads are written on the other side.
    pub payload: BridgePayload,
    /// `out` and `in`: the text in the place of the payload, in the mapping language.
    pub payload_template: Option<String>,
    /// `out` and `in`: what becomes of a message that the rule cannot map.
    pub on_missing: BridgeOnMissing,
    /// The highest QoS; higher ones are lowered.
    pub qos_max: u16,
    /// What becomes of the retain flag.
    pub retain: BridgeRetain,
    /// `in`: whether messages wait over there while nobody would receive them.
    pub require_subscriber: bool,
    /// Names of the user properties that cross; `*` at the end stands for any rest.
    pub user_properties_pass: Vec<String>,
    /// Names of those that do not, all the same.
    pub user_properties_remove: Vec<String>,
    /// `OLD=NEW`: what a user property is called on the other side.
    pub user_properties_rename: Vec<String>,
    /// `NAME=TEXT`: user properties besides, the text in the mapping language.
    pub user_properties_add: Vec<String>,
}

impl Default for BridgeRule {
    fn default() -> Self {
        Self {
            filters: Vec::new(),
            exclude: Vec::new(),
            local_prefix: String::new(),
            remote_prefix: String::new(),
            topic: None,
            key: None,
            partition: None,
            timestamp_ms: None,
            tag: None,
            keys: Vec::new(),
            delay_ms: None,
            priority: None,
            payload: BridgePayload::Raw,
            payload_template: None,
            on_missing: BridgeOnMissing::DeadLetter,
            qos_max: 2,
            retain: BridgeRetain::Keep,
            require_subscriber: false,
            user_properties_pass: vec!["*".to_owned()],
            user_properties_remove: Vec::new(),
            user_properties_rename: Vec::new(),
            user_properties_add: Vec::new(),
        }
    }
}

/// What a bridge speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BridgeKind {
    /// MQTT, as a client.
    #[default]
    Mqtt,
    /// AMQP 0-9-1, as a client.
    Amqp091,
    /// AMQP 1.0, as a client.
    Amqp10,
    /// Kafka, as a client.
    Kafka,
    /// RocketMQ 5, as a client.
    Rocketmq,
}

/// The protocol version of an MQTT bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BridgeProtocol {
    /// 5.0, and older ones as the server demands.
    #[default]
    Auto,
    /// MQTT 5.0.
    V5,
    /// MQTT 3.1.1.
    V3_1_1,
    /// MQTT 3.1.
    V3_1,
}

/// What the connections of a bridge are given parts of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionsBy {
    /// Each the messages of some clients, in order over all topics.
    #[default]
    Client,
    /// Each the messages of some topics, in order over all clients.
    Topic,
}

/// When a bridge connects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BridgeStart {
    /// As soon as it can.
    #[default]
    Automatic,
    /// When messages wait, until there have been none for a while.
    Lazy,
    /// Until one connection was made and has ended.
    Once,
}

/// Which of several servers is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerOrder {
    /// The first whenever it can be reached.
    #[default]
    Failover,
    /// One after the other.
    RoundRobin,
}

/// What becomes of the retain flag of a message that crosses a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BridgeRetain {
    /// As published.
    #[default]
    Keep,
    /// Never set.
    Strip,
    /// Always set.
    Set,
}

/// How payloads are written on the other side of a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BridgePayload {
    /// As they are.
    #[default]
    Raw,
    /// As they are, and they have to be UTF-8.
    Text,
    /// In base64.
    Base64,
    /// As a text with placeholders.
    Template,
    /// In a JSON object, with topic and properties.
    JsonEnvelope,
    /// In a CBOR map, with topic and properties.
    CborEnvelope,
}

/// What becomes of a message that lacks what a rule of a bridge asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BridgeOnMissing {
    /// It goes to the dead letter topic, with the reason.
    #[default]
    DeadLetter,
    /// It is dropped and counted.
    Drop,
    /// It crosses, with an empty text in the place.
    Empty,
}

/// A text that is never shown, and written over when it is not needed any more.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
