//! The backlog of sessions and share groups comes back from the store, some at a time.

use super::durable::Asker;
use super::{Key, Shard};
use crate::exchange::{GroupId, ShardId};
use crate::queue::{Delivery, Stored};
use crate::store::{Load, Loaded, MessageId, Ticket};

impl Shard {
    /// Asks for the next waiting messages of a session.
    pub(super) fn load_waiting(&mut self, key: Key) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        let to_load = session.queue.to_load(self.durable.committed_ticket());
        let (Some(queue), Some((ids, fence))) = (session.store, to_load) else {
            return;
        };
        let count = ids.len();
        let load = Load::Messages { queue, ids };
        if self.durable.ask(Asker::Queue(key), fence, load).is_some() {
            session.queue.begin_load(count);
        }
    }

    pub(super) fn queue_loaded(&mut self, key: Key, messages: Vec<Loaded>, now_ms: u64) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        let deliveries = messages.into_iter().map(|it| loaded_delivery(it, None));
        session.queue.end_load(deliveries.collect());
        self.send_waiting(key, now_ms);
        self.watch_expiry(key, now_ms);
    }

    /// Asks for the next waiting messages of a share group.
    pub(super) fn load_for_group(&mut self, id: GroupId, ids: Vec<MessageId>, fence: Ticket) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let Some(queue) = group.waiting.store() else {
            return;
        };
        let count = ids.len();
        let load = Load::Messages { queue, ids };
        if self.durable.ask(Asker::Group(id), fence, load).is_some() {
            group.waiting.begin_load(count);
        }
    }

    pub(super) fn group_loaded(&mut self, id: GroupId, messages: Vec<Loaded>, now_ms: u64) {
        let lender = (id, self.id);
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let deliveries = messages
            .into_iter()
            .map(|it| loaded_delivery(it, Some(lender)));
        group.waiting.end_load(deliveries.collect());
        self.purge_group(id);
        self.lend(id, now_ms);
        self.watch_expiry_of_group(id, now_ms);
    }
}

pub(super) fn loaded_delivery(loaded: Loaded, group: Option<(GroupId, ShardId)>) -> Delivery {
    let Loaded {
        id,
        message,
        receiver,
    } = loaded;
    Delivery {
        message,
        qos: receiver.qos,
        retain: receiver.retain,
        subscription_ids: receiver.subscription_ids,
        group,
        stored: Some(Stored {
            queue: receiver.queue,
            id,
            order: id,
        }),
    }
}
