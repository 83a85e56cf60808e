//! Messages that wait for another broker, until it has acknowledged them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::QueueOverflow;
use crate::message::Message;
use crate::metrics::BridgeMetrics;

use super::Pushed;

/// First in, first out; what is lent stays until it is settled.
///
/// The one place that knows where a bridge's messages are kept: in memory.
#[derive(Debug, Default)]
pub struct BridgeQueue {
    limits: BridgeQueueLimits,
    metrics: Arc<BridgeMetrics>,
    /// Ascending by sequence; `None` is settled behind one that is not.
    lent: VecDeque<(u64, Option<Message>)>,
    lent_count: usize,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    last_sequence: u64,
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    since_ms: u64,
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
    }

    /// Appends a message, obeying the overflow policy.
    pub fn push(&mut self, message: Message, now_ms: u64) -> Pushed {
        let bytes = message.bytes();
        let mut dropped = 0;
        while self.len() >= self.limits.messages_max || self.bytes + bytes > self.limits.bytes_max {
            let oldest = match self.limits.overflow {
                QueueOverflow::DropOldest => self.waiting.pop_front(),
                _ => None,
            };
            let Some(oldest) = oldest else {
                self.metrics.dropped_overflow.add(1);
                return match self.limits.overflow {
                    QueueOverflow::Reject => Pushed::Rejected,
                    _ => Pushed::DroppedNewest,
                };
            };
            self.bytes -= oldest.message.bytes();
            self.metrics.dropped_overflow.add(1);
            dropped += 1;
        }
        self.bytes += bytes;
        self.waiting.push_back(Waiting {
            message,
            since_ms: now_ms,
        });
        self.report();
        if dropped == 0 {
            Pushed::Queued
        } else {
            Pushed::DroppedOldest(dropped)
        }
    }

    /// The next messages, as many as may be lent at once.
    pub fn lend(&mut self, now_ms: u64) -> Vec<Lent> {
        let mut lent = Vec::new();
        while self.lent_count < self.limits.lent_max
            && let Some(Waiting { message, since_ms }) = self.waiting.pop_front()
        {
            let age_ms = now_ms.saturating_sub(since_ms);
            let is_old = self.limits.age_ms_max.is_some_and(|max| age_ms > max);
            if is_old || message.is_expired(now_ms) {
                self.bytes -= message.bytes();
                self.metrics.dropped_expired.add(1);
                continue;
            }
            self.last_sequence += 1;
            let sequence = self.last_sequence;
            self.lent.push_back((sequence, Some(message.clone())));
            self.lent_count += 1;
            lent.push(Lent { sequence, message });
        }
        if self.waiting.is_empty() && self.waiting.capacity() > WAITING_KEPT {
            self.waiting = VecDeque::new();
        }
        self.report();
        lent
    }

    /// The other side has these messages: they leave.
    pub fn settle(&mut self, sequences: &[u64]) {
        for sequence in sequences {
            let found = self.lent.binary_search_by_key(sequence, |(it, _)| *it);
            let message = found.ok().and_then(|index| self.lent.get_mut(index));
            if let Some(message) = message.and_then(|(_, message)| message.take()) {
                self.bytes -= message.bytes();
                self.lent_count -= 1;
            }
        }
        while let Some((_, None)) = self.lent.front() {
            self.lent.pop_front();
        }
        self.report();
    }

    /// How many messages are here, lent ones included.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.lent_count
    }

    /// Whether nothing is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn report(&self) {
        self.metrics.queue_messages.set(self.len() as u64);
        self.metrics.queue_bytes.set(self.bytes as u64);
    }
}

/// A ring this small stays allocated when it runs empty.
const WAITING_KEPT: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Header;

    fn message(number: u64) -> Message {
        Message::new("t", &[], &number.to_le_bytes(), Header::default())
    }

    fn queue(messages_max: usize, lent_max: usize, overflow: QueueOverflow) -> BridgeQueue {
        let mut queue = BridgeQueue::default();
        let limits = BridgeQueueLimits {
            messages_max,
            lent_max,
            overflow,
            ..BridgeQueueLimits::default()
        };
        queue.open(limits, Arc::default());
        queue
    }

    fn fill(queue: &mut BridgeQueue, count: u64) {
        for number in 0..count {
            assert_eq!(queue.push(message(number), 0), Pushed::Queued);
        }
    }

    fn sequences(lent: &[Lent]) -> Vec<u64> {
        lent.iter().map(|it| it.sequence).collect()
    }

    #[test]
    fn what_is_lent_stays_until_it_is_settled_in_any_order() {
        let mut queue = queue(10, 2, QueueOverflow::DropOldest);
        fill(&mut queue, 4);
        assert_eq!(sequences(&queue.lend(0)), [1, 2]);
        assert!(queue.lend(0).is_empty());
        queue.settle(&[2]);
        assert_eq!((queue.len(), sequences(&queue.lend(0))), (3, vec![3]));
        queue.settle(&[2, 3, 1]);
        assert_eq!(sequences(&queue.lend(0)), [4]);
        queue.settle(&[4]);
        assert!(queue.is_empty());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_that_waits_and_then_drains() {
        let mut queue = queue(3, 1, QueueOverflow::DropOldest);
        fill(&mut queue, 3);
        queue.lend(0);
        assert_eq!(queue.push(message(3), 0), Pushed::DroppedOldest(1));
        let mut drained = Vec::new();
        for sequence in 1..=3 {
            queue.settle(&[sequence]);
            drained.extend(queue.lend(0).into_iter().map(|it| it.message));
        }
        assert_eq!(drained, [message(2), message(3)]);
        assert_eq!(queue.metrics.dropped_overflow.value(), 1);
    }

    #[test]
    fn a_queue_whose_messages_are_all_lent_drops_the_newest() {
        let mut queue = queue(1, 1, QueueOverflow::DropOldest);
        assert_eq!(queue.push(message(0), 0), Pushed::Queued);
        queue.lend(0);
        assert_eq!(queue.push(message(1), 0), Pushed::DroppedNewest);
    }

    #[test]
    fn messages_that_waited_too_long_are_not_lent() {
        let mut queue = queue(9, 9, QueueOverflow::DropOldest);
        queue.limits.age_ms_max = Some(10);
        assert_eq!(queue.push(message(0), 0), Pushed::Queued);
        assert_eq!(queue.push(message(1), 5), Pushed::Queued);
        let lent = queue.lend(11);
        assert_eq!(lent.len(), 1);
        assert_eq!(lent[0].message, message(1));
        assert_eq!(queue.metrics.dropped_expired.value(), 1);
    }
}
