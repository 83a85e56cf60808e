//! SUBSCRIBE and UNSUBSCRIBE.

use std::num::NonZeroU32;

use super::{PacketId, QoS, UserProperties};

/// Asks for messages of topics that match.
///
/// The filters are well-formed UTF-8 without U+0000; whether they are valid *filters* is checked
/// per filter by [`crate::topic`], since each has an answer of its own.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Subscribe<'a> {
    pub packet_id: PacketId,
    /// 1 to 268,435,455.
    pub subscription_id: Option<NonZeroU32>,
    pub user_properties: UserProperties<'a>,
    /// Never empty.
    pub subscriptions: Vec<Subscription<'a>>,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Subscription<'a> {
    pub filter: &'a str,
    pub options: SubscriptionOptions,
}

/// Options of one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct SubscriptionOptions {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent for a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Send = 0,
    /// Only if the subscription did not exist.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// Ends subscriptions.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Unsubscribe<'a> {
    pub packet_id: PacketId,
    pub user_properties: UserProperties<'a>,
    /// Never empty.
    pub filters: Vec<&'a str>,
}
