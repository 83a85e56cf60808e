//! What a store held when it was opened.

use std::collections::HashMap;

use heed::RoTxn;
use tidewire_protocol::codec::PacketId;

use super::bytes::Damaged;
use super::commit::Totals;
use super::environment::{Environment, QUEUE_KEY, RETAINED_KEY, SEQUENCE_KEY, Table};
use super::error::StoreError;
use super::id::{Lane, MessageId, QueueId};
use super::index::Index;
use super::key::{key_number, key_packet_id, message_key, split_key};
use super::operation::{InFlightRecord, Receiver, SessionRecord, SubscriptionRecord, WillRecord};
use super::row::{
    decode_bookmark, decode_in_flight, decode_lone_message, decode_receiver, decode_receivers,
    decode_session, decode_subscription, decode_will,
};
use crate::clock::{Clock, Epoch};
use crate::message::Message;

/// Everything but the content of waiting and retained messages, which stays on disk.
#[derive(Debug, Default)]
pub struct Recovered {
    /// In the order in which they began.
    pub sessions: Vec<RecoveredSession>,
    /// Share groups and bridges.
    pub named_queues: Vec<RecoveredQueue>,
    /// Messages to be published later.
    pub delayed: Vec<RecoveredDelayed>,
    /// Retained messages, on disk.
    pub retained_count: u64,
    /// Their bytes, on disk.
    pub retained_bytes: u64,
}

/// A session as it was.
#[derive(Debug)]
pub struct RecoveredSession {
    /// Its queue.
    pub queue: QueueId,
    /// Its state.
    pub session: SessionRecord,
    /// Filters as subscribed.
    pub subscriptions: Vec<(Box<str>, SubscriptionRecord)>,
    /// Messages not settled, in order, those in flight among them.
    pub waiting: Vec<RecoveredMessage>,
    /// Those of them that expire, in the same order, and when.
    pub expiring: Vec<(MessageId, u64)>,
    /// In the order of sending.
    pub in_flight: Vec<(PacketId, InFlightRecord)>,
    /// QoS 2 identifiers that wait for PUBREL.
    pub received: Vec<PacketId>,
    /// Its will.
    pub will: Option<WillRecord>,
}

/// A message that waits, on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredMessage {
    /// Names it.
    pub id: MessageId,
    /// Topic, properties and payload.
    pub bytes: u32,
}

/// The queue of a share group or bridge as it was.
#[derive(Debug)]
pub struct RecoveredQueue {
    /// The queue.
    pub queue: QueueId,
    /// What it is known by.
    pub name: Box<str>,
    /// Messages not settled, in order, those in flight among them.
    pub waiting: Vec<RecoveredMessage>,
    /// Those of them that expire, in the same order, and when.
    pub expiring: Vec<(MessageId, u64)>,
    /// A bridge's, in the order of sending.
    pub in_flight: Vec<(PacketId, InFlightRecord)>,
    /// A bridge's QoS 2 identifiers that wait for PUBREL.
    pub received: Vec<PacketId>,
    /// Up to where a bridge has read logs over there, by their names.
    pub bookmarks: Vec<(Box<str>, u64)>,
}

/// A message that was to be published later.
#[derive(Debug)]
pub struct RecoveredDelayed {
    /// Names it.
    pub id: MessageId,
    /// When; zero if that time is over.
    pub due_at_ms: u64,
    /// What.
    pub message: Message,
}

/// What the writer begins with, besides what the shards get.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    pub(super) recovered: Recovered,
    pub(super) index: Index,
    pub(super) totals: Totals,
    /// Messages that nobody waits for, or whose time is over.
    pub(super) unwanted: Vec<MessageId>,
}

/// Hears of each message, its row, and who has not settled it.
pub(super) type OnMessage<'a> =
    &'a mut dyn FnMut(MessageId, &[u8], &[&Receiver]) -> Result<(), Damaged>;

/// Reads everything, and removes messages that nobody waits for any more.
pub(super) fn recover(environment: &Environment, clock: Clock) -> Result<Recovery, StoreError> {
    let now_unix_ms = clock.epoch().to_unix_ms(clock.now_ms());
    let recovery = read(
        environment,
        clock,
        clock.epoch(),
        now_unix_ms,
        &mut |_, _, _| Ok(()),
    )?;
    remove_unwanted(environment, &recovery.unwanted)?;
    Ok(recovery)
}

/// Reads everything; times become those of `epoch`.
pub(super) fn read(
    environment: &Environment,
    clock: Clock,
    epoch: Epoch,
    now_unix_ms: u64,
    on_message: OnMessage<'_>,
) -> Result<Recovery, StoreError> {
    let transaction = environment.read()?;
    let mut scan = Scan {
        environment,
        transaction: &transaction,
        clock,
        epoch,
        recovery: Recovery::default(),
        places: HashMap::new(),
        told_ms: clock.now_ms(),
    };
    scan.totals()?;
    scan.queues()?;
    scan.subscriptions()?;
    scan.packet_ids()?;
    scan.bookmarks()?;
    scan.wills()?;
    scan.delayed()?;
    scan.cursors()?;
    scan.messages(now_unix_ms, on_message)?;
    let mut recovery = scan.recovery;
    for session in &mut recovery.recovered.sessions {
        session.in_flight.sort_by_key(|(_, record)| record.order);
    }
    for queue in &mut recovery.recovered.named_queues {
        queue.in_flight.sort_by_key(|(_, record)| record.order);
    }
    Ok(recovery)
}

type Exchanges<'a> = (
    &'a mut Vec<(PacketId, InFlightRecord)>,
    &'a mut Vec<PacketId>,
);

/// Where the state of a queue is collected.
#[derive(Clone, Copy, Debug)]
enum Place {
    Session(usize),
    Named(usize),
}

type Lists<'a> = (&'a mut Vec<RecoveredMessage>, &'a mut Vec<(MessageId, u64)>);

struct Scan<'a, 'txn> {
    environment: &'a Environment,
    transaction: &'a RoTxn<'txn>,
    clock: Clock,
    epoch: Epoch,
    recovery: Recovery,
    places: HashMap<QueueId, Place>,
    told_ms: u64,
}

impl Scan<'_, '_> {
    /// Hands every row of a table to `take`.
    fn each(
        &mut self,
        table: Table,
        mut take: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<(), Damaged>,
    ) -> Result<(), StoreError> {
        let environment = self.environment;
        let failed = |source| environment.failed("rows cannot be read", source);
        let rows = environment.table(table);
        let total = rows.len(self.transaction).map_err(failed)?;
        let entries = rows.iter(self.transaction).map_err(failed)?;
        for (number, entry) in (0u64..).zip(entries) {
            let (key, value) = entry.map_err(failed)?;
            take(self, key, value).map_err(|damage| environment.damaged(table, damage))?;
            if number % ROWS_PER_LOOK == 0 {
                self.tell(table, number, total);
            }
        }
        Ok(())
    }

    fn tell(&mut self, table: Table, number: u64, total: u64) {
        let now_ms = self.clock.now_ms();
        if now_ms >= self.told_ms + TOLD_EVERY_MS {
            self.told_ms = now_ms;
            tracing::info!(
                table = table.name(),
                rows = number,
                of = total,
                "reading the store"
            );
        }
    }

    fn meta(&self, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        let rows = self.environment.table(Table::Meta);
        rows.get(self.transaction, key)
            .map_err(|source| self.environment.failed("its state cannot be read", source))
    }

    fn totals(&mut self) -> Result<(), StoreError> {
        let number = |row: Option<&[u8]>| match row {
            None => Ok(0),
            Some(row) => key_number(row),
        };
        let damaged = |damage| self.environment.damaged(Table::Meta, damage);
        let sequence = number(self.meta(SEQUENCE_KEY)?).map_err(damaged)?;
        let queue = number(self.meta(QUEUE_KEY)?).map_err(damaged)?;
        let (retained_count, retained_bytes) = match self.meta(RETAINED_KEY)? {
            None => (0, 0),
            Some(row) => {
                let (count, rest) = split_key(row).map_err(damaged)?;
                (count, key_number(rest).map_err(damaged)?)
            }
        };
        self.recovery.totals = Totals {
            sequence,
            queue,
            retained_count,
            retained_bytes,
            newest: 0,
        };
        self.recovery.recovered.retained_count = retained_count;
        self.recovery.recovered.retained_bytes = retained_bytes;
        Ok(())
    }

    fn queues(&mut self) -> Result<(), StoreError> {
        self.each(Table::Sessions, |scan, key, row| {
            let queue = QueueId::of(key_number(key)?);
            let sessions = &mut scan.recovery.recovered.sessions;
            scan.places.insert(queue, Place::Session(sessions.len()));
            scan.recovery.index.add_queue(queue);
            sessions.push(RecoveredSession {
                queue,
                session: decode_session(row, scan.epoch)?,
                subscriptions: Vec::new(),
                waiting: Vec::new(),
                expiring: Vec::new(),
                in_flight: Vec::new(),
                received: Vec::new(),
                will: None,
            });
            Ok(())
        })?;
        self.each(Table::NamedQueues, |scan, key, row| {
            let queue = QueueId::of(key_number(key)?);
            let named = &mut scan.recovery.recovered.named_queues;
            scan.places.insert(queue, Place::Named(named.len()));
            scan.recovery.index.add_queue(queue);
            let name = str::from_utf8(row).map_err(|_| Damaged("its name is not UTF-8"))?;
            named.push(RecoveredQueue {
                queue,
                name: name.into(),
                waiting: Vec::new(),
                expiring: Vec::new(),
                in_flight: Vec::new(),
                received: Vec::new(),
                bookmarks: Vec::new(),
            });
            Ok(())
        })
    }

    fn subscriptions(&mut self) -> Result<(), StoreError> {
        self.each(Table::Subscriptions, |scan, key, row| {
            let (queue, _) = split_key(key)?;
            let subscription = decode_subscription(row)?;
            scan.session(queue)?.subscriptions.push(subscription);
            Ok(())
        })
    }

    fn packet_ids(&mut self) -> Result<(), StoreError> {
        self.each(Table::InFlight, |scan, key, row| {
            let (queue, rest) = split_key(key)?;
            let in_flight = (key_packet_id(rest)?, decode_in_flight(row)?);
            scan.exchanges(queue)?.0.push(in_flight);
            Ok(())
        })?;
        self.each(Table::Received, |scan, key, _| {
            let (queue, rest) = split_key(key)?;
            let packet_id = key_packet_id(rest)?;
            scan.exchanges(queue)?.1.push(packet_id);
            Ok(())
        })
    }

    fn bookmarks(&mut self) -> Result<(), StoreError> {
        self.each(Table::Bookmarks, |scan, key, row| {
            let (queue, _) = split_key(key)?;
            let bookmark = decode_bookmark(row)?;
            let Some(Place::Named(at)) = scan.places.get(&QueueId::of(queue)) else {
                return Err(Damaged("it belongs to a queue that does not exist"));
            };
            let named = scan.recovery.recovered.named_queues.get_mut(*at);
            named
                .into_iter()
                .for_each(|it| it.bookmarks.push(bookmark.clone()));
            Ok(())
        })
    }

    fn wills(&mut self) -> Result<(), StoreError> {
        self.each(Table::Wills, |scan, key, row| {
            let queue = key_number(key)?;
            let will = decode_will(row, scan.epoch)?;
            scan.session(queue)?.will = Some(will);
            Ok(())
        })
    }

    fn delayed(&mut self) -> Result<(), StoreError> {
        self.each(Table::Delayed, |scan, key, row| {
            let (due_unix_ms, message) = decode_lone_message(row, scan.epoch)?;
            scan.recovery.recovered.delayed.push(RecoveredDelayed {
                id: MessageId(key_number(key)?),
                due_at_ms: scan.epoch.to_clock_ms(due_unix_ms),
                message,
            });
            Ok(())
        })
    }

    fn cursors(&mut self) -> Result<(), StoreError> {
        self.each(Table::Cursors, |scan, key, row| {
            let (queue, rest) = split_key(key)?;
            let lane = rest.try_into().map(u16::from_be_bytes).unwrap_or(u16::MAX);
            if lane >= Lane::COUNT {
                return Err(Damaged("its lane is unknown"));
            }
            let floor = key_number(row)?;
            scan.recovery
                .index
                .restore_floor(QueueId::of(queue), Lane::new(lane), floor);
            Ok(())
        })?;
        self.each(Table::Settled, |scan, key, _| {
            let (queue, rest) = split_key(key)?;
            let id = MessageId(key_number(rest)?);
            scan.recovery.index.restore_settled(QueueId::of(queue), id);
            Ok(())
        })
    }

    fn messages(&mut self, now_unix_ms: u64, on_message: OnMessage<'_>) -> Result<(), StoreError> {
        let mut adopted: HashMap<MessageId, Vec<Receiver>> = HashMap::new();
        self.each(Table::Adopted, |_, key, row| {
            let (_, rest) = split_key(key)?;
            let id = MessageId(key_number(rest)?);
            adopted.entry(id).or_default().push(decode_receiver(row)?);
            Ok(())
        })?;
        self.each(Table::Messages, |scan, key, row| {
            let id = MessageId(key_number(key)?);
            scan.recovery.totals.newest = id.0;
            let (header, receivers, bytes) = decode_receivers(row)?;
            if header.expires_unix_ms.is_some_and(|at| at <= now_unix_ms) {
                scan.recovery.unwanted.push(id);
                return Ok(());
            }
            let adopted_by = adopted.get(&id).map(Vec::as_slice).unwrap_or_default();
            let index = &mut scan.recovery.index;
            let open = index.restore_message(id, &receivers, adopted_by);
            if open.is_empty() {
                scan.recovery.unwanted.push(id);
                return Ok(());
            }
            on_message(id, row, &open)?;
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let message = RecoveredMessage { id, bytes };
            let expires_at_ms = header.expires_unix_ms.map(|at| scan.epoch.to_clock_ms(at));
            for receiver in open {
                let Some((waiting, expiring)) = scan.lists(receiver.queue) else {
                    continue;
                };
                waiting.push(message);
                expiring.extend(expires_at_ms.map(|at_ms| (id, at_ms)));
            }
            Ok(())
        })
    }

    /// Where the messages of a queue are collected, and those that expire.
    fn lists(&mut self, queue: QueueId) -> Option<Lists<'_>> {
        let recovered = &mut self.recovery.recovered;
        match self.places.get(&queue)? {
            Place::Session(at) => {
                let session = recovered.sessions.get_mut(*at)?;
                Some((&mut session.waiting, &mut session.expiring))
            }
            Place::Named(at) => {
                let named = recovered.named_queues.get_mut(*at)?;
                Some((&mut named.waiting, &mut named.expiring))
            }
        }
    }

    /// The packet identifiers in use towards a peer and from it.
    fn exchanges(&mut self, queue: u64) -> Result<Exchanges<'_>, Damaged> {
        let recovered = &mut self.recovery.recovered;
        let found = match self.places.get(&QueueId::of(queue)) {
            Some(Place::Session(at)) => recovered
                .sessions
                .get_mut(*at)
                .map(|it| (&mut it.in_flight, &mut it.received)),
            Some(Place::Named(at)) => recovered
                .named_queues
                .get_mut(*at)
                .map(|it| (&mut it.in_flight, &mut it.received)),
            None => None,
        };
        found.ok_or(Damaged("it belongs to a session that does not exist"))
    }

    fn session(&mut self, queue: u64) -> Result<&mut RecoveredSession, Damaged> {
        let missing = Damaged("it belongs to a session that does not exist");
        match self.places.get(&QueueId::of(queue)) {
            Some(Place::Session(at)) => {
                let sessions = &mut self.recovery.recovered.sessions;
                sessions.get_mut(*at).ok_or(missing)
            }
            _ => Err(missing),
        }
    }
}

fn remove_unwanted(environment: &Environment, ids: &[MessageId]) -> Result<(), StoreError> {
    let failed = |source| environment.failed("messages nobody waits for cannot be removed", source);
    for ids in ids.chunks(REMOVED_PER_COMMIT) {
        let mut transaction = environment.write().map_err(failed)?;
        let rows = environment.table(Table::Messages);
        for id in ids {
            rows.delete(&mut transaction, &message_key(*id))
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
    }
    if !ids.is_empty() {
        tracing::info!(
            messages = ids.len(),
            "removed messages that expired or nobody waits for"
        );
    }
    Ok(())
}

const REMOVED_PER_COMMIT: usize = 4_096;
/// Rows between two looks at the clock.
const ROWS_PER_LOOK: u64 = 65_536;
const TOLD_EVERY_MS: u64 = 1_000;
