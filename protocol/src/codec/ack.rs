//! PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.

use super::{PacketId, ReasonCode, UserProperties};

/// One of the four packets that settle a PUBLISH.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Ack<'a> {
    pub packet_id: PacketId,
    pub reason: ReasonCode,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

/// The answer to SUBSCRIBE: one reason for each subscription, in order.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct SubAck<'a> {
    pub packet_id: PacketId,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub reasons: Vec<ReasonCode>,
}

/// The answer to UNSUBSCRIBE: one reason for each filter, in order; empty before 5.0.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct UnsubAck<'a> {
    pub packet_id: PacketId,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub reasons: Vec<ReasonCode>,
}
