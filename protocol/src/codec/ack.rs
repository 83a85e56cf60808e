//! PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.

use super::property_block::{PropertyBlock, property_block};
use super::reader::Reader;
use super::writer::put_packet_id;
use super::{DecodeError, EncodeError, PacketId, PacketType, ProtocolVersion};
use super::{ReasonCode, UserProperties};

/// One of the four packets that settle a PUBLISH.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Ack<'a> {
    pub packet_id: PacketId,
    pub reason: ReasonCode,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

/// The answer to SUBSCRIBE: one reason for each subscription, in order.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct SubAck<'a> {
    pub packet_id: PacketId,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub reasons: Vec<ReasonCode>,
}

/// The answer to UNSUBSCRIBE: one reason for each filter, in order; empty before 5.0.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct UnsubAck<'a> {
    pub packet_id: PacketId,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub reasons: Vec<ReasonCode>,
}

impl<'a> Ack<'a> {
    pub(super) fn decode(
        packet_type: PacketType,
        body: &'a [u8],
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id(packet_type)?;
        let mut reason = ReasonCode::Success;
        let mut properties = Properties::default();
        if version == ProtocolVersion::V5 {
            // The end may come before the reason and before the property length.
            if !reader.is_empty() {
                reason = ReasonCode::decode(reader.u8()?, packet_type)?;
            }
            if !reader.is_empty() {
                properties.decode_block(&mut reader, packet_type, version)?;
            }
        }
        reader.finish()?;
        let Properties {
            reason_string,
            user_properties,
        } = properties;
        Ok(Self {
            packet_id,
            reason,
            reason_string,
            user_properties,
        })
    }

    /// An acknowledgement without properties.
    pub fn plain(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            reason_string: None,
            user_properties: UserProperties::default(),
        }
    }

    /// Appends the shortest form.
    pub(super) fn encode_body(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        put_packet_id(out, self.packet_id);
        let properties = Properties {
            reason_string: self.reason_string,
            user_properties: self.user_properties,
        };
        let has_properties = !properties.is_empty();
        if version != ProtocolVersion::V5 || (self.reason == ReasonCode::Success && !has_properties)
        {
            return Ok(());
        }
        out.push(self.reason as u8);
        match has_properties {
            true => properties.encode_block(version, out),
            false => Ok(()),
        }
    }
}

impl<'a> SubAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let packet_type = PacketType::SubAck;
        let (packet_id, properties, reader) = decode_answer(body, packet_type, version)?;
        Ok(Self {
            packet_id,
            reason_string: properties.reason_string,
            user_properties: properties.user_properties,
            reasons: decode_reasons(reader.rest(), packet_type, version)?,
        })
    }

    pub(super) fn encode_body(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let explanation = (self.reason_string, self.user_properties);
        encode_answer(self.packet_id, explanation, version, out)?;
        let has_reasons = version == ProtocolVersion::V5;
        out.extend(self.reasons.iter().map(|reason| match reason.is_error() {
            true if !has_reasons => ReasonCode::UnspecifiedError as u8,
            _ => *reason as u8,
        }));
        Ok(())
    }
}

impl<'a> UnsubAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let packet_type = PacketType::UnsubAck;
        let (packet_id, properties, reader) = decode_answer(body, packet_type, version)?;
        let reasons = match version {
            ProtocolVersion::V5 => decode_reasons(reader.rest(), packet_type, version)?,
            _ => {
                reader.finish()?;
                Vec::new()
            }
        };
        Ok(Self {
            packet_id,
            reason_string: properties.reason_string,
            user_properties: properties.user_properties,
            reasons,
        })
    }

    pub(super) fn encode_body(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let explanation = (self.reason_string, self.user_properties);
        encode_answer(self.packet_id, explanation, version, out)?;
        if version == ProtocolVersion::V5 {
            out.extend(self.reasons.iter().map(|reason| *reason as u8));
        }
        Ok(())
    }
}

/// What SUBACK and UNSUBACK begin with.
fn encode_answer(
    packet_id: PacketId,
    (reason_string, user_properties): (Option<&str>, UserProperties<'_>),
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let properties = Properties {
        reason_string,
        user_properties,
    };
    put_packet_id(out, packet_id);
    properties.encode_block(version, out)
}

/// What SUBACK and UNSUBACK begin with; the reader stands at the reasons.
fn decode_answer<'a>(
    body: &'a [u8],
    packet_type: PacketType,
    version: ProtocolVersion,
) -> Result<(PacketId, Properties<'a>, Reader<'a>), DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id(packet_type)?;
    let mut properties = Properties::default();
    properties.decode_block(&mut reader, packet_type, version)?;
    Ok((packet_id, properties, reader))
}

fn decode_reasons(
    bytes: &[u8],
    packet_type: PacketType,
    version: ProtocolVersion,
) -> Result<Vec<ReasonCode>, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::PayloadMissing { packet_type });
    }
    let decode = |&value| match (version, value) {
        (ProtocolVersion::V5, _) | (_, 0..=2 | 0x80) => ReasonCode::decode(value, packet_type),
        // 3.1.1: [MQTT-3.9.3-2]
        _ => Err(DecodeError::ReasonCodeInvalid { packet_type, value }),
    };
    bytes.iter().map(decode).collect()
}

/// The properties of every acknowledgement.
#[derive(Default)]
struct Properties<'a> {
    reason_string: Option<&'a str>,
    user_properties: UserProperties<'a>,
}

impl Properties<'_> {
    fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }
}

property_block!(Properties {
    REASON_STRING, ReasonString, reason_string;
});
