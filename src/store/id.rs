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
///
/// # Shape
/// A logical clock, as Lamport's: what a lane gives is above everything that any lane has shared
/// before. So where one message was acknowledged before the next was sent, ids rise as well.
#[derive(Debug)]
pub struct MessageIds {
    lane: Lane,
    shared: Arc<IdCounters>,
    next: u64,
}

impl MessageIds {
    /// An identifier greater than all before it in this lane, than all that other lanes have
    /// shared, and than all of earlier processes.
    pub fn next_id(&mut self) -> MessageId {
        let sequence = self.next.max(self.shared.sequence.load(Ordering::Acquire));
        self.next = sequence + 1;
        MessageId(sequence << LANE_BITS | u64::from(self.lane.0))
    }

    /// From now on other lanes give greater ones than those given so far. To be called before
    /// anybody is told of a message that has one.
    pub fn share(&self) {
        self.shared.sequence.fetch_max(self.next, Ordering::AcqRel);
    }
}

/// What the lanes know of each other.
#[derive(Debug)]
pub(super) struct IdCounters {
    /// Everything shared is below.
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
        }
    }
}

const LANE_BITS: u32 = 10;
const LANE_MASK: u64 = (1 << LANE_BITS) - 1;

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
    #[test]
    fn what_a_lane_gives_is_above_what_others_have_shared() {
        let shared = Arc::new(IdCounters::new(7, 0));
        let mut lanes = [9, 0, 5].map(|lane| shared.lane(Lane::new(lane)));
        let mut last = MessageId(0);
        for round in 0..1_000 {
            let lane = &mut lanes[round % 3];
            for _ in 0..=round % 4 {
                let id = lane.next_id();
                assert!(id > last && id.sequence() >= 7);
                last = id;
            }
            lane.share();
        }
        // Nothing is skipped: identifiers last.
        assert_eq!(last.sequence(), 7 + 2_500 - 1);
    }
}
