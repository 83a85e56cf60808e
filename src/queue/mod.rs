//! Deliveries that wait for one consumer, bounded by count and bytes.

mod backlog;
mod bridge;
mod by_sequence;
mod expiry;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use tidewire_protocol::codec::QoS;

use crate::config::{Limits, QueueOverflow};
use crate::exchange::{GroupId, ShardId};
use crate::message::Message;
use crate::store::{MessageId, QueueId, RecoveredMessage, Ticket};

use backlog::{Backlog, Waiting};
pub use bridge::{
    Bookmark, BridgeNote, BridgeQueue, BridgeQueueLimits, BridgeRemains, Lent, Wanted,
};
pub(crate) use by_sequence::BySequence;
use expiry::{ExpirySweep, seconds_of};

/// One message for one receiver.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message, shared with its other receivers.
    pub message: Message,
    /// The lower of the publisher's and the subscription's QoS.
    pub qos: QoS,
    /// The RETAIN flag to send.
    pub retain: bool,
    /// Identifiers of all subscriptions that matched.
    pub subscription_ids: Option<Arc<[NonZeroU32]>>,
    /// The share group that lent the message, and its home.
    pub group: Option<(GroupId, ShardId)>,
    /// Who has to settle it in the store, if it is there.
    pub stored: Option<Stored>,
}

/// A message in the store, and the queue there that waits to settle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The queue.
    pub queue: QueueId,
    /// The message.
    pub id: MessageId,
    /// Place in the order of sending, once it is in flight.
    pub order: MessageId,
}

/// First in, first out, within bounds.
///
/// # Shape
/// The first few in memory; behind them, for durable queues, what can be read back from the store.
#[derive(Debug, Default)]
pub struct Queue {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    backlog: Backlog,
    /// Dropped, to be settled in the store.
    dropped: Vec<Stored>,
    sweep: ExpirySweep,
}

/// What a full queue did with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Queued,
    /// It waits, and the given number of older ones was dropped for it.
    DroppedOldest(usize),
    /// It was dropped.
    DroppedNewest,
    /// It was dropped, and its publisher is to be told.
    Rejected,
    /// It was dropped, and its receiver is to be disconnected.
    Disconnect,
}

impl Queue {
    /// Appends a delivery, obeying the overflow policy. A stored one can be read back once the
    /// batch `fence` is committed.
    pub fn push(&mut self, delivery: Delivery, limits: &Limits, fence: Ticket) -> Pushed {
        let bytes = delivery.message.bytes();
        let mut dropped = 0;
        while self.len() >= limits.queue_messages_max || self.bytes + bytes > limits.queue_bytes_max
        {
            let refused = match limits.queue_overflow {
                QueueOverflow::DropNewest => Some(Pushed::DroppedNewest),
                QueueOverflow::Reject => Some(Pushed::Rejected),
                QueueOverflow::Disconnect => Some(Pushed::Disconnect),
                QueueOverflow::DropOldest if self.is_empty() => Some(Pushed::DroppedNewest),
                QueueOverflow::DropOldest => None,
            };
            if let Some(refused) = refused {
                self.dropped.extend(delivery.stored);
                return refused;
            }
            self.drop_oldest();
            dropped += 1;
        }
        self.bytes += bytes;
        let expires_at_ms = delivery.message.expires_at_ms();
        self.sweep.note(expires_at_ms);
        match delivery.stored {
            Some(stored) if !self.backlog.is_empty() || self.deliveries.len() >= READY_MAX => {
                let waiting = Waiting {
                    id: stored.id,
                    bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                    expires_at_seconds: seconds_of(expires_at_ms),
                };
                self.backlog.push(stored.queue, waiting, fence);
            }
            _ => self.deliveries.push_back(delivery),
        }
        if dropped == 0 {
            Pushed::Queued
        } else {
            Pushed::DroppedOldest(dropped)
        }
    }

    /// What an earlier process has left, in order; `expiring` are those that expire, in the same
    /// order, and when.
    pub fn restore(
        &mut self,
        queue: QueueId,
        messages: impl Iterator<Item = RecoveredMessage>,
        expiring: &[(MessageId, u64)],
    ) {
        let mut expiring = expiring.iter().copied().peekable();
        let waiting = messages.map(|message| {
            self.bytes += message.bytes as usize;
            let expires_at_ms = expiring.next_if(|it| it.0 == message.id).map(|it| it.1);
            self.sweep.note(expires_at_ms);
            Waiting {
                id: message.id,
                bytes: message.bytes,
                expires_at_seconds: seconds_of(expires_at_ms),
            }
        });
        self.backlog.restore(queue, waiting);
    }

    /// What to read back next, and the batch that has to be committed before; `None` if nothing
    /// is to be read or it is on its way. While messages keep coming, those before are read.
    pub fn to_load(&mut self, committed: Ticket) -> Option<(Vec<MessageId>, Ticket)> {
        match self.deliveries.is_empty() {
            true => self.backlog.next_load(committed),
            false => None,
        }
    }

    /// Its name in the store, once it has a backlog.
    pub fn store(&self) -> Option<QueueId> {
        self.backlog.store()
    }

    /// The reader was asked for what [`Queue::to_load`] has named.
    pub fn begin_load(&mut self, asked: usize) {
        self.backlog.begin_load(asked);
    }

    /// The reader's answer, in order: what it left out before its last message is gone. It says
    /// nothing about what was dropped since it was asked.
    pub fn end_load(&mut self, loaded: Vec<Delivery>) {
        let mut asked = self.backlog.end_load();
        if loaded.is_empty() {
            self.forget_oldest(asked);
        }
        for delivery in loaded {
            let id = delivery.stored.map(|it| it.id);
            let Some(at) = id.and_then(|id| self.backlog.position(id, asked)) else {
                continue;
            };
            self.forget_oldest(at + 1);
            asked -= at + 1;
            // Not looked at while it was on its way.
            self.sweep.note(delivery.message.expires_at_ms());
            self.bytes += delivery.message.bytes();
            self.deliveries.push_back(delivery);
        }
    }

    fn forget_oldest(&mut self, count: usize) {
        self.bytes -= self.backlog.forget_oldest(count);
    }

    /// Appends deliveries that the caller has bounded.
    pub fn append(&mut self, deliveries: impl Iterator<Item = Delivery>) {
        for delivery in deliveries {
            self.bytes += delivery.message.bytes();
            self.deliveries.push_back(delivery);
        }
    }

    /// The next delivery in memory that has not expired; expired ones before it are dropped.
    pub fn next(&mut self, now_ms: u64) -> Option<Delivery> {
        loop {
            let delivery = self.pop_front()?;
            if !delivery.message.is_expired(now_ms) {
                return Some(delivery);
            }
            self.dropped.extend(delivery.stored);
        }
    }

    /// Takes out what was dropped and has to be settled in the store.
    pub fn take_dropped(&mut self) -> Vec<Stored> {
        std::mem::take(&mut self.dropped)
    }

    /// Puts deliveries back before all others, the first one first.
    pub fn push_front(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries.into_iter().rev() {
            self.sweep.note(delivery.message.expires_at_ms());
            self.bytes += delivery.message.bytes();
            self.deliveries.push_front(delivery);
        }
    }

    /// Takes out what a share group has lent, in order.
    pub fn take_lent_by(&mut self, group: GroupId) -> Vec<Delivery> {
        let is_lent = |it: &Delivery| it.group.is_some_and(|(lender, _)| lender == group);
        let (lent, kept): (Vec<_>, Vec<_>) = self.deliveries.drain(..).partition(is_lent);
        self.bytes -= lent.iter().map(|it| it.message.bytes()).sum::<usize>();
        self.deliveries = kept.into();
        self.sweep.count_out(lent.len());
        lent
    }

    /// Takes out the first of the next `looked_at_max` deliveries that `choose` answers for;
    /// expired ones on the way are dropped.
    pub fn take_first<T>(
        &mut self,
        now_ms: u64,
        looked_at_max: usize,
        mut choose: impl FnMut(&Delivery) -> Option<T>,
    ) -> Option<(Delivery, T)> {
        let mut index = 0;
        while index < looked_at_max {
            let delivery = self.deliveries.get(index)?;
            let is_expired = delivery.message.is_expired(now_ms);
            let chosen = if is_expired { None } else { choose(delivery) };
            if chosen.is_none() && !is_expired {
                index += 1;
                continue;
            }
            let taken = match index {
                0 => self.pop_front()?,
                _ => {
                    let taken = self.deliveries.remove(index)?;
                    self.sweep.count_out(1);
                    self.bytes -= taken.message.bytes();
                    taken
                }
            };
            match chosen {
                Some(chosen) => return Some((taken, chosen)),
                None => self.dropped.extend(taken.stored),
            }
        }
        None
    }

    /// Drops what `keep` does not want of what is in memory, and answers how many that was.
    pub fn retain(&mut self, mut keep: impl FnMut(&Delivery) -> bool) -> u64 {
        let before = self.deliveries.len();
        let (bytes, dropped) = (&mut self.bytes, &mut self.dropped);
        self.deliveries.retain(|delivery| {
            let is_kept = keep(delivery);
            if !is_kept {
                *bytes -= delivery.message.bytes();
                dropped.extend(delivery.stored);
            }
            is_kept
        });
        let removed = before - self.deliveries.len();
        self.sweep.count_out(removed);
        removed as u64
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.backlog.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.deliveries.len() + self.backlog.len()
    }

    fn drop_oldest(&mut self) {
        if let Some(delivery) = self.pop_front() {
            self.dropped.extend(delivery.stored);
        } else if let Some(waiting) = self.backlog.pop_front() {
            self.sweep.count_out(1);
            self.bytes -= waiting.bytes as usize;
            // Only durable queues have a backlog, and only their own messages are in it.
            self.dropped.extend(self.store().map(|queue| Stored {
                queue,
                id: waiting.id,
                order: waiting.id,
            }));
        }
    }

    fn pop_front(&mut self) -> Option<Delivery> {
        let delivery = self.deliveries.pop_front()?;
        self.sweep.count_out(1);
        self.bytes -= delivery.message.bytes();
        if self.deliveries.is_empty() && self.deliveries.capacity() > DELIVERIES_KEPT {
            self.deliveries = VecDeque::new();
        }
        Some(delivery)
    }
}

/// A ring this small stays allocated when it runs empty.
const DELIVERIES_KEPT: usize = 16;
/// Stored messages that wait in memory; more wait in the store.
const READY_MAX: usize = 64;
