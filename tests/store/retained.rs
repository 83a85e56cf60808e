//! Retained messages on disk: by filter, in pieces, with limits and expiry.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tidewire::clock::Clock;
use tidewire::config::{Limits, StoreConfig};
use tidewire::exchange::ShardId;
use tidewire::store::{Awaited, Operation, Refusable, Report, Ticket, tools};
use tidewire_protocol::topic::matches;

use super::support::{
    Directory, Open, config, message, open, packet_id, received, retained, try_open,
};

fn topics(store: &mut Open, filter: &str, count_max: usize) -> Vec<String> {
    let found = store.retained(filter, count_max);
    let mut topics: Vec<String> = found.iter().map(|it| it.topic().to_owned()).collect();
    topics.sort();
    topics
}

fn clear(topic: &str) -> Operation {
    Operation::ClearRetained {
        topic: topic.into(),
    }
}

#[test]
fn the_latest_of_each_topic_is_there_after_a_restart() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let long = format!("a/{}", "x".repeat(60_000));
    store.commit(vec![
        retained("a/b", b"old", None),
        retained(&long, b"long", None),
        retained("gone", b"x", None),
    ]);
    store.commit(vec![
        retained("a/b", b"new", None),
        clear("gone"),
        clear("never"),
    ]);
    let mut store = store.reopen(&directory);
    assert_eq!(store.recovered.retained_count, 2);
    let found = store.retained("a/+", 10);
    let found: BTreeSet<_> = found.iter().map(|it| (it.topic(), it.payload())).collect();
    assert_eq!(
        found,
        BTreeSet::from([("a/b", &b"new"[..]), (&long, b"long")])
    );
    assert_eq!(topics(&mut store, &long, 10), [long.as_str()]);
    store.commit(vec![clear(&long), clear("a/b")]);
    assert_eq!(
        (
            store.store.status().retained_count,
            store.store.status().retained_bytes
        ),
        (0, 0)
    );
}

#[test]
fn what_is_not_yet_committed_is_found() {
    let directory = Directory::new();
    let mut store = open(&directory);
    store.commit(vec![
        retained("t/1", b"old", None),
        retained("t/2", b"x", None),
    ]);
    for round in 0..200u32 {
        let payload = round.to_be_bytes();
        let cleared = if round % 2 == 0 {
            retained("t/2", b"x", None)
        } else {
            clear("t/2")
        };
        let ticket = store.submit(vec![retained("t/1", &payload, None), cleared]);
        // The commit may be before or after the lookup: its report comes in between.
        let load = tidewire::store::Load::Retained {
            filter: "t/#".into(),
            after: None,
            count_max: 10,
        };
        let request = tidewire::store::RequestId(1);
        store.store.load(ShardId(0), request, load);
        let mut found = None;
        let mut is_committed = false;
        while found.is_none() || !is_committed {
            match store.next_report() {
                Report::Retained { messages, .. } => found = Some(messages),
                Report::Committed { ticket: it, .. } => is_committed = it == ticket,
                other => panic!("unexpected {other:?}"),
            }
        }
        let found = found.expect("an answer");
        let first = found.iter().find(|it| it.topic() == "t/1").expect("t/1");
        assert_eq!(first.payload(), payload);
        assert_eq!(
            found.len(),
            if round % 2 == 0 { 2 } else { 1 },
            "round {round}"
        );
    }
}

#[test]
fn expired_messages_are_swept_and_replaced_ones_stay() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let over = (0..100).map(|it| retained(&format!("over/{it}"), b"x", Some(5)));
    store.commit(over.collect());
    store.commit(vec![
        retained("later", b"x", Some(10_000_000)),
        retained("never", b"x", None),
        retained("over/1", b"new", None),
        retained("over/2", b"new", Some(10_000_000)),
        clear("over/3"),
    ]);
    store.commit(vec![Operation::SweepRetained { now_ms: 4 }]);
    assert_eq!(store.store.status().retained_count, 101);
    store.commit(vec![Operation::SweepRetained { now_ms: 5 }]);
    let expected = ["later", "never", "over/1", "over/2"];
    assert_eq!(topics(&mut store, "#", 3), expected);
    assert_eq!(store.store.status().retained_count, 4);
    drop(store);
    let info = tools::info(&directory.0).expect("a store");
    assert_eq!(
        (info.rows("retained"), info.rows("retained_expiry")),
        (4, 2)
    );
}

#[test]
fn a_sweep_goes_on_in_small_commits_until_nothing_expired_is_left() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let over = (0..5_000).map(|it| retained(&format!("over/{it}"), b"x", Some(5)));
    store.commit(over.collect());
    store.commit(vec![retained("never", b"x", None)]);
    let commits_before = store.store.status().commits;
    store.commit(vec![Operation::SweepRetained { now_ms: 5 }]);
    let clock = Clock::start();
    while store.store.status().retained_count > 1 {
        assert!(clock.now_ms() < 60_000, "it does not go on");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(store.store.status().commits >= commits_before + 5);
    assert_eq!(topics(&mut store, "#", 3), ["never"]);
}

#[test]
fn beyond_the_limits_new_topics_are_refused_and_old_ones_replaced() {
    let directory = Directory::new();
    let limits = Limits {
        retained_messages_max: 2,
        retained_bytes_max: 1_000,
        ..Limits::default()
    };
    let mut store = try_open(&config(&directory.0), &limits).expect("a store");
    store.commit(vec![retained("a", b"1", None), retained("b", b"1", None)]);
    let publisher = store.session("publisher");
    let with = |topic| Refusable {
        message: None,
        retained: Some(message(topic, b"")),
    };
    store.commit(vec![
        retained("c", b"1", None),
        received(publisher, packet_id(1), with("c")),
        retained("b", b"2", None),
        received(publisher, packet_id(2), with("b")),
    ]);
    assert_eq!(store.refused_topics, ["c".into()]);
    store.commit(vec![retained("a", &[0; 2_000], None)]);
    assert_eq!(store.refused_topics, ["c".into(), "a".into()]);
    let found = store.retained("#", 10);
    let found: BTreeSet<_> = found.iter().map(|it| (it.topic(), it.payload())).collect();
    assert_eq!(found, BTreeSet::from([("a", &b"1"[..]), ("b", b"2")]));
    // What is refused and sent again must not pass for what was accepted.
    let store = store.reopen(&directory);
    assert_eq!(store.recovered.sessions[0].received, [packet_id(2)]);
}

fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[$]?[a0 -]{0,2}",
        1 => Just("l".repeat(399)),
        1 => Just("l".repeat(410)),
    ]
}

fn topic() -> impl Strategy<Value = String> {
    proptest::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![2 => level(), 2 => Just("+".to_owned())];
    let levels = proptest::collection::vec(level, 1..4);
    (levels, any::<bool>()).prop_map(|(levels, in_hash)| {
        let filter = levels.join("/");
        match (in_hash, filter.is_empty()) {
            (_, true) => "#".into(),
            (true, _) => filter + "/#",
            (false, _) => filter,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn lookups_agree_with_the_plain_matcher(
        committed in proptest::collection::btree_set(topic(), 1..60),
        pending in proptest::collection::btree_set(topic(), 0..10),
        filters in proptest::collection::vec(filter(), 1..20),
        count_max in 1usize..10,
    ) {
        let directory = Directory::new();
        let mut store = open(&directory);
        let put = |topics: &BTreeSet<String>| {
            topics.iter().map(|topic| retained(topic, b"x", None)).collect()
        };
        store.commit(put(&committed));
        store.commit(put(&pending));
        for filter in filters {
            let all: BTreeSet<&String> = committed.union(&pending).collect();
            let expected: Vec<String> =
                all.into_iter().filter(|topic| matches(&filter, topic)).cloned().collect();
            prop_assert_eq!(topics(&mut store, &filter, count_max), expected, "{}", filter);
        }
    }
}

#[test]
fn all_who_published_to_a_topic_in_one_commit_are_told_that_it_is_refused() {
    let directory = Directory::new();
    let config = StoreConfig {
        commit_interval_milliseconds: 10,
        ..config(&directory.0)
    };
    let limits = Limits {
        retained_messages_max: 1,
        ..Limits::default()
    };
    let mut store = try_open(&config, &limits).expect("a store that opens");
    store.commit(vec![retained("known", b"x", None)]);
    for round in 0..20u64 {
        // So many are expected again that both publishers get into one commit.
        store.commit((0..100).map(|it| clear(&format!("none/{it}"))).collect());
        store.submit(vec![retained("new", b"one", None)]);
        let other = vec![retained("new", b"two", None)];
        store
            .store
            .submit(ShardId(1), Ticket(round + 1), other, Awaited::Answers);
        let (mut refused, mut committed) = (Vec::new(), 0);
        while committed < 2 {
            match store.next_report_to() {
                (shard, Report::Refused { retained, .. }) => {
                    assert_eq!(retained, ["new".into()]);
                    refused.push(shard.0);
                }
                (_, Report::Committed { .. }) => committed += 1,
                other => panic!("unexpected {other:?}"),
            }
        }
        refused.sort_unstable();
        assert_eq!(refused, [0, 1], "round {round}");
    }
}
