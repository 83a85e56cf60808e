//! What one commit changes: rows by table, the last change of each.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::environment::Table;
use super::few::Few;
use super::id::{Lane, MessageId, QueueId};
use super::key::{Key, queue_key, queue_lane_key, queue_message_key};
use super::operation::{Receiver, Refusal};
use super::row::encode_receiver;
use crate::exchange::ShardId;
use crate::message::Message;

/// A value, or that the row goes.
pub(super) type Change = Option<Box<[u8]>>;

/// A message to be written.
#[derive(Debug)]
pub(super) struct NewMessage {
    pub(super) message: Message,
    pub(super) receivers: Few<Receiver>,
    /// Who is told if there is no room.
    pub(super) shard: ShardId,
    pub(super) refusal: Refusal,
}

/// A retained message to be written.
#[derive(Debug)]
pub(super) struct NewRetained {
    pub(super) message: Message,
    pub(super) refusal: Refusal,
    /// The one on disk was taken away before, in the same commit: so it is if this is refused.
    pub(super) follows_clear: bool,
    shard: ShardId,
    /// Of messages of the same commit that this one replaces.
    others: Vec<ShardId>,
}

impl NewRetained {
    /// Who is told if there is no room.
    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.others.iter().copied().chain([self.shard])
    }
}

/// What one commit changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) messages: BTreeMap<MessageId, NewMessage>,
    pub(super) removed_messages: Vec<MessageId>,
    pub(super) removed_queues: Vec<QueueId>,
    pub(super) retained: BTreeMap<Box<str>, Option<NewRetained>>,
    /// Retained messages that expired before this time may go.
    pub(super) sweep_unix_ms: Option<u64>,
    rows: BTreeMap<(Table, Key), Change>,
    cursors: HashMap<(QueueId, Lane), Cursor>,
    settled: BTreeMap<(QueueId, MessageId), bool>,
    /// Came and went within this commit.
    elided: HashSet<MessageId>,
}

/// Where a cursor goes, if one of the messages it passes has a row.
#[derive(Debug, Default)]
struct Cursor {
    floor: u64,
    passed: Vec<MessageId>,
    is_certain: bool,
}

impl Changes {
    pub(super) fn put(&mut self, table: Table, key: Key, value: Vec<u8>) {
        self.rows.insert((table, key), Some(value.into()));
    }

    pub(super) fn remove(&mut self, table: Table, key: Key) {
        self.rows.insert((table, key), None);
    }

    pub(super) fn put_message(&mut self, id: MessageId, new: NewMessage) {
        self.messages.insert(id, new);
    }

    pub(super) fn set_retained(&mut self, message: Message, shard: ShardId, refusal: Refusal) {
        let topic: Box<str> = message.topic().into();
        let replaced = self.retained.remove(&topic);
        let mut follows_clear = matches!(replaced, Some(None));
        let mut others = Vec::new();
        let mut latest_refusal = refusal;
        if let Some(replaced) = replaced.flatten() {
            follows_clear = replaced.follows_clear;
            others = replaced.others;
            // Who published the one before is told of success with this one.
            latest_refusal = refusal.max(replaced.refusal);
            if replaced.shard != shard && !others.contains(&replaced.shard) {
                others.push(replaced.shard);
            }
            others.retain(|it| *it != shard);
        }
        let new = NewRetained {
            message,
            refusal: latest_refusal,
            follows_clear,
            shard,
            others,
        };
        self.retained.insert(topic, Some(new));
    }

    pub(super) fn sets_retained(&self, topic: &str) -> bool {
        matches!(self.retained.get(topic), Some(Some(_)))
    }

    pub(super) fn remove_message(&mut self, id: MessageId) {
        if self.messages.remove(&id).is_some() {
            self.elided.insert(id);
        } else {
            self.removed_messages.push(id);
        }
    }

    pub(super) fn raise_cursor(
        &mut self,
        queue: QueueId,
        lane: Lane,
        floor: u64,
        passed: MessageId,
    ) {
        let cursor = self.cursors.entry((queue, lane)).or_default();
        cursor.floor = floor;
        cursor.passed.push(passed);
    }

    pub(super) fn raise_cursor_always(&mut self, queue: QueueId, lane: Lane, floor: u64) {
        let cursor = self.cursors.entry((queue, lane)).or_default();
        cursor.floor = floor;
        cursor.is_certain = true;
    }

    pub(super) fn put_settled(&mut self, queue: QueueId, id: MessageId) {
        self.settled.insert((queue, id), true);
    }

    pub(super) fn remove_settled(&mut self, queue: QueueId, id: MessageId) {
        self.settled.insert((queue, id), false);
    }

    pub(super) fn put_adopted(&mut self, id: MessageId, receiver: &Receiver) {
        let key = queue_message_key(receiver.queue, id);
        self.put(Table::Adopted, key, encode_receiver(receiver));
    }

    pub(super) fn remove_adopted(&mut self, queue: QueueId, id: MessageId) {
        self.remove(Table::Adopted, queue_message_key(queue, id));
    }

    /// All rows of a queue go, those of this commit with them.
    pub(super) fn remove_queue(&mut self, queue: QueueId) {
        let prefix = queue_key(queue);
        for table in Table::OF_A_QUEUE {
            let from = (table, prefix.clone());
            let mine: Vec<_> = self
                .rows
                .range(from..)
                .take_while(|((it, key), _)| *it == table && key.starts_with(&prefix))
                .map(|(place, _)| place.clone())
                .collect();
            for place in mine {
                self.rows.remove(&place);
            }
        }
        self.cursors.retain(|(it, _), _| *it != queue);
        self.settled.retain(|(it, _), _| *it != queue);
        self.removed_queues.push(queue);
    }

    /// The rows to change, in the order of tables and keys; exceptions and cursors of messages that
    /// were never written are left out.
    pub(super) fn take_rows(&mut self) -> BTreeMap<(Table, Key), Change> {
        let elided = std::mem::take(&mut self.elided);
        for ((queue, id), is_put) in std::mem::take(&mut self.settled) {
            if !elided.contains(&id) {
                let value: Change = is_put.then(|| Box::from([]));
                self.rows
                    .insert((Table::Settled, queue_message_key(queue, id)), value);
            }
        }
        for ((queue, lane), cursor) in std::mem::take(&mut self.cursors) {
            if cursor.is_certain || cursor.passed.iter().any(|id| !elided.contains(id)) {
                let value: Box<[u8]> = Box::new(cursor.floor.to_be_bytes());
                let key = queue_lane_key(queue, lane);
                self.rows.insert((Table::Cursors, key), Some(value));
            }
        }
        std::mem::take(&mut self.rows)
    }
}
