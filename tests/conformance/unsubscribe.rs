//! UNSUBSCRIBE and UNSUBACK.

use tidewire_protocol::codec::{PacketType, ReasonCode};

use crate::client::{Q0, Q1, Q2, at_brokers, in_all_versions};
use crate::got::Got;

/// Covers MQTT-3.10.4-1: `a/+` is not `a/b`.
#[test]
fn mqtt_3_10_4_1_only_the_filter_of_the_same_characters_is_removed() {
    in_all_versions(|broker, version| {
        let mut client = broker.connect_as("c", version);
        client.subscribe("a/b", Q0);
        for other in ["a/+", "#", "A/b", "a/b/", "$share/g/a/b"] {
            client.unsubscribe(other);
        }
        broker.connect("p").publish_acked("a/b", "1");
        client.expect_payload("1");
        client.unsubscribe("a/b");
        broker.connect("p").publish_acked("a/b", "2");
        // [MQTT-3.10.4-2]
        client.expect_nothing();
    });
}

/// Covers MQTT-3.10.4-3.
#[test]
fn mqtt_3_10_4_3_deliveries_that_have_begun_are_completed() {
    in_all_versions(|broker, version| {
        for filter in ["a", "$share/g/a"] {
            let (mut client, _) = broker.resume_as("c", version);
            client.subscribe(filter, Q2);
            let mut publisher = broker.connect("p");
            publisher.publish_acked("a", "1");
            publisher.publish_exactly_once("a", "2");
            let one = client.expect_payload("1").id;
            let two = client.expect_payload("2").id;
            client.unsubscribe(filter);
            client.send_ack(PacketType::PubRec, two);
            client.ack_of(PacketType::PubRel, two);
            drop(client);
            let (mut client, _) = broker.resume_as("c", version);
            let again = client.expect_payload("1");
            assert_eq!((again.id, again.dup), (one, true));
            client.ack_of(PacketType::PubRel, two);
            client.send_ack(PacketType::PubComp, two);
            client.send_ack(PacketType::PubAck, one);
            client.expect_nothing();
        }
    });
}

/// Covers MQTT-2.2.1-6, MQTT-3.10.4-4, -5, -6, MQTT-3.11.3-1 and -2.
#[test]
fn mqtt_3_10_4_6_several_filters_get_one_unsuback_in_their_order() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe("a", Q1);
        client.subscribe("$share/g/a", Q1);
        client.send_unsubscribe(900, &["none", "a", "a#", "$share/g/a", "a"]);
        let reasons = vec![
            ReasonCode::NoSubscriptionExisted,
            ReasonCode::Success,
            ReasonCode::TopicFilterInvalid,
            ReasonCode::Success,
            ReasonCode::NoSubscriptionExisted,
        ];
        assert_eq!(client.receive(), Got::UnsubAck(900, reasons));
        client.expect_nothing();
    });
}
