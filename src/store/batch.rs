//! From operations to the changes of one commit.

use std::collections::BTreeMap;

use super::changes::{Change, Changes, NewMessage};
use super::environment::Table;
use super::error::StoreError;
use super::id::{MessageId, QueueId};
use super::index::Index;
use super::key::{Key, message_key, queue_key, queue_packet_key, queue_text_key};
use super::operation::{Operation, Refusable, Refusal};
use super::row::{
    encode_bookmark, encode_in_flight, encode_lone_message, encode_session, encode_subscription,
    encode_will,
};
use super::waiters::RefusedSet;
use crate::clock::Epoch;
use crate::exchange::ShardId;

/// The operations of one commit, replayed on the index.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    index: &'a mut Index,
    epoch: Epoch,
    changes: Changes,
    delayed: Vec<(MessageId, ShardId)>,
    received: Vec<(Key, Refusable)>,
    highest_id: Option<MessageId>,
    highest_queue: Option<QueueId>,
}

/// What one commit writes. It can be written again if the first attempt is undone.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) changes: Changes,
    pub(super) rows: BTreeMap<(Table, Key), Change>,
    pub(super) delayed: Vec<(MessageId, ShardId)>,
    /// Identifiers of packets, each with what it published.
    received: Vec<(Key, Refusable)>,
    pub(super) highest_id: Option<MessageId>,
    pub(super) highest_queue: Option<QueueId>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(index: &'a mut Index, epoch: Epoch) -> Self {
        Self {
            index,
            epoch,
            changes: Changes::default(),
            delayed: Vec::new(),
            received: Vec::new(),
            highest_id: None,
            highest_queue: None,
        }
    }

    /// Replays one operation.
    pub(super) fn add(&mut self, operation: Operation, shard: ShardId) -> Result<(), StoreError> {
        match operation {
            Operation::Nothing => {}
            Operation::PutMessage {
                id,
                message,
                mut receivers,
                refusal,
            } => {
                self.note_id(id);
                receivers
                    .as_mut_slice()
                    .sort_by_key(|receiver| receiver.queue);
                if self.index.add_message(id, &mut receivers)? {
                    let new = NewMessage {
                        message,
                        receivers,
                        shard,
                        refusal,
                    };
                    self.changes.put_message(id, new);
                }
            }
            Operation::Settle { queue, ids } => {
                for id in ids.as_slice() {
                    self.index.settle(queue, *id, &mut self.changes);
                }
            }
            Operation::Move { id, from, to } => {
                self.index.move_message(id, from, &to, &mut self.changes);
            }
            Operation::Purge { queue } => self.index.purge(queue, &mut self.changes),
            Operation::SetRetained { message, refusal } => {
                self.changes.set_retained(message, shard, refusal);
            }
            Operation::ClearRetained { topic } => self.clear_retained(topic),
            Operation::SweepRetained { now_ms } => {
                self.changes.sweep_unix_ms = Some(self.epoch.to_unix_ms(now_ms));
            }
            Operation::PutDelayed {
                id,
                due_at_ms,
                message,
            } => {
                self.note_id(id);
                self.delayed.push((id, shard));
                let due_unix_ms = self.epoch.to_unix_ms(due_at_ms);
                let row = encode_lone_message(&message, due_unix_ms, self.epoch);
                self.changes.put(Table::Delayed, message_key(id), row);
            }
            Operation::RemoveDelayed { id } => {
                self.changes.remove(Table::Delayed, message_key(id));
            }
            other => self.add_of_queue(other),
        }
        Ok(())
    }

    /// Counts down messages of queues that ended.
    pub(super) fn release_ended(&mut self, count_max: usize) {
        self.index.release_ended(count_max, &mut self.changes);
    }

    pub(super) fn finish(mut self) -> Prepared {
        let rows = self.changes.take_rows();
        self.changes.removed_messages.sort_unstable();
        Prepared {
            changes: self.changes,
            rows,
            delayed: self.delayed,
            received: self.received,
            highest_id: self.highest_id,
            highest_queue: self.highest_queue,
        }
    }

    /// Rows that belong to a queue: none is written once the queue has ended.
    fn add_of_queue(&mut self, operation: Operation) {
        let changes = &mut self.changes;
        match operation {
            Operation::PutSession { queue, session } => {
                self.index.add_queue(queue);
                let row = encode_session(&session, self.epoch);
                changes.put(Table::Sessions, queue_key(queue), row);
                self.note_queue(queue);
            }
            Operation::PutNamedQueue { queue, name } => {
                self.index.add_queue(queue);
                changes.put(
                    Table::NamedQueues,
                    queue_key(queue),
                    name.as_bytes().to_vec(),
                );
                self.note_queue(queue);
            }
            Operation::RemoveSession { queue } | Operation::RemoveNamedQueue { queue } => {
                self.index.remove_queue(queue, changes);
            }
            Operation::PutSubscription {
                queue,
                filter,
                subscription,
            } if self.index.has_queue(queue) => {
                let row = encode_subscription(&filter, subscription);
                changes.put(Table::Subscriptions, queue_text_key(queue, &filter), row);
            }
            Operation::RemoveSubscription { queue, filter } => {
                changes.remove(Table::Subscriptions, queue_text_key(queue, &filter));
            }
            Operation::PutInFlight {
                queue,
                packet_id,
                in_flight,
            } if self.index.has_queue(queue) => {
                let key = queue_packet_key(queue, packet_id);
                changes.put(Table::InFlight, key, encode_in_flight(in_flight));
                self.note_id(in_flight.order);
            }
            Operation::RemoveInFlight { queue, packet_id } => {
                changes.remove(Table::InFlight, queue_packet_key(queue, packet_id));
            }
            Operation::PutReceived {
                queue,
                packet_id,
                with,
            } if self.index.has_queue(queue) => {
                self.put_received(queue_packet_key(queue, packet_id), with);
            }
            Operation::RemoveReceived { queue, packet_id } => {
                changes.remove(Table::Received, queue_packet_key(queue, packet_id));
            }
            Operation::PutBookmark { queue, name, next } if self.index.has_queue(queue) => {
                let row = encode_bookmark(&name, next);
                changes.put(Table::Bookmarks, queue_text_key(queue, &name), row);
            }
            Operation::PutWill { queue, will } if self.index.has_queue(queue) => {
                let row = encode_will(&will, self.epoch);
                changes.put(Table::Wills, queue_key(queue), row);
            }
            Operation::RemoveWill { queue } => changes.remove(Table::Wills, queue_key(queue)),
            // For a queue that has ended.
            _ => {}
        }
    }

    fn clear_retained(&mut self, topic: Box<str>) {
        if self.changes.sets_retained(&topic) {
            // What was set before has had its time: it is refused no more.
            for (_, with) in &mut self.received {
                with.retained.take_if(|it| it.topic() == &*topic);
            }
        }
        self.changes.retained.insert(topic, None);
    }

    fn put_received(&mut self, key: Key, with: Refusable) {
        if with.is_something() {
            self.received.push((key.clone(), with));
        }
        self.changes.put(Table::Received, key, Vec::new());
    }

    fn note_id(&mut self, id: MessageId) {
        self.highest_id = self.highest_id.max(Some(id));
    }

    fn note_queue(&mut self, queue: QueueId) {
        self.highest_queue = self.highest_queue.max(Some(queue));
    }
}

impl Prepared {
    /// The rows of messages that nobody waits for any more go, and nothing else.
    pub(super) fn of_removed(messages: &[MessageId]) -> Self {
        let mut prepared = Self::default();
        prepared.changes.removed_messages = messages.to_vec();
        prepared
    }

    /// Takes out the identifiers of packets that published what is refused.
    pub(super) fn forget_received(&mut self, refused: &RefusedSet<'_>) {
        let received = std::mem::take(&mut self.received);
        let (refused, others) = received
            .into_iter()
            .partition(|it| refused.has_any_of(&it.1));
        self.received = others;
        for (key, _) in refused {
            // One of an earlier exchange may be on disk.
            self.rows.insert((Table::Received, key), None);
        }
    }

    /// Those of packets that published retained messages of these topics.
    pub(super) fn received_with(&self, topics: &[Box<str>]) -> impl Iterator<Item = &Key> {
        let refused = RefusedSet::of_retained(topics);
        // Nearly always nothing is refused, and nothing has to be looked up.
        let received = match topics {
            [] => &[][..],
            _ => &self.received,
        };
        let refused = received.iter().filter(move |it| refused.has_any_of(&it.1));
        refused.map(|it| &it.0)
    }

    /// Whether it holds messages to be refused at this time.
    pub(super) fn has(&self, refusal: Refusal) -> bool {
        let changes = &self.changes;
        let mut retained = changes.retained.values().flatten();
        changes.messages.values().any(|it| it.refusal == refusal)
            || retained.any(|it| it.refusal == refusal)
            || refusal == Refusal::First && !self.delayed.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.changes.messages.is_empty()
            && self.changes.removed_messages.is_empty()
            && self.changes.removed_queues.is_empty()
            && self.changes.retained.is_empty()
            && self.changes.sweep_unix_ms.is_none()
    }
}
