//! Which packet identifiers towards clients have a row in the store.
//!
//! One of QoS 2 has it before its message leaves. One of QoS 1 gets it if it is in use for longer
//! than a commit waits for receivers: most are free again before, and nothing was written for them.

use std::collections::VecDeque;

use tidewire_protocol::codec::{PacketId, QoS};

use super::{Key, Shard};
use crate::queue::{Delivery, Stored};
use crate::store::{InFlightRecord, MessageId, Operation, QueueId, patience_us};

/// Identifiers of QoS 1 that have no row yet.
///
/// # Shape
/// In the order of sending: all that were sent before the first have a row, or are free.
#[derive(Debug)]
pub(super) struct Unkept {
    sent: VecDeque<Sent>,
    interval_us: u64,
    /// Some may be free again.
    has_freed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    session: Key,
    packet_id: PacketId,
    order: MessageId,
    sent_at_ms: u64,
}

impl Unkept {
    pub(super) fn new(interval_ms: u32) -> Self {
        Self {
            sent: VecDeque::new(),
            interval_us: u64::from(interval_ms) * 1_000,
            has_freed: false,
        }
    }

    pub(super) fn add(&mut self, session: Key, packet_id: PacketId, order: MessageId, now_ms: u64) {
        debug_assert!(self.sent.back().is_none_or(|it| it.order < order));
        self.sent.push_back(Sent {
            session,
            packet_id,
            order,
            sent_at_ms: now_ms,
        });
    }

    fn holds(&self, order: MessageId) -> bool {
        self.sent.front().is_some_and(|it| it.order <= order)
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let first = self.sent.front()?;
        let patience_ms = patience_us(self.interval_us, self.sent.len()) / 1_000;
        // The millisecond in which it was sent had begun already.
        Some(first.sent_at_ms + patience_ms + 1)
    }
}

impl Shard {
    /// Keeps the identifiers of QoS 1 that have been in use for long enough.
    pub(super) fn keep_in_flight(&mut self, now_ms: u64) {
        while let Some(sent) = self.durable.unkept.sent.front().copied() {
            let in_use = self.in_use(sent);
            let due_ms = self.durable.unkept.next_due_ms();
            if in_use.is_some() && due_ms > Some(now_ms) {
                return;
            }
            self.durable.unkept.sent.pop_front();
            if let Some(stored) = in_use {
                let operation = put_in_flight(sent.packet_id, QoS::AtLeastOnce, stored);
                self.durable.record(operation);
            }
        }
    }

    /// Forgets those in front that are free again, at the end of a turn: they would wake the shard
    /// for nothing.
    pub(super) fn forget_freed(&mut self) {
        if std::mem::take(&mut self.durable.unkept.has_freed) {
            self.keep_in_flight(0);
        }
    }

    /// Keeps all identifiers that are in use: the process ends.
    pub fn keep_all_in_flight(&mut self) {
        self.keep_in_flight(u64::MAX);
    }

    fn in_use(&self, sent: Sent) -> Option<Stored> {
        let session = self.sessions.lookup(sent.session)?;
        let stored = session.outbound.published(sent.packet_id)?.stored?;
        (stored.order == sent.order && session.store == Some(stored.queue)).then_some(stored)
    }

    /// A message in flight is acknowledged or refused: its identifier is free.
    pub(super) fn free_of(&mut self, key: Key, packet_id: PacketId, delivery: &Delivery) {
        let Some((queue, stored)) = self.store_of(key).zip(delivery.stored) else {
            return;
        };
        let is_lent = stored.queue != queue;
        if is_lent {
            return;
        }
        if delivery.qos == QoS::AtLeastOnce && self.durable.unkept.holds(stored.order) {
            self.durable.unkept.has_freed = true;
            return;
        }
        self.durable
            .record(Operation::RemoveInFlight { queue, packet_id });
    }

    /// An identifier that has a row is free again.
    pub(super) fn free_kept(&mut self, key: Key, packet_id: PacketId) {
        if let Some(queue) = self.store_of(key) {
            self.durable
                .record(Operation::RemoveInFlight { queue, packet_id });
        }
    }

    /// PUBREC came: PUBREL may leave once this is kept.
    pub(super) fn keep_released(&mut self, key: Key, packet_id: PacketId, delivery: &Delivery) {
        let (Some(queue), Some(stored)) = (self.store_of(key), delivery.stored) else {
            return;
        };
        self.durable.record(Operation::PutInFlight {
            queue,
            packet_id,
            in_flight: InFlightRecord {
                order: stored.order,
                qos: QoS::ExactlyOnce,
                message: None,
            },
        });
    }

    fn store_of(&self, session: Key) -> Option<QueueId> {
        self.sessions.lookup(session)?.store
    }
}

/// An identifier is in use for a message of its session's own queue.
pub(super) fn put_in_flight(packet_id: PacketId, qos: QoS, stored: Stored) -> Operation {
    Operation::PutInFlight {
        queue: stored.queue,
        packet_id,
        in_flight: InFlightRecord {
            order: stored.order,
            qos,
            message: Some(stored.id),
        },
    }
}
