//! Negative tests 10, 22 and 33: depth, numbers and letters that a client chooses.

use tidewire_protocol::codec::ReasonCode;

use super::broker::{Broker, login};
use super::client::{Client, Got, Q1, connect, message};

#[test]
fn a_topic_of_65535_slashes_passes_rules_retained_messages_and_patterns() {
    let rules = "user alice\ntopic #\npattern readwrite +/%u/#\nuser bob\ntopic read a/#\n";
    let broker = Broker::with(rules, |config, _| {
        config.limits.topic_levels_max = 65_535;
        config.limits.wildcard_levels_max = 65_535;
    });
    let deep = "/".repeat(65_000);
    let mut alice = broker.login("alice", "alice");
    assert!(!alice.subscribe(&format!("{deep}#"), Q1).is_error());
    let mut publisher = broker.login("alice", "publisher");
    assert!(!publisher.retain(&format!("{deep}x")).is_error());
    assert_eq!(alice.expect_topics(1), [format!("{deep}x")]);
    let mut bob = broker.login("bob", "bob");
    assert_eq!(bob.publish(&deep, Q1), ReasonCode::NotAuthorized);
    assert!(bob.subscribe(&deep, Q1).is_error());
    // What is deeper than the limit is refused.
    let bounded = Broker::start(rules);
    let mut alice = bounded.login("alice", "alice");
    assert_eq!(alice.publish(&deep, Q1), ReasonCode::TopicNameInvalid);
    assert_eq!(alice.subscribe(&deep, Q1), ReasonCode::TopicFilterInvalid);
    alice.expect_nothing();
}

#[test]
fn sessions_beyond_the_limit_are_refused_with_0x97_and_those_that_are_there_go_on() {
    let broker = Broker::with("", |config, _| config.limits.sessions_max = 20);
    let mut inside = Vec::new();
    let mut refused = 0;
    for number in 0..200 {
        let id = format!("random-{}", number * 7_919);
        let mut lasting = connect(&id);
        lasting.properties.session_expiry_seconds = Some(600);
        match broker.connect_with(&lasting) {
            (client, ReasonCode::Success) => inside.push((id, client)),
            (_, reason) => {
                assert_eq!(reason, ReasonCode::QuotaExceeded);
                refused += 1;
            }
        }
    }
    assert!(inside.len() <= 20 && refused >= 180, "{}", inside.len());
    for (_, client) in &mut inside {
        client.expect_nothing();
    }
    // One of them comes back.
    let (id, client) = inside.pop().unwrap();
    client.vanish();
    let mut back = connect(&id);
    back.clean_start = false;
    assert_eq!(broker.connect_with(&back).1, ReasonCode::Success);
}

#[test]
fn user_names_and_passwords_are_told_by_every_letter() {
    let broker = Broker::start("");
    for (user, password) in [
        ("alice", &b"Secret"[..]),
        ("alice", b"SECRET"),
        ("alice", b"secret "),
        ("alice", b"secre"),
        ("alice", b"secret\0"),
        ("alice", b""),
        ("ALICE", b"secret"),
        ("alice ", b"secret"),
    ] {
        let mut login = login(user, "c");
        login.password = Some(password);
        let (_, reason) = broker.connect_with(&login);
        assert_eq!(
            reason,
            ReasonCode::BadUserNameOrPassword,
            "{user} {password:?}"
        );
    }
    broker.login("alice", "c").expect_nothing();
}

#[test]
fn a_client_that_ignores_the_receive_maximum_is_disconnected_with_0x93() {
    let broker = Broker::with("", |config, _| config.mqtt.receive_maximum = 5);
    let mut witness = broker.anonymous("witness");
    let mut client: Client = broker.anonymous("c");
    for number in 1..=6 {
        let mut publish = message("t", tidewire_protocol::codec::QoS::ExactlyOnce);
        publish.packet_id = tidewire_protocol::codec::PacketId::new(number);
        client.send(&tidewire_protocol::codec::Packet::Publish(publish));
    }
    let last = std::iter::repeat_with(|| client.receive())
        .find(|got| !matches!(got, Got::Ack(..)))
        .unwrap();
    assert_eq!(last, Got::Disconnect(ReasonCode::ReceiveMaximumExceeded));
    witness.expect_nothing();
}
