//! Messages that wait for another broker, until it has acknowledged them.

mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::QueueOverflow;
use crate::message::Message;
use crate::metrics::BridgeMetrics;
use crate::store::{Loaded, MessageId, QueueId, Ticket};

use super::{Pushed, Stored};
use waiting::Waiting;

pub use waiting::Wanted;

/// First in, first out; what is lent stays until it is settled.
///
/// The one place that knows where a bridge's messages are kept: in memory, or in the store.
#[derive(Debug, Default)]
pub struct BridgeQueue {
    limits: BridgeQueueLimits,
    metrics: Arc<BridgeMetrics>,
    /// Its name in the store, if it is durable.
    store: Option<QueueId>,
    /// Ascending by sequence; `None` is settled behind one that is not.
    lent: VecDeque<(u64, Option<Unsettled>)>,
    lent_count: usize,
    lent_bytes: usize,
    waiting: Waiting,
    /// Settled or dropped, to be settled in the store.
    done: Vec<MessageId>,
    last_sequence: u64,
}

/// What is kept of a lent message; the bridge has the rest.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    bytes: usize,
    stored: Option<MessageId>,
}

/// A message that a bridge is to pass on.
#[derive(Clone, Debug)]
pub struct Lent {
    /// What to settle it by; ascending in the order of arrival.
    pub sequence: u64,
    /// The message.
    pub message: Message,
}

/// The bounds of one bridge's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeQueueLimits {
    /// Messages, lent ones included.
    pub messages_max: usize,
    /// Bytes of the messages, lent ones included.
    pub bytes_max: usize,
    /// How long a message waits; `None` is for ever.
    pub age_ms_max: Option<u64>,
    /// What happens when it is full; `Disconnect` is as `DropNewest`.
    pub overflow: QueueOverflow,
    /// Messages lent at once.
    pub lent_max: usize,
}

impl Default for BridgeQueueLimits {
    fn default() -> Self {
        Self {
            messages_max: 1_000_000,
            bytes_max: 256 << 20,
            age_ms_max: None,
            overflow: QueueOverflow::DropOldest,
            lent_max: 1_024,
        }
    }
}

impl BridgeQueue {
    /// Sets bounds and counters; what waits already stays.
    pub fn open(&mut self, limits: BridgeQueueLimits, metrics: Arc<BridgeMetrics>) {
        self.limits = limits;
        self.metrics = metrics;
        self.report();
    }

    /// Makes the queue durable, with what an earlier process has left.
    pub fn restore(&mut self, store: QueueId, waiting: Vec<MessageId>, now_ms: u64) {
        self.store = Some(store);
        self.waiting.restore(waiting.into_iter(), now_ms);
    }

    /// Its name in the store, if it is durable.
    pub fn store(&self) -> Option<QueueId> {
        self.store
    }

    /// Appends a message, obeying the overflow policy. A stored one can be read back once the
    /// batch `fence` is committed.
    pub fn push(
        &mut self,
        message: Message,
        stored: Option<MessageId>,
        fence: Ticket,
        now_ms: u64,
    ) -> Pushed {
        let bytes = message.bytes();
        let mut dropped = 0;
        while self.len() >= self.limits.messages_max || self.bytes() + bytes > self.limits.bytes_max
        {
            let oldest = match self.limits.overflow {
                QueueOverflow::DropOldest => self.waiting.drop_oldest(),
                _ => None,
            };
            self.metrics.dropped_overflow.add(1);
            let Some(oldest) = oldest else {
                self.done.extend(stored);
                return match self.limits.overflow {
                    QueueOverflow::Reject => Pushed::Rejected,
                    _ => Pushed::DroppedNewest,
                };
            };
            self.done.extend(oldest);
            dropped += 1;
        }
        self.waiting.push(message, stored, fence, now_ms);
        self.report();
        if dropped == 0 {
            Pushed::Queued
        } else {
            Pushed::DroppedOldest(dropped)
        }
    }

    /// The next messages, as many as may be lent at once and are in memory.
    pub fn lend(&mut self, committed: Ticket, now_ms: u64) -> Vec<Lent> {
        let mut lent = Vec::new();
        while self.lent_count < self.limits.lent_max
            && let Some(next) = self.waiting.pop(committed)
        {
            let (message, stored) = (next.message, next.stored);
            let age_ms = now_ms.saturating_sub(next.since_ms);
            let is_old = self.limits.age_ms_max.is_some_and(|max| age_ms > max);
            if is_old || message.is_expired(now_ms) {
                self.done.extend(stored);
                self.metrics.dropped_expired.add(1);
                continue;
            }
            self.last_sequence += 1;
            let sequence = self.last_sequence;
            let bytes = message.bytes();
            self.lent
                .push_back((sequence, Some(Unsettled { bytes, stored })));
            self.lent_count += 1;
            self.lent_bytes += bytes;
            lent.push(Lent { sequence, message });
        }
        self.report();
        lent
    }

    /// What the next messages need before they can be lent; asked for once.
    pub fn wanted(&mut self, committed: Ticket) -> Option<Wanted> {
        self.waiting.wanted(committed)
    }

    /// A batch was committed.
    pub fn end_commit(&mut self) {
        self.waiting.end_commit();
    }

    /// The store's answer to [`Wanted::Messages`].
    pub fn end_load(&mut self, loaded: Vec<Loaded>) {
        self.waiting.end_load(loaded);
    }

    /// The other side has these messages: they leave.
    pub fn settle(&mut self, sequences: &[u64]) {
        for sequence in sequences {
            let found = self.lent.binary_search_by_key(sequence, |(it, _)| *it);
            let lent = found.ok().and_then(|index| self.lent.get_mut(index));
            if let Some(unsettled) = lent.and_then(|(_, unsettled)| unsettled.take()) {
                self.lent_bytes -= unsettled.bytes;
                self.lent_count -= 1;
                self.done.extend(unsettled.stored);
            }
        }
        while let Some((_, None)) = self.lent.front() {
            self.lent.pop_front();
        }
        self.report();
    }

    /// Takes out what has to be settled in the store.
    pub fn take_done(&mut self) -> Vec<Stored> {
        let Some(queue) = self.store else {
            return Vec::new();
        };
        let stored = |id| Stored {
            queue,
            id,
            order: id,
        };
        self.done.drain(..).map(stored).collect()
    }

    /// How many messages are here, lent ones included.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.lent_count
    }

    /// Whether nothing is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the messages that are here, lent ones included.
    fn bytes(&self) -> usize {
        self.waiting.bytes() + self.lent_bytes
    }

    fn report(&self) {
        self.metrics.queue_messages.set(self.len() as u64);
        self.metrics.queue_bytes.set(self.bytes() as u64);
    }
}

#[cfg(test)]
mod tests;
