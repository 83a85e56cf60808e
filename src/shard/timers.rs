//! What is due when, in milliseconds of the caller's clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::slots::Key;
use crate::exchange::GroupId;

/// Something that a shard does later. Entries are never cancelled: who handles one checks whether
/// it is still due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The connection may have been silent for too long.
    KeepAlive(Key),
    /// What the client of the connection has proved does not hold any more.
    ProofExpiry(Key),
    /// A closing connection has had its time to take its last packet.
    Abandon(Key),
    /// The session may have been without a connection for too long.
    SessionExpiry(Key),
    /// The will of the session may be due.
    Will(Key),
    /// A delayed message is due.
    Delayed(Key),
    /// A session goes on looking for its retained messages.
    Retained(Key),
    /// Messages that wait for a session may have expired.
    QueueExpiry(Key),
    /// Messages that wait for a share group may have expired.
    GroupExpiry(GroupId),
    /// Expired retained messages are to be removed.
    RetainedSweep,
}

/// A heap of timers.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, Timer)>>,
}

impl Timers {
    pub(crate) fn add(&mut self, due_ms: u64, timer: Timer) {
        self.heap.push(Reverse((due_ms, timer)));
    }

    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<Timer> {
        if self.next_due_ms()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse((_, timer))| timer)
    }
}
