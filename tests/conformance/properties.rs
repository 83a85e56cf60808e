//! Properties of PUBLISH on their way through the broker.

use std::num::NonZeroU16;
use std::time::Duration;

use tidewire_protocol::codec::{PacketType, Publish, ReasonCode, UserProperties};

use crate::client::{Q0, Q1, at_brokers, connect, lasting, message, will};
use crate::got::{Got, Message};

const PAIRS: [(&str, &str); 3] = [("b", "1"), ("a", "2"), ("b", "1")];

fn expect_forwarded(got: &Message) {
    assert_eq!(got.is_utf8, Some(true));
    assert_eq!(got.content_type.as_deref(), Some("text/plain"));
    assert_eq!(got.response_topic.as_deref(), Some("answer/here"));
    assert_eq!(got.correlation.as_deref(), Some(&[0, 255, 7][..]));
    let user: Vec<_> = got
        .user
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(user, PAIRS);
}

/// Covers MQTT-3.3.2-4, -15, -16, -17, -18 and -20: live, queued and retained.
#[test]
fn mqtt_3_3_2_17_properties_are_forwarded_unaltered_live_queued_and_retained() {
    at_brokers(|broker| {
        let mut live = broker.connect("live");
        live.subscribe("a", Q0);
        let (mut away, _) = broker.resume("away");
        away.subscribe("a", Q1);
        away.bye();
        let mut publish = message("a", "x", Q1, 1);
        publish.retain = true;
        publish.properties.payload_is_utf8 = Some(true);
        publish.properties.content_type = Some("text/plain");
        publish.properties.response_topic = Some("answer/here");
        publish.properties.correlation_data = Some(&[0, 255, 7]);
        publish.properties.user_properties = UserProperties::from_pairs(&PAIRS);
        let mut publisher = broker.connect("p");
        publisher.publish(publish);
        publisher.ack_of(PacketType::PubAck, 1);
        expect_forwarded(&live.expect_payload("x"));
        let (mut away, _) = broker.resume("away");
        expect_forwarded(&away.expect_payload("x"));
        let mut late = broker.connect("late");
        late.subscribe("a", Q1);
        expect_forwarded(&late.expect_payload("x"));
    });
}

/// Covers MQTT-3.1.3-10.
#[test]
fn mqtt_3_1_3_10_properties_of_a_will_are_forwarded_in_order() {
    at_brokers(|broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("will", Q1);
        let mut will = will("will");
        will.properties.payload_is_utf8 = Some(true);
        will.properties.content_type = Some("text/plain");
        will.properties.response_topic = Some("answer/here");
        will.properties.correlation_data = Some(&[0, 255, 7]);
        will.properties.user_properties = UserProperties::from_pairs(&PAIRS);
        will.properties.message_expiry_seconds = Some(100);
        let mut connect = connect("c");
        connect.will = Some(will);
        drop(broker.connect_with(&connect));
        let got = watcher.expect_payload("gone");
        expect_forwarded(&got);
        assert_eq!(got.expiry, Some(100));
    });
}

/// Covers MQTT-3.3.2-5.
#[test]
fn mqtt_3_3_2_5_an_expired_message_is_not_delivered_queued_or_retained() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q1);
        client.bye();
        let mut publish = message("a", "short", Q1, 1);
        publish.retain = true;
        publish.properties.message_expiry_seconds = Some(1);
        let mut publisher = broker.connect("p");
        publisher.publish(publish);
        publisher.ack_of(PacketType::PubAck, 1);
        std::thread::sleep(Duration::from_millis(1_200));
        let (mut client, _) = broker.connect_with(&lasting("c"));
        client.expect_nothing();
        client.subscribe("a", Q1);
        client.expect_nothing();
    });
}

/// Covers MQTT-3.3.2-7.
#[test]
fn mqtt_3_3_2_7_an_alias_ends_with_its_connection() {
    at_brokers(|broker| {
        let mut publish = message("a", "1", Q0, 0);
        publish.properties.topic_alias = NonZeroU16::new(1);
        let (mut client, _) = broker.resume("c");
        client.publish(publish.clone());
        client.bye();
        let (mut client, _) = broker.resume("c");
        publish.topic = "";
        client.publish(publish);
        client.expect_end(ReasonCode::ProtocolError);
    });
}

/// Covers MQTT-3.3.2-12.
#[test]
fn mqtt_3_3_2_12_every_alias_up_to_the_maximum_is_accepted() {
    at_brokers(|broker| {
        let mut subscriber = broker.connect("s");
        subscriber.subscribe("#", Q0);
        let mut client = broker.connect("c");
        for topic in ["first", ""] {
            for alias in 1..=64 {
                let name = format!("{topic}/{alias}");
                let mut publish = message(if topic.is_empty() { "" } else { &name }, "x", Q0, 0);
                publish.properties.topic_alias = NonZeroU16::new(alias);
                client.publish(publish);
                assert_eq!(subscriber.expect_message().topic, format!("first/{alias}"));
            }
        }
    });
}

/// Covers MQTT-3.1.2-27.
#[test]
fn mqtt_3_1_2_27_a_client_without_topic_alias_maximum_is_sent_no_alias() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe("a", Q0);
        let mut publisher = broker.connect("p");
        for alias in [1, 2] {
            let mut publish = message("a", "x", Q0, 0);
            publish.properties.topic_alias = NonZeroU16::new(alias);
            publisher.publish(publish);
            let got = client.expect_payload("x");
            assert_eq!((got.alias, got.topic.as_str()), (None, "a"));
        }
    });
}

#[test]
fn section_3_3_2_3_2_a_payload_that_is_not_what_it_says_is_refused_with_0x99_when_checked() {
    let change = |config: &mut tidewire::config::Config| config.mqtt.check_payload_format = true;
    crate::client::at_brokers_with(change, |broker| {
        let mut publish = Publish {
            payload: &[0xFF],
            ..message("a", "", Q1, 1)
        };
        publish.properties.payload_is_utf8 = Some(true);
        let mut client = broker.connect("c");
        client.publish(publish);
        let reason = client.ack_of(PacketType::PubAck, 1);
        assert_eq!(reason, ReasonCode::PayloadFormatInvalid);
        client.expect_nothing();
    });
}

/// Covers MQTT-1.5.4-3.
#[test]
fn mqtt_1_5_4_3_a_byte_order_mark_stays_where_it_is() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe("\u{FEFF}a", Q0);
        let mut publisher = broker.connect("p");
        publisher.publish(message("a", "other", Q0, 0));
        publisher.publish(message("\u{FEFF}a", "\u{FEFF}b", Q0, 0));
        let got = client.expect_payload("\u{FEFF}b");
        assert_eq!(got.topic, "\u{FEFF}a");
    });
}

/// Covers MQTT-3.1.2-28 and MQTT-3.1.2-29: what was not asked for is not sent.
#[test]
fn mqtt_3_1_2_29_without_problem_information_acknowledgements_have_no_properties() {
    at_brokers(|broker| {
        let mut connect = connect("c");
        connect.properties.request_problem_information = Some(false);
        let (mut client, _) = broker.connect_with(&connect);
        client.publish(message("$SYS/x", "x", Q1, 1));
        assert_eq!(client.receive_bytes(5), [0x40, 3, 0, 1, 0x87]);
        client.send_subscribe(2, &[("a#", crate::client::options(Q0))]);
        assert_eq!(client.receive_bytes(6), [0x90, 4, 0, 2, 0, 0x8F]);
        client.expect_nothing();
    });
}

/// Covers MQTT-2.2.1-2 and MQTT-4.3.1-1.
#[test]
fn mqtt_4_3_1_1_qos_0_has_neither_packet_id_nor_dup() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe("a", Q0);
        broker.connect("p").publish_acked("a", "x");
        assert_eq!(client.receive_bytes(7), [0x30, 5, 0, 1, b'a', 0, b'x']);
        assert_eq!(Got::Pong, {
            client.send_bytes(&[0xC0, 0]);
            client.receive()
        });
    });
}

#[test]
fn sixty_thousand_user_properties_pass_in_order() {
    at_brokers(|broker| {
        let numbers: Vec<String> = (0..60_000).map(|number| number.to_string()).collect();
        let pairs: Vec<(&str, &str)> = numbers.iter().map(|n| (n.as_str(), "v")).collect();
        let mut client = broker.connect("c");
        client.subscribe("a", Q1);
        let mut publish = message("a", "x", Q1, 1);
        publish.properties.user_properties = UserProperties::from_pairs(&pairs);
        let mut publisher = broker.connect("p");
        publisher.publish(publish);
        publisher.ack_of(PacketType::PubAck, 1);
        let user = client.expect_payload("x").user;
        assert!(user.iter().map(|(name, _)| name).eq(&numbers));
    });
}

/// Covers MQTT-3.1.2-26 and MQTT-3.3.2-11: live and queued, in every QoS, up to the maximum.
#[test]
fn mqtt_3_1_2_26_the_first_topics_get_aliases_up_to_the_clients_maximum() {
    at_brokers(|broker| {
        let mut connect = connect("c");
        connect.properties.topic_alias_maximum = Some(2);
        let (mut client, _) = broker.connect_with(&connect);
        client.subscribe("t/#", Q1);
        let mut plain = broker.connect("plain");
        plain.subscribe("t/#", Q0);
        let mut publisher = broker.connect("p");
        let sent = [
            ("t/one", "t/one", Some(1)),
            ("t/two", "t/two", Some(2)),
            ("t/three", "t/three", None),
            ("t/one", "", Some(1)),
            ("t/two", "", Some(2)),
        ];
        for (number, (topic, _, _)) in sent.iter().enumerate() {
            let qos = if number == 3 { Q0 } else { Q1 };
            publisher.publish(message(topic, "x", qos, 9));
            if qos == Q1 {
                publisher.ack_of(PacketType::PubAck, 9);
            }
        }
        for (topic, expected, alias) in sent {
            let got = client.expect_payload("x");
            assert_eq!((got.topic.as_str(), got.alias), (expected, alias));
            assert_eq!(plain.expect_payload("x").topic, topic);
        }
    });
}

#[test]
fn aliases_never_make_a_packet_larger_than_the_client_takes() {
    at_brokers(|broker| {
        let mut connect = connect("c");
        connect.properties.topic_alias_maximum = Some(2);
        connect.properties.maximum_packet_size = std::num::NonZeroU32::new(40);
        let (mut client, _) = broker.connect_with(&connect);
        client.subscribe("topic", Q0);
        let mut publisher = broker.connect("p");
        let exact = "x".repeat(40 - 2 - 7 - 1);
        for payload in [exact.as_str(), "small", exact.as_str()] {
            publisher.publish(message("topic", payload, Q0, 0));
        }
        let got = client.expect_payload(&exact);
        assert_eq!((got.topic.as_str(), got.alias), ("topic", None));
        let got = client.expect_payload("small");
        assert_eq!((got.topic.as_str(), got.alias), ("topic", Some(1)));
        let got = client.expect_payload(&exact);
        assert_eq!((got.topic.as_str(), got.alias), ("", Some(1)));
        client.expect_nothing();
    });
}
