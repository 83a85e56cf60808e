//! Topic names, filters and how they match.

use tidewire_protocol::codec::ReasonCode;

use crate::client::{Q0, Q1, at_brokers, in_all_versions, message};

/// Covers MQTT-3.3.2-3, MQTT-4.7.1-1 and MQTT-4.7.1-2: the examples of section 4.7.
#[test]
fn mqtt_4_7_1_2_wildcards_match_whole_levels() {
    in_all_versions(|broker, version| {
        let mut client = broker.connect_as("c", version);
        let mut publisher = broker.connect("p");
        for (filter, topics, others) in [
            (
                "s/t/#",
                &["s/t", "s/t/", "s/t/r", "s/t/r/w"][..],
                &["s", "s/tt", "/s/t"][..],
            ),
            ("s/t/+", &["s/t/a", "s/t/"], &["s/t", "s/t/a/b"]),
            ("s/+", &["s/", "s/a"], &["s", "s/a/b"]),
            ("+/+", &["/f", "a/b"], &["f", "a/b/c"]),
            ("/+", &["/f"], &["f", "/f/g"]),
            ("+", &["f"], &["/f", "f/"]),
            ("+/t/#", &["s/t", "/t/x"], &["s/u/t"]),
            ("s/+/r", &["s//r", "s/t/r"], &["s/t/r/"]),
        ] {
            client.subscribe(filter, Q0);
            for topic in others.iter().chain(topics) {
                publisher.publish_acked(topic, topic);
            }
            for topic in topics {
                assert_eq!(client.expect_payload(topic).topic, *topic, "{filter}");
            }
            client.expect_nothing();
            client.unsubscribe(filter);
        }
    });
}

/// Covers MQTT-4.7.3-4.
#[test]
fn mqtt_4_7_3_4_topics_are_compared_byte_by_byte() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        let mut publisher = broker.connect("p");
        for (filter, others) in [
            ("caf\u{E9}", ["cafe\u{301}", "CAF\u{E9}"]),
            ("a b", ["a%20b", "ab"]),
            ("/", ["//", " /"]),
            ("A", ["a", "A "]),
        ] {
            client.subscribe(filter, Q0);
            for topic in others {
                publisher.publish_acked(topic, "other");
            }
            publisher.publish_acked(filter, "same");
            client.expect_payload("same");
            client.unsubscribe(filter);
        }
    });
}

/// Covers MQTT-4.7.3-3: 65,535 bytes fit, if the broker is configured to take them.
#[test]
fn mqtt_4_7_3_3_topics_of_65535_bytes_are_carried() {
    let change = |config: &mut tidewire::config::Config| config.limits.topic_bytes_max = 65_535;
    crate::client::at_brokers_with(change, |broker| {
        let topic = "t".repeat(65_535);
        let mut client = broker.connect("c");
        assert_eq!(client.subscribe(&topic, Q1), ReasonCode::GrantedQoS1);
        broker.connect("p").publish_acked(&topic, "long");
        assert_eq!(client.expect_payload("long").topic.len(), 65_535);
    });
}

#[test]
fn topics_beyond_the_limits_are_refused_and_nobody_else_notices() {
    at_brokers(|broker| {
        let mut witness = broker.connect("w");
        witness.subscribe("#", Q0);
        let slashes = "/".repeat(65_535);
        let mut client = broker.connect("c");
        client.publish(message(&slashes, "x", Q1, 1));
        let reason = client.ack_of(tidewire_protocol::codec::PacketType::PubAck, 1);
        assert_eq!(reason, ReasonCode::TopicNameInvalid);
        assert_eq!(
            client.subscribe(&slashes, Q0),
            ReasonCode::TopicFilterInvalid
        );
        assert_eq!(client.unsubscribe(&slashes), ReasonCode::TopicFilterInvalid);
        client.expect_nothing();
        witness.expect_nothing();
    });
}

#[test]
fn control_characters_in_topics_are_carried_as_they_are() {
    in_all_versions(|broker, version| {
        let topic = "a\r\nforged\u{7F}\u{1}";
        let mut client = broker.connect_as("c", version);
        client.subscribe(topic, Q0);
        broker.connect("p").publish_acked(topic, "x");
        assert_eq!(client.expect_payload("x").topic, topic);
    });
}
