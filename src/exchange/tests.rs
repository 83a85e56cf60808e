use std::num::NonZeroU32;
use std::sync::Arc;

use proptest::prelude::*;
use tidewire_protocol::codec::{ProtocolVersion, QoS};
use tidewire_protocol::topic::{TopicFilter, matches};

use super::set::BindingSet;
use super::trie::FilterTrie;
use super::*;
use crate::config::ConnectionsBy;
use crate::message::ClientNumber;
use crate::store::QueueId;

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::parse(text, 128).expect("a valid filter")
}

fn receiver(shard: u16, slot: u32) -> ReceiverId {
    ReceiverId {
        shard: ShardId(shard),
        slot,
        generation: 0,
    }
}

fn session(shard: u16, slot: u32) -> Destination {
    Destination::Session(receiver(shard, slot))
}

fn binding(destination: Destination) -> Binding {
    Binding {
        destination,
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        subscription_id: None,
        version: ProtocolVersion::V5,
        is_checked: false,
        store: None,
    }
}

fn destinations(exchange: &Exchange, topic: &str) -> Vec<Destination> {
    let routes = exchange.route(topic, &mut RouteCache::new(4));
    let all = routes
        .shards()
        .iter()
        .flat_map(|on_shard| on_shard.targets.iter());
    all.map(|target| target.destination).collect()
}

#[test]
fn bindings_are_small() {
    assert!(size_of::<Option<BindingSet>>() <= 40);
    assert!(size_of::<(Box<str>, BindingSet)>() <= 56);
}

#[test]
fn parts_divide_clients_or_topics_and_each_has_one_part() {
    let exchange = Exchange::new();
    let part = |shard, bridge, by| Destination::Bridge {
        shard: ShardId(shard),
        bridge: BridgeId(bridge),
        part: Part {
            index: bridge % 3,
            of: 3,
            by,
        },
    };
    for (shard, index) in [(0, 0), (1, 1), (1, 2)] {
        let by_client = part(shard, index, ConnectionsBy::Client);
        exchange.bind(filter("a/#"), binding(by_client));
        let by_topic = part(shard, index + 3, ConnectionsBy::Topic);
        exchange.bind(filter("b/#"), binding(by_topic));
    }
    exchange.bind(filter("a/2"), binding(session(1, 7)));
    let routes = |topic| exchange.route(topic, &mut RouteCache::new(4));
    for client in (0..7).map(ClientNumber) {
        let of_client = |topic| {
            let routes = routes(topic);
            let shards = routes.shards().iter().filter(|it| it.takes(client));
            let targets = shards.flat_map(|it| it.targets.iter().filter(|it| it.takes(client)));
            targets.map(|it| it.destination).collect::<Vec<_>>()
        };
        let index = client.0 % 3;
        let own = part(index.min(1), index, ConnectionsBy::Client);
        assert_eq!(of_client("a/1"), [own]);
        let mut both = vec![own, session(1, 7)];
        both.sort_by_key(|it| (it.shard(), *it));
        assert_eq!(of_client("a/2"), both);
        assert_eq!(of_client("b/1").len(), 1);
        assert_eq!(of_client("b/1"), destinations(&exchange, "b/1"));
    }
}

#[test]
fn dollar_topics_match_no_leading_wildcard() {
    let exchange = Exchange::new();
    for (slot, text) in (0..).zip(["#", "+", "+/a", "+/#", "$SYS/#", "$SYS/+", "$SYS"]) {
        exchange.bind(filter(text), binding(session(0, slot)));
    }
    assert_eq!(
        destinations(&exchange, "$SYS"),
        [session(0, 4), session(0, 6)]
    );
    assert_eq!(
        destinations(&exchange, "$SYS/a"),
        [session(0, 4), session(0, 5)]
    );
    let first_four = [0, 2, 3].map(|slot| session(0, slot));
    assert_eq!(destinations(&exchange, "x/a"), first_four);
}

#[test]
fn overlapping_subscriptions_merge_into_one_target() {
    let exchange = Exchange::new();
    let id = NonZeroU32::new;
    let base = binding(session(1, 1));
    let own = Binding {
        qos: QoS::ExactlyOnce,
        no_local: true,
        subscription_id: id(9),
        ..base
    };
    exchange.bind(filter("a/#"), own);
    let other = Binding {
        qos: QoS::AtLeastOnce,
        retain_as_published: true,
        ..base
    };
    exchange.bind(
        filter("a/b"),
        Binding {
            subscription_id: id(5),
            ..other
        },
    );
    exchange.bind(filter("a/+"), binding(session(0, 2)));

    let routes = exchange.route("a/b", &mut RouteCache::new(4));
    let [target] = routes.for_shard(ShardId(1)) else {
        unreachable!("one target: {routes:?}");
    };
    assert_eq!(
        (target.qos, target.qos_to_self),
        (QoS::ExactlyOnce, Some(QoS::AtLeastOnce))
    );
    assert!(target.retain_as_published && !target.is_plain);
    let numbers = |ids: &Option<Arc<[NonZeroU32]>>| -> Vec<u32> {
        ids.iter()
            .flat_map(|ids| ids.iter().map(|id| id.get()))
            .collect()
    };
    assert_eq!(numbers(&target.subscription_ids), [5, 9]);
    assert_eq!(numbers(&target.subscription_ids_to_self), [5]);
    assert!(routes.for_shard(ShardId(0))[0].is_plain);
    assert!(routes.for_shard(ShardId(2)).is_empty());

    let routes = exchange.route("a/c", &mut RouteCache::new(4));
    let target = &routes.for_shard(ShardId(1))[0];
    assert_eq!(
        (target.qos_to_self, &target.subscription_ids_to_self),
        (None, &None)
    );
}

#[test]
fn a_second_bind_replaces_the_options() {
    let exchange = Exchange::new();
    for text in ["a", "a/+"] {
        assert!(exchange.bind(filter(text), binding(session(0, 1))));
        let stronger = Binding {
            qos: QoS::ExactlyOnce,
            ..binding(session(0, 1))
        };
        assert!(!exchange.bind(filter(text), stronger));
    }
    assert_eq!((exchange.filter_count(), exchange.binding_count()), (2, 2));
    let routes = exchange.route("a", &mut RouteCache::new(1));
    assert_eq!(routes.for_shard(ShardId(0))[0].qos, QoS::ExactlyOnce);
}

#[test]
fn routes_stay_current_until_a_filter_that_could_match_changes() {
    let exchange = Exchange::new();
    let mut cache = RouteCache::new(8);
    let empty = exchange.route("a/b", &mut cache);
    assert!(empty.is_empty());
    assert!(Arc::ptr_eq(&empty, &exchange.route("a/b", &mut cache)));
    for text in ["a/b", "a/b/#", "+/b", "#"] {
        let before = exchange.route("a/b", &mut cache);
        assert!(exchange.is_current(&before));
        exchange.bind(filter(text), binding(session(0, 1)));
        assert!(!exchange.is_current(&before), "{text}");
        assert_eq!(
            exchange
                .route("a/b", &mut cache)
                .for_shard(ShardId(0))
                .len(),
            1
        );
        exchange.unbind(filter(text), session(0, 1));
        assert!(exchange.route("a/b", &mut cache).is_empty());
    }
}

#[test]
fn the_cache_never_holds_more_than_its_limit() {
    let exchange = Exchange::new();
    let mut cache = RouteCache::new(3);
    for number in 0..10 {
        exchange.route(&format!("t/{number}"), &mut cache);
        assert!(cache.len() <= 3);
    }
}

#[test]
fn unbinding_leaves_nothing_behind() {
    let mut trie = FilterTrie::default();
    trie.bind("keep/+", binding(session(0, 0)));
    let before = trie.parts();
    let texts = [
        "a/+/b/#", "a/+/b", "a/+", "+/+/#", "#", "/#", "keep/+/x", "keep/#", "a//+",
    ];
    for text in texts {
        assert!(trie.bind(text, binding(session(0, 1))));
        assert!(trie.bind(text, binding(session(0, 2))));
    }
    assert_eq!(trie.len(), texts.len() + 1);
    for text in texts {
        assert!(trie.unbind(text, session(0, 2)));
        assert!(trie.unbind(text, session(0, 1)));
        assert!(!trie.unbind(text, session(0, 1)));
    }
    assert_eq!(trie.parts(), before);
    assert!(trie.unbind("keep/+", session(0, 0)));
    assert_eq!((trie.parts(), trie.len()), ([0, 0, 0], 0));
}

#[test]
fn a_group_is_bound_from_the_first_member_to_the_last() {
    let exchange = Exchange::new();
    let first = exchange.join_group("g", filter("a/+"), 4, None);
    assert_eq!(exchange.join_group("g", filter("a/+"), 4, None), first);
    let other = exchange.join_group("h", filter("a/+"), 4, None);
    assert_ne!(first.group, other.group);
    let expected = Destination::Group {
        group: first.group,
        shard: first.home,
    };
    assert!(destinations(&exchange, "a/b").contains(&expected));
    assert_eq!(destinations(&exchange, "a/b").len(), 2);
    for left in [2, 1, 1] {
        assert_eq!(exchange.leave_group("g", filter("a/+")), None);
        assert_eq!(destinations(&exchange, "a/b").len(), left);
    }
    let again = exchange.join_group("g", filter("a/+"), 4, None);
    assert_ne!(again.group, first.group);
}

#[test]
fn a_group_is_stored_from_the_first_durable_member_until_it_ends() {
    let exchange = Exchange::new();
    let join = |queue| exchange.join_group("g", filter("a"), 1, queue);
    assert_eq!(join(None).new_store, None);
    let stored = || {
        exchange
            .route("a", &mut RouteCache::new(8))
            .for_shard(ShardId(0))[0]
            .store
    };
    assert_eq!(stored(), None);
    let queue = QueueId::of(7);
    assert_eq!(join(Some(queue)).new_store, Some((queue, "g/a".into())));
    assert_eq!(stored(), Some(queue));
    assert_eq!(join(Some(QueueId::of(8))).new_store, None);
    assert_eq!(exchange.leave_group("g", filter("a")), None);
    assert_eq!(exchange.leave_group("g", filter("a")), None);
    assert_eq!(exchange.leave_group("g", filter("a")), Some(queue));
}

#[test]
fn a_restored_group_waits_for_its_members() {
    let exchange = Exchange::new();
    let queue = QueueId::of(7);
    let (group, _) = exchange.restore_group("g/a", 1, queue);
    let joined = exchange.join_group("g", filter("a"), 1, Some(QueueId::of(9)));
    assert_eq!((joined.group, joined.new_store), (group, None));
    assert_eq!(
        exchange
            .route("a", &mut RouteCache::new(8))
            .for_shard(ShardId(0))[0]
            .store,
        Some(queue)
    );
    assert!(!exchange.end_empty_group("g/a"));
    exchange.restore_group("h/a", 1, QueueId::of(8));
    assert!(exchange.end_empty_group("h/a"));
}

#[test]
fn an_exclusive_topic_has_one_owner() {
    let exchange = Exchange::new();
    assert!(exchange.claim_exclusive("a", receiver(0, 1)));
    assert!(exchange.claim_exclusive("a", receiver(0, 1)));
    assert!(!exchange.claim_exclusive("a", receiver(0, 2)));
    exchange.release_exclusive("a", receiver(0, 2));
    assert!(!exchange.claim_exclusive("a", receiver(0, 2)));
    exchange.release_exclusive("a", receiver(0, 1));
    assert!(exchange.claim_exclusive("a", receiver(0, 2)));
}

#[test]
#[ignore = "a measurement: prints the resident bytes per filter at a million filters"]
fn a_million_filters_fit_in_memory() {
    let resident = || -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = text
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<usize>().ok());
        pages.unwrap_or_default() * 4096
    };
    let before = resident();
    let exchange = Exchange::new();
    for number in 0..1_000_000_u32 {
        let (site, line) = (number % 100, number / 100 % 100);
        let text = match number % 10 {
            0 => format!("site{site}/line{line}/+/dev{number}/t"),
            1 => format!("site{site}/line{line}/dev{number}/#"),
            2 => format!("+/line{line}/dev{number}/temp"),
            _ => format!("site{site}/line{line}/dev{number}/t"),
        };
        exchange.bind(filter(&text), binding(session(0, number)));
    }
    assert_eq!(exchange.filter_count(), 1_000_000);
    let each = (resident() - before) / 1_000_000;
    println!("{each} bytes per filter");
    assert!(each <= 300);
}

fn level_text() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just(""), Just("$x")]
}

fn topic_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(level_text(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |text| !text.is_empty())
}

fn filter_text() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => level_text(), 2 => Just("+")];
    (proptest::collection::vec(level, 0..5), any::<bool>())
        .prop_map(|(mut levels, in_hash)| {
            levels.extend(in_hash.then_some("#"));
            levels.join("/")
        })
        .prop_filter("not empty", |text| !text.is_empty())
}

proptest! {
    #[test]
    fn the_exchange_agrees_with_the_plain_matcher(
        filters in proptest::collection::btree_set(filter_text(), 1..40),
        removed in proptest::collection::vec(any::<bool>(), 40),
        topics in proptest::collection::vec(topic_text(), 1..20),
    ) {
        let exchange = Exchange::new();
        let all: Vec<(u32, &String)> = (0..).zip(&filters).collect();
        for &(slot, text) in &all {
            prop_assert!(exchange.bind(filter(text), binding(session(0, slot))));
        }
        let kept = |slot: u32| !removed[slot as usize];
        for &(slot, text) in all.iter().filter(|(slot, _)| !kept(*slot)) {
            prop_assert!(exchange.unbind(filter(text), session(0, slot)));
        }
        for topic in &topics {
            let expected: Vec<Destination> = all
                .iter()
                .filter(|(slot, text)| kept(*slot) && matches(text, topic))
                .map(|(slot, _)| session(0, *slot))
                .collect();
            prop_assert_eq!(destinations(&exchange, topic), expected, "{}", topic);
        }
        for &(slot, text) in all.iter().filter(|(slot, _)| kept(*slot)) {
            prop_assert!(exchange.unbind(filter(text), session(0, slot)));
        }
        prop_assert_eq!((exchange.filter_count(), exchange.binding_count()), (0, 0));
    }
}
