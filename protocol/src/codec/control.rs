//! DISCONNECT and AUTH.

use super::UserProperties;
use super::property_block::{PropertyBlock, id, property_block};
use super::reader::Reader;
use super::{DecodeError, EncodeError, PacketType, ProtocolVersion, ReasonCode, Receiver};

/// The last packet of a connection.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Disconnect<'a> {
    pub reason: ReasonCode,
    pub session_expiry_seconds: Option<u32>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub server_reference: Option<&'a str>,
}

/// One step of an enhanced authentication (5.0 only).
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Auth<'a> {
    pub reason: ReasonCode,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    pub(super) fn decode(
        body: &'a [u8],
        version: ProtocolVersion,
        receiver: Receiver,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut this = Self {
            reason: ReasonCode::Success,
            session_expiry_seconds: None,
            reason_string: None,
            user_properties: UserProperties::default(),
            server_reference: None,
        };
        if version == ProtocolVersion::V5 {
            // The end may come before the reason and before the property length.
            if !reader.is_empty() {
                this.reason = ReasonCode::decode(reader.u8()?, PacketType::Disconnect)?;
            }
            if !reader.is_empty() {
                this.decode_block(&mut reader, PacketType::Disconnect, version)?;
            }
        }
        reader.finish()?;
        // [MQTT-3.14.2-2]
        if receiver == Receiver::Client && this.session_expiry_seconds.is_some() {
            return Err(DecodeError::PropertyWrongDirection {
                packet_type: PacketType::Disconnect,
                property: id::SESSION_EXPIRY,
            });
        }
        Ok(this)
    }

    /// Appends the long form always: some clients cannot read the shorter ones.
    pub(super) fn encode_body(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if version != ProtocolVersion::V5 {
            return Ok(());
        }
        out.push(self.reason as u8);
        self.encode_block(version, out)
    }
}

property_block!(Disconnect {
    SESSION_EXPIRY, SessionExpiry, session_expiry_seconds;
    REASON_STRING, ReasonString, reason_string;
    SERVER_REFERENCE, ServerReference, server_reference;
});

impl<'a> Auth<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let packet_type = PacketType::Auth;
        let mut reader = Reader::new(body);
        let mut this = Self {
            reason: ReasonCode::Success,
            authentication_method: None,
            authentication_data: None,
            reason_string: None,
            user_properties: UserProperties::default(),
        };
        if reader.is_empty() {
            return Ok(this);
        }
        this.reason = ReasonCode::decode(reader.u8()?, packet_type)?;
        this.decode_block(&mut reader, packet_type, ProtocolVersion::V5)?;
        reader.finish()?;
        if this.authentication_method.is_none() {
            return Err(DecodeError::AuthenticationMethodMissing { packet_type });
        }
        Ok(this)
    }

    pub(super) fn encode_body(
        &self,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if version != ProtocolVersion::V5 {
            return Err(EncodeError::NotInVersion {
                packet_type: PacketType::Auth,
            });
        }
        let has_properties = self.authentication_method.is_some()
            || self.authentication_data.is_some()
            || self.reason_string.is_some()
            || !self.user_properties.is_empty();
        if self.reason == ReasonCode::Success && !has_properties {
            return Ok(());
        }
        out.push(self.reason as u8);
        self.encode_block(version, out)
    }
}

property_block!(Auth {
    AUTHENTICATION_METHOD, AuthenticationMethod, authentication_method;
    AUTHENTICATION_DATA, AuthenticationData, authentication_data;
    REASON_STRING, ReasonString, reason_string;
});
