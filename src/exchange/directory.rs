//! Who owns what is shared or exclusive: share groups and exclusive topics.

use hashbrown::HashMap;

use super::{GroupId, ReceiverId, ShardId};

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
    members: usize,
}

impl Groups {
    /// Counts a member; the flag says whether it is the first, so that the group was made.
    pub(super) fn join(&mut self, key: &str, home: ShardId) -> (Group, bool) {
        if let Some(group) = self.groups.get_mut(key) {
            group.members += 1;
            return (*group, false);
        }
        self.last_id += 1;
        let group = Group {
            id: GroupId(self.last_id),
            shard: home,
            members: 1,
        };
        self.groups.insert(key.into(), group);
        (group, true)
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
