//! Batches that wait for the writer. What is settled while it waits is never written.
//!
//! A message for receivers that are there is likely to be settled within a round trip: it waits
//! for that, for the commit interval and longer if many wait. Batches are done in the order in
//! which all shards have submitted them, so that a fence of one shard covers what others submitted
//! before.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tidewire_protocol::codec::QoS;

use super::few::Few;
use super::id::{MessageId, QueueId};
use super::operation::{Operation, Receiver};
use super::operations::Operations;
use super::places::{BatchPlaces, Left, Spans};
use super::prompt::PromptQueues;
use super::report::{Awaited, Ticket};
use crate::clock::Clock;
use crate::exchange::ShardId;

/// A batch of one shard.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) operations: Operations,
    pub(super) bytes: usize,
    /// The overlay's version with the changes of this batch.
    pub(super) version: u64,
    /// Operations that somebody waits for, and that only a commit answers.
    pub(super) urgent: usize,
    pub(super) awaited: Awaited,
}

/// What the shards have submitted and the writer has not taken.
#[derive(Debug)]
pub(super) struct Pending {
    state: Mutex<State>,
    wake: Condvar,
    clock: Clock,
    interval_us: u64,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Waiting>,
    /// The number of the first of them.
    first: u64,
    /// Messages that all their receivers are likely to settle soon.
    spans: Spans,
    /// How many of them are not settled yet.
    waited_for: usize,
    prompt: PromptQueues,
    /// Of batches that are gone, to be used again.
    spare_places: Vec<BatchPlaces>,
    urgent: usize,
    /// The writer sleeps until so much is urgent; with 0 until there is anything.
    wanted: Option<usize>,
    /// The writer has not yet answered what it took.
    is_writing: bool,
    /// Batches of which nothing is left, and whose packets wait; some of them are gone.
    untold: Vec<u64>,
    is_closed: bool,
}

#[derive(Debug)]
struct Waiting {
    submitted: Submitted,
    /// Operations that still have to be written.
    live: usize,
    places: BatchPlaces,
    since_us: u64,
}

/// What the shards are told of batches that need no commit.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Nothing is left of them nor of any before them.
    pub(super) done: Vec<Submitted>,
    /// Nothing is left of them, and packets wait for that.
    pub(super) settled: Vec<(ShardId, Ticket)>,
}

impl Answers {
    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.settled.is_empty()
    }
}

/// A batch that is being appended.
#[derive(Debug)]
struct Noted {
    batch: u64,
    /// Operations that somebody waits for, and that only a commit answers.
    urgent: usize,
    /// Operations that still have to be written.
    live: usize,
    places: BatchPlaces,
    /// The last queue that was found to be prompt.
    last_prompt: Option<QueueId>,
    now_us: u64,
    interval_us: u64,
}

impl Pending {
    /// `interval_ms`: how long a batch waits for its receivers if nothing else does.
    pub(super) fn new(clock: Clock, interval_ms: u32) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            clock,
            interval_us: u64::from(interval_ms) * 1_000,
        }
    }

    /// Appends a batch; answers which batches need no commit.
    pub(super) fn put(&self, submitted: Submitted) -> Answers {
        let since_us = self.clock.now_us();
        let mut state = self.state.lock();
        state.append(submitted, since_us, self.interval_us);
        let answers = state.take_answers();
        let is_enough =
            !state.batches.is_empty() && state.wanted.is_some_and(|wanted| state.urgent >= wanted);
        if is_enough {
            state.wanted = None;
        }
        drop(state);
        if is_enough {
            self.wake.notify_one();
        }
        answers
    }

    /// Lets [`Pending::wait`] end once everything is taken.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.wake.notify_all();
    }

    /// Waits until something has to be written; false if there is nothing and there never will be,
    /// `None` when the time is over.
    pub(super) fn wait_within(&self, time: Duration) -> Option<bool> {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let deadline_us = self.clock.now_us().saturating_add(time_us);
        let mut state = self.state.lock();
        loop {
            let since_us = state.batches.front().map(|it| it.since_us);
            if state.is_closed || state.urgent > 0 {
                return Some(since_us.is_some());
            }
            let now_us = self.clock.now_us();
            let due_us = since_us.map(|it| it + self.patience_us(&state));
            if due_us.is_some_and(|it| it <= now_us) {
                return Some(true);
            }
            if deadline_us <= now_us {
                return None;
            }
            state.wanted = Some(usize::from(due_us.is_some()));
            let left_us = due_us.unwrap_or(u64::MAX).min(deadline_us) - now_us;
            self.wake
                .wait_for(&mut state, Duration::from_micros(left_us));
            state.wanted = None;
        }
    }

    fn patience_us(&self, state: &State) -> u64 {
        patience_us(self.interval_us, state.waited_for)
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
    /// [`Pending::answered`] is called: all that somebody waits for, and what has waited for long.
    pub(super) fn take(&self, operations_max: usize, bytes_max: usize) -> Vec<Submitted> {
        let now_us = self.clock.now_us();
        let mut state = self.state.lock();
        state.is_writing = true;
        let patience_us = self.patience_us(&state);
        let (mut taken, mut operations, mut bytes) = (Vec::new(), 0, 0);
        while let Some(next) = state.batches.front() {
            operations += next.live.max(1);
            bytes += next.submitted.bytes;
            let is_full = operations > operations_max || bytes > bytes_max;
            let is_early = next.since_us + patience_us > now_us;
            let may_wait = is_early && state.urgent == 0 && !state.is_closed;
            if !taken.is_empty() && (is_full || may_wait) {
                break;
            }
            taken.extend(state.pop(now_us, patience_us, self.interval_us));
        }
        taken
    }

    /// What is settled behind the batches that were just taken.
    pub(super) fn settled(&self) -> Answers {
        self.state.lock().take_answers()
    }

    /// What was taken is answered; answers which batches behind it are done already.
    pub(super) fn answered(&self) -> Answers {
        let mut state = self.state.lock();
        state.is_writing = false;
        state.take_answers()
    }
}

impl State {
    fn append(&mut self, mut submitted: Submitted, since_us: u64, interval_us: u64) {
        let mut noted = Noted {
            batch: self.first + self.batches.len() as u64,
            // An empty batch is a fence that somebody waits for.
            urgent: usize::from(submitted.operations.is_empty()),
            live: 0,
            places: self.spare_places.pop().unwrap_or_default(),
            last_prompt: None,
            now_us: since_us,
            interval_us,
        };
        let operations = submitted.operations.as_mut_slice();
        noted.places.begin(operations.len());
        for index in 0..operations.len() {
            let (earlier, rest) = operations.split_at_mut(index);
            if let Some(operation) = rest.first_mut() {
                noted.live += operation.count();
                match self.note(operation, earlier, &mut noted) {
                    Some((id, left)) => noted.places.push(id, left),
                    None => noted.places.push_other(),
                }
            }
        }
        self.spans.add(noted.batch, &noted.places);
        submitted.urgent = noted.urgent;
        self.urgent += noted.urgent;
        if noted.live == 0 && submitted.awaited == Awaited::Answers {
            self.untold.push(noted.batch);
        }
        self.batches.push_back(Waiting {
            submitted,
            live: noted.live,
            places: noted.places,
            since_us,
        });
    }

    /// Looks at a new operation, with those before it in its batch; answers which message it is,
    /// and who has to settle it, if its receivers are waited for.
    fn note(
        &mut self,
        operation: &mut Operation,
        earlier: &mut [Operation],
        noted: &mut Noted,
    ) -> Option<(MessageId, Left)> {
        match operation {
            Operation::PutMessage { id, receivers, .. } => {
                if noted.interval_us > 0
                    && self.are_prompt(receivers.as_slice(), &mut noted.last_prompt)
                    && self.is_above_all(*id, &noted.places)
                {
                    self.waited_for += 1;
                    let left = match receivers.as_slice() {
                        [receiver] => Left::Only(receiver.queue),
                        _ => Left::Several,
                    };
                    return Some((*id, left));
                }
                noted.urgent += 1;
            }
            Operation::Settle { queue, ids } => {
                self.settle_all(*queue, ids, earlier, noted);
                if ids.is_empty() {
                    *operation = Operation::Nothing;
                }
            }
            Operation::RemoveSession { queue } | Operation::RemoveNamedQueue { queue } => {
                self.prompt.remove(*queue);
                noted.urgent += 1;
            }
            Operation::PutInFlight { in_flight, .. } => {
                // With QoS 2 the message or PUBREL waits for it.
                noted.urgent += usize::from(in_flight.qos != QoS::AtLeastOnce);
            }
            Operation::RemoveInFlight { .. }
            | Operation::SweepRetained { .. }
            | Operation::Nothing => {}
            _ => noted.urgent += 1,
        }
        None
    }

    /// Whether all receivers are likely to settle a message soon.
    fn are_prompt(&self, receivers: &[Receiver], last: &mut Option<QueueId>) -> bool {
        receivers.iter().all(|it| {
            let is_prompt = *last == Some(it.queue) || self.prompt.contains(it.queue);
            if is_prompt {
                *last = Some(it.queue);
            }
            is_prompt && it.qos == QoS::AtLeastOnce
        })
    }

    /// Whether a message can be found by its place in the order, as those of one lane can.
    fn is_above_all(&self, id: MessageId, in_batch: &BatchPlaces) -> bool {
        match in_batch.highest() {
            Some(highest) => highest < id && highest.lane() == id.lane(),
            None => self.spans.highest(id.lane()) < Some(id),
        }
    }

    /// What is left has been written already.
    fn settle_all(
        &mut self,
        queue: QueueId,
        ids: &mut Few<MessageId>,
        earlier: &mut [Operation],
        noted: &mut Noted,
    ) {
        let before = ids.len();
        ids.retain(|id| !self.settle(queue, *id, earlier, noted));
        let settled = before - ids.len();
        noted.live -= settled;
        if settled > 0 {
            self.prompt.settled(queue, noted.now_us);
        }
        if !ids.is_empty() {
            self.prompt
                .settled_late(queue, noted.now_us, noted.interval_us);
        }
    }

    /// Takes a receiver out of a message that is not yet written; false if that is not so.
    fn settle(
        &mut self,
        queue: QueueId,
        id: MessageId,
        earlier: &mut [Operation],
        noted: &mut Noted,
    ) -> bool {
        let batch = self.spans.batch_of(id);
        let at = batch.and_then(|batch| place_of(batch, self.first));
        let waiting = at.and_then(|at| self.batches.get_mut(at));
        let (operations, places, live, awaited) = match waiting {
            None => (earlier, &mut noted.places, &mut noted.live, Awaited::No),
            Some(waiting) => (
                waiting.submitted.operations.as_mut_slice(),
                &mut waiting.places,
                &mut waiting.live,
                waiting.submitted.awaited,
            ),
        };
        let Some(index) = places.index_of(id) else {
            return false;
        };
        match places.left(index) {
            Left::Only(receiver) if receiver == queue => {}
            Left::Nobody | Left::Only(_) => return false,
            Left::Several => {
                let Some(Operation::PutMessage { receivers, .. }) = operations.get_mut(index)
                else {
                    return false;
                };
                let before = receivers.len();
                receivers.retain(|it| it.queue != queue);
                if !receivers.is_empty() {
                    return receivers.len() < before;
                }
            }
        }
        places.end(index);
        self.waited_for -= 1;
        *live -= 1;
        if *live == 0 && awaited == Awaited::Answers {
            self.untold.extend(batch);
        }
        true
    }

    /// Takes out the oldest batch. Receivers that let a message wait for too long are not waited
    /// for again before they are sent another.
    fn pop(&mut self, now_us: u64, patience_us: u64, interval_us: u64) -> Option<Submitted> {
        let Waiting {
            mut submitted,
            places,
            since_us,
            ..
        } = self.pop_first()?;
        for (index, operation) in submitted.operations.as_mut_slice().iter_mut().enumerate() {
            let Operation::PutMessage { id, receivers, .. } = operation else {
                continue;
            };
            if !places.is_at(index, *id) {
                continue;
            }
            if places.left(index) == Left::Nobody {
                *operation = Operation::Nothing;
                continue;
            }
            self.waited_for -= 1;
            if since_us + patience_us <= now_us {
                for receiver in receivers.as_slice() {
                    let busy_since_us = now_us.saturating_sub(patience_us);
                    self.prompt
                        .was_late(receiver.queue, now_us, interval_us, busy_since_us);
                }
            }
        }
        self.reuse(places);
        Some(submitted)
    }

    fn reuse(&mut self, places: BatchPlaces) {
        if places.capacity() <= SPARE_CAPACITY_MAX && self.spare_places.len() < SPARE_MAX {
            self.spare_places.push(places);
        }
    }

    fn pop_first(&mut self) -> Option<Waiting> {
        let first = self.batches.pop_front()?;
        self.spans.end(self.first);
        self.first += 1;
        self.urgent -= first.submitted.urgent;
        Some(first)
    }

    /// Batches at the front of which nothing is left, unless the writer has some before them. Those
    /// behind others have only their own shard's answers to give.
    fn take_answers(&mut self) -> Answers {
        let mut done = Vec::new();
        while !self.is_writing
            && let Some(Waiting { live: 0, .. }) = self.batches.front()
            && let Some(first) = self.pop_first()
        {
            self.reuse(first.places);
            done.push(first.submitted);
        }
        let mut settled = Vec::new();
        for batch in self.untold.drain(..) {
            let at = place_of(batch, self.first);
            if let Some(waiting) = at.and_then(|at| self.batches.get_mut(at)) {
                let submitted = &mut waiting.submitted;
                submitted.awaited = Awaited::No;
                settled.push((submitted.shard, submitted.ticket));
            }
        }
        Answers { done, settled }
    }
}

/// How long receivers are waited for: for the interval, and as long as it would take to write what
/// waits and to delete it again.
pub fn patience_us(interval_us: u64, waiting: usize) -> u64 {
    let write_us = waiting as u64 * WRITE_US;
    (interval_us + write_us).min(interval_us * INTERVALS_MAX)
}

/// Where a batch is if the first has this number.
fn place_of(batch: u64, first: u64) -> Option<usize> {
    usize::try_from(batch.checked_sub(first)?).ok()
}

/// Of one small message, about.
const WRITE_US: u64 = 4;
/// No receiver is waited for any longer.
const INTERVALS_MAX: u64 = 50;
/// Lists of places that are kept to be used again, of a size that turns have.
const SPARE_MAX: usize = 64;
const SPARE_CAPACITY_MAX: usize = 4_096;
