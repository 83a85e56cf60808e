//! The exchange: lock-sharded filters, epochs and directories.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::{Mutex, RwLock};
use tidewire_protocol::codec::{ProtocolVersion, QoS};
use tidewire_protocol::topic::TopicFilter;

use super::directory::{ExclusiveTopics, Group, Groups, Joined};
use super::exact::ExactFilters;
use super::routes::Epoch;
use super::trie::FilterTrie;
use super::{Binding, Destination, GroupId, ReceiverId, RouteCache, Routes, ShardId};
use crate::auth::acl::{Action, Rights};
use crate::store::QueueId;

/// The routing table of the broker, shared by all shards.
///
/// # Shape
/// Exact filters are spread over parts by their text, wildcard filters by their first two levels,
/// except that those with a wildcard there share one part: a topic looks at three parts.
#[derive(Debug)]
pub struct Exchange {
    exact: Box<[Part<ExactFilters>]>,
    /// The last part is for filters with a wildcard in their first two levels.
    wildcard: Box<[Part<FilterTrie>]>,
    bindings: AtomicUsize,
    groups: Mutex<Groups>,
    exclusive: Mutex<ExclusiveTopics>,
    /// Of those who have checked bindings.
    rights: RwLock<HashMap<ReceiverId, Arc<Rights>>>,
    hasher: DefaultHashBuilder,
}

/// Filters behind one lock; the epoch advances with each change, under the lock.
#[derive(Debug, Default)]
struct Part<T> {
    epoch: AtomicU64,
    filters: RwLock<T>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

impl Exchange {
    /// An exchange without bindings.
    pub fn new() -> Self {
        Self {
            exact: (0..PARTS).map(|_| Part::default()).collect(),
            wildcard: (0..=PARTS).map(|_| Part::default()).collect(),
            bindings: AtomicUsize::new(0),
            groups: Mutex::default(),
            exclusive: Mutex::default(),
            rights: RwLock::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Binds a destination to a filter, or replaces the options; true if it was not bound.
    ///
    /// Once it returns, no routes from before are current.
    pub fn bind(&self, filter: TopicFilter<'_>, binding: Binding) -> bool {
        let text = filter.as_str();
        let is_new = if filter.has_wildcard() {
            self.wildcard[self.filter_part(text)].change(|trie| trie.bind(text, binding))
        } else {
            self.exact[self.part(text)].change(|exact| exact.bind(text, binding))
        };
        if is_new {
            self.bindings.fetch_add(1, Ordering::Relaxed);
        }
        is_new
    }

    /// Removes a destination from a filter; true if it was bound.
    pub fn unbind(&self, filter: TopicFilter<'_>, destination: Destination) -> bool {
        let text = filter.as_str();
        let existed = if filter.has_wildcard() {
            self.wildcard[self.filter_part(text)].change(|trie| trie.unbind(text, destination))
        } else {
            self.exact[self.part(text)].change(|exact| exact.unbind(text, destination))
        };
        if existed {
            self.bindings.fetch_sub(1, Ordering::Relaxed);
        }
        existed
    }

    /// The number of different filters.
    pub fn filter_count(&self) -> usize {
        let exact = self.exact.iter().map(|part| part.filters.read().len());
        let wildcard = self.wildcard.iter().map(|part| part.filters.read().len());
        exact.chain(wildcard).sum()
    }

    /// The number of bindings: filters times their destinations.
    pub fn binding_count(&self) -> usize {
        self.bindings.load(Ordering::Relaxed)
    }

    /// Everything that receives messages of a valid topic, from the cache if still current.
    pub fn route(&self, topic: &str, cache: &mut RouteCache) -> Arc<Routes> {
        if let Some(routes) = cache.find(topic)
            && self.is_current(routes)
        {
            return Arc::clone(routes);
        }
        let routes = Arc::new(self.look_up(topic));
        cache.insert(topic, &routes);
        routes
    }

    /// Whether nothing that could concern these routes changed since they were looked up.
    pub fn is_current(&self, routes: &Routes) -> bool {
        let [exact, narrow, wide] = &routes.epochs;
        self.exact[exact.part as usize].is_at(exact)
            && self.wildcard[narrow.part as usize].is_at(narrow)
            && self.wildcard[wide.part as usize].is_at(wide)
    }

    /// Counts a member of a share group; one that outlives the process offers a queue in the store.
    ///
    /// The first member creates the group at its home shard, one of `shards` by group and filter,
    /// and binds its queue with the widest options; the members' own apply when it is emptied.
    pub fn join_group(
        &self,
        group: &str,
        filter: TopicFilter<'_>,
        shards: u16,
        store: Option<QueueId>,
    ) -> GroupJoin {
        let name = group_key(group, filter);
        let home = self.home_of(&name, shards);
        // Held while binding, so that a leave cannot unbind before the join has bound.
        let mut groups = self.groups.lock();
        let (joined, change) = groups.join(&name, home, store);
        if change != Joined::Member {
            self.bind(filter, group_binding(&joined));
        }
        GroupJoin {
            group: joined.id,
            home: joined.shard,
            new_store: joined
                .store
                .filter(|queue| change != Joined::Member && store == Some(*queue))
                .map(|queue| (queue, name.into())),
        }
    }

    /// A group of an earlier process; its members join later.
    pub fn restore_group(&self, name: &str, shards: u16, store: QueueId) -> (GroupId, ShardId) {
        let home = self.home_of(name, shards);
        let group = self.groups.lock().restore(name, home, store);
        (group.id, group.shard)
    }

    /// Ends a restored group that nobody has joined; false if somebody has.
    pub fn end_empty_group(&self, name: &str) -> bool {
        self.groups.lock().remove_empty(name)
    }

    /// Counts a member less; the queue in the store of a group that has ended by that.
    pub fn leave_group(&self, group: &str, filter: TopicFilter<'_>) -> Option<QueueId> {
        let mut groups = self.groups.lock();
        let left = groups.leave(&group_key(group, filter))?;
        self.unbind(
            filter,
            Destination::Group {
                shard: left.shard,
                group: left.id,
            },
        );
        left.store
    }

    fn home_of(&self, name: &str, shards: u16) -> ShardId {
        let home = self.hasher.hash_one(name) % u64::from(shards.max(1));
        ShardId(u16::try_from(home).unwrap_or_default())
    }

    /// Claims an exclusive topic; true if it is now, or was already, the owner's.
    pub fn claim_exclusive(&self, topic: &str, owner: ReceiverId) -> bool {
        self.exclusive.lock().claim(topic, owner)
    }

    /// Gives an exclusive topic up; nothing happens if it is someone else's.
    pub fn release_exclusive(&self, topic: &str, owner: ReceiverId) {
        self.exclusive.lock().release(topic, owner);
    }

    /// What is asked for the checked bindings of a session. To be followed by binding them: routes
    /// from before stay current until then.
    pub fn set_rights(&self, receiver: ReceiverId, rights: &Arc<Rights>) {
        self.rights.write().insert(receiver, Arc::clone(rights));
    }

    /// The session has no checked binding any more.
    pub fn forget_rights(&self, receiver: ReceiverId) {
        self.rights.write().remove(&receiver);
    }

    /// Takes out those that may not receive the topic.
    fn check(&self, topic: &str, bindings: &mut Vec<Binding>) {
        if bindings.iter().all(|binding| !binding.is_checked) {
            return;
        }
        let rights = self.rights.read();
        bindings.retain(|binding| match binding.destination {
            Destination::Session(receiver) if binding.is_checked => rights
                .get(&receiver)
                .is_some_and(|rights| rights.allows(Action::Receive, topic)),
            Destination::Session(_) | Destination::Group { .. } | Destination::Bridge { .. } => {
                true
            }
        });
    }

    fn look_up(&self, topic: &str) -> Routes {
        let mut found = Vec::new();
        let part = self.part(topic);
        let exact = self.exact[part].read(part, |exact| exact.collect(topic, &mut found));
        let part = self.part(first_two_levels(topic));
        let narrow = self.wildcard[part].read(part, |trie| trie.collect(topic, &mut found));
        let wide = self.wildcard[PARTS].read(PARTS, |trie| trie.collect(topic, &mut found));
        self.check(topic, &mut found);
        Routes::new(topic, found, [exact, narrow, wide])
    }

    /// The part of a wildcard filter.
    fn filter_part(&self, filter: &str) -> usize {
        let start = first_two_levels(filter);
        if start.contains(['+', '#']) {
            PARTS
        } else {
            self.part(start)
        }
    }

    fn part(&self, text: &str) -> usize {
        // The high bits: the remainder of a power of two would use those of the inner maps.
        (self.hasher.hash_one(text) >> (u64::BITS - PARTS_BITS)) as usize
    }
}

impl<T> Part<T> {
    /// Changes the filters and advances the epoch, also when only options were replaced.
    fn change(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let mut filters = self.filters.write();
        let result = change(&mut filters);
        self.epoch.fetch_add(1, Ordering::Release);
        result
    }

    fn read(&self, part: usize, read: impl FnOnce(&T)) -> Epoch {
        let filters = self.filters.read();
        read(&filters);
        let value = self.epoch.load(Ordering::Acquire);
        Epoch {
            part: u32::try_from(part).unwrap_or_default(),
            value,
        }
    }

    fn is_at(&self, epoch: &Epoch) -> bool {
        self.epoch.load(Ordering::Acquire) == epoch.value
    }
}

/// What joining a share group came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupJoin {
    /// The group.
    pub group: GroupId,
    /// Where it lives.
    pub home: ShardId,
    /// The queue in the store that the group has got by this, and its name.
    pub new_store: Option<(QueueId, Box<str>)>,
}

fn group_binding(group: &Group) -> Binding {
    Binding {
        destination: Destination::Group {
            shard: group.shard,
            group: group.id,
        },
        qos: QoS::ExactlyOnce,
        no_local: false,
        retain_as_published: true,
        subscription_id: None,
        version: ProtocolVersion::V5,
        // Its members may have different rights: the group asks them.
        is_checked: false,
        store: group.store,
    }
}

/// Group names hold no `/`, so the first one ends the name.
fn group_key(group: &str, filter: TopicFilter<'_>) -> String {
    format!("{group}/{}", filter.as_str())
}

fn first_two_levels(text: &str) -> &str {
    let mut slashes = text.match_indices('/');
    slashes.nth(1).map_or(text, |(second, _)| &text[..second])
}

const PARTS_BITS: u32 = 6;
const PARTS: usize = 1 << PARTS_BITS;
