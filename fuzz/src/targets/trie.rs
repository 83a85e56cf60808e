//! The routing table against a list of bindings and the protocol's naive matcher.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;

use tidewire::store::QueueId;
use tidewire_protocol::codec::{ProtocolVersion, QoS};
use tidewire_protocol::topic::{Topic, TopicFilter, matches};

use super::{Input, VERSIONS};
use crate::exchange::{
    Binding, Destination, Exchange, GroupId, ReceiverId, RouteCache, Routes, ShardId,
};

/// Each operation is one byte, followed by its arguments.
pub fn run(data: &[u8]) {
    let mut input = Input::operations(data);
    let mut both = Both::new();
    while both.step(&mut input).is_some() {}
    both.tear_down();
}

/// The exchange beside its model.
struct Both {
    exchange: Exchange,
    cache: RouteCache,
    /// A binding for each filter and destination.
    bindings: BTreeMap<(String, Destination), Binding>,
    /// Members and destination of each group on each filter.
    groups: BTreeMap<(&'static str, String), (usize, Destination)>,
    group_ids: HashSet<GroupId>,
}

const LEVELS: [&str; 12] = [
    "a", "b", "c", "", "+", "+", "#", "$S", "é", "ab", "+a", "a#",
];
const GROUPS: [&str; 3] = ["g", "h", "gh"];
const LEVELS_MAX: usize = 6;
const SHARDS: u16 = 3;

impl Both {
    fn new() -> Self {
        Self {
            exchange: Exchange::new(),
            cache: RouteCache::new(8),
            bindings: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_ids: HashSet::new(),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        match input.u8()? % 12 {
            0..4 => self.bind(input)?,
            4 => self.unbind_any(input)?,
            5..7 => self.unbind_bound(input)?,
            7 => self.join(input)?,
            8 => self.leave(input)?,
            _ => self.route(&input.text(&LEVELS, LEVELS_MAX)?),
        }
        Some(())
    }

    fn bind(&mut self, input: &mut Input<'_>) -> Option<()> {
        let text = input.text(&LEVELS, LEVELS_MAX)?;
        let Some(filter) = parse(&text) else {
            return Some(());
        };
        let binding = binding(input)?;
        let is_new = self.exchange.bind(filter, binding);
        let key = (text, binding.destination);
        assert_eq!(self.bindings.insert(key, binding).is_none(), is_new);
        Some(())
    }

    fn unbind_any(&mut self, input: &mut Input<'_>) -> Option<()> {
        let text = input.text(&LEVELS, LEVELS_MAX)?;
        let destination = session(input.u8()?).0;
        if let Some(filter) = parse(&text) {
            let existed = self.exchange.unbind(filter, destination);
            let removed = self.bindings.remove(&(text, destination));
            assert_eq!(removed.is_some(), existed);
        }
        Some(())
    }

    fn unbind_bound(&mut self, input: &mut Input<'_>) -> Option<()> {
        let at = usize::from(input.u8()?);
        let sessions = self.bindings.keys().filter(|(_, it)| is_session(it));
        let count = sessions.clone().count();
        if let Some((text, destination)) = sessions.cycle().nth(at % count.max(1)).cloned() {
            self.unbind(&text, destination);
        }
        Some(())
    }

    fn unbind(&mut self, text: &str, destination: Destination) {
        let filter = parse(text).expect("it was bound");
        assert!(self.exchange.unbind(filter, destination));
        assert!(!self.exchange.unbind(filter, destination));
        self.bindings.remove(&(text.to_owned(), destination));
    }

    fn join(&mut self, input: &mut Input<'_>) -> Option<()> {
        let group = *input.pick(&GROUPS)?;
        let text = input.text(&LEVELS, LEVELS_MAX)?;
        let Some(filter) = parse(&text) else {
            return Some(());
        };
        let joined = self
            .exchange
            .join_group(group, filter, SHARDS, Some(group_queue()));
        let (id, shard) = (joined.group, joined.home);
        assert!(shard.0 < SHARDS);
        let destination = Destination::Group { shard, group: id };
        let known = self
            .groups
            .entry((group, text.clone()))
            .or_insert((0, destination));
        known.0 += 1;
        assert_eq!(known.1, destination);
        if known.0 == 1 {
            assert!(self.group_ids.insert(id), "the identifier was used before");
            let binding = group_binding(destination);
            self.bindings.insert((text, destination), binding);
        }
        Some(())
    }

    fn leave(&mut self, input: &mut Input<'_>) -> Option<()> {
        let group = *input.pick(&GROUPS)?;
        let text = input.text(&LEVELS, LEVELS_MAX)?;
        if parse(&text).is_some() {
            self.leave_group(group, &text);
        }
        Some(())
    }

    fn leave_group(&mut self, group: &'static str, text: &str) {
        let filter = parse(text).expect("a valid filter");
        let has_ended = self.exchange.leave_group(group, filter).is_some();
        let key = (group, text.to_owned());
        let Some((members, destination)) = self.groups.get_mut(&key) else {
            assert!(!has_ended);
            return;
        };
        *members -= 1;
        assert_eq!(has_ended, *members == 0);
        if has_ended {
            self.bindings.remove(&(text.to_owned(), *destination));
            self.groups.remove(&key);
        }
    }

    fn route(&mut self, text: &str) {
        if Topic::parse(text, LEVELS_MAX).is_err() {
            return;
        }
        let cached = self.exchange.route(text, &mut self.cache);
        assert!(self.exchange.is_current(&cached));
        self.compare_routes(text, &cached);
        let fresh = self.exchange.route(text, &mut RouteCache::new(1));
        self.compare_routes(text, &fresh);
    }

    fn compare_routes(&self, topic: &str, routes: &Routes) {
        let mut expected: BTreeMap<Destination, Vec<&Binding>> = BTreeMap::new();
        for ((filter, destination), binding) in &self.bindings {
            if matches(filter, topic) {
                expected.entry(*destination).or_default().push(binding);
            }
        }
        assert_eq!(routes.len(), expected.len(), "receivers of {topic:?}");
        assert_eq!(routes.is_empty(), expected.is_empty());
        for (destination, bindings) in expected {
            let targets = routes.for_shard(destination.shard());
            let mut found = targets.iter().filter(|it| it.destination == destination);
            let target = found.next().expect("a target for what is bound");
            assert!(found.next().is_none(), "two targets for one queue");
            let to_self = || bindings.iter().filter(|it| !it.no_local);
            assert_eq!(Some(target.qos), bindings.iter().map(|it| it.qos).max());
            assert_eq!(target.qos_to_self, to_self().map(|it| it.qos).max());
            let retain = bindings.iter().any(|it| it.retain_as_published);
            assert_eq!(target.retain_as_published, retain);
            let ids = sorted_ids(bindings.iter().copied());
            assert_eq!(target.subscription_ids.as_deref().unwrap_or(&[]), ids);
            assert_eq!(target.is_plain, is_session(&destination) && ids.is_empty());
            let ids = sorted_ids(to_self().copied());
            let actual = target.subscription_ids_to_self.as_deref();
            assert_eq!(actual.unwrap_or(&[]), ids);
        }
    }

    fn compare_counts(&self) {
        assert_eq!(self.exchange.binding_count(), self.bindings.len());
        let filters: HashSet<_> = self.bindings.keys().map(|(filter, _)| filter).collect();
        assert_eq!(self.exchange.filter_count(), filters.len());
    }

    /// Every topic once more, then nothing is left of what is taken away.
    fn tear_down(&mut self) {
        self.compare_counts();
        for topic in ["a", "a/b", "/", "$S/a", "é/ab/c", "a/b/c/a"] {
            self.route(topic);
        }
        while let Some((group, text)) = self.groups.keys().next().cloned() {
            self.leave_group(group, &text);
        }
        while let Some((text, destination)) = self.bindings.keys().next().cloned() {
            self.unbind(&text, destination);
        }
        self.compare_counts();
        self.route("a/b");
    }
}

fn parse(text: &str) -> Option<TopicFilter<'_>> {
    let parsed = TopicFilter::parse(text, LEVELS_MAX).ok();
    let levels: Vec<_> = text.split('/').collect();
    let is_valid = levels.iter().enumerate().all(|(at, level)| match *level {
        "#" => at + 1 == levels.len(),
        "+" => true,
        level => !level.contains(['+', '#']),
    });
    assert_eq!(parsed.is_some(), is_valid && !text.is_empty(), "{text:?}");
    parsed
}

/// One of the sessions there are, and the protocol it always speaks.
fn session(number: u8) -> (Destination, ProtocolVersion) {
    let slot = u32::from(number % 8);
    let receiver = ReceiverId {
        shard: ShardId(u16::from(number % 8) % SHARDS),
        slot,
        generation: 0,
    };
    let version = VERSIONS[usize::from(number % 8) % VERSIONS.len()];
    (Destination::Session(receiver), version)
}

fn is_session(destination: &Destination) -> bool {
    matches!(destination, Destination::Session(_))
}

fn binding(input: &mut Input<'_>) -> Option<Binding> {
    let (destination, version) = session(input.u8()?);
    let options = input.u8()?;
    Some(Binding {
        destination,
        qos: QoS::from_bits(options & 3).unwrap_or_default(),
        no_local: options & 4 != 0,
        retain_as_published: options & 8 != 0,
        subscription_id: NonZeroU32::new(u32::from(options >> 4)),
        version,
        store: None,
        is_checked: false,
    })
}

/// Groups are durable, so that leaving tells when they have ended.
fn group_queue() -> QueueId {
    QueueId::of(1)
}

/// A group is bound with the widest options.
fn group_binding(destination: Destination) -> Binding {
    Binding {
        destination,
        qos: QoS::ExactlyOnce,
        no_local: false,
        retain_as_published: true,
        subscription_id: None,
        version: ProtocolVersion::V5,
        store: Some(group_queue()),
        is_checked: false,
    }
}

fn sorted_ids<'a>(bindings: impl Iterator<Item = &'a Binding>) -> Vec<NonZeroU32> {
    let mut ids: Vec<_> = bindings.filter_map(|it| it.subscription_id).collect();
    ids.sort_unstable();
    ids
}
