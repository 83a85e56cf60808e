//! What can be wrong with the bytes of a packet, and with a packet to be written.

use super::{PacketType, ReasonCode};

/// Bytes that are not a packet we accept.
///
/// # Source
/// MQTT 5.0 section 4.13, Handling errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields say what the message says")]
pub enum DecodeError {
    /// The fixed header announces more than the receiver accepts; both sizes are of whole packets.
    #[error("packet of {bytes} bytes exceeds the maximum of {bytes_max}")]
    PacketTooLarge { bytes: usize, bytes_max: usize },
    /// Packet type 0, or AUTH before 5.0.
    #[error("packet type {packet_type} is reserved")]
    ReservedPacketType { packet_type: u8 },
    /// The low four bits of the first byte are not those of the packet type.
    #[error("fixed header flags {flags:#06b} are not valid for {packet_type:?}")]
    FixedHeaderFlags { packet_type: PacketType, flags: u8 },
    /// Only the other end of a connection may send this packet.
    #[error("{packet_type:?} was sent in the wrong direction")]
    WrongDirection { packet_type: PacketType },
    /// The first packet of a connection is something else.
    #[error("the first packet must be CONNECT, its first byte is {first_byte:#04x}")]
    ConnectExpected { first_byte: u8 },
    /// A variable byte integer of more than four bytes.
    #[error("variable byte integer is longer than four bytes")]
    VariableByteIntegerTooLong,
    /// A variable byte integer that is longer than its value needs.
    #[error("variable byte integer {value} is written in more bytes than it needs")]
    VariableByteIntegerNotMinimal { value: u32 },
    /// A field crosses the end of the packet or of its property block.
    #[error("field of {bytes} bytes crosses the end, {bytes_left} are left")]
    FieldTruncated { bytes: usize, bytes_left: usize },
    /// The packet goes on after its last field.
    #[error("{bytes} bytes follow the last field")]
    TrailingBytes { bytes: usize },
    /// A string is not UTF-8.
    #[error("string is not valid UTF-8 after {valid_bytes} bytes")]
    StringNotUtf8 { valid_bytes: usize },
    /// A string contains U+0000.
    #[error("string contains U+0000")]
    StringContainsNull,
    /// The protocol name of CONNECT is neither `MQTT` nor `MQIsdp`.
    #[error("protocol name of {bytes} bytes is not known")]
    UnsupportedProtocolName { bytes: usize },
    /// The protocol level of CONNECT is not one of ours, or not one of its protocol name.
    #[error("protocol level {level:#04x} is not supported")]
    UnsupportedProtocolLevel { level: u8 },
    /// Reserved bit set, or will bits without a will.
    #[error("connect flags {flags:#010b} contradict each other")]
    ConnectFlags { flags: u8 },
    /// A password without a user name before 5.0.
    #[error("password without user name")]
    PasswordWithoutUserName,
    /// 3.1 knows no empty client identifier.
    #[error("client identifier is empty")]
    ClientIdEmpty,
    /// Reserved bits of CONNACK, or a session together with an error.
    #[error("connect acknowledge flags {flags:#010b} are not valid")]
    ConnectAcknowledgeFlags { flags: u8 },
    /// QoS 3.
    #[error("QoS {bits} does not exist")]
    QoSInvalid { bits: u8 },
    /// DUP on a PUBLISH that is never sent again.
    #[error("DUP is set with QoS 0")]
    DuplicateAtMostOnce,
    /// A packet identifier of zero.
    #[error("packet identifier of {packet_type:?} is zero")]
    PacketIdZero { packet_type: PacketType },
    /// A topic name of no characters.
    #[error("topic name is empty")]
    TopicNameEmpty,
    /// A PUBLISH of 5.0 with neither topic name nor topic alias.
    #[error("topic name is empty and there is no topic alias")]
    TopicNameAndAliasMissing,
    /// A topic name with `+` or `#`.
    #[error("topic name contains a wildcard")]
    TopicNameWildcard,
    /// A topic filter of no characters.
    #[error("topic filter is empty")]
    TopicFilterEmpty,
    /// SUBSCRIBE or UNSUBSCRIBE without filters, SUBACK or UNSUBACK without reasons.
    #[error("payload of {packet_type:?} is empty")]
    PayloadMissing { packet_type: PacketType },
    /// Reserved bits of subscription options.
    #[error("reserved bits of subscription options {options:#010b} are set")]
    SubscriptionOptionsReserved { options: u8 },
    /// Retain handling 3.
    #[error("retain handling of subscription options {options:#010b} is 3")]
    RetainHandlingInvalid { options: u8 },
    /// No local on a shared subscription.
    #[error("no local is set for a shared subscription")]
    NoLocalShared,
    /// A reason code that does not exist or does not belong to this packet.
    #[error("reason code {value:#04x} is not valid for {packet_type:?}")]
    ReasonCodeInvalid { packet_type: PacketType, value: u8 },
    /// A property identifier that does not exist.
    #[error("property {property:#04x} does not exist")]
    PropertyUnknown { property: u32 },
    /// A property that does not belong to this packet, or to its will.
    #[error("property {property:#04x} is not allowed in {packet_type:?}")]
    PropertyNotAllowed {
        packet_type: PacketType,
        property: u8,
    },
    /// A property only the other end may send.
    #[error("property {property:#04x} of {packet_type:?} was sent in the wrong direction")]
    PropertyWrongDirection {
        packet_type: PacketType,
        property: u8,
    },
    /// A property that may appear once appears again.
    #[error("property {property:#04x} appears more than once")]
    PropertyDuplicate { property: u8 },
    /// A property whose value may not be zero is zero.
    #[error("property {property:#04x} is zero")]
    PropertyZero { property: u8 },
    /// A property whose value is 0 or 1 is something else.
    #[error("property {property:#04x} is {value} instead of 0 or 1")]
    PropertyNotBoolean { property: u8, value: u8 },
    /// A topic alias of zero.
    #[error("topic alias is zero")]
    TopicAliasZero,
    /// Authentication data, or an AUTH, without an authentication method.
    #[error("authentication method of {packet_type:?} is missing")]
    AuthenticationMethodMissing { packet_type: PacketType },
}

impl DecodeError {
    /// The reason code to answer with.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::UnsupportedProtocolName { .. } | Self::UnsupportedProtocolLevel { .. } => {
                ReasonCode::UnsupportedProtocolVersion
            }
            Self::ClientIdEmpty => ReasonCode::ClientIdentifierNotValid,
            Self::TopicNameWildcard => ReasonCode::TopicNameInvalid,
            Self::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            Self::WrongDirection { .. }
            | Self::ConnectExpected { .. }
            | Self::PacketIdZero { .. }
            | Self::TopicNameAndAliasMissing
            | Self::PayloadMissing { .. }
            | Self::NoLocalShared
            | Self::ReasonCodeInvalid { .. }
            | Self::PropertyWrongDirection { .. }
            | Self::PropertyDuplicate { .. }
            | Self::PropertyZero { .. }
            | Self::PropertyNotBoolean { .. }
            | Self::AuthenticationMethodMissing { .. }
            | Self::RetainHandlingInvalid { .. } => ReasonCode::ProtocolError,
            Self::ReservedPacketType { .. }
            | Self::FixedHeaderFlags { .. }
            | Self::VariableByteIntegerTooLong
            | Self::VariableByteIntegerNotMinimal { .. }
            | Self::FieldTruncated { .. }
            | Self::TrailingBytes { .. }
            | Self::StringNotUtf8 { .. }
            | Self::StringContainsNull
            | Self::ConnectFlags { .. }
            | Self::PasswordWithoutUserName
            | Self::ConnectAcknowledgeFlags { .. }
            | Self::QoSInvalid { .. }
            | Self::DuplicateAtMostOnce
            | Self::TopicNameEmpty
            | Self::TopicFilterEmpty
            | Self::SubscriptionOptionsReserved { .. }
            | Self::PropertyUnknown { .. }
            | Self::PropertyNotAllowed { .. } => ReasonCode::MalformedPacket,
        }
    }
}

/// A packet that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string or binary field is longer than its two-byte length can say.
    #[error("field of {bytes} bytes exceeds 65535")]
    FieldTooLong {
        /// Length of the field.
        bytes: usize,
    },
    /// The packet is longer than its remaining length can say.
    #[error("packet of {bytes} bytes exceeds 268435455")]
    PacketTooLong {
        /// Remaining length.
        bytes: usize,
    },
    /// A PUBLISH above QoS 0 without a packet identifier.
    #[error("packet identifier is missing")]
    PacketIdMissing,
    /// A subscription identifier above 268,435,455.
    #[error("subscription identifier {value} exceeds 268435455")]
    SubscriptionIdTooLarge {
        /// The identifier.
        value: u32,
    },
    /// The version of the connection does not know this packet, or this combination of fields.
    #[error("{packet_type:?} cannot be written so before 5.0")]
    NotInVersion {
        /// Type of the packet.
        packet_type: PacketType,
    },
}
