//! Bytes to [`Packet`] and back, for MQTT 3.1, 3.1.1 and 5.0.
//!
//! Owns the wire format and every check that the bytes of one packet alone can decide. It refuses
//! to know sessions, sockets and time. One `Packet` serves all versions; the version matters only
//! here, at the edge. Decoding borrows from the input and allocates only for the lists of
//! SUBSCRIBE and UNSUBSCRIBE, whose size the input bounds.

pub mod ack;
pub mod connect;
pub mod control;
pub mod error;
pub mod property;
pub mod publish;
pub mod reason;
pub mod subscribe;

pub use ack::{Ack, SubAck, UnsubAck};
pub use connect::{ConnAck, ConnAckProperties, Connect, ConnectProperties, Will, WillProperties};
pub use control::{Auth, Disconnect};
pub use error::{DecodeError, EncodeError};
pub use property::{SubscriptionIds, UserProperties};
pub use publish::{Publish, PublishProperties};
pub use reason::ReasonCode;
pub use subscribe::{RetainHandling, Subscribe, Subscription, SubscriptionOptions, Unsubscribe};

use std::num::NonZeroU16;

/// The protocol a connection speaks, chosen by its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ProtocolVersion {
    /// MQTT 3.1, protocol name `MQIsdp`.
    V3_1 = 3,
    /// MQTT 3.1.1.
    V3_1_1 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

/// How surely a message is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

/// The number that ties a packet to its acknowledgement; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub NonZeroU16);

/// Any MQTT packet, borrowing from the bytes it was read from.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Packet<'a> {
    Connect(Box<Connect<'a>>),
    ConnAck(Box<ConnAck<'a>>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// Which end of the connection reads: it decides which packets are in the right direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// A broker: CONNACK, SUBACK, UNSUBACK, PINGRESP are errors.
    Server,
    /// A client: CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ are errors.
    Client,
}
