//! Which packet identifiers towards clients have a row in the store.
//!
//! One of QoS 2 has it before its message leaves. One of QoS 1 gets it if it is in use for longer
//! than a commit waits for receivers: most are free again before, and nothing was written for them.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use tidewire_protocol::codec::{PacketId, QoS};

use super::client::Session;
use super::{Key, Shard};
use crate::queue::{Delivery, Stored};
use crate::store::{InFlightRecord, MessageId, Operation, QueueId, patience_us};

/// Identifiers of QoS 1 that have no row yet.
///
/// # Shape
/// In the order of sending: all that were sent before the first run have a row, or are free.
#[derive(Debug)]
pub(super) struct Unkept {
    runs: VecDeque<Run>,
    /// How many messages all runs have sent.
    count: usize,
    interval_us: u64,
    /// Some may be free again.
    has_freed: bool,
}

/// What one session was sent in one millisecond, one after the other.
#[derive(Clone, Copy, Debug)]
struct Run {
    session: Key,
    /// The identifier of the first that may still be in use.
    first: PacketId,
    last: PacketId,
    first_order: MessageId,
    last_order: MessageId,
    count: usize,
    sent_at_ms: u64,
}

impl Run {
    /// The identifiers from the first to the last; others may be in use among them.
    fn packet_ids(&self) -> impl Iterator<Item = PacketId> + use<> {
        let last = self.last;
        let next = move |id: &PacketId| {
            let next = NonZeroU16::new(id.0.get().wrapping_add(1));
            (*id != last).then(|| PacketId(next.unwrap_or(NonZeroU16::MIN)))
        };
        std::iter::successors(Some(self.first), next)
    }
}

impl Unkept {
    pub(super) fn new(interval_ms: u32) -> Self {
        Self {
            runs: VecDeque::new(),
            count: 0,
            interval_us: u64::from(interval_ms) * 1_000,
            has_freed: false,
        }
    }

    pub(super) fn add(&mut self, session: Key, packet_id: PacketId, order: MessageId, now_ms: u64) {
        self.count += 1;
        let last = self.runs.back_mut();
        debug_assert!(last.as_ref().is_none_or(|it| it.last_order < order));
        if let Some(run) = last.filter(|it| it.session == session && it.sent_at_ms == now_ms) {
            run.last = packet_id;
            run.last_order = order;
            run.count += 1;
            return;
        }
        self.runs.push_back(Run {
            session,
            first: packet_id,
            last: packet_id,
            first_order: order,
            last_order: order,
            count: 1,
            sent_at_ms: now_ms,
        });
    }

    fn holds(&self, order: MessageId) -> bool {
        self.runs.front().is_some_and(|it| it.first_order <= order)
    }

    fn pop(&mut self) {
        if let Some(run) = self.runs.pop_front() {
            self.count -= run.count;
        }
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let first = self.runs.front()?;
        let patience_ms = patience_us(self.interval_us, self.count) / 1_000;
        // The millisecond in which it was sent had begun already.
        Some(first.sent_at_ms + patience_ms + 1)
    }
}

impl Shard {
    /// Keeps the identifiers of QoS 1 that have been in use for long enough.
    pub(super) fn keep_in_flight(&mut self, now_ms: u64) {
        while let Some(run) = self.durable.unkept.runs.front().copied() {
            let session = self.sessions.lookup(run.session);
            let mut in_use = run.packet_ids().filter_map(|packet_id| {
                let stored = in_use(session?, &run, packet_id)?;
                Some((packet_id, stored))
            });
            let first = in_use.next();
            if let Some((packet_id, _)) = first
                && self.durable.unkept.next_due_ms() > Some(now_ms)
            {
                if let Some(run) = self.durable.unkept.runs.front_mut() {
                    run.first = packet_id;
                }
                return;
            }
            for (packet_id, stored) in first.into_iter().chain(in_use) {
                let operation = put_in_flight(packet_id, QoS::AtLeastOnce, stored);
                self.durable.record(operation);
            }
            self.durable.unkept.pop();
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

/// The message of a run that its session has in flight under an identifier.
fn in_use(session: &Session, run: &Run, packet_id: PacketId) -> Option<Stored> {
    let delivery = session.outbound.published(packet_id)?;
    let stored = delivery.stored?;
    let is_of_run = (run.first_order..=run.last_order).contains(&stored.order)
        && delivery.qos == QoS::AtLeastOnce
        && session.store == Some(stored.queue);
    is_of_run.then_some(stored)
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
