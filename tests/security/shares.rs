//! Negative test 25: shared subscriptions.

use tidewire::config::{AclAction, AclEffect, AclRule};
use tidewire_protocol::codec::ReasonCode;

use super::broker::Broker;
use super::client::{Q0, Q1};

#[test]
fn the_inner_filter_of_a_share_is_checked() {
    let broker = Broker::start("user alice\ntopic read open/#\n");
    let mut alice = broker.login("alice", "alice");
    for (filter, reason) in [
        ("$share/g/secret/#", ReasonCode::NotAuthorized),
        ("$share/open/secret", ReasonCode::NotAuthorized),
        ("$queue/secret", ReasonCode::NotAuthorized),
        ("$exclusive/secret", ReasonCode::NotAuthorized),
        ("$share//open", ReasonCode::TopicFilterInvalid),
        ("$share/g", ReasonCode::TopicFilterInvalid),
        ("$share/+/open", ReasonCode::TopicFilterInvalid),
        ("$share/g/open/#", ReasonCode::GrantedQoS1),
        ("$share/g/#", ReasonCode::GrantedQoS1),
    ] {
        assert_eq!(alice.subscribe(filter, Q1), reason, "{filter}");
    }
}

#[test]
fn to_share_is_a_right_of_its_own() {
    let broker = Broker::with("", |config, _| {
        config.acl.rules = vec![AclRule {
            effect: AclEffect::Allow,
            actions: vec![AclAction::Subscribe, AclAction::Receive],
            topics: vec!["a/#".into()],
            ..AclRule::default()
        }];
    });
    let mut client = broker.anonymous("c");
    let shared = client.subscribe("$share/g/a/b", Q1);
    assert_eq!(shared, ReasonCode::NotAuthorized);
    assert_eq!(client.subscribe("a/b", Q1), ReasonCode::GrantedQoS1);
}

#[test]
fn a_group_gives_each_message_to_a_member_that_may_have_it() {
    let broker = Broker::start(
        "user alice\ntopic read a/#\nuser bob\ntopic read b/#\nuser carol\ntopic write #\n",
    );
    let mut alice = broker.login("alice", "alice");
    let mut bob = broker.login("bob", "bob");
    let mut carol = broker.login("carol", "carol");
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.subscribe("$share/g/#", Q1), ReasonCode::GrantedQoS1);
    }
    for qos in [Q0, Q1] {
        for topic in ["a/1", "a/2", "c/1", "b/1", "a/3", "b/2", "c/2"] {
            carol.publish(topic, qos);
        }
    }
    let mut of_alice = alice.expect_topics(6);
    of_alice.sort();
    assert_eq!(of_alice, ["a/1", "a/1", "a/2", "a/2", "a/3", "a/3"]);
    let mut of_bob = bob.expect_topics(4);
    of_bob.sort();
    assert_eq!(of_bob, ["b/1", "b/1", "b/2", "b/2"]);
    alice.expect_nothing();
}
