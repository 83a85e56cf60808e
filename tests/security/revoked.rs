//! Negative tests 27, 28 and 30: rights that go away while a client has them in use.

use tidewire::config::StoreEngine;
use tidewire_protocol::codec::{Connect, Publish, PublishProperties, ReasonCode};

use super::broker::{Broker, lasting, login, users};
use super::client::{Client, Q0, Q1, message, will};

const BOTH: &str = "user alice\ntopic a/#\ntopic b/#\nuser carol\ntopic #\n";
const ONLY_B: &str = "user alice\ntopic b/#\nuser carol\ntopic #\n";

fn broker() -> (Broker, Client, Client) {
    let broker = Broker::start(BOTH);
    let alice = broker.accepted(&lasting("alice", "alice"));
    let carol = broker.login("carol", "carol");
    (broker, alice, carol)
}

fn narrow(broker: &mut Broker) {
    broker.files.write("acl", ONLY_B);
    broker.reload();
}

#[test]
fn revoked_subscriptions_stop_at_once_and_the_client_stays() {
    let (mut broker, mut alice, mut carol) = broker();
    for filter in ["a/#", "#", "$share/g/a/#", "b/1"] {
        assert!(!alice.subscribe(filter, Q1).is_error(), "{filter}");
    }
    let sent = ["a/1", "b/1"];
    for topic in sent {
        carol.publish(topic, Q0);
    }
    assert_eq!(alice.expect_topics(3).len(), 3);
    narrow(&mut broker);
    for qos in [Q0, Q1] {
        for topic in sent {
            carol.publish(topic, qos);
        }
    }
    assert_eq!(alice.expect_topics(2), ["b/1", "b/1"]);
    // What is granted again does not come back by itself.
    broker.files.write("acl", BOTH);
    broker.reload();
    carol.publish("a/1", Q1);
    assert_eq!(alice.expect_topics(1), ["a/1"], "by the wide filter");
}

#[test]
fn queued_messages_without_a_right_are_dropped() {
    let (mut broker, mut alice, mut carol) = broker();
    alice.subscribe("#", Q1);
    alice.vanish();
    for topic in ["a/1", "b/1", "a/2", "b/2"] {
        carol.publish(topic, Q1);
    }
    narrow(&mut broker);
    let mut alice = broker.accepted(&lasting("alice", "alice"));
    assert_eq!(alice.expect_topics(2), ["b/1", "b/2"]);
}

#[test]
fn the_last_topic_and_an_alias_set_before_are_checked_anew() {
    let (mut broker, mut alice, mut carol) = broker();
    carol.subscribe("#", Q0);
    let publish = |topic| Publish {
        properties: PublishProperties {
            topic_alias: std::num::NonZeroU16::new(1),
            ..PublishProperties::default()
        },
        ..message(topic, Q1)
    };
    for topic in ["a/1", ""] {
        assert_eq!(alice.publish_as(publish(topic)), ReasonCode::Success);
    }
    narrow(&mut broker);
    assert_eq!(alice.publish_as(publish("")), ReasonCode::NotAuthorized);
    assert_eq!(alice.publish("a/1", Q1), ReasonCode::NotAuthorized);
    assert_eq!(carol.expect_topics(2), ["a/1", "a/1"]);
}

#[test]
fn a_will_without_a_right_any_more_is_never_published() {
    let mut broker = Broker::start(BOTH);
    let mut carol = broker.login("carol", "carol");
    carol.subscribe("#", Q1);
    let mut clients = Vec::new();
    for (client_id, topic, delay_seconds) in [
        ("at-once", "a/gone", None),
        ("delayed", "a/later", Some(1)),
        ("allowed", "b/gone", None),
    ] {
        let mut connect = lasting("alice", client_id);
        let mut will = will(topic);
        will.properties.delay_seconds = delay_seconds;
        connect.will = Some(will);
        clients.push(broker.accepted(&connect));
    }
    // The delay of one runs while the rights change.
    clients.swap_remove(1).vanish();
    narrow(&mut broker);
    for client in clients {
        client.vanish();
    }
    assert_eq!(carol.expect_topics(1), ["b/gone"]);
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    carol.expect_nothing();
}

#[test]
fn a_deleted_user_is_disconnected_and_its_will_is_not_sent() {
    let (mut broker, mut alice, mut carol) = broker();
    carol.subscribe("#", Q1);
    let mut connect = login("alice", "with-will");
    connect.will = Some(will("a/gone"));
    let mut doomed = broker.accepted(&connect);
    broker.files.write("users", &users(&["bob", "carol"]));
    broker.reload();
    for client in [&mut alice, &mut doomed] {
        client.expect_end(ReasonCode::NotAuthorized);
    }
    carol.expect_nothing();
    let (_, reason) = broker.connect_with(&login("alice", "alice"));
    assert_eq!(reason, ReasonCode::BadUserNameOrPassword);
}

#[test]
fn a_user_with_another_password_is_disconnected_and_keeps_the_session() {
    let (mut broker, _, mut carol) = broker();
    let mut alice = broker.accepted(&lasting("alice", "device"));
    alice.subscribe("a/#", Q1);
    let others = users(&["bob", "carol"]);
    let hash = tidewire::auth::PasswordHash::new(b"other", [9; 16]);
    let changed = format!("{others}alice:{hash}\n");
    broker.files.write("users", &changed);
    broker.reload();
    alice.expect_end(ReasonCode::NotAuthorized);
    let (_, reason) = broker.connect_with(&lasting("alice", "device"));
    assert_eq!(reason, ReasonCode::BadUserNameOrPassword);
    carol.publish("a/1", Q1);
    let connect = Connect {
        password: Some(b"other"),
        ..lasting("alice", "device")
    };
    let mut alice = broker.accepted(&connect);
    assert_eq!(alice.expect_topics(1), ["a/1"]);
}

#[test]
fn what_an_earlier_process_has_kept_needs_its_right_as_well() {
    let mut broker = Broker::with(BOTH, |config, files| {
        config.store.engine = StoreEngine::Lmdb;
        config.store.directory = files.path("store");
    });
    let mut carol = broker.accepted(&lasting("carol", "carol"));
    let mut connect = lasting("alice", "alice");
    let mut will = will("a/gone");
    will.properties.delay_seconds = Some(1);
    connect.will = Some(will);
    let mut alice = broker.accepted(&connect);
    for filter in ["#", "a/#"] {
        alice.subscribe(filter, Q1);
    }
    alice.vanish();
    for topic in ["a/1", "b/1", "a/2", "b/2"] {
        carol.publish(topic, Q1);
        carol.retain(&format!("{topic}/kept"));
    }
    carol.subscribe("a/gone", Q1);
    broker.files.write("acl", ONLY_B);
    broker.restart();
    // A session that is not there yet may not lose its subscriptions to a reload.
    broker.reload();
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    let mut alice = broker.accepted(&lasting("alice", "alice"));
    let found = alice.expect_topics(4);
    assert_eq!(found, ["b/1", "b/1/kept", "b/2", "b/2/kept"]);
    alice.subscribe("b/#", Q1);
    assert_eq!(alice.expect_topics(2), ["b/1/kept", "b/2/kept"]);
    let mut carol = broker.accepted(&lasting("carol", "carol"));
    carol.expect_nothing();
}
