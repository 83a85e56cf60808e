//! A message between two systems.

use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use tidewire_protocol::codec::{PacketId, QoS};
use tokio::time::Instant;

/// The header, or user property, with the client identifier of who published a message.
pub const CLIENT_ID_PROPERTY: &str = "tidewire-client-id";
/// The header, or user property, with the user name of who published a message.
pub const USER_NAME_PROPERTY: &str = "tidewire-user-name";

/// A message in words that every system has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What the caller calls it; ascending in the order of submission.
    pub sequence: u64,
    /// Under which identifier an earlier process has sent it and had no answer.
    pub sent_as: Option<PacketId>,
    /// A name that is the same each time it is sent, for receivers that drop what comes twice; on
    /// the way in the name that its sender gave it, where the protocol has such a thing.
    pub uid: Option<Box<str>>,
    /// Its identifier, if it outlives the process.
    pub lasting: Option<LastingId>,
    /// The topic at the side that the record goes to, or came from.
    pub topic: String,
    /// What records that belong together have in common, where the protocol has such a thing.
    pub key: Option<Bytes>,
    /// Which part of the topic it goes to, or came from, where the protocol has such a thing.
    pub partition: Option<i32>,
    /// When it was made, in milliseconds since 1970, if the remote says so.
    pub timestamp_ms: Option<u64>,
    /// The content.
    pub payload: Bytes,
    /// Names with values, in order; a name may repeat.
    pub headers: Vec<(String, String)>,
    /// What few records have.
    pub properties: Option<Box<Properties>>,
    /// How surely it is delivered.
    pub qos: QoS,
    /// Whether the remote keeps it for later subscribers.
    pub retain: bool,
    /// When it is no longer worth sending.
    pub expires_at: Option<Instant>,
}

/// Names a record from one process to the next, and is never used again.
///
/// # Shape
/// The lower 10 bits are a lane; identifiers of a lane ascend in the order of submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastingId(pub NonZeroU64);

impl LastingId {
    /// Within which the order is known.
    #[cfg(feature = "kafka")]
    pub(crate) fn lane(self) -> u16 {
        (self.0.get() & 0x3FF) as u16
    }

    #[cfg(feature = "kafka")]
    pub(crate) fn number(self) -> u64 {
        self.0.get()
    }
}

/// A place in a log at the remote, to be kept in the same step as the record that came from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    /// Names the log.
    pub name: Arc<str>,
    /// What is read next.
    pub next: u64,
}

/// What few records have; but for the last, the names are those of MQTT 5.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Whether the payload is text.
    pub payload_is_utf8: Option<bool>,
    /// The kind of content.
    pub content_type: Option<String>,
    /// Where an answer is expected.
    pub response_topic: Option<String>,
    /// What an answer has to carry.
    pub correlation_data: Option<Bytes>,
    /// What is written on it besides, where the protocol has such a thing.
    pub envelope: Option<Envelope>,
}

/// What RocketMQ and AMQP write on a message besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// AMQP: how urgent it is; higher is sooner.
    pub priority: Option<u8>,
    /// By which receivers choose.
    pub tag: Option<String>,
    /// By which it is looked up.
    pub keys: Vec<String>,
    /// Milliseconds from sending it until it is given to receivers.
    pub delay_ms: Option<u64>,
}
