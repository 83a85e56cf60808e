//! The property block of MQTT 5.0 packets.

use std::num::NonZeroU32;

/// User properties in the order they were sent, duplicates kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UserProperties<'a> {
    pairs: &'a [(&'a str, &'a str)],
}

impl<'a> UserProperties<'a> {
    /// Properties to send.
    pub fn from_pairs(pairs: &'a [(&'a str, &'a str)]) -> Self {
        Self { pairs }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs.iter().copied()
    }
}

/// The subscription identifiers of a PUBLISH to a client.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SubscriptionIds<'a> {
    ids: &'a [NonZeroU32],
}

impl<'a> SubscriptionIds<'a> {
    /// Identifiers to send.
    pub fn from_slice(ids: &'a [NonZeroU32]) -> Self {
        Self { ids }
    }

    /// Each identifier, in order.
    pub fn iter(&self) -> impl Iterator<Item = NonZeroU32> {
        self.ids.iter().copied()
    }
}
