//! Negative test 26: subscriptions wider than the rights are filtered by topic.

use tidewire_protocol::codec::{ProtocolVersion, ReasonCode};

use super::broker::{Broker, lasting, login};
use super::client::{Q0, Q1, Q2};

const RULES: &str = "user alice\ntopic read a/+\ntopic deny a/secret\nuser carol\ntopic #\n\
                     topic $SYS/#\n";
const TOPICS: [&str; 6] = ["a/1", "a/secret", "b", "a/2", "a/x/y", "a/3"];
const OPEN: [&str; 3] = ["a/1", "a/2", "a/3"];

#[test]
fn live_messages_are_filtered_in_every_version_and_qos() {
    let broker = Broker::start(RULES);
    let mut carol = broker.login("carol", "carol");
    carol.subscribe("#", Q0);
    for (version, client_id) in [(ProtocolVersion::V5, "v5"), (ProtocolVersion::V3_1_1, "v3")] {
        let mut connect = login("alice", client_id);
        connect.version = version;
        let mut alice = broker.accepted(&connect);
        for filter in ["#", "a/#", "+/secret"] {
            assert_eq!(
                alice.subscribe(filter, Q1),
                ReasonCode::GrantedQoS1,
                "{filter}"
            );
        }
        for qos in [Q0, Q1] {
            for topic in TOPICS {
                carol.send(&tidewire_protocol::codec::Packet::Publish(
                    super::client::message(topic, qos),
                ));
            }
        }
        let mut expected: Vec<&str> = OPEN.into_iter().chain(OPEN).collect();
        expected.sort_unstable();
        let mut found = alice.expect_topics(6);
        found.sort();
        assert_eq!(found, expected, "{version:?}");
        drop(alice);
    }
}

#[test]
fn retained_messages_are_filtered() {
    let broker = Broker::start(RULES);
    let mut carol = broker.login("carol", "carol");
    for topic in TOPICS {
        carol.retain(topic);
    }
    let mut alice = broker.login("alice", "alice");
    alice.subscribe("#", Q1);
    let mut found = alice.expect_topics(3);
    found.sort();
    assert_eq!(found, OPEN);
}

#[test]
fn queued_messages_are_filtered_before_they_are_kept() {
    let broker = Broker::start(RULES);
    let mut alice = broker.accepted(&lasting("alice", "alice"));
    alice.subscribe("#", Q1);
    alice.vanish();
    let mut carol = broker.login("carol", "carol");
    for topic in TOPICS {
        carol.publish(topic, Q2);
    }
    let mut alice = broker.accepted(&lasting("alice", "alice"));
    assert_eq!(alice.expect_topics(3), OPEN);
}

#[test]
fn queued_messages_are_checked_against_the_rights_of_who_resumes() {
    let broker = Broker::with(
        "user alice\ntopic read a/#\nuser bob\ntopic read b/#\nuser carol\ntopic #\n",
        |config, _| config.auth.session_takeover = tidewire::config::SessionTakeover::Anyone,
    );
    let mut alice = broker.accepted(&lasting("alice", "shared"));
    alice.subscribe("#", Q1);
    alice.subscribe("a/#", Q1);
    alice.vanish();
    let mut carol = broker.login("carol", "carol");
    carol.publish("a/1", Q1);
    let mut bob = broker.accepted(&lasting("bob", "shared"));
    bob.expect_nothing();
    carol.publish("a/2", Q1);
    carol.publish("b/1", Q1);
    assert_eq!(bob.expect_topics(1), ["b/1"]);
}

#[test]
fn a_subscription_without_any_right_is_refused_with_0x87() {
    let broker = Broker::start(RULES);
    let mut alice = broker.login("alice", "alice");
    for filter in ["b", "b/#", "a/secret", "$SYS/#", "+"] {
        let reason = alice.subscribe(filter, Q1);
        assert_eq!(reason, ReasonCode::NotAuthorized, "{filter}");
    }
}

#[test]
fn wide_subscriptions_are_refused_where_the_configuration_says_so() {
    let broker = Broker::with(RULES, |config, _| {
        config.acl.wide_subscriptions = tidewire::config::WideSubscriptions::Refuse;
    });
    let mut alice = broker.login("alice", "alice");
    for filter in ["#", "a/#", "+/1"] {
        let reason = alice.subscribe(filter, Q1);
        assert_eq!(reason, ReasonCode::NotAuthorized, "{filter}");
    }
    assert_eq!(alice.subscribe("a/+", Q1), ReasonCode::GrantedQoS1);
}
