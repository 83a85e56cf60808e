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
    /// Operations that somebody waits for.
    pub(super) urgent: usize,
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
    /// What the items weigh.
    weight: usize,
    /// The taker sleeps until there is so much.
    wanted: Option<usize>,
    is_closed: bool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                weight: 0,
                wanted: None,
                is_closed: false,
            }),
            wake: Condvar::new(),
        }
    }
}

impl<T> Inbox<T> {
    /// Appends an item; what nobody is in a hurry for weighs nothing.
    pub(super) fn put(&self, item: T, weight: usize) {
        let mut state = self.state.lock();
        state.items.push_back(item);
        state.weight += weight;
        let is_enough = state.wanted.is_some_and(|it| state.weight >= it);
        if is_enough {
            state.wanted = None;
        }
        drop(state);
        if is_enough {
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
            state.wanted = Some(0);
            self.wake.wait(&mut state);
        }
        !state.items.is_empty()
    }

    /// Waits until the items weigh so much, for a limited time.
    pub(super) fn wait_for(&self, weight: usize, timeout: Duration) {
        let mut state = self.state.lock();
        if state.weight < weight && !state.is_closed {
            state.wanted = Some(weight);
            self.wake.wait_for(&mut state, timeout);
            state.wanted = None;
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.state.lock().weight
    }

    /// Takes items while `is_wanted` says so, which is asked before each; `weight_of` is what
    /// they were put with.
    pub(super) fn take_while(
        &self,
        weight_of: impl Fn(&T) -> usize,
        mut is_wanted: impl FnMut(&T) -> bool,
    ) -> Vec<T> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        while let Some(item) = state.items.front()
            && is_wanted(item)
        {
            state.weight -= weight_of(item);
            taken.extend(state.items.pop_front());
        }
        taken
    }
}

/// What everyone may see of the store.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) is_full: AtomicBool,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_taker_is_woken_by_what_it_waits_for_and_not_by_less() {
        let inbox: Arc<Inbox<u8>> = Arc::default();
        let taker = Arc::clone(&inbox);
        let thread = std::thread::spawn(move || {
            taker.wait_for(3, Duration::from_secs(60));
            taker.take_while(|it| usize::from(*it), |_| true)
        });
        for weight in [0, 1, 0, 2] {
            inbox.put(weight, usize::from(weight));
        }
        let taken = thread.join().expect("no panic");
        assert_eq!(taken, [0, 1, 0, 2]);
        assert_eq!(inbox.weight(), 0);
    }

    #[test]
    fn the_taker_waits_no_longer_than_it_wants_to() {
        let inbox: Inbox<u8> = Inbox::default();
        inbox.put(0, 0);
        inbox.wait_for(1, Duration::from_millis(5));
        assert!(inbox.wait());
        inbox.close();
        inbox.wait_for(1, Duration::from_secs(60));
        assert_eq!(inbox.take_while(|_| 0, |_| true), [0]);
        assert!(!inbox.wait());
    }
}
