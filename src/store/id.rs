//! Identifiers that never restart.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A stored message, or a place in the order of sending; never used again.
///
/// # Shape
/// A sequence in the upper 54 bits, the lane (the shard that gave it) in the lower 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// Who gives identifiers: one lane for each shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(u16);

/// Whatever receives durable messages: a session, a share group, a bridge; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(NonZeroU64);

impl QueueId {
    /// The queue of a number; zero, which no queue has, becomes the highest.
    pub fn of(number: u64) -> Self {
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX))
    }

    /// The number of the queue.
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

impl Lane {
    /// How many lanes there can be.
    pub const COUNT: u16 = 1 << LANE_BITS;

    /// The lane of a shard.
    ///
    /// # Panics
    /// Beyond [`Lane::COUNT`]: the configuration allows no more shards.
    pub fn new(number: u16) -> Self {
        assert!(number < Self::COUNT, "there are {} lanes", Self::COUNT);
        Self(number)
    }

    pub(super) fn number(self) -> u16 {
        self.0
    }
}

impl MessageId {
    /// The lane that gave it. Identifiers of one lane rise in the order of publishing.
    pub fn lane(self) -> Lane {
        Lane(u16::try_from(self.0 & LANE_MASK).unwrap_or_default())
    }

    pub(super) fn sequence(self) -> u64 {
        self.0 >> LANE_BITS
    }
}

/// The identifiers of one lane, in rising order.
#[derive(Debug)]
pub struct MessageIds {
    lane: Lane,
    shared: Arc<IdCounters>,
    next: u64,
    end: u64,
}

impl MessageIds {
    /// An identifier greater than all before it in this lane, and than all of earlier processes.
    pub fn next_id(&mut self) -> MessageId {
        if self.next == self.end {
            self.next = self
                .shared
                .sequence
                .fetch_add(SEQUENCES_PER_BLOCK, Ordering::Relaxed);
            self.end = self.next + SEQUENCES_PER_BLOCK;
        }
        let sequence = self.next;
        self.next += 1;
        MessageId(sequence << LANE_BITS | u64::from(self.lane.0))
    }
}

/// Where lanes take their blocks of identifiers from.
#[derive(Debug)]
pub(super) struct IdCounters {
    sequence: AtomicU64,
    queue: AtomicU64,
}

impl IdCounters {
    pub(super) fn new(sequence: u64, queue: u64) -> Self {
        Self {
            sequence: sequence.max(1).into(),
            queue: queue.max(1).into(),
        }
    }

    pub(super) fn next_queue(&self) -> QueueId {
        QueueId::of(self.queue.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn lane(self: &Arc<Self>, lane: Lane) -> MessageIds {
        MessageIds {
            lane,
            shared: Arc::clone(self),
            next: 0,
            end: 0,
        }
    }
}

const LANE_BITS: u32 = 10;
const LANE_MASK: u64 = (1 << LANE_BITS) - 1;
/// Small enough that the lanes write near each other, large enough to rarely share the counter.
const SEQUENCES_PER_BLOCK: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_rise_within_a_lane_and_never_repeat_between_lanes() {
        let shared = Arc::new(IdCounters::new(0, 0));
        let mut lanes = [shared.lane(Lane::new(0)), shared.lane(Lane::new(1023))];
        let mut seen = std::collections::HashSet::new();
        for lane in &mut lanes {
            let mut last = MessageId(0);
            for _ in 0..1_000 {
                let id = lane.next_id();
                assert!(id > last && id.lane() == lane.lane);
                assert!(seen.insert(id));
                last = id;
            }
        }
        assert_eq!(shared.next_queue(), QueueId::of(1));
        assert_eq!(shared.next_queue(), QueueId::of(2));
    }
}
