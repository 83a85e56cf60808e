//! Messages that wait for another broker, until it has acknowledged them.

mod bookmarks;
mod journal;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidewire_protocol::codec::PacketId;

use crate::config::QueueOverflow;
use crate::message::Message;
use crate::metrics::BridgeMetrics;
use crate::store::{
    Few, InFlightRecord, Loaded, MessageId, Operation, QueueId, RecoveredMessage, Ticket,
};

use super::{BySequence, Pushed, Stored};
use bookmarks::Turns;
use journal::Journal;
use waiting::Waiting;

pub use bookmarks::Bookmark;
pub use journal::BridgeNote;
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
    lent: BySequence<Unsettled>,
    lent_bytes: usize,
    waiting: Waiting,
    journal: Journal,
    turns: Turns,
    /// The bridge is gone: nothing comes in any more.
    is_closed: bool,
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
    /// Under which identifier an earlier process has sent it at QoS 2 and had no answer.
    pub sent_as: Option<PacketId>,
    /// Its identifier in the store, if it is there.
    pub stored: Option<MessageId>,
}

/// What an earlier process has left of a bridge.
#[derive(Debug, Default)]
pub struct BridgeRemains {
    /// Messages not settled, in order, those in flight among them.
    pub waiting: Vec<RecoveredMessage>,
    /// Identifiers in use towards the other broker, in the order of sending.
    pub in_flight: Vec<(PacketId, InFlightRecord)>,
    /// Identifiers of the other broker that wait for PUBREL.
    pub received: Vec<PacketId>,
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
    /// What was sent comes first, as it was sent.
    pub fn restore(&mut self, store: QueueId, remains: &BridgeRemains, now_ms: u64) {
        let BridgeRemains {
            waiting,
            in_flight,
            received,
        } = remains;
        self.store = Some(store);
        self.journal.restore(in_flight, received);
        let in_flight: Vec<MessageId> = in_flight.iter().filter_map(|it| it.1.message).collect();
        let is_in_flight: HashSet<MessageId> = in_flight.iter().copied().collect();
        let unsettled = waiting.iter().filter(|it| is_in_flight.contains(&it.id));
        let unsettled: HashMap<MessageId, RecoveredMessage> =
            unsettled.map(|it| (it.id, *it)).collect();
        let sent = in_flight.iter().filter_map(|it| unsettled.get(it).copied());
        let unsent = waiting.iter().copied();
        let unsent = unsent.filter(|it| !unsettled.contains_key(&it.id));
        self.waiting.restore(sent.chain(unsent), now_ms);
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
        if self.is_closed {
            return Pushed::DroppedNewest;
        }
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

    /// Appends the next messages, as many as may be lent at once and are in memory.
    pub fn lend(&mut self, committed: Ticket, now_ms: u64, to: &mut Vec<Lent>) {
        while self.lent.len() < self.limits.lent_max
            && let Some(next) = self.waiting.pop(committed)
        {
            let (message, stored) = (next.message, next.stored);
            let age_ms = now_ms.saturating_sub(next.since_ms);
            let sent_as = stored.and_then(|id| self.journal.take_sent_before(id));
            let is_old = self.limits.age_ms_max.is_some_and(|max| age_ms > max);
            if sent_as.is_none() && (is_old || message.is_expired(now_ms)) {
                self.done.extend(stored);
                self.metrics.dropped_expired.add(1);
                continue;
            }
            self.last_sequence += 1;
            let sequence = self.last_sequence;
            let bytes = message.bytes();
            self.lent.push(sequence, Unsettled { bytes, stored });
            self.lent_bytes += bytes;
            to.push(Lent {
                sequence,
                message,
                sent_as,
                stored,
            });
        }
        self.report();
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
            if let Some(unsettled) = self.lent.take(*sequence) {
                self.lent_bytes -= unsettled.bytes;
                self.done.extend(unsettled.stored);
            }
        }
        self.report();
    }

    /// Drops some of what waits, oldest first; what is lent stays. Answers how many.
    pub fn purge(&mut self, count_max: usize) -> usize {
        let mut dropped = 0;
        while dropped < count_max
            && let Some(oldest) = self.waiting.drop_oldest()
        {
            self.done.extend(oldest);
            dropped += 1;
        }
        self.metrics.dropped_purged.add(dropped as u64);
        self.report();
        dropped
    }

    /// Ends the queue with all that is in it; its name in the store is given back.
    pub fn close(&mut self) -> Option<QueueId> {
        let store = self.store;
        *self = Self {
            is_closed: true,
            ..Self::default()
        };
        store
    }

    /// The changes of the store for a change of the bridge's session; `order` is its place in the
    /// order of sending.
    pub fn note(&mut self, note: BridgeNote, order: MessageId) -> Vec<Operation> {
        let Some(queue) = self.store else {
            return Vec::new();
        };
        match note {
            BridgeNote::Begin { name } => {
                let mut operations = self.journal.begin(queue);
                operations.push(Operation::PutNamedQueue { queue, name });
                operations
            }
            BridgeNote::Send {
                packet_id,
                sequence,
            } => {
                let stored = self.lent.get(sequence).and_then(|it| it.stored);
                let put = |id| self.journal.put(queue, packet_id, order, Some(id));
                stored.map(put).into_iter().collect()
            }
            BridgeNote::Release {
                packet_id,
                sequence,
            } => {
                let unsettled = sequence.and_then(|it| self.lent.lookup_mut(it));
                let stored = unsettled.and_then(|it| it.stored.take());
                let settle = stored.map(|id| Operation::Settle {
                    queue,
                    ids: Few::One(id),
                });
                let put = self.journal.put(queue, packet_id, order, None);
                settle.into_iter().chain([put]).collect()
            }
            BridgeNote::Complete(packet_id) => {
                let removed = self.journal.complete(queue, packet_id);
                removed.into_iter().collect()
            }
            BridgeNote::Forget(packet_id) => {
                let removed = self.journal.forget(queue, packet_id);
                removed.into_iter().collect()
            }
        }
    }

    /// A QoS 2 message of the other broker was accepted: to be kept with it.
    pub fn receive(&mut self, packet_id: PacketId) -> Option<Operation> {
        Some(self.journal.receive(self.store?, packet_id))
    }

    /// Whether all before a record of the other side, in its log, have been accepted.
    pub fn is_next(&self, bookmark: &Bookmark, number: u64) -> bool {
        self.turns.is_next(bookmark, number)
    }

    /// A record of the other side was refused, and those behind it in its log wait for it.
    pub fn refuse(&mut self, bookmark: &Bookmark, number: u64) {
        self.turns.refuse(bookmark, number);
    }

    /// A record of the other side was accepted.
    pub fn accept(&mut self, bookmark: &Bookmark, number: u64) {
        self.turns.accept(bookmark, number);
    }

    /// What keeps how far a log was read, to be in the commit of what was read.
    pub fn keep_bookmark(&self, bookmark: Bookmark) -> Option<Operation> {
        let Bookmark { name, next } = bookmark;
        let queue = self.store?;
        Some(Operation::PutBookmark { queue, name, next })
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
        self.waiting.len() + self.lent.len()
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
