//! Deliveries that wait for one consumer, bounded by count and bytes.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use tidewire_protocol::codec::QoS;

use crate::config::{Limits, QueueOverflow};
use crate::exchange::{GroupId, ShardId};
use crate::message::Message;

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
}

/// First in, first out, within bounds.
#[derive(Debug, Default)]
pub struct Queue {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
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
    /// Appends a delivery, obeying the overflow policy.
    pub fn push(&mut self, delivery: Delivery, limits: &Limits) -> Pushed {
        let bytes = delivery.message.bytes();
        let mut dropped = 0;
        while self.deliveries.len() >= limits.queue_messages_max
            || self.bytes + bytes > limits.queue_bytes_max
        {
            match limits.queue_overflow {
                QueueOverflow::DropNewest => return Pushed::DroppedNewest,
                QueueOverflow::Reject => return Pushed::Rejected,
                QueueOverflow::Disconnect => return Pushed::Disconnect,
                QueueOverflow::DropOldest => {}
            }
            if self.pop_front().is_none() {
                return Pushed::DroppedNewest;
            }
            dropped += 1;
        }
        self.bytes += bytes;
        self.deliveries.push_back(delivery);
        if dropped == 0 {
            Pushed::Queued
        } else {
            Pushed::DroppedOldest(dropped)
        }
    }

    /// Appends deliveries that the caller has bounded.
    pub fn append(&mut self, deliveries: impl Iterator<Item = Delivery>) {
        for delivery in deliveries {
            self.bytes += delivery.message.bytes();
            self.deliveries.push_back(delivery);
        }
    }

    /// The next delivery that has not expired; expired ones before it are dropped.
    pub fn next(&mut self, now_ms: u64) -> Option<Delivery> {
        loop {
            let delivery = self.pop_front()?;
            if !delivery.message.is_expired(now_ms) {
                return Some(delivery);
            }
        }
    }

    /// Puts deliveries back before all others, the first one first.
    pub fn push_front(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries.into_iter().rev() {
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
                    self.bytes -= taken.message.bytes();
                    taken
                }
            };
            if let Some(chosen) = chosen {
                return Some((taken, chosen));
            }
        }
        None
    }

    /// Drops what `keep` does not want, and answers how many that was.
    pub fn retain(&mut self, mut keep: impl FnMut(&Delivery) -> bool) -> u64 {
        let before = self.deliveries.len();
        let bytes = &mut self.bytes;
        self.deliveries.retain(|delivery| {
            let is_kept = keep(delivery);
            if !is_kept {
                *bytes -= delivery.message.bytes();
            }
            is_kept
        });
        (before - self.deliveries.len()) as u64
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    fn pop_front(&mut self) -> Option<Delivery> {
        let delivery = self.deliveries.pop_front()?;
        self.bytes -= delivery.message.bytes();
        if self.deliveries.is_empty() && self.deliveries.capacity() > DELIVERIES_KEPT {
            self.deliveries = VecDeque::new();
        }
        Some(delivery)
    }
}

/// A ring this small stays allocated when it runs empty.
const DELIVERIES_KEPT: usize = 16;
