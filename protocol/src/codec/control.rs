//! DISCONNECT and AUTH.

use super::{ReasonCode, UserProperties};

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
