//! CONNECT, the first packet of every connection.

use std::num::{NonZeroU16, NonZeroU32};

use super::delivery::Forwarded;
use super::property_block::{PropertyBlock, property_block};
use super::reader::Reader;
use super::writer::{put_binary, put_string, put_u16};
use super::{DecodeError, EncodeError, PacketType, ProtocolVersion, QoS, UserProperties};

/// A client asks for a session.
///
/// # Source
/// MQTT 5.0 section 3.1, MQTT 3.1.1 section 3.1.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect<'a> {
    /// Protocol name and level together.
    pub version: ProtocolVersion,
    /// The high bit of a 3.1 or 3.1.1 protocol level: the peer is a bridge (mosquitto's extension).
    pub is_bridge: bool,
    /// Clean Start of 5.0, Clean Session of 3.x.
    pub clean_start: bool,
    /// Zero means no keep-alive.
    pub keep_alive_seconds: u16,
    /// Empty before 5.0.
    pub properties: ConnectProperties<'a>,
    /// May be empty: the server assigns one.
    pub client_id: &'a str,
    /// The message to publish when the connection ends badly.
    pub will: Option<Will<'a>>,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Password; 5.0 allows it without a user name.
    pub password: Option<&'a [u8]>,
}

/// Properties of CONNECT.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct ConnectProperties<'a> {
    pub session_expiry_seconds: Option<u32>,
    pub receive_maximum: Option<NonZeroU16>,
    pub maximum_packet_size: Option<NonZeroU32>,
    pub topic_alias_maximum: Option<u16>,
    pub request_response_information: Option<bool>,
    pub request_problem_information: Option<bool>,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
    pub user_properties: UserProperties<'a>,
}

/// The will message of a CONNECT.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Will<'a> {
    pub qos: QoS,
    pub retain: bool,
    /// A valid topic name.
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub properties: WillProperties<'a>,
}

/// Properties of a will.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct WillProperties<'a> {
    pub delay_seconds: Option<u32>,
    pub payload_is_utf8: Option<bool>,
    pub message_expiry_seconds: Option<u32>,
    pub content_type: Option<&'a str>,
    pub response_topic: Option<&'a str>,
    pub correlation_data: Option<&'a [u8]>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Connect<'a> {
    /// A new session without keep-alive, will, user name or properties.
    pub fn new(version: ProtocolVersion, client_id: &'a str) -> Self {
        Self {
            version,
            is_bridge: false,
            clean_start: true,
            keep_alive_seconds: 0,
            properties: ConnectProperties::default(),
            client_id,
            will: None,
            user_name: None,
            password: None,
        }
    }

    pub(super) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let (version, is_bridge) = decode_protocol(&mut reader)?;
        let flags = decode_flags(&mut reader, version)?;
        let keep_alive_seconds = reader.u16()?;
        let mut properties = ConnectProperties::default();
        properties.decode_block(&mut reader, PacketType::Connect, version)?;
        let client_id = reader.string()?;
        if client_id.is_empty() && version == ProtocolVersion::V3_1 {
            return Err(DecodeError::ClientIdEmpty);
        }
        let will = match flags & flag::WILL {
            0 => None,
            _ => Some(Will::decode(&mut reader, flags, version)?),
        };
        // In 3.1 the remaining length takes precedence over these two flags.
        let is_absent = |reader: &Reader<'_>, bit| {
            flags & bit == 0 || (version == ProtocolVersion::V3_1 && reader.is_empty())
        };
        let user_name = match is_absent(&reader, flag::USER_NAME) {
            true => None,
            false => Some(reader.string()?),
        };
        let password = match is_absent(&reader, flag::PASSWORD) {
            true => None,
            false => Some(reader.binary()?),
        };
        reader.finish()?;
        Ok(Self {
            version,
            is_bridge,
            clean_start: flags & flag::CLEAN_START != 0,
            keep_alive_seconds,
            properties,
            client_id,
            will,
            user_name,
            password,
        })
    }

    /// Appends the body; the version is the packet's own.
    pub(super) fn encode_body(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let is_v5 = self.version == ProtocolVersion::V5;
        if !is_v5 && self.password.is_some() && self.user_name.is_none() {
            return Err(EncodeError::NotInVersion {
                packet_type: PacketType::Connect,
            });
        }
        put_string(
            out,
            if self.version == ProtocolVersion::V3_1 {
                NAME_3_1
            } else {
                NAME
            },
        )?;
        let bridge = if self.is_bridge && !is_v5 {
            LEVEL_BRIDGE
        } else {
            0
        };
        out.extend_from_slice(&[self.version as u8 | bridge, self.flags()]);
        put_u16(out, self.keep_alive_seconds);
        self.properties.encode_block(self.version, out)?;
        put_string(out, self.client_id)?;
        if let Some(will) = &self.will {
            will.properties.encode_block(self.version, out)?;
            put_string(out, will.topic)?;
            put_binary(out, will.payload)?;
        }
        self.user_name
            .map_or(Ok(()), |user_name| put_string(out, user_name))?;
        self.password
            .map_or(Ok(()), |password| put_binary(out, password))
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= flag::CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= flag::WILL | ((will.qos as u8) << flag::WILL_QOS_SHIFT);
            if will.retain {
                flags |= flag::WILL_RETAIN;
            }
        }
        if self.user_name.is_some() {
            flags |= flag::USER_NAME;
        }
        if self.password.is_some() {
            flags |= flag::PASSWORD;
        }
        flags
    }
}

fn decode_protocol(reader: &mut Reader<'_>) -> Result<(ProtocolVersion, bool), DecodeError> {
    let name = reader.binary()?;
    let is_3_1 = name == NAME_3_1.as_bytes();
    // [MQTT-3.1.2-1]
    if !is_3_1 && name != NAME.as_bytes() {
        return Err(DecodeError::UnsupportedProtocolName { bytes: name.len() });
    }
    let level = reader.u8()?;
    match (level & !LEVEL_BRIDGE, level & LEVEL_BRIDGE != 0) {
        (3, is_bridge) if is_3_1 => Ok((ProtocolVersion::V3_1, is_bridge)),
        (4, is_bridge) if !is_3_1 => Ok((ProtocolVersion::V3_1_1, is_bridge)),
        (5, false) if !is_3_1 => Ok((ProtocolVersion::V5, false)),
        // [MQTT-3.1.2-2]
        _ => Err(DecodeError::UnsupportedProtocolLevel { level }),
    }
}

fn decode_flags(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<u8, DecodeError> {
    let flags = reader.u8()?;
    // [MQTT-3.1.2-3]; 3.1 leaves the bit unused and says nothing about its value.
    let reserved_is_set = flags & flag::RESERVED != 0 && version != ProtocolVersion::V3_1;
    // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
    let will_is_split = flags & flag::WILL == 0 && flags & flag::WILL_ONLY != 0;
    if reserved_is_set || will_is_split {
        return Err(DecodeError::ConnectFlags { flags });
    }
    // 3.1.1: [MQTT-3.1.2-22]
    let has_password_alone = flags & (flag::USER_NAME | flag::PASSWORD) == flag::PASSWORD;
    if has_password_alone && version != ProtocolVersion::V5 {
        return Err(DecodeError::PasswordWithoutUserName);
    }
    Ok(flags)
}

property_block!(ConnectProperties {
    SESSION_EXPIRY, SessionExpiry, session_expiry_seconds;
    RECEIVE_MAXIMUM, ReceiveMaximum, receive_maximum;
    MAXIMUM_PACKET_SIZE, MaximumPacketSize, maximum_packet_size;
    TOPIC_ALIAS_MAXIMUM, TopicAliasMaximum, topic_alias_maximum;
    REQUEST_RESPONSE_INFORMATION, RequestResponseInformation, request_response_information;
    REQUEST_PROBLEM_INFORMATION, RequestProblemInformation, request_problem_information;
    AUTHENTICATION_METHOD, AuthenticationMethod, authentication_method;
    AUTHENTICATION_DATA, AuthenticationData, authentication_data;
});

impl<'a> Will<'a> {
    fn decode(
        reader: &mut Reader<'a>,
        flags: u8,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let bits = (flags >> flag::WILL_QOS_SHIFT) & 0b11;
        // [MQTT-3.1.2-12]
        let qos = QoS::from_bits(bits).ok_or(DecodeError::QoSInvalid { bits })?;
        let mut properties = WillProperties::default();
        properties.decode_block(reader, PacketType::Connect, version)?;
        Ok(Self {
            qos,
            retain: flags & flag::WILL_RETAIN != 0,
            topic: reader.topic_name()?,
            payload: reader.binary()?,
            properties,
        })
    }
}

impl<'a> WillProperties<'a> {
    /// The properties that a broker passes on unaltered when it publishes the will.
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

property_block!(WillProperties {
    WILL_DELAY, WillDelay, delay_seconds;
    MESSAGE_EXPIRY, MessageExpiry, message_expiry_seconds;
    PAYLOAD_FORMAT, PayloadFormat, payload_is_utf8;
    CONTENT_TYPE, ContentType, content_type;
    RESPONSE_TOPIC, ResponseTopic, response_topic;
    CORRELATION_DATA, CorrelationData, correlation_data;
});

/// Bits of the connect flags.
mod flag {
    pub(super) const RESERVED: u8 = 1;
    pub(super) const CLEAN_START: u8 = 1 << 1;
    pub(super) const WILL: u8 = 1 << 2;
    pub(super) const WILL_QOS_SHIFT: u8 = 3;
    pub(super) const WILL_RETAIN: u8 = 1 << 5;
    pub(super) const PASSWORD: u8 = 1 << 6;
    pub(super) const USER_NAME: u8 = 1 << 7;
    /// What must be clear without a will.
    pub(super) const WILL_ONLY: u8 = WILL_RETAIN | (0b11 << WILL_QOS_SHIFT);
}

const NAME: &str = "MQTT";
const NAME_3_1: &str = "MQIsdp";
const LEVEL_BRIDGE: u8 = 0x80;
