//! CONNECT and CONNACK.

use std::num::{NonZeroU16, NonZeroU32};

use super::{ProtocolVersion, QoS, ReasonCode, UserProperties};

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
