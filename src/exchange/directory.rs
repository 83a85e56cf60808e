//! Who owns what is shared or exclusive: share groups and exclusive topics.

use hashbrown::HashMap;

use super::{GroupId, ReceiverId, ShardId};
use crate::store::QueueId;

/// The share groups with members.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<Box<str>, Group>,
    last_id: u64,
}

/// One group on one filter: a queue at its home shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) shard: ShardId,
    /// Its queue in the store, once a member outlives the process.
    pub(super) store: Option<QueueId>,
    members: usize,
}

/// What a join has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// One more member.
    Member,
    /// The group has a queue in the store from now on.
    Stored,
    /// The group was made.
    First,
}

impl Groups {
    /// Counts a member; one that outlives the process brings a queue.
    pub(super) fn join(
        &mut self,
        key: &str,
        home: ShardId,
        store: Option<QueueId>,
    ) -> (Group, Joined) {
        if let Some(group) = self.groups.get_mut(key) {
            let is_first = group.members == 0;
            group.members += 1;
            let becomes_stored = group.store.is_none() && store.is_some();
            group.store = group.store.or(store);
            let joined = match (is_first, becomes_stored) {
                (true, _) => Joined::First,
                (false, true) => Joined::Stored,
                (false, false) => Joined::Member,
            };
            return (*group, joined);
        }
        self.last_id += 1;
        let group = Group {
            id: GroupId(self.last_id),
            shard: home,
            store,
            members: 1,
        };
        self.groups.insert(key.into(), group);
        (group, Joined::First)
    }

    /// A group of an earlier process, whose members are still to join.
    pub(super) fn restore(&mut self, key: &str, home: ShardId, store: QueueId) -> Group {
        self.last_id += 1;
        let group = Group {
            id: GroupId(self.last_id),
            shard: home,
            store: Some(store),
            members: 0,
        };
        self.groups.insert(key.into(), group);
        group
    }

    /// Removes a restored group that nobody has joined.
    pub(super) fn remove_empty(&mut self, key: &str) -> bool {
        let is_empty = self.groups.get(key).is_some_and(|group| group.members == 0);
        if is_empty {
            self.groups.remove(key);
        }
        is_empty
    }

    /// Counts a member less; the group, if that was its last.
    pub(super) fn leave(&mut self, key: &str) -> Option<Group> {
        let group = self.groups.get_mut(key)?;
        group.members -= 1;
        if group.members > 0 {
            return None;
        }
        self.groups.remove(key)
    }
}

/// The topics that one session has to itself.
#[derive(Debug, Default)]
pub(super) struct ExclusiveTopics {
    owners: HashMap<Box<str>, ReceiverId>,
}

impl ExclusiveTopics {
    /// True if the topic is now, or was already, the owner's.
    pub(super) fn claim(&mut self, topic: &str, owner: ReceiverId) -> bool {
        *self.owners.entry_ref(topic).or_insert(owner) == owner
    }

    /// Frees the topic if it is the owner's.
    pub(super) fn release(&mut self, topic: &str, owner: ReceiverId) {
        if self.owners.get(topic) == Some(&owner) {
            self.owners.remove(topic);
        }
    }
}
