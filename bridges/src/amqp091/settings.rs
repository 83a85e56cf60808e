//! What one AMQP bridge is told.

use std::time::Duration;

use crate::{CredentialsSource, Dial, ServerOrder};

/// Everything the connector needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the connection in the server's lists.
    pub name: String,
    /// How many servers [`Dial`] knows.
    pub servers: usize,
    /// Which server comes after the first.
    pub order: ServerOrder,
    /// Opens a stream to a server.
    pub dial: Dial,
    /// Asked for on each connect, since secrets may change; without a user name it is `guest`.
    pub credentials: CredentialsSource,
    /// The virtual host.
    pub virtual_host: String,
    /// What is made of exchange and queue first.
    pub declare: Declare,
    /// What records are published to; empty is the default exchange, whose routing keys are queues.
    pub exchange: String,
    /// Whether a record that reaches no queue is refused.
    pub mandatory: bool,
    /// The priority of what is published.
    pub priority: Option<u8>,
    /// What is consumed, if anything is.
    pub queue: Option<String>,
    /// Arguments of the consumer.
    pub consumer_arguments: Vec<(String, String)>,
    /// Unacknowledged records on the way in.
    pub prefetch: u16,
    /// Unconfirmed records on the way out.
    pub inflight_max: usize,
    /// Seconds between heartbeats, 0 = off.
    pub heartbeat_seconds: u16,
    /// From the first byte until everything is declared.
    pub connect_timeout: Duration,
    /// How long the server may confirm nothing while something is in flight.
    pub ack_timeout: Duration,
}

/// How an exchange finds queues for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By a pattern of words.
    Topic,
    /// By the same routing key.
    Direct,
    /// All of them.
    Fanout,
    /// By headers.
    Headers,
}

impl ExchangeKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Headers => "headers",
        }
    }
}

/// What is made of exchange and queue before they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declare {
    /// Nothing: what is missing is seen when it is used.
    Nothing,
    /// They have to exist.
    Exists,
    /// What is missing is created, durable.
    Create {
        /// The kind of the exchange.
        exchange_kind: ExchangeKind,
        /// Arguments of the queue.
        queue_arguments: Vec<(String, String)>,
        /// Topic filters of what the queue is to get from the exchange.
        filters: Vec<String>,
    },
}
