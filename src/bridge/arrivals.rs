//! What came from the other side, until it has found its place at the home shard.

use std::collections::HashMap;

use tidewire_bridges::{self as bridges, Receipt};
use tidewire_protocol::codec::ReasonCode;

use super::map::Inward;
use crate::queue::Bookmark;
use crate::shard::{Arrived, BridgeRequest};

/// The messages on their way to the home shard.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Given to the home shard under these numbers.
    publishing: HashMap<u64, (Receipt, Arrived)>,
    last_number: u64,
    /// Refused by the home shard for lack of room or of subscribers; tried again.
    refused: Vec<u64>,
}

impl Arrivals {
    /// Whether nothing more should be received.
    pub(super) fn is_full(&self) -> bool {
        self.publishing.len() >= PUBLISHING_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.publishing.is_empty()
    }

    /// Remembers a message; answers what the home shard is to publish.
    pub(super) fn add(
        &mut self,
        inward: Inward,
        bookmark: Option<bridges::Bookmark>,
        receipt: Receipt,
    ) -> Arrived {
        let Inward {
            message,
            needs_subscriber,
        } = inward;
        self.last_number += 1;
        let arrived = Arrived {
            number: self.last_number,
            message,
            packet_id: receipt.packet_id(),
            bookmark: bookmark.map(|it| Bookmark {
                name: it.name,
                next: it.next,
            }),
            needs_subscriber,
        };
        let known = (receipt, arrived.clone());
        self.publishing.insert(self.last_number, known);
        arrived
    }

    /// The home shard has answered; a message that has its place is to be acknowledged.
    pub(super) fn published(&mut self, number: u64, reason: ReasonCode) -> Option<Receipt> {
        if reason == ReasonCode::QuotaExceeded {
            // The other side keeps it until we have room: no acknowledgement.
            self.refused.push(number);
            return None;
        }
        self.publishing.remove(&number).map(|(receipt, _)| receipt)
    }

    /// How many messages are kept by the other side until they can be taken here.
    pub(super) fn held_back(&self) -> u64 {
        self.refused.len() as u64
    }

    /// What was refused, to be published again in the order of its coming.
    pub(super) fn publish_again(&mut self) -> Option<BridgeRequest> {
        let mut numbers = std::mem::take(&mut self.refused);
        numbers.sort_unstable();
        let messages: Vec<Arrived> = numbers
            .into_iter()
            .filter_map(|number| Some(self.publishing.get(&number)?.1.clone()))
            .collect();
        (!messages.is_empty()).then_some(BridgeRequest::Publish(messages))
    }

    /// Another remote follows: what waits for an answer is acknowledged to nobody, and what was
    /// refused stays with the remote of before.
    pub(super) fn without_receipts(self) -> Self {
        Self {
            last_number: self.last_number,
            ..Self::default()
        }
    }

    /// Another session has begun, in which the identifiers of these are not known.
    pub(super) fn forget_packet_ids(&mut self) {
        let arrived = self.publishing.values_mut().map(|(_, arrived)| arrived);
        arrived.for_each(|it| it.packet_id = None);
    }
}

/// Received messages on their way to the home shard; QoS 0 has no window of its own.
const PUBLISHING_MAX: usize = 8_192;
