//! Batches that wait for the writer. What is settled while it waits is never written.
//!
//! A message for receivers that are there is likely to be settled within a round trip: it waits
//! for that, at most for the commit interval. Batches are done in the order in which all shards
//! have submitted them, so that a fence of one shard covers what others submitted before.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use parking_lot::{Condvar, Mutex};
use tidewire_protocol::codec::{PacketId, QoS};

use super::id::{MessageId, QueueId};
use super::operation::{Operation, Receiver};
use super::report::Ticket;
use crate::clock::Clock;
use crate::exchange::ShardId;

/// A batch of one shard.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) operations: Vec<Operation>,
    pub(super) bytes: usize,
    /// The overlay's version with the changes of this batch.
    pub(super) version: u64,
    /// Operations that somebody waits for, and that only a commit answers.
    pub(super) urgent: usize,
}

/// A batch of which nothing is left to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) bytes: usize,
}

/// What the shards have submitted and the writer has not taken.
#[derive(Debug)]
pub(super) struct Pending {
    state: Mutex<State>,
    wake: Condvar,
    clock: Clock,
    patience_us: u64,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Waiting>,
    /// The number of the first of them.
    first: u64,
    /// Messages that all their receivers are likely to settle soon.
    messages: HashMap<MessageId, Place>,
    /// Packet identifiers of messages with QoS 1.
    in_flight: HashMap<(QueueId, PacketId), Place>,
    /// Queues to whose clients messages were sent, and that settled them in time.
    prompt: HashSet<QueueId>,
    urgent: usize,
    /// The writer sleeps until so much is urgent; with 0 until there is anything.
    wanted: Option<usize>,
    /// The writer has not yet answered what it took.
    is_writing: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Waiting {
    submitted: Submitted,
    /// Operations that still have to be written.
    live: usize,
    since_us: u64,
}

/// Where an operation is.
#[derive(Clone, Copy, Debug)]
struct Place {
    batch: u64,
    index: usize,
}

impl Pending {
    /// `patience_ms`: how long a batch waits for its receivers.
    pub(super) fn new(clock: Clock, patience_ms: u32) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            clock,
            patience_us: u64::from(patience_ms) * 1_000,
        }
    }

    /// Appends a batch; answers which batches are done without a commit.
    pub(super) fn put(&self, submitted: Submitted) -> Vec<Done> {
        let since_us = self.clock.now_us();
        let mut state = self.state.lock();
        state.append(submitted, since_us, self.patience_us > 0);
        let done = state.take_done();
        let is_enough =
            !state.batches.is_empty() && state.wanted.is_some_and(|wanted| state.urgent >= wanted);
        if is_enough {
            state.wanted = None;
        }
        drop(state);
        if is_enough {
            self.wake.notify_one();
        }
        done
    }

    /// Lets [`Pending::wait`] end once everything is taken.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.wake.notify_all();
    }

    /// Waits until something has to be written; false if there is nothing and there never will be.
    pub(super) fn wait(&self) -> bool {
        self.wait_until(u64::MAX).unwrap_or(false)
    }

    /// As [`Pending::wait`], but not for longer; `None` when that time is over.
    pub(super) fn wait_within(&self, time: Duration) -> Option<bool> {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.wait_until(self.clock.now_us().saturating_add(time_us))
    }

    fn wait_until(&self, deadline_us: u64) -> Option<bool> {
        let mut state = self.state.lock();
        loop {
            let since_us = state.batches.front().map(|it| it.since_us);
            if state.is_closed || state.urgent > 0 {
                return Some(since_us.is_some());
            }
            let now_us = self.clock.now_us();
            let due_us = since_us.map(|it| it + self.patience_us);
            if due_us.is_some_and(|it| it <= now_us) {
                return Some(true);
            }
            if deadline_us <= now_us {
                return None;
            }
            state.wanted = Some(usize::from(due_us.is_some()));
            let left_us = due_us.unwrap_or(u64::MAX).min(deadline_us) - now_us;
            if left_us > LONG_US {
                self.wake.wait(&mut state);
            } else {
                self.wake
                    .wait_for(&mut state, Duration::from_micros(left_us));
            }
            state.wanted = None;
        }
    }

    /// Waits until so much is urgent, for a limited time.
    pub(super) fn wait_for(&self, urgent: usize, timeout: Duration) {
        let mut state = self.state.lock();
        if state.urgent < urgent && !state.is_closed {
            state.wanted = Some(urgent);
            self.wake.wait_for(&mut state, timeout);
            state.wanted = None;
        }
    }

    /// Operations that somebody waits for.
    pub(super) fn urgent(&self) -> usize {
        self.state.lock().urgent
    }

    /// Hands over the oldest batches, at least one if there is any, to be answered before
    /// [`Pending::answered`] is called.
    pub(super) fn take(&self, operations_max: usize, bytes_max: usize) -> Vec<Submitted> {
        let late_us = self.clock.now_us().saturating_sub(self.patience_us);
        let mut state = self.state.lock();
        state.is_writing = true;
        let (mut taken, mut operations, mut bytes) = (Vec::new(), 0, 0);
        while let Some(next) = state.batches.front() {
            operations += next.live.max(1);
            bytes += next.submitted.bytes;
            if !taken.is_empty() && (operations > operations_max || bytes > bytes_max) {
                break;
            }
            taken.extend(state.pop(late_us));
        }
        taken
    }

    /// What was taken is answered; answers which batches behind it are done already.
    pub(super) fn answered(&self) -> Vec<Done> {
        let mut state = self.state.lock();
        state.is_writing = false;
        state.take_done()
    }
}

impl State {
    fn append(&mut self, mut submitted: Submitted, since_us: u64, may_elide: bool) {
        let count = submitted.operations.len();
        // An empty batch is a fence that somebody waits for.
        submitted.urgent = usize::from(count == 0);
        let batch = self.first + self.batches.len() as u64;
        self.batches.push_back(Waiting {
            submitted,
            live: count,
            since_us,
        });
        let mut urgent = 0;
        for index in 0..count {
            let is_urgent = self.note(Place { batch, index }, may_elide);
            urgent += usize::from(is_urgent);
        }
        if let Some(last) = self.batches.back_mut() {
            last.submitted.urgent += urgent;
            self.urgent += last.submitted.urgent;
        }
    }

    /// Looks at a new operation; answers whether only a commit helps who waits for it.
    fn note(&mut self, place: Place, may_elide: bool) -> bool {
        let Some(operation) = self.operation(place) else {
            return false;
        };
        match *operation {
            Operation::PutMessage {
                id, ref receivers, ..
            } => {
                let is_prompt =
                    |it: &Receiver| it.qos == QoS::AtLeastOnce && self.prompt.contains(&it.queue);
                let is_expected = may_elide && receivers.iter().all(is_prompt);
                if is_expected {
                    self.messages.insert(id, place);
                }
                !is_expected
            }
            Operation::PutInFlight {
                queue,
                packet_id,
                in_flight,
            } => {
                // With QoS 2 the row may be there already, from before PUBREC.
                let is_once = in_flight.qos == QoS::AtLeastOnce;
                if is_once && may_elide {
                    self.prompt.insert(queue);
                    self.in_flight.insert((queue, packet_id), place);
                }
                !is_once
            }
            Operation::Settle { queue, id } => {
                if self.settle(queue, id) {
                    self.elide(place);
                }
                false
            }
            Operation::RemoveInFlight { queue, packet_id } => {
                if let Some(put) = self.in_flight.remove(&(queue, packet_id)) {
                    self.elide(put);
                    self.elide(place);
                }
                false
            }
            Operation::RemoveSession { queue } => {
                self.prompt.remove(&queue);
                true
            }
            Operation::SweepRetained { .. } => false,
            _ => true,
        }
    }

    /// Takes a receiver out of a message that is not yet written; false if that is not so.
    fn settle(&mut self, queue: QueueId, id: MessageId) -> bool {
        let Some(place) = self.messages.get(&id).copied() else {
            return false;
        };
        let Some(Operation::PutMessage { receivers, .. }) = self.operation_mut(place) else {
            return false;
        };
        let before = receivers.len();
        receivers.retain(|it| it.queue != queue);
        let is_receiver = receivers.len() < before;
        if receivers.is_empty() {
            self.messages.remove(&id);
            self.elide(place);
        }
        is_receiver
    }

    fn elide(&mut self, place: Place) {
        if let Some(operation) = self.operation_mut(place) {
            *operation = Operation::Nothing;
        }
        if let Some(waiting) = self.waiting_mut(place) {
            waiting.live -= 1;
        }
    }

    fn operation(&self, place: Place) -> Option<&Operation> {
        let at = usize::try_from(place.batch.checked_sub(self.first)?).ok()?;
        let waiting = self.batches.get(at)?;
        waiting.submitted.operations.get(place.index)
    }

    fn operation_mut(&mut self, place: Place) -> Option<&mut Operation> {
        let waiting = self.waiting_mut(place)?;
        waiting.submitted.operations.get_mut(place.index)
    }

    fn waiting_mut(&mut self, place: Place) -> Option<&mut Waiting> {
        let at = usize::try_from(place.batch.checked_sub(self.first)?).ok()?;
        self.batches.get_mut(at)
    }

    /// Takes out the oldest batch. Receivers that let a message wait for too long are not waited
    /// for again before they are sent another.
    fn pop(&mut self, late_us: u64) -> Option<Submitted> {
        let Waiting {
            submitted,
            since_us,
            ..
        } = self.batches.pop_front()?;
        self.first += 1;
        self.urgent -= submitted.urgent;
        for operation in &submitted.operations {
            match operation {
                Operation::PutMessage { id, receivers, .. }
                    if self.messages.remove(id).is_some() && since_us <= late_us =>
                {
                    for receiver in receivers {
                        self.prompt.remove(&receiver.queue);
                    }
                }
                Operation::PutInFlight {
                    queue, packet_id, ..
                } => {
                    self.in_flight.remove(&(*queue, *packet_id));
                }
                _ => {}
            }
        }
        Some(submitted)
    }

    /// Batches at the front of which nothing is left, unless the writer has some before them.
    fn take_done(&mut self) -> Vec<Done> {
        let mut done = Vec::new();
        while !self.is_writing
            && let Some(Waiting { live: 0, .. }) = self.batches.front()
            && let Some(first) = self.batches.pop_front()
        {
            let Submitted {
                shard,
                ticket,
                bytes,
                urgent,
                ..
            } = first.submitted;
            self.first += 1;
            self.urgent -= urgent;
            done.push(Done {
                shard,
                ticket,
                bytes,
            });
        }
        done
    }
}

/// Nobody waits for so long: half of all time.
const LONG_US: u64 = u64::MAX / 2;
