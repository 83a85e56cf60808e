//! Retained messages.

use tidewire_protocol::codec::{Publish, RetainHandling, SubscriptionOptions};

use crate::client::{Q0, Q1, at_brokers, in_all_versions, message, options};

#[test]
fn mqtt_3_3_1_9_matching_retained_messages_are_sent_to_a_new_subscription() {
    at_brokers(|broker| {
        let mut publisher = broker.connect("p");
        for topic in ["a/1", "a/2", "b/1"] {
            publisher.retain(topic, topic);
        }
        let mut client = broker.connect("c");
        client.subscribe("a/+", Q0);
        let mut topics = [(); 2].map(|()| {
            let got = client.expect_message();
            assert!(got.retain);
            got.topic
        });
        topics.sort();
        assert_eq!(topics, ["a/1", "a/2"]);
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_3_1_5_the_latest_retained_message_replaces_the_one_before() {
    at_brokers(|broker| {
        let mut publisher = broker.connect("p");
        publisher.retain("a", "1");
        publisher.retain("a", "2");
        let mut client = broker.connect("c");
        client.subscribe("a", Q1);
        client.expect_payload("2");
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_3_1_6_an_empty_payload_clears_the_retained_message() {
    at_brokers(|broker| {
        let mut publisher = broker.connect("p");
        publisher.retain("a", "1");
        publisher.retain("a", "");
        let mut client = broker.connect("c");
        client.subscribe("a", Q1);
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_3_1_9_retain_handling_0_sends_at_every_subscribe() {
    expect_counts(RetainHandling::Send, true, true);
}

#[test]
fn mqtt_3_3_1_10_retain_handling_1_sends_only_for_new_subscriptions() {
    expect_counts(RetainHandling::SendIfNew, true, false);
}

#[test]
fn mqtt_3_3_1_11_retain_handling_2_sends_nothing() {
    expect_counts(RetainHandling::DoNotSend, false, false);
}

fn expect_counts(retain_handling: RetainHandling, first: bool, second: bool) {
    at_brokers(|broker| {
        broker.connect("p").retain("a", "1");
        let mut client = broker.connect("c");
        for is_sent in [first, second] {
            let options = SubscriptionOptions {
                retain_handling,
                ..options(Q0)
            };
            client.subscribe_with("a", options, None);
            if is_sent {
                client.expect_payload("1");
            }
            client.expect_nothing();
        }
    });
}

#[test]
fn mqtt_3_3_1_12_and_13_retain_is_forwarded_only_as_published() {
    at_brokers(|broker| {
        let mut plain = broker.connect("plain");
        plain.subscribe("a", Q0);
        let mut asks = broker.connect("asks");
        let options = SubscriptionOptions {
            retain_as_published: true,
            ..options(Q0)
        };
        asks.subscribe_with("a", options, None);
        let mut publisher = broker.connect("p");
        publisher.publish(Publish {
            retain: true,
            ..message("a", "1", Q0, 0)
        });
        publisher.publish(message("a", "2", Q0, 0));
        assert!(!plain.expect_payload("1").retain);
        assert!(asks.expect_payload("1").retain);
        assert!(!asks.expect_payload("2").retain);
    });
}

#[test]
fn mqtt_3_3_1_8_a_message_without_retain_is_not_kept_and_replaces_nothing() {
    in_all_versions(|broker, version| {
        let mut publisher = broker.connect_as("p", version);
        publisher.retain("a", "kept");
        publisher.publish_acked("a", "passing");
        publisher.publish_acked("a", "");
        publisher.publish_acked("b", "passing");
        let mut client = broker.connect_as("c", version);
        client.subscribe("#", Q1);
        client.expect_payload("kept");
        client.expect_nothing();
    });
}

/// Covers MQTT-3.3.1-6 and -7; 3.1.1: MQTT-3.3.1-10 and -11.
#[test]
fn mqtt_3_3_1_7_an_empty_retained_message_is_delivered_but_not_kept() {
    in_all_versions(|broker, version| {
        let mut client = broker.connect_as("c", version);
        client.subscribe("a", Q0);
        let mut publisher = broker.connect_as("p", version);
        publisher.retain("a", "1");
        publisher.retain("a", "");
        assert!(!client.expect_payload("1").retain);
        assert!(!client.expect_payload("").retain);
        let mut late = broker.connect_as("late", version);
        late.subscribe("a", Q0);
        late.expect_nothing();
    });
}

/// 3.1.1: MQTT-3.1.2-7: retained messages are no part of a session.
#[test]
fn a_retained_message_outlives_the_session_of_its_publisher() {
    in_all_versions(|broker, version| {
        let mut publisher = broker.connect_as("p", version);
        publisher.retain("a", "1");
        publisher.bye();
        broker.connect_as("p", version).bye();
        let mut client = broker.connect_as("c", version);
        client.subscribe("a", Q1);
        let got = client.expect_payload("1");
        assert_eq!((got.qos, got.retain), (Q1, true));
    });
}
