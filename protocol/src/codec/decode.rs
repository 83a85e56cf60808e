//! Bytes to packets.

use super::header::{FirstByte, body};
use super::reader::Reader;
use super::{
    Ack, Auth, ConnAck, Connect, DecodeError, Disconnect, Packet, PacketType, ProtocolVersion,
    Publish, Receiver, SubAck, Subscribe, UnsubAck, Unsubscribe,
};

/// Reads the packet that `bytes` begins with, and says how many bytes it takes.
///
/// `None` means that more bytes are needed. What the bytes at hand decide is decided at once: type
/// and flags by the first byte, the size by the remaining length. A CONNECT decodes here too: a
/// second one is well-formed, and wrong only because of the first.
///
/// # Units
/// `packet_bytes_max` counts whole packets, fixed header included.
///
/// # Errors
/// See [`DecodeError`]; none goes away with more bytes.
pub fn decode<'a>(
    bytes: &'a [u8],
    version: ProtocolVersion,
    receiver: Receiver,
    packet_bytes_max: usize,
) -> Result<Option<(Packet<'a>, usize)>, DecodeError> {
    let Some(&first_byte) = bytes.first() else {
        return Ok(None);
    };
    let first = FirstByte::decode(first_byte, version, receiver)?;
    let Some((body, packet_bytes)) = body(bytes, packet_bytes_max)? else {
        return Ok(None);
    };
    let packet = decode_body(first, body, version, receiver)?;
    Ok(Some((packet, packet_bytes)))
}

/// Reads the first packet that a server receives, which decides the version of the connection.
///
/// # Units
/// `packet_bytes_max` counts whole packets, fixed header included.
///
/// # Errors
/// As [`decode`], and at once if the first byte is not that of a CONNECT.
///
/// # Source
/// MQTT 5.0 [MQTT-3.1.0-1].
pub fn decode_connect<'a>(
    bytes: &'a [u8],
    packet_bytes_max: usize,
) -> Result<Option<(Connect<'a>, usize)>, DecodeError> {
    let Some(&first_byte) = bytes.first() else {
        return Ok(None);
    };
    if first_byte != PacketType::Connect.first_byte() {
        return Err(DecodeError::ConnectExpected { first_byte });
    }
    let Some((body, packet_bytes)) = body(bytes, packet_bytes_max)? else {
        return Ok(None);
    };
    Ok(Some((Connect::decode(body)?, packet_bytes)))
}

fn decode_body<'a>(
    first: FirstByte,
    body: &'a [u8],
    version: ProtocolVersion,
    receiver: Receiver,
) -> Result<Packet<'a>, DecodeError> {
    let packet_type = first.packet_type;
    Ok(match packet_type {
        PacketType::Publish => {
            Packet::Publish(Publish::decode(first.flags, body, version, receiver)?)
        }
        PacketType::PubAck => Packet::PubAck(Ack::decode(packet_type, body, version)?),
        PacketType::PubRec => Packet::PubRec(Ack::decode(packet_type, body, version)?),
        PacketType::PubRel => Packet::PubRel(Ack::decode(packet_type, body, version)?),
        PacketType::PubComp => Packet::PubComp(Ack::decode(packet_type, body, version)?),
        PacketType::Connect => Packet::Connect(Box::new(Connect::decode(body)?)),
        PacketType::ConnAck => Packet::ConnAck(Box::new(ConnAck::decode(body, version)?)),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(body, version)?),
        PacketType::SubAck => Packet::SubAck(SubAck::decode(body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck::decode(body, version)?),
        PacketType::PingReq => Reader::new(body).finish().map(|()| Packet::PingReq)?,
        PacketType::PingResp => Reader::new(body).finish().map(|()| Packet::PingResp)?,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(body, version, receiver)?),
        PacketType::Auth => Packet::Auth(Auth::decode(body)?),
    })
}
