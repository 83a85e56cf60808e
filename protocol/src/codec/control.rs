//! DISCONNECT and AUTH.

use super::UserProperties;
use super::property_block::{self as block, Property, id};
use super::reader::Reader;
use super::writer::put_with_length;
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
                this.decode_properties(&mut reader)?;
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

    fn decode_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        let packet_type = PacketType::Disconnect;
        let repeated =
            block::read(
                reader,
                packet_type,
                DISCONNECT_ALLOWED,
                |property| match property {
                    Property::SessionExpiry(value) => self.session_expiry_seconds = Some(value),
                    Property::ReasonString(value) => self.reason_string = Some(value),
                    Property::ServerReference(value) => self.server_reference = Some(value),
                    _ => {}
                },
            )?;
        self.user_properties = repeated.user_properties;
        Ok(())
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
        put_with_length(out, |out| {
            block::put_u32(out, id::SESSION_EXPIRY, self.session_expiry_seconds);
            block::put_string(out, id::REASON_STRING, self.reason_string)?;
            block::put_string(out, id::SERVER_REFERENCE, self.server_reference)?;
            block::put_user_properties(out, &self.user_properties)
        })
    }
}

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
        let repeated = block::read(
            &mut reader,
            packet_type,
            AUTH_ALLOWED,
            |property| match property {
                Property::AuthenticationMethod(value) => this.authentication_method = Some(value),
                Property::AuthenticationData(value) => this.authentication_data = Some(value),
                Property::ReasonString(value) => this.reason_string = Some(value),
                _ => {}
            },
        )?;
        this.user_properties = repeated.user_properties;
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
        put_with_length(out, |out| {
            block::put_string(out, id::AUTHENTICATION_METHOD, self.authentication_method)?;
            block::put_binary(out, id::AUTHENTICATION_DATA, self.authentication_data)?;
            block::put_string(out, id::REASON_STRING, self.reason_string)?;
            block::put_user_properties(out, &self.user_properties)
        })
    }
}

const DISCONNECT_ALLOWED: u64 = block::set(&[
    id::SESSION_EXPIRY,
    id::REASON_STRING,
    id::USER,
    id::SERVER_REFERENCE,
]);
const AUTH_ALLOWED: u64 = block::set(&[
    id::AUTHENTICATION_METHOD,
    id::AUTHENTICATION_DATA,
    id::REASON_STRING,
    id::USER,
]);
