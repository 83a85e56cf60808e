//! `$SYS`, `$exclusive` and `$delayed`.

use tidewire_protocol::codec::ReasonCode;

use crate::client::{Q0, Q1, at_brokers};

#[test]
fn a_publish_to_sys_is_refused_with_0x87() {
    at_brokers(|broker| {
        let reason = broker.connect("c").publish_acked("$SYS/broker", "1");
        assert_eq!(reason, ReasonCode::NotAuthorized);
    });
}

#[test]
fn an_exclusive_topic_has_one_subscriber_until_it_leaves() {
    at_brokers(|broker| {
        let mut one = broker.connect("one");
        assert_eq!(one.subscribe("$exclusive/a", Q1), ReasonCode::GrantedQoS1);
        let mut two = broker.connect("two");
        assert_eq!(two.subscribe("$exclusive/a", Q1), ReasonCode::QuotaExceeded);
        broker.connect("p").publish_acked("a", "1");
        one.expect_payload("1");
        two.expect_nothing();
        one.bye();
        assert_eq!(two.subscribe("$exclusive/a", Q1), ReasonCode::GrantedQoS1);
    });
}

#[test]
fn a_delayed_message_comes_after_its_delay() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe("a", Q0);
        let mut publisher = broker.connect("p");
        publisher.publish_acked("$delayed/1/a", "late");
        publisher.publish_acked("a", "now");
        assert_eq!(client.expect_payload("now").topic, "a");
        assert_eq!(client.expect_payload("late").topic, "a");
    });
}

#[test]
fn a_delayed_topic_that_is_invalid_is_refused_with_0x90() {
    at_brokers(|broker| {
        let reason = broker.connect("c").publish_acked("$delayed/x/a", "1");
        assert_eq!(reason, ReasonCode::TopicNameInvalid);
    });
}
