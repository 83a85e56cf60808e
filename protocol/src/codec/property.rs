//! The properties that may repeat: user properties and subscription identifiers.
//!
//! Both are read straight from the property block of the packet, so that a packet full of them
//! costs no allocation and one pass.

use std::fmt;
use std::num::NonZeroU32;

use super::property_block::{Properties, Property};

/// User properties in the order they were sent, duplicates kept.
#[derive(Clone, Copy)]
pub struct UserProperties<'a> {
    source: Source<'a, (&'a str, &'a str)>,
}

impl<'a> UserProperties<'a> {
    /// Properties to send.
    pub fn from_pairs(pairs: &'a [(&'a str, &'a str)]) -> Self {
        Self {
            source: Source::Items(pairs),
        }
    }

    /// Properties among others in a checked part of a property block; empty if there are none.
    pub(super) fn from_wire(block: &'a [u8]) -> Self {
        Self {
            source: Source::Wire(block),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (items, wire) = self.source.parts();
        let wire = Properties::new(wire).filter_map(|property| match property {
            Property::User(name, value) => Some((name, value)),
            _ => None,
        });
        items.iter().copied().chain(wire)
    }
}

/// The subscription identifiers of a PUBLISH to a client.
#[derive(Clone, Copy)]
pub struct SubscriptionIds<'a> {
    source: Source<'a, NonZeroU32>,
}

impl<'a> SubscriptionIds<'a> {
    /// Identifiers to send.
    pub fn from_slice(ids: &'a [NonZeroU32]) -> Self {
        Self {
            source: Source::Items(ids),
        }
    }

    /// Identifiers among others in a checked part of a property block; empty if there are none.
    pub(super) fn from_wire(block: &'a [u8]) -> Self {
        Self {
            source: Source::Wire(block),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// Each identifier, in order.
    pub fn iter(&self) -> impl Iterator<Item = NonZeroU32> + use<'a> {
        let (items, wire) = self.source.parts();
        let wire = Properties::new(wire).filter_map(|property| match property {
            Property::SubscriptionId(id) => Some(id),
            _ => None,
        });
        items.iter().copied().chain(wire)
    }
}

/// Where repeated properties come from.
#[derive(Clone, Copy)]
enum Source<'a, T> {
    /// A part of a checked property block, from the first of them to the last.
    Wire(&'a [u8]),
    Items(&'a [T]),
}

impl<'a, T> Source<'a, T> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Wire(block) => block.is_empty(),
            Self::Items(items) => items.is_empty(),
        }
    }

    fn parts(&self) -> (&'a [T], &'a [u8]) {
        match self {
            Self::Wire(block) => (&[], block),
            Self::Items(items) => (items, &[]),
        }
    }
}

impl Default for UserProperties<'_> {
    fn default() -> Self {
        Self::from_wire(&[])
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Default for SubscriptionIds<'_> {
    fn default() -> Self {
        Self::from_wire(&[])
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
