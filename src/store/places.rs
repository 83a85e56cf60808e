//! Where messages are that wait for their receivers, found by their identifiers.
//!
//! Identifiers of a lane rise, and receivers settle what they were sent in order: the next message
//! looked for is mostly the one behind the last.

use std::collections::VecDeque;

use super::id::{Lane, MessageId, QueueId};

/// Which batches hold messages that wait for their receivers.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// Few: one for each shard that publishes.
    lanes: Vec<LaneSpans>,
}

#[derive(Debug)]
struct LaneSpans {
    lane: Lane,
    /// Rising, and apart from each other.
    spans: VecDeque<Span>,
    /// Where the last one looked for was.
    last: usize,
}

/// The messages of one batch.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: MessageId,
    last: MessageId,
    batch: u64,
}

/// Where the messages of one batch are, and who is still to settle them.
///
/// Receivers of other shards find here what they need: the operations stay in the caches of the
/// shard that has submitted them.
///
/// # Shape
/// One entry for each operation: its message, or for any other operation the message before.
#[derive(Debug, Default)]
pub(super) struct BatchPlaces {
    places: Vec<Place>,
    /// Where the last one looked for was.
    last: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    id: MessageId,
    left: Left,
}

/// Who is still to settle a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nobody, or it is another operation.
    Nobody,
    Only(QueueId),
    /// Those that the operation names.
    Several,
}

impl Spans {
    /// A batch holds the messages of `places`, which may be none; batches come in order.
    pub(super) fn add(&mut self, batch: u64, places: &BatchPlaces) {
        let Some((first, last)) = places.ends() else {
            return;
        };
        let span = Span { first, last, batch };
        match self.lanes.iter_mut().find(|it| it.lane == first.lane()) {
            Some(lane) => lane.spans.push_back(span),
            None => self.lanes.push(LaneSpans {
                lane: first.lane(),
                spans: [span].into(),
                last: 0,
            }),
        }
    }

    /// The highest message of a lane.
    pub(super) fn highest(&self, lane: Lane) -> Option<MessageId> {
        let lane = self.lanes.iter().find(|it| it.lane == lane)?;
        lane.spans.back().map(|it| it.last)
    }

    /// The batch that holds a message, if one of them does.
    pub(super) fn batch_of(&mut self, id: MessageId) -> Option<u64> {
        let lane = self.lanes.iter_mut().find(|it| it.lane == id.lane())?;
        lane.batch_of(id)
    }

    /// The oldest batch is gone.
    pub(super) fn end(&mut self, batch: u64) {
        for lane in &mut self.lanes {
            if lane.spans.front().is_some_and(|it| it.batch == batch) {
                lane.spans.pop_front();
                lane.last = lane.last.saturating_sub(1);
            }
        }
    }
}

impl LaneSpans {
    fn batch_of(&mut self, id: MessageId) -> Option<u64> {
        let holds = |it: &Span| it.first <= id && id <= it.last;
        if !self.spans.get(self.last).is_some_and(holds) {
            self.last = self.spans.partition_point(|it| it.last < id);
        }
        let span = self.spans.get(self.last).copied();
        span.filter(holds).map(|it| it.batch)
    }
}

impl BatchPlaces {
    /// Forgets everything but its memory, and makes room for so many operations.
    pub(super) fn begin(&mut self, operations: usize) {
        self.places.clear();
        self.places.reserve(operations);
        self.last = 0;
    }

    /// How many operations it has memory for.
    pub(super) fn capacity(&self) -> usize {
        self.places.capacity()
    }

    /// The next operation is a message above all before it.
    pub(super) fn push(&mut self, id: MessageId, left: Left) {
        debug_assert!(self.highest() < Some(id), "identifiers of a lane rise");
        self.places.push(Place { id, left });
    }

    /// The next operation is another one.
    pub(super) fn push_other(&mut self) {
        let id = self.highest().unwrap_or(NONE);
        let left = Left::Nobody;
        self.places.push(Place { id, left });
    }

    /// The highest message so far.
    pub(super) fn highest(&self) -> Option<MessageId> {
        self.places.last().map(|it| it.id).filter(|it| *it != NONE)
    }

    fn ends(&self) -> Option<(MessageId, MessageId)> {
        let first = self.places.iter().map(|it| it.id).find(|it| *it != NONE)?;
        Some((first, self.highest()?))
    }

    /// Which operation holds a message, if one does.
    pub(super) fn index_of(&mut self, id: MessageId) -> Option<usize> {
        let likely = [self.last, self.last + 1];
        let likely = likely.into_iter().find(|index| self.is_at(*index, id));
        let found = likely.unwrap_or_else(|| self.places.partition_point(|it| it.id < id));
        self.last = found;
        self.is_at(found, id).then_some(found)
    }

    /// Whether an operation is this message.
    pub(super) fn is_at(&self, index: usize, id: MessageId) -> bool {
        self.places.get(index).is_some_and(|it| it.id == id)
    }

    /// Who is still to settle the message of an operation.
    pub(super) fn left(&self, index: usize) -> Left {
        self.places.get(index).map_or(Left::Nobody, |it| it.left)
    }

    /// All have settled the message of an operation.
    pub(super) fn end(&mut self, index: usize) {
        if let Some(place) = self.places.get_mut(index) {
            place.left = Left::Nobody;
        }
    }
}

/// No message has it.
const NONE: MessageId = MessageId(0);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(sequence: u64, lane: u64) -> MessageId {
        MessageId(sequence << 10 | lane)
    }

    proptest! {
        #[test]
        fn they_find_what_a_map_finds(
            batches in proptest::collection::vec(
                (0_u64..2, proptest::collection::vec(0_u64..4, 0..6)), 0..20,
            ),
            looked_for in proptest::collection::vec((1_u64..60, 0_u64..2), 0..100),
            ended in 0_u64..5,
        ) {
            let (mut spans, mut map) = (Spans::default(), BTreeMap::new());
            let mut all: Vec<BatchPlaces> = Vec::new();
            let mut sequence = 0;
            for (lane, gaps) in &batches {
                let batch = all.len() as u64;
                let mut places = BatchPlaces::default();
                places.begin(gaps.len());
                for (index, gap) in gaps.iter().enumerate() {
                    if *gap == 0 {
                        places.push_other();
                        continue;
                    }
                    sequence += gap;
                    places.push(id(sequence, *lane), Left::Several);
                    map.insert(id(sequence, *lane), (batch, index));
                }
                spans.add(batch, &places);
                all.push(places);
            }
            for batch in 0..ended {
                spans.end(batch);
            }
            map.retain(|_, (batch, _)| *batch >= ended);
            for (sequence, lane) in looked_for {
                let id = id(sequence, lane);
                let found = spans.batch_of(id).and_then(|batch| {
                    let places = all.get_mut(usize::try_from(batch).expect("few"))?;
                    Some((batch, places.index_of(id)?))
                });
                prop_assert_eq!(found, map.get(&id).copied());
            }
        }
    }
}
