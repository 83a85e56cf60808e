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
    /// What records are published to; empty is the default exchange, whose routing keys are queues.
    pub exchange: String,
    /// Whether a record that reaches no queue is refused.
    pub mandatory: bool,
    /// What is consumed, if anything is.
    pub queue: Option<String>,
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
