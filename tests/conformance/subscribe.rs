//! SUBSCRIBE and UNSUBSCRIBE.

use tidewire_protocol::codec::{ProtocolVersion, ReasonCode, RetainHandling, SubscriptionOptions};

use crate::client::{Q0, Q1, Q2, at_brokers, in_all_versions, message, options};
use crate::got::Got;

#[test]
fn mqtt_3_3_4_4_overlapping_subscriptions_give_one_delivery_with_all_ids() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe_with("a/b", options(Q0), Some(1));
        client.subscribe_with("a/+", options(Q1), Some(2));
        client.subscribe_with("#", options(Q0), None);
        broker.connect("p").publish_acked("a/b", "1");
        let mut got = client.expect_payload("1");
        got.ids.sort_unstable();
        assert_eq!((got.qos, got.ids), (Q1, vec![1, 2]));
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_8_3_3_no_local_keeps_a_clients_own_messages_away() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        let options = SubscriptionOptions {
            no_local: true,
            ..options(Q0)
        };
        client.subscribe_with("a", options, None);
        client.publish_acked("a", "own");
        broker.connect("p").publish_acked("a", "other");
        client.expect_payload("other");
    });
}

#[test]
fn mqtt_3_10_4_5_an_unsubscribe_without_subscription_is_answered_with_0x11() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe("a", Q0);
        assert_eq!(client.unsubscribe("a"), ReasonCode::Success);
        let reason = client.unsubscribe("a");
        assert_eq!(reason, ReasonCode::NoSubscriptionExisted);
        broker.connect("p").publish_acked("a", "1");
        client.expect_nothing();
    });
}

#[test]
fn mqtt_4_7_1_1_invalid_filters_are_refused_with_0x8f() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        for filter in ["a#", "#/a", "a+/b", "$share/g", "$share//a", "$share/+/a"] {
            let reason = client.subscribe(filter, Q0);
            assert_eq!(reason, ReasonCode::TopicFilterInvalid, "{filter}");
        }
    });
}

#[test]
fn mqtt_4_7_2_1_leading_wildcards_do_not_match_topics_that_begin_with_a_dollar() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe("#", Q0);
        client.subscribe("+/a", Q0);
        let mut exact = broker.connect("e");
        exact.subscribe("$own/#", Q0);
        let mut publisher = broker.connect("p");
        publisher.publish(message("$own/a", "hidden", Q0, 0));
        publisher.publish(message("own", "seen", Q0, 0));
        client.expect_payload("seen");
        exact.expect_payload("hidden");
    });
}

#[test]
fn mqtt_3_8_4_3_a_repeated_subscription_replaces_its_options() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe_with("a", options(Q1), Some(1));
        client.subscribe_with("a", options(Q0), Some(2));
        broker.connect("p").publish_acked("a", "1");
        let got = client.expect_payload("1");
        assert_eq!((got.qos, got.ids), (Q0, vec![2]));
        client.expect_nothing();
    });
}

/// Covers MQTT-2.2.1-6, MQTT-3.8.4-1, -2, -5, -6, -7, MQTT-3.9.3-1 and -2.
#[test]
fn mqtt_3_8_4_5_several_filters_get_one_suback_in_their_order() {
    in_all_versions(|broker, version| {
        let mut client = broker.connect_as("c", version);
        let asked = [
            ("a", Q2),
            ("b#", Q0),
            ("c", Q0),
            ("$share/g/d", Q1),
            ("a", Q1),
        ];
        let asked = asked.map(|(filter, qos)| (filter, options(qos)));
        client.send_subscribe(700, &asked);
        let invalid = match version {
            ProtocolVersion::V5 => ReasonCode::TopicFilterInvalid,
            _ => ReasonCode::UnspecifiedError,
        };
        let reasons = vec![
            ReasonCode::GrantedQoS2,
            invalid,
            ReasonCode::Success,
            ReasonCode::GrantedQoS1,
            ReasonCode::GrantedQoS1,
        ];
        assert_eq!(client.receive(), Got::SubAck(700, reasons));
        // As if one after the other: the last one holds.
        broker.connect("p").publish_exactly_once("a", "x");
        assert_eq!(client.expect_payload("x").qos, Q1);
        client.expect_nothing();
    });
}

/// Covers MQTT-3.8.4-8: the lower QoS of message and subscription.
#[test]
fn mqtt_3_8_4_8_qos_is_the_lower_of_both_in_every_combination() {
    in_all_versions(|broker, version| {
        for granted in [Q0, Q1, Q2] {
            let mut client = broker.connect_as("c", version);
            client.subscribe("a", granted);
            let mut publisher = broker.connect("p");
            publisher.publish(message("a", "0", Q0, 0));
            publisher.publish_acked("a", "1");
            publisher.publish_exactly_once("a", "2");
            for (payload, sent) in [("0", Q0), ("1", Q1), ("2", Q2)] {
                assert_eq!(client.expect_payload(payload).qos, sent.min(granted));
            }
        }
    });
}

/// Covers MQTT-3.3.4-2; 3.1.1: MQTT-3.3.5-1.
#[test]
fn mqtt_3_3_4_2_overlapping_subscriptions_give_the_highest_qos() {
    in_all_versions(|broker, version| {
        let mut client = broker.connect_as("c", version);
        client.subscribe("a/#", Q0);
        client.subscribe("a/b", Q2);
        client.subscribe("+/b", Q1);
        broker.connect("p").publish_exactly_once("a/b", "x");
        assert_eq!(client.expect_payload("x").qos, Q2);
        client.expect_nothing();
    });
}

/// Covers MQTT-3.8.4-4: retained messages come again, and no other is lost.
#[test]
fn mqtt_3_8_4_4_a_replaced_subscription_loses_no_message() {
    at_brokers(|broker| {
        let mut publisher = broker.connect("p");
        publisher.retain("r", "retained");
        let mut client = broker.connect("c");
        client.subscribe("r", Q1);
        client.expect_payload("retained");
        client.subscribe("r", Q1);
        client.expect_payload("retained");
        let quiet = SubscriptionOptions {
            retain_handling: RetainHandling::DoNotSend,
            ..options(Q1)
        };
        for number in 0..50 {
            publisher.publish(message("r", &number.to_string(), Q0, 0));
            client.send_subscribe(5, &[("r", quiet)]);
        }
        publisher.expect_nothing();
        let mut next = 0;
        while next < 50 {
            match client.receive() {
                Got::Message(got) => {
                    assert_eq!(got.payload, next.to_string());
                    next += 1;
                }
                other => assert!(matches!(other, Got::SubAck(5, _)), "{other:?}"),
            }
        }
    });
}

/// Covers MQTT-3.8.3-3: also for the next connection of the same client id.
#[test]
fn mqtt_3_8_3_3_no_local_is_about_the_client_id() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        let options = SubscriptionOptions {
            no_local: true,
            ..options(Q1)
        };
        client.subscribe_with("a", options, None);
        client.publish_acked("a", "own");
        drop(client);
        let (mut client, _) = broker.resume("c");
        client.publish_acked("a", "own");
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_3_4_3_the_subscription_id_comes_with_retained_and_shared_messages() {
    at_brokers(|broker| {
        broker.connect("p").retain("a", "1");
        let mut client = broker.connect("c");
        client.subscribe_with("a", options(Q1), Some(268_435_455));
        assert_eq!(client.expect_payload("1").ids, [268_435_455]);
        client.subscribe_with("$share/g/b", options(Q1), Some(7));
        broker.connect("p").publish_acked("b", "2");
        assert_eq!(client.expect_payload("2").ids, [7]);
    });
}
