//! Packets to bytes.

use super::writer::put_with_length;
use super::{EncodeError, Packet, PacketType, ProtocolVersion};

/// Appends `packet` to `out` and returns the number of bytes; on error `out` is unchanged.
///
/// What `version` does not know is left out: properties before 5.0, and reasons as far as 3.x has
/// none. A CONNECT is written in the version that it asks for. Content is not checked again: no
/// topic, filter or string of the packet may contain what [`decode`](super::decode) refuses.
///
/// # Errors
/// A field or the packet is too long, a packet identifier is missing, or there is no such packet
/// in `version`.
pub fn encode(
    packet: &Packet<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<usize, EncodeError> {
    let start = out.len();
    out.push(first_byte(packet));
    match put_with_length(out, |out| encode_body(packet, version, out)) {
        Ok(()) => Ok(out.len() - start),
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

fn first_byte(packet: &Packet<'_>) -> u8 {
    match packet {
        Packet::Publish(publish) => PacketType::Publish.first_byte() | publish.flags(),
        Packet::Connect(_) => PacketType::Connect.first_byte(),
        Packet::ConnAck(_) => PacketType::ConnAck.first_byte(),
        Packet::PubAck(_) => PacketType::PubAck.first_byte(),
        Packet::PubRec(_) => PacketType::PubRec.first_byte(),
        Packet::PubRel(_) => PacketType::PubRel.first_byte(),
        Packet::PubComp(_) => PacketType::PubComp.first_byte(),
        Packet::Subscribe(_) => PacketType::Subscribe.first_byte(),
        Packet::SubAck(_) => PacketType::SubAck.first_byte(),
        Packet::Unsubscribe(_) => PacketType::Unsubscribe.first_byte(),
        Packet::UnsubAck(_) => PacketType::UnsubAck.first_byte(),
        Packet::PingReq => PacketType::PingReq.first_byte(),
        Packet::PingResp => PacketType::PingResp.first_byte(),
        Packet::Disconnect(_) => PacketType::Disconnect.first_byte(),
        Packet::Auth(_) => PacketType::Auth.first_byte(),
    }
}

fn encode_body(
    packet: &Packet<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match packet {
        Packet::Publish(publish) => publish.encode_body(version, out),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.encode_body(version, out)
        }
        Packet::Connect(connect) => connect.encode_body(out),
        Packet::ConnAck(connack) => connack.encode_body(version, out),
        Packet::Subscribe(subscribe) => subscribe.encode_body(version, out),
        Packet::SubAck(suback) => suback.encode_body(version, out),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.encode_body(version, out),
        Packet::UnsubAck(unsuback) => unsuback.encode_body(version, out),
        Packet::PingReq | Packet::PingResp => Ok(()),
        Packet::Disconnect(disconnect) => disconnect.encode_body(version, out),
        Packet::Auth(auth) => auth.encode_body(version, out),
    }
}
