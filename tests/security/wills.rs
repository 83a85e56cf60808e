//! Negative test 28: wills to topics without a right.

use tidewire_protocol::codec::{ProtocolVersion, ReasonCode, Will};

use super::broker::{Broker, login};
use super::client::{Q1, will};

const RULES: &str = "user alice\ntopic write a/#\nuser carol\ntopic read #\n";

#[test]
fn a_will_without_a_right_is_refused_with_connect() {
    let broker = Broker::start(RULES);
    let mut carol = broker.login("carol", "carol");
    carol.subscribe("#", Q1);
    for topic in [
        "b",
        "$SYS/x",
        "$CONTROL/x",
        "$share/g/a",
        "$delayed/1/b",
        "$queue/a",
    ] {
        for retain in [false, true] {
            for delay_seconds in [None, Some(1)] {
                let mut connect = login("alice", "alice");
                let mut will = Will {
                    retain,
                    ..will(topic)
                };
                will.properties.delay_seconds = delay_seconds;
                connect.will = Some(will);
                let (_, reason) = broker.connect_with(&connect);
                assert_eq!(reason, ReasonCode::NotAuthorized, "{topic}");
            }
        }
    }
    carol.expect_nothing();
}

#[test]
fn mqtt_3_1_1_is_told_by_return_code_5() {
    let broker = Broker::start(RULES);
    let mut connect = login("alice", "alice");
    connect.version = ProtocolVersion::V3_1_1;
    connect.will = Some(will("b"));
    let (_, reason) = broker.connect_with(&connect);
    assert_eq!(reason, ReasonCode::NotAuthorized);
}

#[test]
fn a_refused_will_leaves_the_session_alone() {
    let broker = Broker::start(RULES);
    let mut first = broker.login("alice", "alice");
    let mut second = login("alice", "alice");
    second.will = Some(will("b"));
    assert_eq!(broker.connect_with(&second).1, ReasonCode::NotAuthorized);
    first.expect_nothing();
}

#[test]
fn a_will_with_a_right_is_sent() {
    let broker = Broker::start(RULES);
    let mut carol = broker.login("carol", "carol");
    carol.subscribe("#", Q1);
    let mut connect = login("alice", "alice");
    connect.will = Some(will("a/gone"));
    broker.accepted(&connect).vanish();
    assert_eq!(carol.expect_topics(1), ["a/gone"]);
}
