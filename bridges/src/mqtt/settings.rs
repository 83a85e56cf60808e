//! What one MQTT bridge is told.

use std::num::NonZeroU16;
use std::time::Duration;

use tidewire_protocol::codec::{ProtocolVersion, QoS};

use crate::{CredentialsSource, Dial, ServerOrder};

/// Everything the connector needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many servers [`Dial`] knows.
    pub servers: usize,
    /// Which server comes after the first.
    pub order: ServerOrder,
    /// With [`ServerOrder::Failover`]: how often the first server is looked for while another one
    /// stands in; `None` is never.
    pub home_probe: Option<Duration>,
    /// Opens a stream to a server.
    pub dial: Dial,
    /// The version to speak; `None` begins with 5.0 and falls back as the server demands.
    pub version: Option<ProtocolVersion>,
    /// Whether 3.x connections say that they are bridges.
    pub bridge_bit: bool,
    /// The name of the session at the server.
    pub client_id: String,
    /// The name of this node, told to servers of our own kind.
    pub node: String,
    /// Asked for on each connect, since secrets may change.
    pub credentials: CredentialsSource,
    /// Seconds between signs of life, 0 = off.
    pub keep_alive_seconds: u16,
    /// How long the server keeps the session, in seconds; without effect before 5.0.
    pub session_expiry_seconds: u32,
    /// Whether the first connection of this process begins a new session.
    pub starts_clean: bool,
    /// Whether packet identifiers at QoS 2 outlive the process: the caller keeps the notes.
    pub is_durable: bool,
    /// Unacknowledged messages on the way in.
    pub receive_maximum: NonZeroU16,
    /// Unacknowledged messages on the way out, within what the server allows.
    pub inflight_max: u16,
    /// Topic aliases on the way out, within what the server allows.
    pub topic_aliases_max: u16,
    /// Bytes of one packet on the way in.
    pub packet_bytes_max: usize,
    /// From the first byte to CONNACK.
    pub connect_timeout: Duration,
    /// How long the server may acknowledge nothing while something is in flight.
    pub ack_timeout: Duration,
    /// What to receive.
    pub subscriptions: Vec<Subscription>,
    /// Published by the server, retained, when the connection is lost: topic and payload.
    pub will: Option<(String, Vec<u8>)>,
    /// Published, retained, after each connect: topic and payload.
    pub greeting: Option<(String, Vec<u8>)>,
}

/// One topic filter at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The filter.
    pub filter: String,
    /// The most to ask for.
    pub qos: QoS,
}
