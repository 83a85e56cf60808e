//! One property of 5.0: its identifier, its value, reading and writing.
//!
//! # Source
//! MQTT 5.0 section 2.2.2.2.

use std::num::{NonZeroU16, NonZeroU32};

use super::reader::Reader;
use super::{DecodeError, EncodeError, QoS, UserProperties, varint, writer};

/// One property, its value checked.
#[derive(Clone, Copy)]
pub(super) enum Property<'a> {
    PayloadFormat(bool),
    MessageExpiry(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionId(NonZeroU32),
    SessionExpiry(u32),
    AssignedClientId(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelay(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(NonZeroU16),
    MaximumQoS(QoS),
    RetainAvailable(bool),
    User(&'a str, &'a str),
    MaximumPacketSize(NonZeroU32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdsAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    /// Reads the value of the property `id`.
    pub(super) fn read(reader: &mut Reader<'a>, id: u8) -> Result<Self, DecodeError> {
        Ok(match id {
            id::PAYLOAD_FORMAT => Self::PayloadFormat(boolean(reader, id)?),
            id::MESSAGE_EXPIRY => Self::MessageExpiry(reader.u32()?),
            id::CONTENT_TYPE => Self::ContentType(reader.string()?),
            id::RESPONSE_TOPIC => Self::ResponseTopic(reader.topic_name()?),
            id::CORRELATION_DATA => Self::CorrelationData(reader.binary()?),
            id::SUBSCRIPTION_ID => Self::SubscriptionId(not_zero_u32(reader.varint()?, id)?),
            id::SESSION_EXPIRY => Self::SessionExpiry(reader.u32()?),
            id::ASSIGNED_CLIENT_ID => Self::AssignedClientId(reader.string()?),
            id::SERVER_KEEP_ALIVE => Self::ServerKeepAlive(reader.u16()?),
            id::AUTHENTICATION_METHOD => Self::AuthenticationMethod(reader.string()?),
            id::AUTHENTICATION_DATA => Self::AuthenticationData(reader.binary()?),
            id::REQUEST_PROBLEM_INFORMATION => {
                Self::RequestProblemInformation(boolean(reader, id)?)
            }
            id::WILL_DELAY => Self::WillDelay(reader.u32()?),
            id::REQUEST_RESPONSE_INFORMATION => {
                Self::RequestResponseInformation(boolean(reader, id)?)
            }
            id::RESPONSE_INFORMATION => Self::ResponseInformation(reader.string()?),
            id::SERVER_REFERENCE => Self::ServerReference(reader.string()?),
            id::REASON_STRING => Self::ReasonString(reader.string()?),
            id::RECEIVE_MAXIMUM => Self::ReceiveMaximum(
                NonZeroU16::new(reader.u16()?).ok_or(DecodeError::PropertyZero { property: id })?,
            ),
            id::TOPIC_ALIAS_MAXIMUM => Self::TopicAliasMaximum(reader.u16()?),
            id::TOPIC_ALIAS => {
                Self::TopicAlias(NonZeroU16::new(reader.u16()?).ok_or(DecodeError::TopicAliasZero)?)
            }
            id::MAXIMUM_QOS => Self::MaximumQoS(match boolean(reader, id)? {
                false => QoS::AtMostOnce,
                true => QoS::AtLeastOnce,
            }),
            id::RETAIN_AVAILABLE => Self::RetainAvailable(boolean(reader, id)?),
            id::USER => Self::User(reader.string()?, reader.string()?),
            id::MAXIMUM_PACKET_SIZE => Self::MaximumPacketSize(not_zero_u32(reader.u32()?, id)?),
            id::WILDCARD_AVAILABLE => Self::WildcardSubscriptionAvailable(boolean(reader, id)?),
            id::SUBSCRIPTION_IDS_AVAILABLE => Self::SubscriptionIdsAvailable(boolean(reader, id)?),
            id::SHARED_AVAILABLE => Self::SharedSubscriptionAvailable(boolean(reader, id)?),
            _ => {
                return Err(DecodeError::PropertyUnknown {
                    property: u32::from(id),
                });
            }
        })
    }

    /// Appends identifier and value; nothing on error.
    pub(super) fn write(self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::ContentType(text) => return put_string(out, id::CONTENT_TYPE, Some(text)),
            Self::ResponseTopic(text) => return put_string(out, id::RESPONSE_TOPIC, Some(text)),
            Self::CorrelationData(data) => {
                return put_binary(out, id::CORRELATION_DATA, Some(data));
            }
            Self::SubscriptionId(id) => return put_subscription_id(out, id),
            Self::AssignedClientId(text) => {
                return put_string(out, id::ASSIGNED_CLIENT_ID, Some(text));
            }
            Self::AuthenticationMethod(text) => {
                return put_string(out, id::AUTHENTICATION_METHOD, Some(text));
            }
            Self::AuthenticationData(data) => {
                return put_binary(out, id::AUTHENTICATION_DATA, Some(data));
            }
            Self::ResponseInformation(text) => {
                return put_string(out, id::RESPONSE_INFORMATION, Some(text));
            }
            Self::ServerReference(text) => {
                return put_string(out, id::SERVER_REFERENCE, Some(text));
            }
            Self::ReasonString(text) => return put_string(out, id::REASON_STRING, Some(text)),
            Self::User(name, value) => return put_user_property(out, (name, value)),
            Self::PayloadFormat(value) => put_bool(out, id::PAYLOAD_FORMAT, Some(value)),
            Self::RequestProblemInformation(value) => {
                put_bool(out, id::REQUEST_PROBLEM_INFORMATION, Some(value));
            }
            Self::RequestResponseInformation(value) => {
                put_bool(out, id::REQUEST_RESPONSE_INFORMATION, Some(value));
            }
            // Absent means 2, which has no value of its own.
            Self::MaximumQoS(QoS::ExactlyOnce) => {}
            Self::MaximumQoS(qos) => put_bool(out, id::MAXIMUM_QOS, Some(qos != QoS::AtMostOnce)),
            Self::RetainAvailable(value) => put_bool(out, id::RETAIN_AVAILABLE, Some(value)),
            Self::WildcardSubscriptionAvailable(value) => {
                put_bool(out, id::WILDCARD_AVAILABLE, Some(value));
            }
            Self::SubscriptionIdsAvailable(value) => {
                put_bool(out, id::SUBSCRIPTION_IDS_AVAILABLE, Some(value));
            }
            Self::SharedSubscriptionAvailable(value) => {
                put_bool(out, id::SHARED_AVAILABLE, Some(value));
            }
            Self::ServerKeepAlive(value) => put_u16(out, id::SERVER_KEEP_ALIVE, Some(value)),
            Self::ReceiveMaximum(value) => put_u16(out, id::RECEIVE_MAXIMUM, Some(value.get())),
            Self::TopicAliasMaximum(value) => put_u16(out, id::TOPIC_ALIAS_MAXIMUM, Some(value)),
            Self::TopicAlias(value) => put_u16(out, id::TOPIC_ALIAS, Some(value.get())),
            Self::MessageExpiry(value) => put_u32(out, id::MESSAGE_EXPIRY, Some(value)),
            Self::SessionExpiry(value) => put_u32(out, id::SESSION_EXPIRY, Some(value)),
            Self::WillDelay(value) => put_u32(out, id::WILL_DELAY, Some(value)),
            Self::MaximumPacketSize(value) => {
                put_u32(out, id::MAXIMUM_PACKET_SIZE, Some(value.get()));
            }
        }
        Ok(())
    }
}

fn boolean(reader: &mut Reader<'_>, property: u8) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(DecodeError::PropertyNotBoolean { property, value }),
    }
}

fn not_zero_u32(value: u32, property: u8) -> Result<NonZeroU32, DecodeError> {
    NonZeroU32::new(value).ok_or(DecodeError::PropertyZero { property })
}

pub(super) fn put_bool(out: &mut Vec<u8>, id: u8, value: Option<bool>) {
    if let Some(value) = value {
        out.extend_from_slice(&[id, u8::from(value)]);
    }
}

pub(super) fn put_u16(out: &mut Vec<u8>, id: u8, value: Option<u16>) {
    if let Some(value) = value {
        let [high, low] = value.to_be_bytes();
        out.extend_from_slice(&[id, high, low]);
    }
}

pub(super) fn put_u32(out: &mut Vec<u8>, id: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.push(id);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn put_string(
    out: &mut Vec<u8>,
    id: u8,
    value: Option<&str>,
) -> Result<(), EncodeError> {
    put_binary(out, id, value.map(str::as_bytes))
}

/// Appends nothing on error.
pub(super) fn put_binary(
    out: &mut Vec<u8>,
    id: u8,
    value: Option<&[u8]>,
) -> Result<(), EncodeError> {
    let Some(value) = value else { return Ok(()) };
    out.push(id);
    writer::put_binary(out, value).inspect_err(|_| {
        out.pop();
    })
}

pub(super) fn put_subscription_id(out: &mut Vec<u8>, id: NonZeroU32) -> Result<(), EncodeError> {
    match usize::try_from(id.get()) {
        Ok(value) if value <= varint::MAX => {
            out.push(id::SUBSCRIPTION_ID);
            varint::put(out, value);
            Ok(())
        }
        _ => Err(EncodeError::SubscriptionIdTooLarge { value: id.get() }),
    }
}

/// Appends nothing of a pair that is too long.
pub(super) fn put_user_property(
    out: &mut Vec<u8>,
    (name, value): (&str, &str),
) -> Result<(), EncodeError> {
    let start = out.len();
    out.push(id::USER);
    let written = writer::put_string(out, name).and_then(|()| writer::put_string(out, value));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

pub(super) fn put_user_properties(
    out: &mut Vec<u8>,
    properties: &UserProperties<'_>,
) -> Result<(), EncodeError> {
    properties
        .iter()
        .try_for_each(|pair| put_user_property(out, pair))
}

/// A set of property identifiers: bit n stands for identifier n.
pub(super) const fn set(ids: &[u8]) -> u64 {
    let mut bits = 0;
    let mut rest = ids;
    while let [id, tail @ ..] = rest {
        if *id < 64 {
            bits |= 1 << *id;
        }
        rest = tail;
    }
    bits
}

/// Property identifiers.
///
/// # Source
/// MQTT 5.0 section 2.2.2.2.
pub(super) mod id {
    pub(in super::super) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(in super::super) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(in super::super) const CONTENT_TYPE: u8 = 0x03;
    pub(in super::super) const RESPONSE_TOPIC: u8 = 0x08;
    pub(in super::super) const CORRELATION_DATA: u8 = 0x09;
    pub(in super::super) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(in super::super) const SESSION_EXPIRY: u8 = 0x11;
    pub(in super::super) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(in super::super) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(in super::super) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(in super::super) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(in super::super) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(in super::super) const WILL_DELAY: u8 = 0x18;
    pub(in super::super) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(in super::super) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(in super::super) const SERVER_REFERENCE: u8 = 0x1C;
    pub(in super::super) const REASON_STRING: u8 = 0x1F;
    pub(in super::super) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(in super::super) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(in super::super) const TOPIC_ALIAS: u8 = 0x23;
    pub(in super::super) const MAXIMUM_QOS: u8 = 0x24;
    pub(in super::super) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(in super::super) const USER: u8 = 0x26;
    pub(in super::super) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(in super::super) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(in super::super) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub(in super::super) const SHARED_AVAILABLE: u8 = 0x2A;

    /// Every identifier above.
    pub(in super::super) const ALL: u64 = super::set(&[
        0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A,
        0x1C, 0x1F, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A,
    ]);
}
