//! SUBSCRIBE and UNSUBSCRIBE.

use tidewire_protocol::codec::{ReasonCode, SubscriptionOptions};

use crate::client::{Q0, Q1, at_brokers, message, options};

#[test]
fn mqtt_3_3_4_3_overlapping_subscriptions_give_one_delivery_with_all_ids() {
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
fn mqtt_3_11_3_an_unsubscribe_without_subscription_is_answered_with_0x11() {
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
fn mqtt_4_7_1_invalid_filters_are_refused_with_0x8f() {
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
