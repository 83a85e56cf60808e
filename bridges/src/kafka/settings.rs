//! What one Kafka bridge is told.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::tokens::TokenSource;
use crate::CredentialsSource;

/// Everything the connector needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The client id in the server's logs and quotas.
    pub name: String,
    /// `host:port` of servers to begin with, separated by commas.
    pub servers: String,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
    /// Asked for on each connect, since secrets may change; without a user name there is no SASL.
    pub credentials: CredentialsSource,
    /// How the password is shown: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    pub sasl_mechanism: String,
    /// What is shown instead of user name and password: OAUTHBEARER.
    pub tokens: Option<TokenSource>,
    /// Until the first answer.
    pub connect_timeout: Duration,
    /// How long the server may acknowledge nothing while something is in flight.
    pub ack_timeout: Duration,
    /// Between two looks at the clients' numbers.
    pub statistics_interval: Duration,
    /// The way out, if there is one.
    pub producer: Option<Arc<ProducerSettings>>,
    /// The way in, if there is one.
    pub consumer: Option<Arc<ConsumerSettings>>,
}

/// Files of TLS.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Authorities; without it, those of the system.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key.
    pub pair: Option<(PathBuf, PathBuf)>,
}

/// The way out; texts are librdkafka's.
#[derive(Clone, Debug)]
pub struct ProducerSettings {
    /// Topics that have to exist.
    pub topics: BTreeSet<String>,
    /// `all`, `1` or `0`.
    pub acks: String,
    /// Whether the server drops what a retry brings twice.
    pub is_idempotent: bool,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: String,
    /// Which partition a key belongs to.
    pub partitioner: String,
    /// How long a batch waits for more, in milliseconds.
    pub linger_ms: u32,
    /// Records in a batch.
    pub batch_messages_max: u32,
    /// Bytes of a batch.
    pub batch_bytes_max: u32,
    /// Bytes of a record.
    pub message_bytes_max: u32,
    /// Records in flight.
    pub inflight_max: usize,
    /// Whether the server may create topics.
    pub creates_topics: bool,
    /// Whether an empty retained record is one without a value.
    pub has_tombstones: bool,
    /// Transactions, if nothing may come twice.
    pub exactly_once: Option<Arc<ExactlyOnce>>,
}

/// What makes transactions, and finds the last of them again.
#[derive(Clone, Debug)]
pub struct ExactlyOnce {
    /// The same after a restart, and nobody else's.
    pub transactional_id: String,
    /// A topic with compaction for cursors.
    pub cursor_topic: String,
}

/// The way in; texts are librdkafka's.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// Topics, and regular expressions of topics, which begin with `^`.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// Where a partition begins that was never read.
    pub start: Start,
    /// `read_committed` or `read_uncommitted`.
    pub isolation: String,
    /// Records received and not accepted.
    pub unaccepted_max: usize,
}

/// Where a partition begins that was never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what there is.
    Earliest,
    /// With what comes.
    Latest,
    /// Nowhere: somebody has to have read it.
    Stored,
    /// With what was made at a time, in milliseconds since 1970, or later.
    At(i64),
}
