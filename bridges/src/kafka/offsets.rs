//! Which records of a partition are accepted, and how far its offset may be committed.

use std::collections::VecDeque;

/// The place of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    connection: u64,
    partition: usize,
    epoch: u32,
    offset: i64,
}

/// All partitions that records came from.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    /// Positions of another connection mean nothing here.
    connection: u64,
    partitions: Vec<Partition>,
    unaccepted: usize,
}

#[derive(Debug)]
struct Partition {
    topic: String,
    number: i32,
    /// Counts assignments: what an earlier one received is received again.
    epoch: u32,
    /// Offsets in order, and whether they are accepted.
    window: VecDeque<(i64, bool)>,
}

/// Everything up to an offset is accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl Offsets {
    pub(super) fn new(connection: u64) -> Self {
        Self {
            connection,
            ..Self::default()
        }
    }

    /// Records received and not accepted.
    pub(super) fn unaccepted(&self) -> usize {
        self.unaccepted
    }

    pub(super) fn received(&mut self, topic: &str, number: i32, offset: i64) -> Position {
        let known = self.position(topic, number);
        let index = known.unwrap_or_else(|| {
            self.partitions.push(Partition {
                topic: topic.to_owned(),
                number,
                epoch: 0,
                window: VecDeque::new(),
            });
            self.partitions.len() - 1
        });
        let mut epoch = 0;
        if let Some(partition) = self.partitions.get_mut(index) {
            // It starts over, for example after a retry of the fetch or a reset of the offset.
            if partition.window.back().is_some_and(|it| it.0 >= offset) {
                self.unaccepted -= partition.start_over();
            }
            partition.window.push_back((offset, false));
            self.unaccepted += 1;
            epoch = partition.epoch;
        }
        Position {
            connection: self.connection,
            partition: index,
            epoch,
            offset,
        }
    }

    /// Marks a record; answers how far everything is accepted, if that is further than before.
    pub(super) fn accept(&mut self, position: Position) -> Option<Accepted<'_>> {
        let partition = self.partitions.get_mut(position.partition)?;
        if position.connection != self.connection || partition.epoch != position.epoch {
            return None;
        }
        let found = partition
            .window
            .binary_search_by_key(&position.offset, |it| it.0);
        let entry = partition.window.get_mut(found.ok()?)?;
        if !entry.1 {
            entry.1 = true;
            self.unaccepted -= 1;
        }
        let mut last = None;
        while partition.window.front().is_some_and(|it| it.1) {
            last = partition.window.pop_front();
        }
        Some(Accepted {
            topic: &partition.topic,
            partition: partition.number,
            offset: last?.0,
        })
    }

    /// The partition belongs to another consumer, or is assigned anew.
    pub(super) fn revoke(&mut self, topic: &str, number: i32) {
        let index = self.position(topic, number);
        if let Some(partition) = index.and_then(|index| self.partitions.get_mut(index)) {
            self.unaccepted -= partition.start_over();
        }
    }

    fn position(&self, topic: &str, number: i32) -> Option<usize> {
        let mut partitions = self.partitions.iter();
        partitions.position(|it| it.number == number && it.topic == topic)
    }
}

impl Partition {
    /// Forgets what is not committed; answers how many were not accepted.
    fn start_over(&mut self) -> usize {
        self.epoch += 1;
        let unaccepted = self.window.iter().filter(|it| !it.1).count();
        self.window.clear();
        unaccepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upto(offsets: &mut Offsets, position: Position) -> Option<i64> {
        offsets.accept(position).map(|it| it.offset)
    }

    #[test]
    fn an_offset_is_committed_once_all_before_it_are_accepted() {
        let mut offsets = Offsets::default();
        // Compaction and transactions leave gaps.
        let [a, b, c] = [4, 7, 8].map(|offset| offsets.received("t", 0, offset));
        let other = offsets.received("t", 1, 4);
        assert_eq!(upto(&mut offsets, b), None);
        assert_eq!(upto(&mut offsets, a), Some(7));
        assert_eq!(upto(&mut offsets, other), Some(4));
        assert_eq!(offsets.unaccepted(), 1);
        assert_eq!(upto(&mut offsets, c), Some(8));
        assert_eq!(upto(&mut offsets, c), None);
        assert_eq!(offsets.unaccepted(), 0);
    }

    #[test]
    fn what_was_received_before_a_rebalance_commits_nothing_after_it() {
        let mut offsets = Offsets::default();
        let before = offsets.received("t", 0, 5);
        offsets.revoke("t", 0);
        assert_eq!(offsets.unaccepted(), 0);
        let again = offsets.received("t", 0, 5);
        assert_eq!(upto(&mut offsets, before), None);
        assert_eq!(upto(&mut offsets, again), Some(5));
    }

    #[test]
    fn what_another_connection_received_commits_nothing() {
        let before = Offsets::new(1).received("t", 0, 5);
        let mut offsets = Offsets::new(2);
        offsets.received("u", 0, 5);
        assert_eq!(upto(&mut offsets, before), None);
        assert_eq!(offsets.unaccepted(), 1);
    }

    #[test]
    fn a_partition_that_is_read_again_starts_over() {
        let mut offsets = Offsets::default();
        let first = offsets.received("t", 0, 5);
        let again = offsets.received("t", 0, 5);
        assert_eq!(upto(&mut offsets, first), None);
        assert_eq!(offsets.unaccepted(), 1);
        assert_eq!(upto(&mut offsets, again), Some(5));
    }
}
