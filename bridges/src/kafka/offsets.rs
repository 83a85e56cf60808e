//! Which records of a partition are accepted, and how far its offset may be committed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::bookmarks::name_of;
use crate::Bookmark;

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
    group: String,
    /// Positions of another connection mean nothing here.
    connection: u64,
    partitions: Vec<Partition>,
    /// Where the last record came from: the next one mostly does as well.
    last: usize,
    unaccepted: usize,
}

#[derive(Debug)]
struct Partition {
    /// What it is called as a log.
    name: Arc<str>,
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
    pub(super) fn new(group: &str, connection: u64) -> Self {
        Self {
            group: group.to_owned(),
            connection,
            ..Self::default()
        }
    }

    /// Records received and not accepted.
    pub(super) fn unaccepted(&self) -> usize {
        self.unaccepted
    }

    pub(super) fn received(
        &mut self,
        topic: &str,
        number: i32,
        offset: i64,
    ) -> (Position, Option<Bookmark>) {
        let index = self.position(topic, number);
        let index = index.unwrap_or_else(|| self.add(topic, number));
        self.last = index;
        let mut position = Position {
            connection: self.connection,
            partition: index,
            epoch: 0,
            offset,
        };
        let Some(partition) = self.partitions.get_mut(index) else {
            return (position, None);
        };
        // It starts over, for example after a retry of the fetch or a reset of the offset.
        if partition.window.back().is_some_and(|it| it.0 >= offset) {
            self.unaccepted -= partition.start_over();
        }
        partition.window.push_back((offset, false));
        self.unaccepted += 1;
        position.epoch = partition.epoch;
        let next = u64::try_from(offset + 1).ok();
        let bookmark = next.map(|next| Bookmark {
            name: Arc::clone(&partition.name),
            next,
        });
        (position, bookmark)
    }

    fn add(&mut self, topic: &str, number: i32) -> usize {
        self.partitions.push(Partition {
            name: name_of(&self.group, topic, number),
            topic: topic.to_owned(),
            number,
            epoch: 0,
            window: VecDeque::new(),
        });
        self.partitions.len() - 1
    }

    /// Marks records; answers how far everything is accepted, where that is further than before.
    pub(super) fn accept(
        &mut self,
        positions: impl Iterator<Item = Position>,
    ) -> impl Iterator<Item = Accepted<'_>> {
        let mut further = BTreeMap::new();
        for position in positions {
            if let Some(offset) = self.accept_one(position) {
                further.insert(position.partition, offset);
            }
        }
        let partitions = &self.partitions;
        further.into_iter().filter_map(|(index, offset)| {
            let partition = partitions.get(index)?;
            Some(Accepted {
                topic: &partition.topic,
                partition: partition.number,
                offset,
            })
        })
    }

    fn accept_one(&mut self, position: Position) -> Option<i64> {
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
        Some(last?.0)
    }

    /// The partitions belong to other consumers, or are assigned anew.
    pub(super) fn revoke(&mut self) {
        for partition in &mut self.partitions {
            self.unaccepted -= partition.start_over();
        }
    }

    fn position(&self, topic: &str, number: i32) -> Option<usize> {
        let is_it = |it: &Partition| it.number == number && it.topic == topic;
        if self.partitions.get(self.last).is_some_and(is_it) {
            return Some(self.last);
        }
        self.partitions.iter().position(is_it)
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
        let accepted = offsets.accept([position].into_iter()).next();
        accepted.map(|it| it.offset)
    }

    #[test]
    fn an_offset_is_committed_once_all_before_it_are_accepted() {
        let mut offsets = Offsets::default();
        // Compaction and transactions leave gaps.
        let [a, b, c] = [4, 7, 8].map(|offset| offsets.received("t", 0, offset).0);
        let other = offsets.received("t", 1, 4).0;
        assert_eq!(upto(&mut offsets, b), None);
        assert_eq!(upto(&mut offsets, a), Some(7));
        assert_eq!(upto(&mut offsets, other), Some(4));
        assert_eq!(offsets.unaccepted(), 1);
        assert_eq!(upto(&mut offsets, c), Some(8));
        assert_eq!(upto(&mut offsets, c), None);
        let (_, bookmark) = offsets.received("t", 0, 12);
        let bookmark = bookmark.expect("a bookmark");
        assert_eq!((&*bookmark.name, bookmark.next), ("/t/0", 13));
        assert_eq!(offsets.unaccepted(), 1);
    }

    #[test]
    fn what_was_received_before_a_rebalance_commits_nothing_after_it() {
        let mut offsets = Offsets::default();
        let before = offsets.received("t", 0, 5).0;
        offsets.revoke();
        assert_eq!(offsets.unaccepted(), 0);
        let again = offsets.received("t", 0, 5).0;
        assert_eq!(upto(&mut offsets, before), None);
        assert_eq!(upto(&mut offsets, again), Some(5));
    }

    #[test]
    fn what_another_connection_received_commits_nothing() {
        let before = Offsets::new("g", 1).received("t", 0, 5).0;
        let mut offsets = Offsets::new("g", 2);
        offsets.received("u", 0, 5);
        assert_eq!(upto(&mut offsets, before), None);
        assert_eq!(offsets.unaccepted(), 1);
    }

    #[test]
    fn a_partition_that_is_read_again_starts_over() {
        let mut offsets = Offsets::default();
        let first = offsets.received("t", 0, 5).0;
        let again = offsets.received("t", 0, 5).0;
        assert_eq!(upto(&mut offsets, first), None);
        assert_eq!(offsets.unaccepted(), 1);
        assert_eq!(upto(&mut offsets, again), Some(5));
    }
}
