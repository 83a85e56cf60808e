//! The way out of a message: one PUBLISH for each receiver, from parts that are shared by all.

use std::num::{NonZeroU16, NonZeroU32};

use super::header::RETAIN;
use super::property_block::{self as block, id};
use super::{
    EncodeError, PacketId, PacketType, ProtocolVersion, PublishProperties, QoS, UserProperties,
    WillProperties, publish, varint,
};

/// What differs between the receivers of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeliveryHeader<'a> {
    /// Sent before.
    pub dup: bool,
    /// The lower of the publisher's and the subscription's.
    pub qos: QoS,
    /// The RETAIN flag of this copy.
    pub retain: bool,
    /// Written above QoS 0 only; `None` there leaves two zero bytes to be patched.
    pub packet_id: Option<PacketId>,
    /// Left out before 5.0.
    pub topic_alias: Option<NonZeroU16>,
    /// What is left of it; left out before 5.0.
    pub message_expiry_seconds: Option<u32>,
    /// Each at most 268,435,455; left out before 5.0.
    pub subscription_ids: &'a [NonZeroU32],
}

/// Appends the PUBLISH and returns the offset of the packet identifier in `out`, if it has one.
///
/// `forwarded` are wire bytes of properties, as [`PublishProperties::encode_forwarded`] writes
/// them; `topic` are the bytes of a topic. The caller has checked that [`delivery_bytes`] is at
/// most 268,435,455 and that the topic has at most 65,535 bytes, as that of a decoded packet has.
pub fn encode_delivery(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    header: &DeliveryHeader<'_>,
    topic: &[u8],
    forwarded: &[u8],
    payload: &[u8],
) -> Option<usize> {
    let lengths = Lengths::of(version, header, topic, forwarded, payload);
    debug_assert!(
        lengths.remaining <= varint::MAX,
        "checked with delivery_bytes"
    );
    debug_assert!(
        topic.len() <= usize::from(u16::MAX),
        "topics have two-byte lengths"
    );
    out.reserve(lengths.packet());
    let flags = publish::flags(header.dup, header.qos, header.retain);
    out.push(PacketType::Publish.first_byte() | flags);
    varint::put(out, lengths.remaining);
    let topic_length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&topic_length.to_be_bytes());
    out.extend_from_slice(topic);
    let packet_id_at = (header.qos != QoS::AtMostOnce).then_some(out.len());
    if packet_id_at.is_some() {
        let packet_id = header.packet_id.map_or(0, PacketId::value);
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    if version == ProtocolVersion::V5 {
        varint::put(out, lengths.properties);
        block::put_u32(out, id::MESSAGE_EXPIRY, header.message_expiry_seconds);
        block::put_u16(
            out,
            id::TOPIC_ALIAS,
            header.topic_alias.map(NonZeroU16::get),
        );
        for subscription_id in header.subscription_ids {
            out.push(id::SUBSCRIPTION_ID);
            varint::put(out, value_of(*subscription_id));
        }
        out.extend_from_slice(forwarded);
    }
    out.extend_from_slice(payload);
    packet_id_at
}

/// Size of the whole packet that [`encode_delivery`] would append.
pub fn delivery_bytes(
    version: ProtocolVersion,
    header: &DeliveryHeader<'_>,
    topic: &[u8],
    forwarded: &[u8],
    payload: &[u8],
) -> usize {
    Lengths::of(version, header, topic, forwarded, payload).packet()
}

/// Splits the first packet off what [`encode_delivery`] has appended; `None` at the end.
pub fn split_packet(packets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (remaining, length_bytes) = varint::read_prefix(packets.get(1..)?).ok()??;
    packets.split_at_checked(1 + length_bytes + usize::try_from(remaining).ok()?)
}

/// Appends a QoS 0 packet of [`encode_delivery`] with another topic and with a topic alias, which
/// is left out before 5.0; `None`, and nothing is appended, if `packet` is no such packet.
pub fn encode_readdressed(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    packet: &[u8],
    topic: &[u8],
    topic_alias: Option<NonZeroU16>,
) -> Option<()> {
    let parts = Parts::of(version, packet)?;
    let header = DeliveryHeader {
        retain: parts.flags & RETAIN != 0,
        topic_alias,
        ..DeliveryHeader::default()
    };
    encode_delivery(
        out,
        version,
        &header,
        topic,
        parts.properties,
        parts.payload,
    );
    Some(())
}

/// The topic of a QoS 0 packet of [`encode_delivery`].
pub fn topic_of(packet: &[u8]) -> Option<&[u8]> {
    let (_, length_bytes) = varint::read_prefix(packet.get(1..)?).ok()??;
    let (length, rest) = packet.get(1 + length_bytes..)?.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

/// A QoS 0 packet, taken apart.
struct Parts<'a> {
    flags: u8,
    properties: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(version: ProtocolVersion, packet: &'a [u8]) -> Option<Self> {
        let (flags, rest) = packet.split_first()?;
        let (_, length_bytes) = varint::read_prefix(rest).ok()??;
        let (length, rest) = rest.get(length_bytes..)?.split_first_chunk::<2>()?;
        let rest = rest.get(usize::from(u16::from_be_bytes(*length))..)?;
        let (properties, payload) = if version == ProtocolVersion::V5 {
            let (length, length_bytes) = varint::read_prefix(rest).ok()??;
            rest.get(length_bytes..)?
                .split_at_checked(usize::try_from(length).ok()?)?
        } else {
            rest.split_at(0)
        };
        Some(Self {
            flags: *flags,
            properties,
            payload,
        })
    }
}

impl PublishProperties<'_> {
    /// Whether there is any property that a broker passes on unaltered.
    #[inline]
    pub fn has_forwarded(&self) -> bool {
        self.payload_is_utf8.is_some()
            || self.content_type.is_some()
            || self.response_topic.is_some()
            || self.correlation_data.is_some()
            || self.user_properties.iter().next().is_some()
    }

    /// Appends the properties that a broker passes on unaltered, for [`encode_delivery`].
    ///
    /// # Shape
    /// Payload format, content type, response topic, correlation data, then the user properties
    /// in their order, without a length in front. A field of more than 65,535 bytes, which no
    /// decoded packet has, is left out.
    ///
    /// # Source
    /// MQTT 5.0 [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17],
    /// [MQTT-3.3.2-18], [MQTT-3.3.2-20].
    pub fn encode_forwarded(&self, out: &mut Vec<u8>) {
        self.forwarded().encode_all_that_fit(out);
    }
}

impl<'a> PublishProperties<'a> {
    /// The properties in what [`PublishProperties::encode_forwarded`] has appended.
    pub fn decode_forwarded(forwarded: &'a [u8]) -> Self {
        let mut this = Self {
            user_properties: UserProperties::from_wire(forwarded),
            ..Self::default()
        };
        for property in block::Properties::new(forwarded) {
            match property {
                block::Property::PayloadFormat(value) => this.payload_is_utf8 = Some(value),
                block::Property::ContentType(value) => this.content_type = Some(value),
                block::Property::ResponseTopic(value) => this.response_topic = Some(value),
                block::Property::CorrelationData(value) => this.correlation_data = Some(value),
                _ => {}
            }
        }
        this
    }
}

impl WillProperties<'_> {
    /// Appends the properties that a broker passes on unaltered when it publishes the will.
    ///
    /// # Shape
    /// As [`PublishProperties::encode_forwarded`].
    pub fn encode_forwarded(&self, out: &mut Vec<u8>) {
        self.forwarded().encode_all_that_fit(out);
    }
}

/// The properties of a message that reach every receiver unaltered.
pub(super) struct Forwarded<'a> {
    pub(super) payload_is_utf8: Option<bool>,
    pub(super) content_type: Option<&'a str>,
    pub(super) response_topic: Option<&'a str>,
    pub(super) correlation_data: Option<&'a [u8]>,
    pub(super) user_properties: UserProperties<'a>,
}

impl Forwarded<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        block::put_bool(out, id::PAYLOAD_FORMAT, self.payload_is_utf8);
        block::put_string(out, id::CONTENT_TYPE, self.content_type)?;
        block::put_string(out, id::RESPONSE_TOPIC, self.response_topic)?;
        block::put_binary(out, id::CORRELATION_DATA, self.correlation_data)?;
        block::put_user_properties(out, &self.user_properties)
    }

    fn encode_all_that_fit(&self, out: &mut Vec<u8>) {
        // Each of these appends nothing on error.
        block::put_bool(out, id::PAYLOAD_FORMAT, self.payload_is_utf8);
        block::put_string(out, id::CONTENT_TYPE, self.content_type).ok();
        block::put_string(out, id::RESPONSE_TOPIC, self.response_topic).ok();
        block::put_binary(out, id::CORRELATION_DATA, self.correlation_data).ok();
        for pair in self.user_properties.iter() {
            block::put_user_property(out, pair).ok();
        }
    }
}

/// The two lengths that stand before what they measure.
struct Lengths {
    remaining: usize,
    properties: usize,
}

impl Lengths {
    fn of(
        version: ProtocolVersion,
        header: &DeliveryHeader<'_>,
        topic: &[u8],
        forwarded: &[u8],
        payload: &[u8],
    ) -> Self {
        let packet_id = if header.qos == QoS::AtMostOnce { 0 } else { 2 };
        let fixed = 2 + topic.len() + packet_id + payload.len();
        if version != ProtocolVersion::V5 {
            return Self {
                remaining: fixed,
                properties: 0,
            };
        }
        let message_expiry = if header.message_expiry_seconds.is_some() {
            5
        } else {
            0
        };
        let topic_alias = if header.topic_alias.is_some() { 3 } else { 0 };
        let subscription_ids: usize = header
            .subscription_ids
            .iter()
            .map(|id| 1 + varint::size(value_of(*id)))
            .sum();
        let properties = message_expiry + topic_alias + subscription_ids + forwarded.len();
        Self {
            remaining: fixed + varint::size(properties) + properties,
            properties,
        }
    }

    fn packet(&self) -> usize {
        1 + varint::size(self.remaining) + self.remaining
    }
}

fn value_of(subscription_id: NonZeroU32) -> usize {
    usize::try_from(subscription_id.get())
        .unwrap_or(varint::MAX)
        .min(varint::MAX)
}
