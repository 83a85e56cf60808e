//! Reason strings: what a code means here, in a few words for whoever debugs the client.

use tidewire_protocol::codec::{EncodeError, Packet, ReasonCode, encode};

use super::client::Connection;
use super::{Key, Shard};

impl Shard {
    /// The reason string of an acknowledgement, if it is an error and the client asks for more than
    /// the code [MQTT-3.1.2-29].
    pub(super) fn explain(&self, key: Key, reason: ReasonCode) -> Option<&'static str> {
        let connection = self.connections.lookup(key)?;
        let is_wanted =
            self.shared.config.mqtt.reason_strings && connection.wants_problem_information;
        is_wanted.then(|| text_of(reason)).flatten()
    }

    /// As [`Shard::explain`], for the first error of several reasons.
    pub(super) fn explain_first(&self, key: Key, reasons: &[ReasonCode]) -> Option<&'static str> {
        let error = reasons.iter().find(|reason| reason.is_error())?;
        self.explain(key, *error)
    }

    /// The reason string of CONNACK and DISCONNECT, which every client may be sent.
    pub(super) fn explain_end<'w>(&self, reason: ReasonCode, why: &'w str) -> Option<&'w str> {
        (self.shared.config.mqtt.reason_strings && reason.is_error()).then_some(why)
    }
}

/// Appends a packet; without its reason string if that makes it larger than the client takes
/// [MQTT-3.4.2-2].
pub(super) fn encode_explained(
    packet: &Packet<'_>,
    connection: &mut Connection,
) -> Result<usize, EncodeError> {
    let version = connection.version;
    let bytes_max = connection.packet_bytes_max;
    let out = connection.out.tail();
    let start = out.len();
    let bytes = encode(packet, version, out)?;
    if bytes <= bytes_max {
        return Ok(bytes);
    }
    out.truncate(start);
    encode(&unexplained(packet), version, out)
}

fn unexplained<'p>(packet: &Packet<'p>) -> Packet<'p> {
    let mut packet = packet.clone();
    match &mut packet {
        Packet::ConnAck(it) => it.properties.reason_string = None,
        Packet::PubAck(it) | Packet::PubRec(it) | Packet::PubRel(it) | Packet::PubComp(it) => {
            it.reason_string = None;
        }
        Packet::SubAck(it) => it.reason_string = None,
        Packet::UnsubAck(it) => it.reason_string = None,
        Packet::Disconnect(it) => it.reason_string = None,
        Packet::Auth(it) => it.reason_string = None,
        _ => {}
    }
    packet
}

/// What an error of ours means; other codes say enough.
pub fn text_of(reason: ReasonCode) -> Option<&'static str> {
    Some(match reason {
        ReasonCode::NotAuthorized => "not allowed to this client",
        ReasonCode::QuotaExceeded => "a limit of the broker is reached",
        ReasonCode::TopicNameInvalid => "the topic name is invalid or above the limits",
        ReasonCode::TopicFilterInvalid => "the topic filter is invalid or above the limits",
        ReasonCode::PayloadFormatInvalid => "the payload is not UTF-8 as it claims",
        ReasonCode::PacketIdentifierNotFound => "the packet identifier is not in use",
        ReasonCode::ClientIdentifierNotValid => "the client identifier is not accepted",
        ReasonCode::UnsupportedProtocolVersion => "the protocol version is not spoken here",
        ReasonCode::BadUserNameOrPassword => "the user name or password is wrong",
        ReasonCode::BadAuthenticationMethod => "the authentication method is not known here",
        ReasonCode::ServerUnavailable => "logins cannot be checked now; try again later",
        ReasonCode::ServerBusy => "too many logins wait; try again later",
        ReasonCode::UnspecifiedError => "the broker has failed to do this",
        _ => return None,
    })
}
