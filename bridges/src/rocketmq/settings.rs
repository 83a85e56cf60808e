//! What one RocketMQ bridge is told.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{CredentialsSource, Dial, ServerOrder};

/// Everything the connector needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What our client ids begin with.
    pub name: String,
    /// Opens a stream to a proxy.
    pub dial: Dial,
    /// How many proxies it knows.
    pub servers: usize,
    /// Which proxy comes after the first.
    pub order: ServerOrder,
    /// Access key and secret key, asked for on each connect; without a user name nothing is signed.
    pub credentials: CredentialsSource,
    /// The calendar, whose time is signed and sent along.
    pub calendar: Calendar,
    /// What topics and groups are within; empty where there are no namespaces.
    pub namespace: String,
    /// From the first byte until topics are found.
    pub connect_timeout: Duration,
    /// How long the server may leave a request unanswered.
    pub ack_timeout: Duration,
    /// The way out, if there is one.
    pub producer: Option<ProducerSettings>,
    /// The way in, if there is one.
    pub consumer: Option<ConsumerSettings>,
}

/// The way out.
#[derive(Clone, Debug)]
pub struct ProducerSettings {
    /// Topics that have to exist, by their names over there.
    pub topics: BTreeSet<String>,
    /// Records in flight.
    pub inflight_max: usize,
}

/// The way in.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// What is received, by the names over there.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// Which messages of the topics.
    pub filter: Filter,
    /// How long a message stays with us until the server gives it to somebody else.
    pub invisible: Duration,
    /// Records received and not accepted.
    pub unaccepted_max: usize,
}

/// Which messages are received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Those with one of these tags, as in `a || b`; `*` is all.
    Tags(String),
    /// Those whose properties fulfil an expression.
    Sql(String),
}

/// Milliseconds since 1970 as the system's calendar says.
#[derive(Clone)]
pub struct Calendar(pub Arc<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calendar")
    }
}
