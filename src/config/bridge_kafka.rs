//! What only a bridge to Kafka has.

use std::path::PathBuf;

use super::rfc3339;
use super::rules::{Broken, demand, is_on_this_machine};
use super::value::{Found, Range, Value};
use super::{Bridge, BridgeKind};

/// `[bridges.kafka]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeKafka {
    /// How the password is shown.
    pub sasl_mechanism: SaslMechanism,
    /// oauthbearer: where tokens are fetched; `None` takes the password for the token.
    pub token_url: Option<String>,
    /// oauthbearer: what the token is to be good for.
    pub token_scope: Option<String>,
    /// oauthbearer: NAME=VALUE, what else the server is told that gives tokens.
    pub token_parameters: Vec<String>,
    /// oauthbearer: authorities of the server that gives tokens; `None` trusts those of the system.
    pub token_ca: Option<PathBuf>,
    /// Whose acknowledgement a message needs.
    pub acks: KafkaAcks,
    /// Whether the server drops what a retry brings twice.
    pub idempotence: bool,
    /// How batches are compressed.
    pub compression: KafkaCompression,
    /// Which partition a key belongs to.
    pub partitioner: KafkaPartitioner,
    /// Milliseconds that a batch waits for more.
    pub linger_ms: u32,
    /// Messages in a batch.
    pub batch_messages_max: u32,
    /// Bytes of a batch.
    pub batch_bytes_max: u32,
    /// Bytes of a message.
    pub message_bytes_max: u32,
    /// Whether a message may come twice.
    pub guarantee: KafkaGuarantee,
    /// Who sends transactions; `None` is the bridge's name and the node's.
    pub transactional_id: Option<String>,
    /// Where the last transaction is found again; `None` makes one of the bridge's name.
    pub cursor_topic: Option<String>,
    /// Unacknowledged messages on the way out.
    pub inflight_max: u32,
    /// Whether the server may create topics.
    pub create_topics: bool,
    /// Whether a cleared retained message is one without a value.
    pub tombstones: bool,
    /// Topics to consume; empty takes those that the filters of `in` name.
    pub topics: Vec<String>,
    /// The consumer group; `None` makes one of the bridge's name.
    pub group: Option<String>,
    /// Where a group without offsets begins.
    pub start: KafkaStart,
    /// Whether messages of open transactions are read.
    pub isolation: KafkaIsolation,
    /// Messages received and not yet taken by our exchange.
    pub unaccepted_max: u32,
    /// Milliseconds between two looks at what librdkafka counts.
    pub statistics_interval_ms: u32,
}

impl Default for BridgeKafka {
    fn default() -> Self {
        Self {
            sasl_mechanism: SaslMechanism::Plain,
            token_url: None,
            token_scope: None,
            token_parameters: Vec::new(),
            token_ca: None,
            acks: KafkaAcks::All,
            idempotence: true,
            compression: KafkaCompression::None,
            partitioner: KafkaPartitioner::Murmur2,
            linger_ms: 5,
            batch_messages_max: 10_000,
            batch_bytes_max: 917_504,
            message_bytes_max: 1_000_000,
            guarantee: KafkaGuarantee::AtLeastOnce,
            transactional_id: None,
            cursor_topic: None,
            inflight_max: 10_000,
            create_topics: false,
            tombstones: true,
            topics: Vec::new(),
            group: None,
            start: KafkaStart::Latest,
            isolation: KafkaIsolation::ReadCommitted,
            unaccepted_max: 5_000,
            statistics_interval_ms: 2_000,
        }
    }
}

/// How a password is shown to Kafka, or what else is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// As it is.
    Plain,
    /// By a proof, with SHA-256.
    ScramSha256,
    /// By a proof, with SHA-512.
    ScramSha512,
    /// A token.
    OauthBearer,
}

/// Whose acknowledgement a message needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaAcks {
    /// All replicas that are in sync.
    All,
    /// The leader.
    Leader,
    /// Nobody's.
    None,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaCompression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Which partition a key belongs to; without a key, any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaPartitioner {
    /// As Kafka's own clients do it.
    Murmur2,
    /// As librdkafka's clients do it.
    Crc32,
    /// Any, even with a key.
    Random,
}

/// Whether a message may come to Kafka twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaGuarantee {
    /// After a kill of this node.
    AtLeastOnce,
    /// Never, for who reads what is committed.
    ExactlyOnce,
}

/// Where a partition begins that was never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaStart {
    /// With what there is.
    Earliest,
    /// With what comes.
    Latest,
    /// Nowhere: there have to be offsets.
    Stored,
    /// With what was made at a time, in milliseconds since 1970, or later.
    At(i64),
}

impl Value for KafkaStart {
    fn read(found: &Found, _: Range) -> Option<Self> {
        let text = match found {
            // A date of TOML's own.
            Found::Other(text) => text,
            other => other.text()?,
        };
        match text {
            "earliest" => Some(Self::Earliest),
            "latest" => Some(Self::Latest),
            "stored" => Some(Self::Stored),
            time => rfc3339::parse(time).map(Self::At),
        }
    }

    fn show(&self) -> Option<String> {
        let text = match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
            Self::Stored => "stored",
            Self::At(unix_ms) => &rfc3339::show(*unix_ms),
        };
        Some(format!("{text:?}"))
    }

    fn expected(_: Range) -> String {
        "\"earliest\", \"latest\", \"stored\" or a time (RFC 3339)".to_owned()
    }
}

/// Whether messages of open transactions are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaIsolation {
    /// When they are committed.
    ReadCommitted,
    /// At once.
    ReadUncommitted,
}

/// Whether the keys of a bridge fit Kafka, or are left alone by other kinds.
pub(super) fn check(bridge: &Bridge) -> Result<(), Broken> {
    if bridge.kind != BridgeKind::Kafka {
        return check_unused(bridge);
    }
    let problem = "is not for kind = \"kafka\": servers are known by the names that they advertise";
    demand("server_name", bridge.server_name.is_none(), problem)?;
    let is_encrypted = |url: &String| url.starts_with("kafkas://");
    let is_uniform =
        bridge.servers.iter().all(is_encrypted) || !bridge.servers.iter().any(is_encrypted);
    demand(
        "servers",
        is_uniform,
        "must be all kafka:// or all kafkas://",
    )?;
    let own = &bridge.kafka;
    let fits = own.acks == KafkaAcks::All || !own.idempotence;
    demand("kafka.idempotence", fits, "needs acks = \"all\"")?;
    let is_exact = own.guarantee == KafkaGuarantee::ExactlyOnce;
    let fits = !is_exact || (own.idempotence && bridge.sends());
    let problem = "= \"exactly_once\" needs idempotence, and `out` or `both`";
    demand("kafka.guarantee", fits, problem)?;
    let is_free = own.transactional_id.is_none() && own.cursor_topic.is_none();
    let problem = "is for guarantee = \"exactly_once\", as is cursor_topic";
    demand("kafka.transactional_id", is_exact || is_free, problem)?;
    let problem = "is of no use without `in` or `both`";
    let fits = bridge.receives() || own.topics.is_empty();
    demand("kafka.topics", fits, problem)?;
    let is_name = own.group.as_ref().is_none_or(|it| !it.is_empty());
    demand("kafka.group", is_name, "is empty")?;
    check_tokens(bridge)
}

fn check_tokens(bridge: &Bridge) -> Result<(), Broken> {
    let own = &bridge.kafka;
    let shows_tokens = own.sasl_mechanism == SaslMechanism::OauthBearer;
    let problem = "is for sasl_mechanism = \"oauthbearer\"";
    let fits = shows_tokens || own.token_url.is_none();
    demand("kafka.token_url", fits, problem)?;
    let fits = own.token_url.is_some() || own.token_scope.is_none();
    demand("kafka.token_scope", fits, "is of no use without token_url")?;
    let fits = own.token_url.is_some() || own.token_ca.is_none();
    demand("kafka.token_ca", fits, "is of no use without token_url")?;
    for (index, text) in own.token_parameters.iter().enumerate() {
        let key = format!("kafka.token_parameters.{index}");
        let is_pair = text.split_once('=').is_some_and(|it| !it.0.is_empty());
        demand(&key, is_pair, "must be NAME=VALUE")?;
        let is_used = own.token_url.is_some();
        demand(&key, is_used, "is of no use without token_url")?;
    }
    if !shows_tokens {
        return Ok(());
    }
    let url = own.token_url.as_deref().unwrap_or("https://");
    let is_safe = url.starts_with("https://") || is_on_this_machine(url);
    let problem = "must begin with https://: the secret goes there";
    demand("kafka.token_url", is_safe, problem)?;
    let problem = "must not hold credentials: use user_name and password";
    demand("kafka.token_url", !url.contains('@'), problem)?;
    let problem = "is needed: the token, or the client's secret if there is a token_url";
    demand("password", bridge.has_password(), problem)?;
    let is_named = own.token_url.is_none() || bridge.user_name.is_some();
    let problem = "is needed for token_url: the client's id";
    demand("user_name", is_named, problem)?;
    let is_made = own.guarantee == KafkaGuarantee::ExactlyOnce && own.create_topics;
    let problem = "does not make the topic of cursors with sasl_mechanism = \"oauthbearer\": \
                   make it over there, and leave this out";
    demand("kafka.create_topics", !is_made, problem)
}

fn check_unused(bridge: &Bridge) -> Result<(), Broken> {
    let kafka = "is for kind = \"kafka\"";
    demand("kafka", bridge.kafka == BridgeKafka::default(), kafka)?;
    for (index, rule) in bridge.out.iter().enumerate() {
        let key = |name: &str| format!("out.{index}.{name}");
        let fits = rule.key.is_none() || bridge.kind == BridgeKind::Rocketmq;
        let either = "is for kind = \"kafka\" or \"rocketmq\"";
        demand(&key("key"), fits, either)?;
        demand(&key("partition"), rule.partition.is_none(), kafka)?;
        let has_time = matches!(bridge.kind, BridgeKind::Amqp091 | BridgeKind::Amqp10);
        let fits = has_time || rule.timestamp_ms.is_none();
        let any = "is for kind = \"kafka\", \"amqp091\" or \"amqp10\"";
        demand(&key("timestamp_ms"), fits, any)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    fn fetching() -> Bridge {
        Bridge {
            user_name: Some("id".into()),
            password: Some(Secret("secret".into())),
            kafka: BridgeKafka {
                sasl_mechanism: SaslMechanism::OauthBearer,
                token_url: Some("https://login/token".into()),
                token_scope: Some("kafka".into()),
                token_parameters: vec!["audience=k".into()],
                ..BridgeKafka::default()
            },
            ..Bridge::default()
        }
    }

    #[test]
    fn tokens_are_given_or_fetched_and_never_from_afar_without_tls() {
        assert_eq!(check_tokens(&fetching()), Ok(()));
        let broken = |change: fn(&mut Bridge)| {
            let mut bridge = fetching();
            change(&mut bridge);
            check_tokens(&bridge).err().map(|it| it.key)
        };
        assert_eq!(broken(|it| url_of(it, "http://127.0.0.1:80/token")), None);
        let key = |name: &str| Some(format!("kafka.{name}"));
        assert_eq!(
            broken(|it| url_of(it, "http://login/token")),
            key("token_url")
        );
        assert_eq!(
            broken(|it| url_of(it, "https://id:secret@login/")),
            key("token_url")
        );
        assert_eq!(broken(|it| it.kafka.token_url = None), key("token_scope"));
        let other = |it: &mut Bridge| it.kafka.sasl_mechanism = SaslMechanism::Plain;
        assert_eq!(broken(other), key("token_url"));
        assert_eq!(broken(|it| it.password = None), Some("password".to_owned()));
        assert_eq!(
            broken(|it| it.user_name = None),
            Some("user_name".to_owned())
        );
        let pair = |it: &mut Bridge| it.kafka.token_parameters = vec!["audience".into()];
        assert_eq!(broken(pair), key("token_parameters.0"));
        let made = |it: &mut Bridge| {
            it.kafka.guarantee = KafkaGuarantee::ExactlyOnce;
            it.kafka.create_topics = true;
        };
        assert_eq!(broken(made), key("create_topics"));
    }

    fn url_of(bridge: &mut Bridge, url: &str) {
        bridge.kafka.token_url = Some(url.to_owned());
    }
}
