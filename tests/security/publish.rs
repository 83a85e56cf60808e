//! Negative tests 29 and 30: publishing where there is no right to.

use tidewire_protocol::codec::{ProtocolVersion, Publish, PublishProperties, ReasonCode};

use super::broker::{Broker, login};
use super::client::{Q0, Q1, Q2, connect, message};

const RULES: &str = "topic read #\nuser alice\ntopic readwrite a/#\ntopic deny a/secret\n";

#[test]
fn a_forbidden_publish_is_answered_0x87_and_reaches_nobody() {
    let broker = Broker::start(RULES);
    let mut reader = broker.anonymous("reader");
    reader.subscribe("#", Q1);
    let mut alice = broker.login("alice", "alice");
    for qos in [Q1, Q2] {
        assert_eq!(alice.publish("a/secret", qos), ReasonCode::NotAuthorized);
        assert_eq!(alice.publish("b", qos), ReasonCode::NotAuthorized);
    }
    alice.publish("a/secret", Q0);
    assert_eq!(reader.publish("a/x", Q1), ReasonCode::NotAuthorized);
    assert_eq!(alice.publish("a/x", Q1), ReasonCode::Success);
    assert_eq!(reader.expect_topics(1), ["a/x"]);
}

#[test]
fn mqtt_3_clients_get_a_plain_acknowledgement_and_suback_0x80() {
    let broker = Broker::start(RULES);
    let mut reader = broker.anonymous("reader");
    reader.subscribe("#", Q1);
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1] {
        let mut connect = login("alice", "alice");
        connect.version = version;
        let mut alice = broker.accepted(&connect);
        for qos in [Q0, Q1, Q2] {
            assert_eq!(alice.publish("b", qos), ReasonCode::Success);
        }
        let refused = alice.subscribe("b", Q1);
        assert_eq!(refused, ReasonCode::UnspecifiedError, "{version:?}");
        assert_eq!(alice.subscribe("a/x", Q1), ReasonCode::GrantedQoS1);
        drop(alice);
    }
    reader.expect_nothing();
}

#[test]
fn nobody_publishes_to_topics_of_the_broker_whatever_the_rules_say() {
    let broker = Broker::with(
        "topic #\ntopic $SYS/#\nuser alice\ntopic #\n",
        |config, _| {
            config.acl.superusers = vec!["carol".into()];
        },
    );
    for connect in [connect("any"), login("alice", "a"), login("carol", "c")] {
        let mut client = broker.accepted(&connect);
        for topic in [
            "$SYS/broker/uptime",
            "$SYS",
            "$share/g/a",
            "$queue/a",
            "$exclusive/a",
        ] {
            let reason = client.publish(topic, Q1);
            assert_eq!(reason, ReasonCode::NotAuthorized, "{topic}");
        }
    }
}

#[test]
fn an_alias_leads_to_no_forbidden_topic() {
    let broker = Broker::start(RULES);
    let mut reader = broker.anonymous("reader");
    reader.subscribe("#", Q1);
    let mut alice = broker.login("alice", "alice");
    let publish = |topic, alias| Publish {
        properties: PublishProperties {
            topic_alias: std::num::NonZeroU16::new(alias),
            ..PublishProperties::default()
        },
        ..message(topic, Q1)
    };
    // The alias is set, and the message refused; the alias alone is refused as well.
    for topic in ["a/secret", "", ""] {
        let reason = alice.publish_as(publish(topic, 1));
        assert_eq!(reason, ReasonCode::NotAuthorized, "{topic:?}");
    }
    assert_eq!(alice.publish_as(publish("a/x", 1)), ReasonCode::Success);
    assert_eq!(alice.publish_as(publish("", 1)), ReasonCode::Success);
    assert_eq!(reader.expect_topics(2), ["a/x", "a/x"]);
}

#[test]
fn a_delayed_message_needs_the_right_to_its_topic() {
    let broker = Broker::start(RULES);
    let mut alice = broker.login("alice", "alice");
    let reason = alice.publish("$delayed/0/a/secret", Q1);
    assert_eq!(reason, ReasonCode::NotAuthorized);
    assert_eq!(alice.publish("$delayed/0/a/x", Q1), ReasonCode::Success);
}

#[test]
fn retain_is_a_right_of_its_own() {
    let broker = Broker::with("", |config, _| {
        config.acl.rules = vec![tidewire::config::AclRule {
            actions: vec![
                tidewire::config::AclAction::Publish,
                tidewire::config::AclAction::Read,
            ],
            topics: vec!["a".into()],
            ..Default::default()
        }];
    });
    let mut client = broker.anonymous("c");
    assert!(!client.publish("a", Q1).is_error());
    assert_eq!(client.retain("a"), ReasonCode::NotAuthorized);
    assert!(!client.publish("a", Q1).is_error());
    client.subscribe("a", Q1);
    client.expect_nothing();
}
