//! Sessions and the users they belong to.

use tidewire::config::SessionTakeover;
use tidewire_protocol::codec::{Connect, ProtocolVersion};

use super::broker::{Broker, connect, login, users};

/// A CONNECT whose session stays.
fn lasting<'a>(user: &'a str, version: ProtocolVersion) -> Connect<'a> {
    let mut connect = login("shared", user, "secret");
    connect.version = version;
    connect.clean_start = false;
    if version == ProtocolVersion::V5 {
        connect.properties.session_expiry_seconds = Some(600);
    }
    connect
}

#[test]
fn the_session_of_another_user_is_refused_with_0x87_or_5() {
    let broker = Broker::start();
    let (mut alice, _) = broker.connect(&lasting("alice", ProtocolVersion::V5));
    for (version, code) in [
        (ProtocolVersion::V3_1, 5),
        (ProtocolVersion::V3_1_1, 5),
        (ProtocolVersion::V5, 0x87),
    ] {
        for clean_start in [false, true] {
            let mut connect = lasting("bob", version);
            connect.clean_start = clean_start;
            let (mut bob, found) = broker.connect(&connect);
            assert_eq!(found, code, "{version:?}, clean start {clean_start}");
            bob.is_closed();
        }
    }
    alice.ping();
    // The user itself takes its session over.
    let (mut again, found) = broker.connect(&lasting("alice", ProtocolVersion::V3_1_1));
    assert_eq!(found, 0);
    let end = alice.receive();
    assert_eq!((end[0], end[2]), (0xE0, 0x8E));
    again.ping();
}

#[test]
fn the_session_of_another_user_is_refused_while_that_user_is_away() {
    let broker = Broker::start();
    let (mut alice, _) = broker.connect(&lasting("alice", ProtocolVersion::V5));
    alice.send_bytes(&[0xE0, 0]);
    alice.is_closed();
    let (_, found) = broker.connect(&lasting("bob", ProtocolVersion::V5));
    assert_eq!(found, 0x87);
    let (_alice, found) = broker.connect(&lasting("alice", ProtocolVersion::V5));
    assert_eq!(found, 0);
}

#[test]
fn a_client_id_is_free_once_its_session_has_ended() {
    let broker = Broker::start();
    let (mut alice, _) = broker.connect(&login("shared", "alice", "secret"));
    alice.send_bytes(&[0xE0, 0]);
    alice.is_closed();
    let (_bob, found) = broker.connect(&login("shared", "bob", "secret"));
    assert_eq!(found, 0);
}

#[test]
fn the_configuration_says_who_may_take_a_session_over() {
    let takes_over = |rule, newcomer: &Connect<'_>| {
        let broker = Broker::with(&users(), |config| {
            config.allow_anonymous = Some(true);
            config.auth.session_takeover = rule;
        });
        let (_alice, _) = broker.connect(&lasting("alice", ProtocolVersion::V5));
        broker.connect(newcomer).1 == 0
    };
    let bob = login("shared", "bob", "secret");
    let anonymous = connect("shared");
    assert!(takes_over(SessionTakeover::Anyone, &bob));
    assert!(!takes_over(SessionTakeover::NotOtherUsers, &bob));
    assert!(!takes_over(SessionTakeover::NotOtherUsers, &anonymous));
    assert!(!takes_over(SessionTakeover::SameUser, &anonymous));
}
