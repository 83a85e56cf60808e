//! What one AMQP 1.0 bridge is told.

use std::time::Duration;

use super::{Dialect, Node};
use crate::{CredentialsSource, Dial, ServerOrder};

/// Everything the connector needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our container id, the same after a restart.
    pub name: String,
    /// How many servers [`Dial`] knows.
    pub servers: usize,
    /// Which server comes after the first.
    pub order: ServerOrder,
    /// Opens a stream to a server.
    pub dial: Dial,
    /// Asked for on each connect, since secrets may change.
    pub credentials: CredentialsSource,
    /// How they are shown.
    pub mechanism: Mechanism,
    /// What the server calls itself, or the part of it that is meant.
    pub host_name: Option<String>,
    /// How the server names what it holds.
    pub dialect: Dialect,
    /// RabbitMQ: the exchange behind addresses of topics.
    pub exchange: String,
    /// What records are sent to.
    pub target: Node,
    /// What is received from, if anything is.
    pub source: Option<Source>,
    /// Unaccepted records on the way in.
    pub credit: u32,
    /// Unsettled records on the way out.
    pub inflight_max: usize,
    /// Links at the same time, where each address needs one of its own.
    pub links_max: usize,
    /// Bytes of a message, 0 = as many as the server takes.
    pub message_bytes_max: usize,
    /// The priority of messages that are sent and have none of their own.
    pub priority: u8,
    /// How often a message may have been delivered without success, 0 = as often as it comes.
    pub deliveries_max: u32,
    /// How long the connection may be silent; zero is for ever.
    pub idle_timeout: Duration,
    /// From the first byte until every link is attached.
    pub connect_timeout: Duration,
    /// How long the server may settle nothing while something is in flight.
    pub ack_timeout: Duration,
}

/// What is received from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, or an address as it is.
    pub address: String,
    /// What it is.
    pub node: Node,
}

/// How credentials are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanism {
    /// User name and password as they are; anonymous without a user name.
    #[default]
    Plain,
    /// Not at all.
    Anonymous,
    /// By the certificate below.
    External,
}
