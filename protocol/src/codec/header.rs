//! The fixed header: packet type, flags and remaining length.

use super::varint::read_prefix;
use super::{DecodeError, ProtocolVersion, Receiver};

/// The type of a packet: the high four bits of its first byte.
///
/// # Source
/// MQTT 5.0 section 2.1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    fn from_bits(bits: u8) -> Result<Self, DecodeError> {
        Ok(match bits {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return Err(DecodeError::ReservedPacketType { packet_type: bits }),
        })
    }

    /// The first byte of every packet of this type but PUBLISH, whose flags are to be added.
    pub(super) fn first_byte(self) -> u8 {
        ((self as u8) << 4) | self.flags()
    }

    /// The flags of every packet of this type; PUBLISH has flags of its own.
    fn flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// Whether `receiver` may be sent this packet.
    fn is_for(self, version: ProtocolVersion, receiver: Receiver) -> bool {
        match self {
            Self::Connect | Self::Subscribe | Self::Unsubscribe | Self::PingReq => {
                receiver == Receiver::Server
            }
            Self::ConnAck | Self::SubAck | Self::UnsubAck | Self::PingResp => {
                receiver == Receiver::Client
            }
            Self::Disconnect => receiver == Receiver::Server || version == ProtocolVersion::V5,
            _ => true,
        }
    }
}

/// Type and flags of a packet whose first byte was accepted.
#[derive(Clone, Copy)]
pub(super) struct FirstByte {
    pub(super) packet_type: PacketType,
    /// The low four bits.
    pub(super) flags: u8,
}

impl FirstByte {
    /// Checks type, version, direction and flags.
    pub(super) fn decode(
        byte: u8,
        version: ProtocolVersion,
        receiver: Receiver,
    ) -> Result<Self, DecodeError> {
        let packet_type = PacketType::from_bits(byte >> 4)?;
        let flags = byte & 0x0F;
        if packet_type == PacketType::Auth && version != ProtocolVersion::V5 {
            return Err(DecodeError::ReservedPacketType {
                packet_type: byte >> 4,
            });
        }
        if !packet_type.is_for(version, receiver) {
            return Err(DecodeError::WrongDirection { packet_type });
        }
        match packet_type {
            PacketType::Publish => check_publish_flags(flags)?,
            _ if flags == packet_type.flags() => {}
            // 3.1 marks a repeated PUBREL, SUBSCRIBE or UNSUBSCRIBE by DUP.
            _ if version == ProtocolVersion::V3_1
                && packet_type.flags() != 0
                && flags & !DUP == packet_type.flags() => {}
            _ => return Err(DecodeError::FixedHeaderFlags { packet_type, flags }),
        }
        Ok(Self { packet_type, flags })
    }
}

fn check_publish_flags(flags: u8) -> Result<(), DecodeError> {
    match (flags >> 1) & 0b11 {
        // [MQTT-3.3.1-4]
        3 => Err(DecodeError::QoSInvalid { bits: 3 }),
        // [MQTT-3.3.1-2]
        0 if flags & DUP != 0 => Err(DecodeError::DuplicateAtMostOnce),
        _ => Ok(()),
    }
}

/// The body of the packet that `bytes` begins with and the size of the whole packet, or `None`
/// until it has arrived.
pub(super) fn body(
    bytes: &[u8],
    packet_bytes_max: usize,
) -> Result<Option<(&[u8], usize)>, DecodeError> {
    let Some(after_first) = bytes.get(1..) else {
        return Ok(None);
    };
    let Some((remaining_length, length_bytes)) = read_prefix(after_first)? else {
        return Ok(None);
    };
    let remaining_length = usize::try_from(remaining_length).unwrap_or(usize::MAX);
    let header_bytes = 1 + length_bytes;
    let packet_bytes = header_bytes.saturating_add(remaining_length);
    if packet_bytes > packet_bytes_max {
        return Err(DecodeError::PacketTooLarge {
            bytes: packet_bytes,
            bytes_max: packet_bytes_max,
        });
    }
    Ok(bytes
        .get(header_bytes..packet_bytes)
        .map(|body| (body, packet_bytes)))
}

/// The DUP flag of PUBLISH.
pub(super) const DUP: u8 = 0b1000;
/// The RETAIN flag of PUBLISH.
pub(super) const RETAIN: u8 = 0b0001;
