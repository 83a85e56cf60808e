//! PUBLISH, its acknowledgements and quotas.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use tidewire_protocol::codec::{PacketType, Publish, ReasonCode, UserProperties};

use crate::client::{Q0, Q1, Q2, at_brokers, at_brokers_with, connect, lasting, message};

#[test]
fn mqtt_3_3_4_1_each_qos_reaches_a_subscriber_with_its_handshake() {
    at_brokers(|broker| {
        let mut subscriber = broker.connect("s");
        subscriber.subscribe("a", Q2);
        let mut publisher = broker.connect("p");
        publisher.publish(message("a", "0", Q0, 0));
        assert_eq!(subscriber.expect_payload("0").qos, Q0);
        publisher.publish(message("a", "1", Q1, 5));
        assert_eq!(publisher.ack_of(PacketType::PubAck, 5), ReasonCode::Success);
        let got = subscriber.expect_payload("1");
        assert_eq!(got.qos, Q1);
        subscriber.send_ack(PacketType::PubAck, got.id);
        publisher.publish(message("a", "2", Q2, 6));
        assert_eq!(publisher.ack_of(PacketType::PubRec, 6), ReasonCode::Success);
        publisher.send_ack(PacketType::PubRel, 6);
        assert_eq!(
            publisher.ack_of(PacketType::PubComp, 6),
            ReasonCode::Success
        );
        let got = subscriber.expect_payload("2");
        assert_eq!(got.qos, Q2);
        subscriber.send_ack(PacketType::PubRec, got.id);
        subscriber.ack_of(PacketType::PubRel, got.id);
        subscriber.send_ack(PacketType::PubComp, got.id);
        subscriber.expect_nothing();
    });
}

#[test]
fn mqtt_3_8_4_8_the_lower_qos_of_publish_and_subscription_is_used() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        assert_eq!(client.subscribe("a", Q1), ReasonCode::GrantedQoS1);
        let mut publisher = broker.connect("p");
        publisher.publish(message("a", "2", Q2, 6));
        publisher.ack_of(PacketType::PubRec, 6);
        assert_eq!(client.expect_payload("2").qos, Q1);
    });
}

#[test]
fn mqtt_3_4_2_1_a_publish_without_subscribers_is_acknowledged_with_0x10() {
    at_brokers(|broker| {
        let reason = broker.connect("p").publish_acked("nobody", "1");
        assert_eq!(reason, ReasonCode::NoMatchingSubscribers);
    });
}

#[test]
fn mqtt_4_3_3_10_a_repeated_qos_2_packet_id_is_delivered_once() {
    at_brokers(|broker| {
        let mut subscriber = broker.connect("s");
        subscriber.subscribe("a", Q0);
        let (mut publisher, _) = broker.resume("p");
        publisher.publish(message("a", "once", Q2, 7));
        publisher.ack_of(PacketType::PubRec, 7);
        let again = || Publish {
            dup: true,
            ..message("a", "once", Q2, 7)
        };
        publisher.publish(again());
        publisher.ack_of(PacketType::PubRec, 7);
        publisher.bye();
        let (mut publisher, _) = broker.resume("p");
        publisher.publish(again());
        publisher.ack_of(PacketType::PubRec, 7);
        publisher.send_ack(PacketType::PubRel, 7);
        assert_eq!(
            publisher.ack_of(PacketType::PubComp, 7),
            ReasonCode::Success
        );
        publisher.publish(message("a", "next", Q2, 7));
        publisher.ack_of(PacketType::PubRec, 7);
        subscriber.expect_payload("once");
        subscriber.expect_payload("next");
    });
}

#[test]
fn mqtt_3_7_2_1_an_unknown_pubrel_is_answered_with_0x92() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.send_ack(PacketType::PubRel, 9);
        let reason = client.ack_of(PacketType::PubComp, 9);
        assert_eq!(reason, ReasonCode::PacketIdentifierNotFound);
    });
}

#[test]
fn mqtt_3_6_2_1_an_unknown_pubrec_is_answered_with_0x92() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.send_ack(PacketType::PubRec, 9);
        let reason = client.ack_of(PacketType::PubRel, 9);
        assert_eq!(reason, ReasonCode::PacketIdentifierNotFound);
    });
}

#[test]
fn mqtt_4_4_0_1_unsettled_messages_are_sent_again_in_order_with_dup() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q2);
        let mut publisher = broker.connect("p");
        publisher.publish_acked("a", "1");
        publisher.publish(message("a", "2", Q2, 1));
        publisher.ack_of(PacketType::PubRec, 1);
        publisher.publish_acked("a", "3");
        let ids = ["1", "2", "3"].map(|payload| {
            let got = client.expect_payload(payload);
            assert!(!got.dup);
            got.id
        });
        drop(client);
        let (mut client, _) = broker.resume("c");
        for (payload, id) in ["1", "2", "3"].into_iter().zip(ids) {
            let got = client.expect_payload(payload);
            assert_eq!((got.dup, got.id), (true, id));
        }
        client.expect_nothing();
    });
}

#[test]
fn mqtt_4_3_3_6_after_pubrec_the_pubrel_is_sent_again_instead_of_the_publish() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q2);
        let mut publisher = broker.connect("p");
        publisher.publish(message("a", "2", Q2, 1));
        let id = client.expect_payload("2").id;
        client.send_ack(PacketType::PubRec, id);
        client.ack_of(PacketType::PubRel, id);
        drop(client);
        let (mut client, _) = broker.resume("c");
        assert_eq!(client.ack_of(PacketType::PubRel, id), ReasonCode::Success);
        client.send_ack(PacketType::PubComp, id);
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_3_4_7_more_than_the_servers_receive_maximum_ends_with_0x93() {
    let change = |config: &mut tidewire::config::Config| config.mqtt.receive_maximum = 2;
    at_brokers_with(change, |broker| {
        let (mut client, _) = broker.resume("c");
        for id in 1..=2 {
            client.publish(message("a", "x", Q2, id));
            client.ack_of(PacketType::PubRec, id);
        }
        client.publish(message("a", "x", Q2, 3));
        client.expect_end(ReasonCode::ReceiveMaximumExceeded);
    });
}

#[test]
fn a_message_refused_with_0x93_is_delivered_when_it_is_sent_again() {
    let change = |config: &mut tidewire::config::Config| config.mqtt.receive_maximum = 1;
    at_brokers_with(change, |broker| {
        let mut subscriber = broker.connect("s");
        subscriber.subscribe("a", Q0);
        let (mut client, _) = broker.resume("c");
        client.publish(message("a", "1", Q2, 1));
        client.ack_of(PacketType::PubRec, 1);
        client.publish(message("a", "2", Q2, 2));
        client.expect_end(ReasonCode::ReceiveMaximumExceeded);
        let (mut client, _) = broker.resume("c");
        client.send_ack(PacketType::PubRel, 1);
        client.ack_of(PacketType::PubComp, 1);
        client.publish(Publish {
            dup: true,
            ..message("a", "2", Q2, 2)
        });
        client.ack_of(PacketType::PubRec, 2);
        subscriber.expect_payload("1");
        subscriber.expect_payload("2");
    });
}

#[test]
fn mqtt_3_3_4_9_no_more_than_the_clients_receive_maximum_is_in_flight() {
    at_brokers(|broker| {
        let mut connect = connect("c");
        connect.properties.receive_maximum = NonZeroU16::new(2);
        let (mut client, _) = broker.connect_with(&connect);
        client.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        for payload in ["1", "2", "3"] {
            publisher.publish_acked("a", payload);
        }
        publisher.publish(message("a", "0", Q0, 0));
        let id = client.expect_payload("1").id;
        client.expect_payload("2");
        client.expect_payload("0");
        client.expect_nothing();
        client.send_ack(PacketType::PubAck, id);
        client.expect_payload("3");
    });
}

#[test]
fn mqtt_3_3_2_12_a_topic_alias_stands_for_its_topic() {
    at_brokers(|broker| {
        let mut subscriber = broker.connect("s");
        subscriber.subscribe("#", Q0);
        let mut client = broker.connect("c");
        for (topic, payload) in [("a", "1"), ("", "2"), ("b", "3"), ("", "4")] {
            let mut publish = message(topic, payload, Q0, 0);
            publish.properties.topic_alias = NonZeroU16::new(1);
            client.publish(publish);
        }
        for topic in ["a", "a", "b", "b"] {
            assert_eq!(subscriber.expect_message().topic, topic);
        }
    });
}

#[test]
fn mqtt_3_3_2_9_a_topic_alias_above_the_maximum_ends_with_0x94() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        let mut publish = message("a", "", Q0, 0);
        publish.properties.topic_alias = NonZeroU16::new(65);
        client.publish(publish);
        client.expect_end(ReasonCode::TopicAliasInvalid);
    });
}

#[test]
fn mqtt_3_1_2_25_a_packet_too_large_for_the_client_is_dropped_and_takes_no_quota() {
    at_brokers(|broker| {
        let mut connect = connect("c");
        connect.properties.receive_maximum = NonZeroU16::new(1);
        connect.properties.maximum_packet_size = NonZeroU32::new(40);
        let (mut client, _) = broker.connect_with(&connect);
        client.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        publisher.publish_acked("a", &"x".repeat(50));
        publisher.publish(message("a", &"x".repeat(50), Q0, 0));
        publisher.publish_acked("a", "small");
        client.expect_payload("small");
    });
}

#[test]
fn mqtt_3_3_2_6_the_message_expiry_is_counted_down() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q1);
        client.bye();
        let mut publisher = broker.connect("p");
        for (payload, seconds) in [("short", 1), ("long", 100)] {
            let mut publish = message("a", payload, Q1, 1);
            publish.properties.message_expiry_seconds = Some(seconds);
            publisher.publish(publish);
            publisher.ack_of(PacketType::PubAck, 1);
        }
        std::thread::sleep(Duration::from_millis(1_300));
        let (mut client, _) = broker.connect_with(&lasting("c"));
        let left = client.expect_payload("long").expiry;
        assert!(
            left.is_some_and(|left| (80..100).contains(&left)),
            "{left:?}"
        );
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_3_2_18_user_properties_keep_their_order() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe("a", Q0);
        let pairs = [("b", "1"), ("a", "2"), ("b", "1"), ("", "")];
        let mut publish = message("a", "", Q0, 0);
        publish.properties.user_properties = UserProperties::from_pairs(&pairs);
        client.publish(publish);
        let user = client.expect_message().user;
        let got: Vec<_> = user.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(got, pairs);
    });
}

#[test]
fn mqtt_2_2_1_4_packet_ids_wrap_and_skip_those_in_flight() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        publisher.publish_acked("a", "held");
        let held = client.expect_payload("held").id;
        let mut last = held;
        let mut has_wrapped = false;
        for _ in 0..33 {
            for _ in 0..2_000 {
                publisher.publish(message("a", "x", Q1, 1));
            }
            for _ in 0..2_000 {
                publisher.ack_of(PacketType::PubAck, 1);
                let id = client.expect_payload("x").id;
                assert_ne!(id, held);
                has_wrapped |= id < last;
                last = id;
                client.send_ack(PacketType::PubAck, id);
            }
        }
        assert!(has_wrapped);
    });
}
