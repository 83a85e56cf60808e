//! Bytes to [`Packet`] and back, for MQTT 3.1, 3.1.1 and 5.0.
//!
//! Owns the wire format and every check that the bytes of one packet alone can decide. It refuses
//! to know sessions, sockets and time. One `Packet` serves all versions; the version matters only
//! here, at the edge. Decoding borrows from the input and allocates only for the lists of
//! SUBSCRIBE and UNSUBSCRIBE, whose size the input bounds.

pub mod ack;
pub mod connack;
pub mod connect;
pub mod control;
mod decode;
pub mod delivery;
mod encode;
pub mod error;
pub mod header;
pub mod property;
mod property_block;
mod property_value;
pub mod publish;
mod reader;
pub mod reason;
pub mod subscribe;
mod varint;
mod writer;

pub use ack::{Ack, SubAck, UnsubAck};
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties, Will, WillProperties};
pub use control::{Auth, Disconnect};
pub use decode::{decode, decode_connect};
pub use delivery::{
    DeliveryHeader, delivery_bytes, encode_delivery, encode_readdressed, split_packet, topic_of,
};
pub use encode::encode;
pub use error::{DecodeError, EncodeError};
pub use header::PacketType;
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

impl QoS {
    /// The QoS of two bits; 3 is none.
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// The number that ties a packet to its acknowledgement; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub NonZeroU16);

impl PacketId {
    /// Anything but zero.
    pub fn new(value: u16) -> Option<Self> {
        NonZeroU16::new(value).map(Self)
    }

    /// The number on the wire.
    pub fn value(self) -> u16 {
        self.0.get()
    }
}

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
