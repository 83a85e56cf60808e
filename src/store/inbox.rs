//! What waits for the writer and the reader, and what they let others see.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::operation::Operation;
use super::report::{Load, RequestId, Ticket};
use crate::exchange::ShardId;
use crate::message::Message;

/// A batch of one shard.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) operations: Vec<Operation>,
    pub(super) bytes: usize,
    /// The overlay's version with the changes of this batch.
    pub(super) version: u64,
}

/// A question of one shard.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) shard: ShardId,
    pub(super) request: RequestId,
    pub(super) load: Load,
}

/// A queue that one thread takes from.
#[derive(Debug)]
pub(super) struct Inbox<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    is_waiting: bool,
    is_closed: bool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                is_waiting: false,
                is_closed: false,
            }),
            wake: Condvar::new(),
        }
    }
}

impl<T> Inbox<T> {
    pub(super) fn put(&self, item: T) {
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

    /// As [`Inbox::wait`], but not for longer; `None` when that time is over.
    pub(super) fn wait_for(&self, time: Duration) -> Option<bool> {
        let mut state = self.state.lock();
        if state.items.is_empty() && !state.is_closed {
            state.is_waiting = true;
            self.wake.wait_for(&mut state, time);
            state.is_waiting = false;
        }
        let is_over = state.items.is_empty() && !state.is_closed;
        (!is_over).then_some(!state.items.is_empty())
    }

    /// Takes items while `is_wanted` says so, which is asked before each.
    pub(super) fn take_while(&self, mut is_wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        while let Some(item) = state.items.front()
            && is_wanted(item)
        {
            taken.extend(state.items.pop_front());
        }
        taken
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }
}

/// What everyone may see of the store.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) is_full: AtomicBool,
    pub(super) is_exhausted: AtomicBool,
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
                Operation::SetRetained { message } => (message.topic(), Some(message.clone())),
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
