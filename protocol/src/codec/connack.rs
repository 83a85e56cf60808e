//! CONNACK, the answer to CONNECT.

use std::num::{NonZeroU16, NonZeroU32};

use super::property_block::{PropertyBlock, property_block};
use super::reader::Reader;
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
        let reason = match version {
            ProtocolVersion::V5 => ReasonCode::decode(code, PacketType::ConnAck)?,
            _ => ReasonCode::from_connect_return_code(code)?,
        };
        let mut properties = ConnAckProperties::default();
        properties.decode_block(&mut reader, PacketType::ConnAck, version)?;
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
        self.properties.encode_block(version, out)
    }
}

property_block!(ConnAckProperties {
    SESSION_EXPIRY, SessionExpiry, session_expiry_seconds;
    RECEIVE_MAXIMUM, ReceiveMaximum, receive_maximum;
    MAXIMUM_QOS, MaximumQoS, maximum_qos;
    RETAIN_AVAILABLE, RetainAvailable, retain_available;
    MAXIMUM_PACKET_SIZE, MaximumPacketSize, maximum_packet_size;
    ASSIGNED_CLIENT_ID, AssignedClientId, assigned_client_id;
    TOPIC_ALIAS_MAXIMUM, TopicAliasMaximum, topic_alias_maximum;
    REASON_STRING, ReasonString, reason_string;
    WILDCARD_AVAILABLE, WildcardSubscriptionAvailable, wildcard_subscription_available;
    SUBSCRIPTION_IDS_AVAILABLE, SubscriptionIdsAvailable, subscription_ids_available;
    SHARED_AVAILABLE, SharedSubscriptionAvailable, shared_subscription_available;
    SERVER_KEEP_ALIVE, ServerKeepAlive, server_keep_alive_seconds;
    RESPONSE_INFORMATION, ResponseInformation, response_information;
    SERVER_REFERENCE, ServerReference, server_reference;
    AUTHENTICATION_METHOD, AuthenticationMethod, authentication_method;
    AUTHENTICATION_DATA, AuthenticationData, authentication_data;
});
