//! SUBSCRIBE and UNSUBSCRIBE.

use std::num::NonZeroU32;

use super::property_block::{PropertyBlock, property_block};
use super::reader::Reader;
use super::writer::{put_packet_id, put_string};
use super::{DecodeError, EncodeError, PacketId, PacketType, ProtocolVersion, QoS, UserProperties};

/// Asks for messages of topics that match.
///
/// The filters are well-formed UTF-8 without U+0000; whether they are valid *filters* is checked
/// per filter by [`crate::topic`], since each has an answer of its own.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Subscribe<'a> {
    pub packet_id: PacketId,
    /// 1 to 268,435,455.
    pub subscription_id: Option<NonZeroU32>,
    pub user_properties: UserProperties<'a>,
    /// Never empty.
    pub subscriptions: Vec<Subscription<'a>>,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Subscription<'a> {
    pub filter: &'a str,
    pub options: SubscriptionOptions,
}

/// Options of one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct SubscriptionOptions {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent for a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Send = 0,
    /// Only if the subscription did not exist.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// Ends subscriptions.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Unsubscribe<'a> {
    pub packet_id: PacketId,
    pub user_properties: UserProperties<'a>,
    /// Never empty.
    pub filters: Vec<&'a str>,
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let packet_type = PacketType::Subscribe;
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id(packet_type)?;
        let mut this = Self {
            packet_id,
            subscription_id: None,
            user_properties: UserProperties::default(),
            subscriptions: Vec::new(),
        };
        this.decode_block(&mut reader, packet_type, version)?;
        // [MQTT-3.8.3-2]
        this.subscriptions = decode_entries(&mut reader, packet_type, |reader| {
            Subscription::decode(reader, version)
        })?;
        Ok(this)
    }

    pub(super) fn encode_body(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        put_packet_id(out, self.packet_id);
        self.encode_block(version, out)?;
        for subscription in &self.subscriptions {
            put_string(out, subscription.filter)?;
            out.push(subscription.options.bits(version));
        }
        Ok(())
    }
}

property_block!(Subscribe {
    SUBSCRIPTION_ID, SubscriptionId, subscription_id;
});

impl<'a> Subscription<'a> {
    fn decode(reader: &mut Reader<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let filter = reader.topic_filter()?;
        let options = SubscriptionOptions::decode(reader.u8()?, version)?;
        // [MQTT-3.8.3-4]
        if options.no_local && filter.starts_with(SHARED_PREFIX) {
            return Err(DecodeError::NoLocalShared);
        }
        Ok(Self { filter, options })
    }
}

impl SubscriptionOptions {
    fn decode(bits: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let reserved = if version == ProtocolVersion::V5 {
            0b1100_0000
        } else {
            0b1111_1100
        };
        // [MQTT-3.8.3-5]
        if bits & reserved != 0 {
            return Err(DecodeError::SubscriptionOptionsReserved { options: bits });
        }
        let qos = bits & 0b11;
        Ok(Self {
            qos: QoS::from_bits(qos).ok_or(DecodeError::QoSInvalid { bits: qos })?,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling: match bits >> RETAIN_HANDLING_SHIFT {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(DecodeError::RetainHandlingInvalid { options: bits }),
            },
        })
    }

    fn bits(self, version: ProtocolVersion) -> u8 {
        let mut bits = self.qos as u8;
        if version != ProtocolVersion::V5 {
            return bits;
        }
        if self.no_local {
            bits |= NO_LOCAL;
        }
        if self.retain_as_published {
            bits |= RETAIN_AS_PUBLISHED;
        }
        bits | ((self.retain_handling as u8) << RETAIN_HANDLING_SHIFT)
    }
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let packet_type = PacketType::Unsubscribe;
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id(packet_type)?;
        let mut this = Self {
            packet_id,
            user_properties: UserProperties::default(),
            filters: Vec::new(),
        };
        this.decode_block(&mut reader, packet_type, version)?;
        // [MQTT-3.10.3-2]
        this.filters = decode_entries(&mut reader, packet_type, Reader::topic_filter)?;
        Ok(this)
    }

    pub(super) fn encode_body(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        put_packet_id(out, self.packet_id);
        self.encode_block(version, out)?;
        self.filters
            .iter()
            .try_for_each(|filter| put_string(out, filter))
    }
}

property_block!(Unsubscribe {});

/// The payload: one entry at least.
fn decode_entries<'a, T>(
    reader: &mut Reader<'a>,
    packet_type: PacketType,
    decode: impl Fn(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    if reader.is_empty() {
        return Err(DecodeError::PayloadMissing { packet_type });
    }
    let mut entries = Vec::new();
    while !reader.is_empty() {
        entries.push(decode(reader)?);
    }
    Ok(entries)
}

const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
const RETAIN_HANDLING_SHIFT: u8 = 4;
const SHARED_PREFIX: &str = "$share/";
