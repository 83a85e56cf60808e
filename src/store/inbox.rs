//! What waits for the reader, and what both threads let others see.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use super::operation::Operation;
use super::report::{Load, RequestId};
use crate::exchange::ShardId;
use crate::message::Message;

/// A question of one shard.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) shard: ShardId,
    pub(super) request: RequestId,
    pub(super) load: Load,
}

/// Questions for the thread that reads.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Asked>,
    is_waiting: bool,
    is_closed: bool,
}

impl Inbox {
    pub(super) fn put(&self, item: Asked) {
        let mut state = self.state.lock();
        state.items.push_back(item);
        let is_waiting = state.is_waiting;
        drop(state);
        if is_waiting {
            self.wake.notify_one();
        }
    }

    /// Lets [`Inbox::wait`] end once everything is taken.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.wake.notify_all();
    }

    /// Waits for an item; false if there is none and there will not be another.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while state.items.is_empty() && !state.is_closed {
            state.is_waiting = true;
            self.wake.wait(&mut state);
            state.is_waiting = false;
        }
        !state.items.is_empty()
    }

    pub(super) fn take(&self) -> VecDeque<Asked> {
        std::mem::take(&mut self.state.lock().items)
    }
}

/// What everyone may see of the store.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) is_full: AtomicBool,
    pub(super) is_exhausted: AtomicBool,
    /// For new messages.
    pub(super) room_bytes: AtomicU64,
    /// That the disk has for the file to grow.
    pub(super) growth_bytes: AtomicU64,
    pub(super) pending_bytes: AtomicUsize,
    pub(super) commits: AtomicU64,
    pub(super) operations: AtomicU64,
    pub(super) commit_us_total: AtomicU64,
    pub(super) commit_us_max: AtomicU64,
    pub(super) used_bytes: AtomicU64,
    pub(super) retained_count: AtomicU64,
    pub(super) retained_bytes: AtomicU64,
}

impl Gauges {
    pub(super) fn set_retained(&self, count: u64, bytes: u64) {
        self.retained_count.store(count, Ordering::Relaxed);
        self.retained_bytes.store(bytes, Ordering::Relaxed);
    }
}

/// Retained messages that are submitted and not yet committed, newest only.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    pending: HashMap<Box<str>, (u64, Option<Message>)>,
    /// Rises with each change.
    version: u64,
    /// The transaction that holds all that was removed from here.
    committed: usize,
}

impl Overlay {
    pub(super) fn add(&mut self, operations: &[Operation]) {
        for operation in operations {
            let (topic, message) = match operation {
                Operation::SetRetained { message, .. } => (message.topic(), Some(message.clone())),
                Operation::ClearRetained { topic } => (&**topic, None),
                _ => continue,
            };
            self.version += 1;
            self.pending.insert(topic.into(), (self.version, message));
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Forgets what `transaction` has written: `topics`, unless they changed again since `version`.
    pub(super) fn committed<'a>(
        &mut self,
        topics: impl Iterator<Item = &'a Box<str>>,
        version: u64,
        transaction: usize,
    ) {
        for topic in topics {
            if self
                .pending
                .get(topic)
                .is_some_and(|(it, _)| *it <= version)
            {
                self.pending.remove(topic);
            }
        }
        self.committed = self.committed.max(transaction);
    }

    /// Whether a reader of this transaction sees everything that is no longer here.
    pub(super) fn is_complete_with(&self, transaction: usize) -> bool {
        transaction >= self.committed
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<&Message>)> {
        self.pending
            .iter()
            .map(|(topic, (_, message))| (&**topic, message.as_ref()))
    }
}
