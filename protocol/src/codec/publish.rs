//! PUBLISH, the packet that everything else serves.

use std::num::NonZeroU16;

use super::delivery::Forwarded;
use super::header::{DUP, RETAIN};
use super::property_block::{self as block, Property, PropertyBlock, Repeated, id};
use super::reader::Reader;
use super::writer::{put_packet_id, put_string};
use super::{
    DecodeError, EncodeError, PacketId, PacketType, ProtocolVersion, QoS, Receiver,
    SubscriptionIds, UserProperties,
};

/// An application message on its way.
///
/// # Source
/// MQTT 5.0 section 3.3.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Publish<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// A valid topic name, or empty when a topic alias stands for it (5.0 only).
    pub topic: &'a str,
    /// Present exactly when `qos` is above 0.
    pub packet_id: Option<PacketId>,
    pub properties: PublishProperties<'a>,
    pub payload: &'a [u8],
}

/// Properties of PUBLISH.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct PublishProperties<'a> {
    pub payload_is_utf8: Option<bool>,
    pub message_expiry_seconds: Option<u32>,
    pub topic_alias: Option<NonZeroU16>,
    /// A valid topic name.
    pub response_topic: Option<&'a str>,
    pub correlation_data: Option<&'a [u8]>,
    pub content_type: Option<&'a str>,
    pub subscription_ids: SubscriptionIds<'a>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Publish<'a> {
    /// A message of QoS 0, not retained, without properties.
    pub fn new(topic: &'a str, payload: &'a [u8]) -> Self {
        Self {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: None,
            properties: PublishProperties::default(),
            payload,
        }
    }

    /// `flags` are the low four bits of the first byte, checked before.
    pub(super) fn decode(
        flags: u8,
        body: &'a [u8],
        version: ProtocolVersion,
        receiver: Receiver,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let bits = (flags >> 1) & 0b11;
        let qos = QoS::from_bits(bits).ok_or(DecodeError::QoSInvalid { bits })?;
        let topic = reader.topic_name_or_empty()?;
        if topic.is_empty() && version != ProtocolVersion::V5 {
            return Err(DecodeError::TopicNameEmpty);
        }
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            _ => Some(reader.packet_id(PacketType::Publish)?),
        };
        let mut properties = PublishProperties::default();
        properties.decode_block(&mut reader, PacketType::Publish, version)?;
        if version == ProtocolVersion::V5 {
            properties.check(topic, receiver)?;
        }
        Ok(Self {
            dup: flags & DUP != 0,
            qos,
            retain: flags & RETAIN != 0,
            topic,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }

    /// The low four bits of the first byte.
    pub(super) fn flags(&self) -> u8 {
        flags(self.dup, self.qos, self.retain)
    }

    pub(super) fn encode_body(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.reserve(
            self.topic
                .len()
                .saturating_add(self.payload.len())
                .saturating_add(16),
        );
        put_string(out, self.topic)?;
        if self.qos != QoS::AtMostOnce {
            put_packet_id(out, self.packet_id.ok_or(EncodeError::PacketIdMissing)?);
        }
        self.properties.encode_block(version, out)?;
        out.extend_from_slice(self.payload);
        Ok(())
    }
}

/// The low four bits of the first byte of a PUBLISH.
pub(super) fn flags(dup: bool, qos: QoS, retain: bool) -> u8 {
    let dup = if dup { DUP } else { 0 };
    let retain = if retain { RETAIN } else { 0 };
    dup | ((qos as u8) << 1) | retain
}

impl<'a> PublishProperties<'a> {
    fn check(&self, topic: &str, receiver: Receiver) -> Result<(), DecodeError> {
        if topic.is_empty() && self.topic_alias.is_none() {
            return Err(DecodeError::TopicNameAndAliasMissing);
        }
        // [MQTT-3.3.4-6]
        if receiver == Receiver::Server && !self.subscription_ids.is_empty() {
            return Err(DecodeError::PropertyWrongDirection {
                packet_type: PacketType::Publish,
                property: id::SUBSCRIPTION_ID,
            });
        }
        Ok(())
    }

    /// The properties that a broker passes on unaltered.
    pub(super) fn forwarded(&self) -> Forwarded<'a> {
        Forwarded {
            payload_is_utf8: self.payload_is_utf8,
            content_type: self.content_type,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            user_properties: self.user_properties,
        }
    }
}

impl<'a> PropertyBlock<'a> for PublishProperties<'a> {
    const ALLOWED: u64 = block::set(&[
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::TOPIC_ALIAS,
        id::RESPONSE_TOPIC,
        id::CORRELATION_DATA,
        id::CONTENT_TYPE,
        id::SUBSCRIPTION_ID,
        id::USER,
    ]);

    fn set(&mut self, property: Property<'a>) {
        match property {
            Property::PayloadFormat(value) => self.payload_is_utf8 = Some(value),
            Property::MessageExpiry(value) => self.message_expiry_seconds = Some(value),
            Property::TopicAlias(value) => self.topic_alias = Some(value),
            Property::ResponseTopic(value) => self.response_topic = Some(value),
            Property::CorrelationData(value) => self.correlation_data = Some(value),
            Property::ContentType(value) => self.content_type = Some(value),
            _ => {}
        }
    }

    fn set_repeated(&mut self, repeated: Repeated<'a>) {
        self.user_properties = repeated.user_properties;
        self.subscription_ids = repeated.subscription_ids;
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        block::put_u32(out, id::MESSAGE_EXPIRY, self.message_expiry_seconds);
        block::put_u16(out, id::TOPIC_ALIAS, self.topic_alias.map(NonZeroU16::get));
        self.subscription_ids
            .iter()
            .try_for_each(|id| block::put_subscription_id(out, id))?;
        self.forwarded().encode(out)
    }
}
