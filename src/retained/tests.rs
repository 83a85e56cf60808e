use std::collections::BTreeSet;

use proptest::prelude::*;
use tidewire_protocol::codec::QoS;
use tidewire_protocol::topic::{TopicFilter, matches};

use super::trie::TopicTrie;
use super::*;
use crate::message::{Header, Message};
use crate::prefix_limits::PrefixLimits;

fn message(topic: &str, payload: &str, expires_at_ms: Option<u64>) -> Message {
    let payload = payload.as_bytes();
    let header = Header {
        qos: QoS::AtLeastOnce,
        retain: true,
        expires_at_ms,
        ..Header::default()
    };
    Message::new(topic, &[], payload, header)
}

fn topics(retained: &Retained, filter: &str, now_ms: u64) -> Vec<String> {
    let mut found = Vec::new();
    let filter = TopicFilter::parse(filter, 128).expect("a valid filter");
    retained.matching(filter, now_ms, &mut found);
    let mut topics: Vec<String> = found.iter().map(|message| message.topic().into()).collect();
    topics.sort();
    topics
}

fn store() -> Retained {
    limited(1_000, 1_000_000)
}

fn limited(count_max: usize, bytes_max: usize) -> Retained {
    let retained = Retained::new();
    retained.limit(count_max, bytes_max, PrefixLimits::default());
    retained
}

#[test]
fn the_latest_message_of_a_topic_replaces_the_earlier() {
    let retained = store();
    assert_eq!(retained.set(message("a", "one", None)), Ok(()));
    let second = message("a", "second", None);
    assert_eq!(retained.set(second.clone()), Ok(()));
    assert_eq!((retained.count(), retained.bytes()), (1, second.bytes()));
    let mut found = Vec::new();
    retained.matching(TopicFilter::parse("+", 1).expect("valid"), 0, &mut found);
    assert_eq!(found, [second]);
}

#[test]
fn an_empty_payload_clears_the_topic() {
    let retained = store();
    for topic in ["a", "a/b", "a/b/c"] {
        assert_eq!(retained.set(message(topic, "x", None)), Ok(()));
    }
    assert_eq!(retained.set(message("a/b", "", None)), Ok(()));
    assert_eq!(retained.set(message("missing", "", None)), Ok(()));
    assert_eq!(topics(&retained, "#", 0), ["a", "a/b/c"]);
    assert_eq!(retained.count(), 2);
    for topic in ["a", "a/b/c"] {
        assert_eq!(retained.set(message(topic, "", None)), Ok(()));
    }
    assert_eq!((retained.count(), retained.bytes()), (0, 0));
}

#[test]
fn wildcards_do_not_reach_dollar_topics() {
    let retained = store();
    for topic in ["$SYS", "$SYS/a", "x/$y", "x"] {
        assert_eq!(retained.set(message(topic, "x", None)), Ok(()));
    }
    assert_eq!(topics(&retained, "#", 0), ["x", "x/$y"]);
    assert_eq!(topics(&retained, "+/a", 0), Vec::<String>::new());
    assert_eq!(topics(&retained, "$SYS/#", 0), ["$SYS", "$SYS/a"]);
}

#[test]
fn a_full_store_refuses_new_topics_and_keeps_the_old() {
    let one = message("a", "12345678", None);
    let retained = limited(1, one.bytes());
    assert_eq!(retained.set(one.clone()), Ok(()));
    assert_eq!(
        retained.set(message("b", "1", None)),
        Err(RetainedFull::Count { count_max: 1 })
    );
    let refused = Err(RetainedFull::Bytes {
        bytes_max: one.bytes(),
    });
    assert_eq!(retained.set(message("a", "123456789", None)), refused);
    assert_eq!((retained.count(), retained.bytes()), (1, one.bytes()));
    assert_eq!(retained.set(message("a", "87654321", None)), Ok(()));
    assert_eq!(topics(&retained, "a", 0), ["a"]);
}

#[test]
fn what_the_broker_says_of_itself_takes_no_room_of_clients() {
    let retained = limited(1, 1_000);
    for topic in [
        "$SYS/broker/version",
        "$SYS/broker/uptime",
        "$SYS/broker/uptime",
    ] {
        assert_eq!(retained.set(message(topic, "1", None)), Ok(()));
    }
    assert_eq!((retained.count(), retained.bytes()), (0, 0));
    assert_eq!(retained.set(message("a", "1", None)), Ok(()));
    assert_eq!(
        retained.set(message("$SYS/broker/uptime", "", None)),
        Ok(())
    );
    assert_eq!(retained.count(), 1);
    assert_eq!(topics(&retained, "$SYS/#", 0), ["$SYS/broker/version"]);
}

#[test]
fn expired_messages_are_not_found_and_then_removed() {
    let retained = store();
    for (topic, expires_at_ms) in [("a", Some(10)), ("b", Some(20)), ("c", None)] {
        assert_eq!(retained.set(message(topic, "x", expires_at_ms)), Ok(()));
    }
    assert_eq!(topics(&retained, "#", 10), ["b", "c"]);
    assert_eq!(retained.count(), 3);
    assert_eq!(retained.remove_expired(10), 1);
    // Replaced by one that never expires.
    assert_eq!(retained.set(message("b", "y", None)), Ok(()));
    assert_eq!(retained.remove_expired(100), 0);
    assert_eq!(retained.count(), 2);
}

#[test]
fn removing_leaves_no_nodes_behind() {
    let mut trie = TopicTrie::default();
    trie.insert(message("a/b", "x", None), false);
    let before = trie.parts();
    let added = ["a/b/c/d", "a", "a/c", "/", "b//"];
    for topic in added {
        trie.insert(message(topic, "x", Some(5)), false);
    }
    for topic in added {
        assert!(trie.remove(topic, false).is_some());
        assert!(trie.remove(topic, false).is_none());
    }
    assert_eq!(trie.parts(), before);
}

fn text(level: impl Strategy<Value = &'static str>) -> impl Strategy<Value = String> {
    proptest::collection::vec(level, 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |text| !text.is_empty())
}

fn level() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just(""), Just("$x")]
}

proptest! {
    #[test]
    fn the_store_agrees_with_the_plain_matcher(
        set in proptest::collection::vec((text(level()), any::<bool>()), 1..60),
        filters in proptest::collection::vec(
            (text(prop_oneof![3 => level(), 2 => Just("+")]), any::<bool>()), 1..20),
    ) {
        let retained = store();
        let mut model = BTreeSet::new();
        for (topic, keeps) in &set {
            let payload = if *keeps { "x" } else { "" };
            prop_assert_eq!(retained.set(message(topic, payload, None)), Ok(()));
            if *keeps { model.insert(topic.clone()); } else { model.remove(topic); }
        }
        prop_assert_eq!(retained.count(), model.len());
        for (filter, in_hash) in &filters {
            let filter = if *in_hash { format!("{filter}/#") } else { filter.clone() };
            let expected: Vec<String> =
                model.iter().filter(|topic| matches(&filter, topic)).cloned().collect();
            prop_assert_eq!(topics(&retained, &filter, 0), expected, "{}", filter);
        }
    }
}

#[test]
fn a_walk_left_and_taken_up_again_finds_what_stays_exactly_once() {
    let retained = store();
    for number in 0..100 {
        let topic = format!("stay/{number}");
        assert_eq!(retained.set(message(&topic, "x", None)), Ok(()));
        let topic = format!("go/{number}");
        assert_eq!(retained.set(message(&topic, "x", None)), Ok(()));
    }
    let filter = TopicFilter::parse("+/+", 128).expect("a valid filter");
    let mut walk = retained.walk(filter);
    let (mut found, mut step) = (Vec::new(), 0);
    while retained.advance(&mut walk, 0, 3, &mut found) {
        let clear = format!("go/{step}");
        assert_eq!(retained.set(message(&clear, "", None)), Ok(()));
        let new = format!("new/{step}/deeper");
        assert_eq!(retained.set(message(&new, "x", None)), Ok(()));
        step += 1;
    }
    let mut stayed: Vec<&str> = found
        .iter()
        .map(|message| message.topic())
        .filter(|topic| topic.starts_with("stay/"))
        .collect();
    stayed.sort_unstable();
    stayed.dedup();
    assert!(step > 20, "left {step} times");
    assert_eq!(stayed.len(), 100);
    assert!(
        found
            .iter()
            .all(|message| !message.topic().starts_with("new/"))
    );
    assert!(found.len() <= 200);
}
