//! The shard's side of the store: what is to be kept, and what waits until it is.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use tidewire_protocol::codec::PacketId;

use super::client::{Connection, Session};
use super::held_reports::HeldReports;
use super::in_flight::Unkept;
use super::unconfirmed::{Origin, Published, Unconfirmed};
use super::{BridgeReport, Key, Mail, Shard};
use crate::exchange::{BridgeId, GroupId};
use crate::queue::{Delivery, Stored};
use crate::store::{
    Awaited, Few, Lane, Load, MessageId, MessageIds, Operation, Operations, QueueId, Receiver,
    Refusable, Refusal, Report, RequestId, SessionRecord, Store, Ticket, WillRecord,
};

/// Owns the open batch and everything that waits for a commit or for the reader.
#[derive(Debug)]
pub(super) struct Durable {
    is_on: bool,
    operations: Operations,
    /// Emptied, to be used again.
    spent: Vec<Operations>,
    /// Of the open batch.
    ticket: Ticket,
    committed: Ticket,
    /// Batches after it whose acknowledgements may leave all the same.
    settled: HashSet<Ticket>,
    /// Somebody waits for the open batch, even if it is empty.
    wants_commit: bool,
    /// Something, since the packet at hand began.
    has_recorded: bool,
    /// By the packet at hand.
    published: Refusable,
    ids: MessageIds,
    pub(super) unkept: Unkept,
    /// Connections with held packets, and the batches these wait for, in order.
    holding: VecDeque<(Ticket, Key)>,
    pub(super) unconfirmed: Unconfirmed,
    loads: Vec<(RequestId, Load)>,
    asked: HashMap<RequestId, Asker>,
    last_request: u64,
    pub(super) reports: HeldReports,
    /// They ask again after the next commit: what they want may not be readable before.
    fenced: Vec<Asker>,
}

/// Who has asked the store, or is about to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// A session, for waiting messages.
    Queue(Key),
    /// A share group, for waiting messages.
    Group(GroupId),
    /// A session of an earlier process, for what was in flight.
    InFlight(Key),
    /// A session, for retained messages.
    Retained(Key),
    /// A bridge, for waiting messages.
    Bridge(BridgeId),
}

/// What the driver passes to the store.
#[derive(Debug, Default)]
pub struct StoreWork {
    /// To be submitted first.
    pub batch: Option<StoreBatch>,
    /// To be asked afterwards.
    pub loads: Vec<(RequestId, Load)>,
}

/// What a shard did in one turn.
#[derive(Debug)]
pub struct StoreBatch {
    /// Its name.
    pub ticket: Ticket,
    /// In order.
    pub operations: Operations,
    /// Who waits for it.
    pub awaited: Awaited,
}

impl Durable {
    pub(super) fn new(store: &Store, lane: Lane, patience_ms: u32) -> Self {
        Self {
            is_on: store.is_durable(),
            operations: Operations::default(),
            spent: Vec::new(),
            ticket: Ticket(1),
            committed: Ticket(0),
            settled: HashSet::new(),
            wants_commit: false,
            has_recorded: false,
            published: Refusable::default(),
            ids: store.message_ids(lane),
            unkept: Unkept::new(patience_ms),
            holding: VecDeque::new(),
            unconfirmed: Unconfirmed::default(),
            loads: Vec::new(),
            asked: HashMap::new(),
            last_request: 0,
            reports: HeldReports::default(),
            fenced: Vec::new(),
        }
    }

    /// Whether anything survives the process.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) fn next_id(&mut self) -> MessageId {
        self.ids.next_id()
    }

    /// Bytes of the open batch.
    pub(super) fn open_bytes(&self) -> usize {
        self.operations.bytes()
    }

    pub(super) fn record(&mut self, operation: Operation) {
        debug_assert!(self.is_on, "nothing is kept in memory");
        self.has_recorded = true;
        self.operations.push(operation);
    }

    /// A receiver is done with a message.
    fn settle(&mut self, queue: QueueId, id: MessageId) {
        debug_assert!(self.is_on, "nothing is kept in memory");
        self.has_recorded = true;
        self.operations.settle(queue, id);
    }

    /// A packet begins: its answer waits only for what it records itself.
    pub(super) fn begin_packet(&mut self) {
        self.has_recorded = false;
        self.published = Refusable::default();
    }

    pub(super) fn has_recorded(&self) -> bool {
        self.has_recorded
    }

    /// What the packet at hand publishes, should the store have no room for it after all.
    pub(super) fn confirm(&mut self, origin: Origin, published: Published) {
        match &published {
            Published::Message(id) => self.published.message = Some(*id),
            Published::Retained(message) => self.published.retained = Some(message.clone()),
        }
        self.unconfirmed.add(self.ticket, origin, published);
    }

    /// Moves what was appended after `start` to where it waits for the open batch.
    pub(super) fn hold(&mut self, key: Key, connection: &mut Connection, start: usize) {
        let needs_commit = self.has_recorded();
        let out = connection.out.tail();
        let bytes = out.get(start..).unwrap_or_default();
        match connection.held.back_mut() {
            Some((ticket, held)) if *ticket == self.ticket || !needs_commit => {
                held.extend_from_slice(bytes);
            }
            _ => {
                let mut held = Vec::with_capacity(bytes.len().max(HELD_BYTES_MIN));
                held.extend_from_slice(bytes);
                connection.held.push_back((self.ticket, held));
                self.release_after(self.ticket, key);
            }
        }
        out.truncate(start);
    }

    /// The connection is looked at once the batch, the open one or the one before, is committed.
    pub(super) fn release_after(&mut self, ticket: Ticket, key: Key) {
        debug_assert!(self.holding.back().is_none_or(|it| it.0 <= ticket));
        self.holding.push_back((ticket, key));
    }

    fn next_released(&mut self) -> Option<Key> {
        self.holding.front().filter(|it| it.0 <= self.committed)?;
        self.holding.pop_front().map(|it| it.1)
    }

    /// Whether acknowledgements that wait for the batch may leave.
    fn may_answer(&self, ticket: Ticket) -> bool {
        ticket <= self.committed || self.settled.contains(&ticket)
    }

    /// Connections with packets that wait for the batch.
    fn holding(&self, ticket: Ticket) -> Vec<Key> {
        let start = self.holding.partition_point(|it| it.0 < ticket);
        let held = self.holding.range(start..);
        held.take_while(|it| it.0 == ticket)
            .map(|it| it.1)
            .collect()
    }

    /// Keeps a message for one queue alone.
    pub(super) fn keep_delivery(&mut self, queue: QueueId, delivery: &Delivery) -> Stored {
        let id = self.next_id();
        self.record(Operation::PutMessage {
            id,
            message: delivery.message.clone(),
            receivers: Few::One(Receiver {
                queue,
                qos: delivery.qos,
                retain: delivery.retain,
                subscription_ids: delivery.subscription_ids.clone(),
            }),
            refusal: Refusal::First,
        });
        Stored {
            queue,
            id,
            order: id,
        }
    }

    /// The open batch as a fence: what is in it or before can be read once it is committed.
    pub(super) fn fence(&self) -> Ticket {
        self.ticket
    }

    /// Everything up to this batch is on disk.
    pub(super) fn committed_ticket(&self) -> Ticket {
        self.committed
    }

    /// Calls the asker after a commit; the fence is not committed.
    pub(super) fn wake_after(&mut self, asker: Asker, fence: Ticket) {
        debug_assert!(fence > self.committed);
        self.fenced.push(asker);
        self.wants_commit = true;
    }

    /// As [`Durable::fence`], and the batch is submitted even if it is empty.
    pub(super) fn fence_of_change(&mut self) -> Ticket {
        self.wants_commit = true;
        self.ticket
    }

    /// Asks now if everything up to the fence can be read, else after the commit.
    pub(super) fn ask(&mut self, asker: Asker, fence: Ticket, load: Load) -> Option<RequestId> {
        if fence > self.committed {
            self.wake_after(asker, fence);
            return None;
        }
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.asked.insert(request, asker);
        self.loads.push((request, load));
        Some(request)
    }

    fn awaited(&self, ticket: Ticket, wants_commit: bool) -> Awaited {
        let is_last = |it: Option<Ticket>| it == Some(ticket);
        if wants_commit || is_last(self.reports.last_ticket()) {
            Awaited::Commit
        } else if is_last(self.holding.back().map(|it| it.0)) {
            Awaited::Answers
        } else {
            Awaited::No
        }
    }

    /// What a batch was handed in with serves for another one.
    fn reuse(&mut self, mut operations: Operations) {
        operations.clear();
        let kept: usize = self.spent.iter().map(Operations::capacity).sum();
        if kept + operations.capacity() <= OPERATIONS_KEPT_MAX {
            self.spent.push(operations);
        }
    }

    fn take_work(&mut self) -> StoreWork {
        let wants_commit = std::mem::take(&mut self.wants_commit);
        let batch = (wants_commit || !self.operations.is_empty()).then(|| {
            let ticket = self.ticket;
            self.ticket.0 += 1;
            self.has_recorded = false;
            self.ids.share();
            let next = self.spent.pop().unwrap_or_default();
            StoreBatch {
                ticket,
                operations: std::mem::replace(&mut self.operations, next),
                awaited: self.awaited(ticket, wants_commit),
            }
        });
        StoreWork {
            batch,
            loads: std::mem::take(&mut self.loads),
        }
    }
}

impl Shard {
    /// What is to be kept and read since the last call; it goes to the store before mail leaves.
    pub fn take_store_work(&mut self) -> StoreWork {
        if !self.durable.is_on {
            return StoreWork::default();
        }
        self.forget_freed();
        self.durable.take_work()
    }

    /// What the store says.
    pub(super) fn take_report(&mut self, report: Report, now_ms: u64) {
        match report {
            Report::Committed { ticket, .. } => self.committed(ticket, now_ms),
            Report::Settled { ticket } => self.settled(ticket, now_ms),
            Report::Spent(operations) => self.durable.reuse(operations),
            Report::Refused {
                ticket,
                mut messages,
                delayed,
                retained,
            } => {
                self.drop_refused_delayed(&delayed);
                messages.extend(delayed);
                self.refused_by_store(ticket, &messages, &retained, now_ms);
            }
            Report::Loaded { request, messages } => match self.durable.asked.remove(&request) {
                Some(Asker::Queue(key)) => self.queue_loaded(key, messages, now_ms),
                Some(Asker::Group(group)) => self.group_loaded(group, messages, now_ms),
                Some(Asker::InFlight(key)) => self.in_flight_loaded(key, messages, now_ms),
                Some(Asker::Bridge(bridge)) => self.bridge_loaded(bridge, messages, now_ms),
                Some(Asker::Retained(_)) | None => {}
            },
            Report::Retained {
                request,
                messages,
                next,
            } => {
                if let Some(Asker::Retained(key)) = self.durable.asked.remove(&request) {
                    self.retained_loaded(key, request, messages, next, now_ms);
                }
            }
            // The process ends; nobody answers any more.
            Report::Failed { .. } => {}
        }
    }

    fn committed(&mut self, ticket: Ticket, now_ms: u64) {
        // The writer and the shards report, so that the later batch may come first; and what others
        // hand in for this shard, such as new queues, has no ticket of ours.
        self.durable.committed = self.durable.committed.max(ticket);
        self.durable.settled.retain(|it| *it > ticket);
        self.durable.unconfirmed.forget(ticket);
        while let Some((bridge, report)) = self.durable.reports.take_due(ticket) {
            self.send_to_bridges(Mail::BridgeReport { bridge, report });
        }
        while let Some(key) = self.durable.next_released() {
            self.release_held(key, now_ms);
        }
        for asker in std::mem::take(&mut self.durable.fenced) {
            match asker {
                Asker::Queue(key) | Asker::InFlight(key) | Asker::Retained(key) => {
                    self.send_waiting(key, now_ms);
                }
                Asker::Group(group) => self.lend(group, now_ms),
                Asker::Bridge(bridge) => self.bridge_committed(bridge, now_ms),
            }
        }
    }

    /// Tells a bridge what became of its messages, as soon as what they recorded is committed.
    pub(super) fn report_to_bridge(&mut self, bridge: BridgeId, report: BridgeReport) {
        let open = self.durable.has_recorded().then_some(self.durable.ticket);
        match open.or_else(|| self.durable.reports.last_ticket()) {
            Some(ticket) => self.durable.reports.hold(ticket, bridge, report),
            None => self.send_to_bridges(Mail::BridgeReport { bridge, report }),
        }
    }

    /// Others may have submitted something before that is not on disk, so that nothing else is true
    /// yet that waits for the batch.
    fn settled(&mut self, ticket: Ticket, now_ms: u64) {
        if ticket <= self.durable.committed {
            return;
        }
        self.durable.settled.insert(ticket);
        for key in self.durable.holding(ticket) {
            self.release_held(key, now_ms);
        }
    }

    /// What a connection holds leaves in order.
    fn release_held(&mut self, key: Key, now_ms: u64) {
        let Some(connection) = self.connections.writable(key) else {
            return;
        };
        if connection.is_closing {
            connection.held.clear();
            return;
        }
        let durable = &self.durable;
        while connection
            .held
            .front()
            .is_some_and(|it| durable.may_answer(it.0))
        {
            if let Some((_, bytes)) = connection.held.pop_front() {
                connection.out.tail().extend_from_slice(&bytes);
            }
        }
        connection.holds_publish &= !connection.held.is_empty();
        if connection
            .awaits_connack
            .is_some_and(|it| it <= durable.committed)
        {
            connection.awaits_connack = None;
            self.begin_service(key, now_ms);
        }
    }

    /// Keeps the state of a durable session.
    pub(super) fn keep_session(&mut self, key: Key) {
        let Some((queue, session)) = self.durable_session(key) else {
            return;
        };
        let record = SessionRecord {
            client_id: Arc::clone(&session.name),
            version: session.version,
            expiry_seconds: session.expiry_seconds,
            expires_at_ms: session.expires_at_ms,
            user_name: session.user_name.as_deref().map(Box::from),
        };
        self.durable.record(Operation::PutSession {
            queue,
            session: record,
        });
    }

    /// Keeps the will of a durable session, or that it has none.
    pub(super) fn keep_will(&mut self, key: Key) {
        let Some((queue, session)) = self.durable_session(key) else {
            return;
        };
        let operation = match &session.will {
            Some(will) => Operation::PutWill {
                queue,
                will: WillRecord {
                    message: will.message.clone(),
                    delay_seconds: will.delay_seconds,
                    expiry_seconds: will.expiry_seconds,
                    due_at_ms: session.will_due_ms,
                },
            },
            None => Operation::RemoveWill { queue },
        };
        self.durable.record(operation);
    }

    fn durable_session(&self, key: Key) -> Option<(QueueId, &Session)> {
        let session = self.sessions.lookup(key)?;
        Some((session.store?, session))
    }

    /// Settles what a queue has dropped.
    pub(super) fn settle_dropped(&mut self, key: Key) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        for stored in session.queue.take_dropped() {
            self.settle_stored(Some(stored));
        }
    }

    /// A QoS 2 identifier of the client waits for PUBREL.
    pub(super) fn keep_received(&mut self, key: Key, packet_id: PacketId) {
        if let Some((queue, _)) = self.durable_session(key) {
            let with = std::mem::take(&mut self.durable.published);
            self.durable.record(Operation::PutReceived {
                queue,
                packet_id,
                with,
            });
        }
    }

    /// PUBREL came, or the message was not accepted.
    pub(super) fn forget_received(&mut self, key: Key, packet_id: PacketId) {
        if let Some((queue, _)) = self.durable_session(key) {
            self.durable
                .record(Operation::RemoveReceived { queue, packet_id });
        }
    }

    /// A receiver is done with a stored message.
    pub(super) fn settle_stored(&mut self, stored: Option<Stored>) {
        if let Some(stored) = stored {
            self.durable.settle(stored.queue, stored.id);
        }
    }
}

/// Room for what a few packets are answered, so that it seldom has to grow.
const HELD_BYTES_MIN: usize = 64;
/// Room for operations in lists that are kept to be used again: of what a burst leaves behind,
/// about a megabyte.
const OPERATIONS_KEPT_MAX: usize = 16_384;
