//! PUBLISH, the packet that everything else serves.

use std::num::NonZeroU16;

use super::{PacketId, QoS, SubscriptionIds, UserProperties};

/// An application message on its way.
///
/// # Source
/// MQTT 5.0 section 3.3.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Publish<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// A valid topic name, or empty when a topic alias stands for it (5.0 only).
    pub topic: &'a str,
    /// Present exactly when `qos` is above 0.
    pub packet_id: Option<PacketId>,
    pub properties: PublishProperties<'a>,
    pub payload: &'a [u8],
}

/// Properties of PUBLISH.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct PublishProperties<'a> {
    pub payload_is_utf8: Option<bool>,
    pub message_expiry_seconds: Option<u32>,
    pub topic_alias: Option<NonZeroU16>,
    /// A valid topic name.
    pub response_topic: Option<&'a str>,
    pub correlation_data: Option<&'a [u8]>,
    pub content_type: Option<&'a str>,
    pub subscription_ids: SubscriptionIds<'a>,
    pub user_properties: UserProperties<'a>,
}
