//! CONNACK, the answer to CONNECT.

use std::num::{NonZeroU16, NonZeroU32};

use super::property_block::{self as block, Property, id};
use super::reader::Reader;
use super::writer::put_with_length;
use super::{
    DecodeError, EncodeError, PacketType, ProtocolVersion, QoS, ReasonCode, UserProperties,
};

/// The answer to CONNECT.
///
/// For 3.x the reason is one of the codes that [`ReasonCode`] maps to return codes 0-5.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct ConnAck<'a> {
    pub session_present: bool,
    pub reason: ReasonCode,
    pub properties: ConnAckProperties<'a>,
}

/// Properties of CONNACK.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct ConnAckProperties<'a> {
    pub session_expiry_seconds: Option<u32>,
    pub receive_maximum: Option<NonZeroU16>,
    pub maximum_qos: Option<QoS>,
    pub retain_available: Option<bool>,
    pub maximum_packet_size: Option<NonZeroU32>,
    pub assigned_client_id: Option<&'a str>,
    pub topic_alias_maximum: Option<u16>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub wildcard_subscription_available: Option<bool>,
    pub subscription_ids_available: Option<bool>,
    pub shared_subscription_available: Option<bool>,
    pub server_keep_alive_seconds: Option<u16>,
    pub response_information: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> ConnAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        let code = reader.u8()?;
        let (reason, properties) = match version {
            ProtocolVersion::V5 => (
                ReasonCode::decode(code, PacketType::ConnAck)?,
                ConnAckProperties::decode(&mut reader)?,
            ),
            _ => (
                ReasonCode::from_connect_return_code(code)?,
                ConnAckProperties::default(),
            ),
        };
        reader.finish()?;
        // 3.1 leaves the byte unused and says nothing about its value.
        let flags = if version == ProtocolVersion::V3_1 {
            0
        } else {
            flags
        };
        match (flags, reason) {
            (0, _) => Ok(Self {
                session_present: false,
                reason,
                properties,
            }),
            (1, ReasonCode::Success) => Ok(Self {
                session_present: true,
                reason,
                properties,
            }),
            // [MQTT-3.2.2-1], [MQTT-3.2.2-6]
            _ => Err(DecodeError::ConnectAcknowledgeFlags { flags }),
        }
    }

    pub(super) fn encode_body(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        // [MQTT-3.2.2-6]
        let session_present = self.session_present
            && self.reason == ReasonCode::Success
            && version != ProtocolVersion::V3_1;
        out.push(u8::from(session_present));
        if version != ProtocolVersion::V5 {
            out.push(self.reason.connect_return_code());
            return Ok(());
        }
        out.push(self.reason as u8);
        put_with_length(out, |out| self.properties.encode(out))
    }
}

impl<'a> ConnAckProperties<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut this = Self::default();
        let repeated = block::read(reader, PacketType::ConnAck, ALLOWED, |property| {
            this.set(property)
        })?;
        this.user_properties = repeated.user_properties;
        if this.authentication_data.is_some() && this.authentication_method.is_none() {
            let packet_type = PacketType::ConnAck;
            return Err(DecodeError::AuthenticationMethodMissing { packet_type });
        }
        Ok(this)
    }

    fn set(&mut self, property: Property<'a>) {
        match property {
            Property::SessionExpiry(value) => self.session_expiry_seconds = Some(value),
            Property::ReceiveMaximum(value) => self.receive_maximum = Some(value),
            Property::MaximumQoS(value) => self.maximum_qos = Some(value),
            Property::RetainAvailable(value) => self.retain_available = Some(value),
            Property::MaximumPacketSize(value) => self.maximum_packet_size = Some(value),
            Property::AssignedClientId(value) => self.assigned_client_id = Some(value),
            Property::TopicAliasMaximum(value) => self.topic_alias_maximum = Some(value),
            Property::ReasonString(value) => self.reason_string = Some(value),
            Property::WildcardSubscriptionAvailable(value) => {
                self.wildcard_subscription_available = Some(value);
            }
            Property::SubscriptionIdsAvailable(value) => {
                self.subscription_ids_available = Some(value);
            }
            Property::SharedSubscriptionAvailable(value) => {
                self.shared_subscription_available = Some(value);
            }
            Property::ServerKeepAlive(value) => self.server_keep_alive_seconds = Some(value),
            Property::ResponseInformation(value) => self.response_information = Some(value),
            Property::ServerReference(value) => self.server_reference = Some(value),
            Property::AuthenticationMethod(value) => self.authentication_method = Some(value),
            Property::AuthenticationData(value) => self.authentication_data = Some(value),
            _ => {}
        }
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        block::put_u32(out, id::SESSION_EXPIRY, self.session_expiry_seconds);
        block::put_u16(
            out,
            id::RECEIVE_MAXIMUM,
            self.receive_maximum.map(NonZeroU16::get),
        );
        // Absent means 2, which has no value of its own.
        let maximum_qos = self.maximum_qos.filter(|qos| *qos != QoS::ExactlyOnce);
        block::put_bool(
            out,
            id::MAXIMUM_QOS,
            maximum_qos.map(|qos| qos != QoS::AtMostOnce),
        );
        block::put_bool(out, id::RETAIN_AVAILABLE, self.retain_available);
        block::put_u32(
            out,
            id::MAXIMUM_PACKET_SIZE,
            self.maximum_packet_size.map(NonZeroU32::get),
        );
        block::put_string(out, id::ASSIGNED_CLIENT_ID, self.assigned_client_id)?;
        block::put_u16(out, id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        block::put_string(out, id::REASON_STRING, self.reason_string)?;
        block::put_bool(
            out,
            id::WILDCARD_AVAILABLE,
            self.wildcard_subscription_available,
        );
        block::put_bool(
            out,
            id::SUBSCRIPTION_IDS_AVAILABLE,
            self.subscription_ids_available,
        );
        block::put_bool(
            out,
            id::SHARED_AVAILABLE,
            self.shared_subscription_available,
        );
        block::put_u16(out, id::SERVER_KEEP_ALIVE, self.server_keep_alive_seconds);
        block::put_string(out, id::RESPONSE_INFORMATION, self.response_information)?;
        block::put_string(out, id::SERVER_REFERENCE, self.server_reference)?;
        block::put_string(out, id::AUTHENTICATION_METHOD, self.authentication_method)?;
        block::put_binary(out, id::AUTHENTICATION_DATA, self.authentication_data)?;
        block::put_user_properties(out, &self.user_properties)
    }
}

const ALLOWED: u64 = block::set(&[
    id::SESSION_EXPIRY,
    id::RECEIVE_MAXIMUM,
    id::MAXIMUM_QOS,
    id::RETAIN_AVAILABLE,
    id::MAXIMUM_PACKET_SIZE,
    id::ASSIGNED_CLIENT_ID,
    id::TOPIC_ALIAS_MAXIMUM,
    id::REASON_STRING,
    id::USER,
    id::WILDCARD_AVAILABLE,
    id::SUBSCRIPTION_IDS_AVAILABLE,
    id::SHARED_AVAILABLE,
    id::SERVER_KEEP_ALIVE,
    id::RESPONSE_INFORMATION,
    id::SERVER_REFERENCE,
    id::AUTHENTICATION_METHOD,
    id::AUTHENTICATION_DATA,
]);
