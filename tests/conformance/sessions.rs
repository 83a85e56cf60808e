//! Sessions: how long they last, what they keep and who gets them.

use std::time::Duration;

use tidewire_protocol::codec::{PacketType, ReasonCode};

use crate::client::{Q1, Q2, at_brokers, connect, in_all_versions, lasting, message};

#[test]
fn mqtt_4_1_0_1_a_session_lasts_while_it_is_connected() {
    at_brokers(|broker| {
        let mut short = lasting("c");
        short.properties.session_expiry_seconds = Some(1);
        let (mut client, _) = broker.connect_with(&short);
        client.subscribe("a", Q1);
        drop(client);
        let (mut client, is_present) = broker.connect_with(&short);
        assert!(is_present);
        std::thread::sleep(Duration::from_millis(1_300));
        broker.connect("p").publish_acked("a", "still there");
        client.expect_payload("still there");
    });
}

#[test]
fn a_taken_over_session_without_expiry_is_not_present_and_leaks_nothing() {
    at_brokers(|broker| {
        let mut older = broker.connect("c");
        older.subscribe("a", Q1);
        broker.connect("p").publish_acked("a", "unsettled");
        older.expect_payload("unsettled");
        let (mut newer, is_present) = broker.resume("c");
        assert!(!is_present);
        older.expect_end(ReasonCode::SessionTakenOver);
        broker.connect("p").publish_acked("a", "1");
        newer.expect_nothing();
    });
}

#[test]
fn two_connections_that_fight_for_a_client_id_lose_no_queued_message() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        for number in 0..100 {
            publisher.publish_acked("a", &number.to_string());
            let (newer, is_present) = broker.resume("c");
            assert!(is_present);
            client = newer;
        }
        for number in 0..100 {
            client.expect_payload(&number.to_string());
        }
        client.expect_nothing();
    });
}

/// Covers MQTT-4.3.3-7.
#[test]
fn mqtt_4_3_3_7_what_was_sent_no_longer_expires() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q2);
        let mut publish = message("a", "x", Q2, 1);
        publish.properties.message_expiry_seconds = Some(1);
        let mut publisher = broker.connect("p");
        publisher.publish(publish);
        publisher.ack_of(PacketType::PubRec, 1);
        let id = client.expect_payload("x").id;
        drop(client);
        std::thread::sleep(Duration::from_millis(1_200));
        let (mut client, _) = broker.resume("c");
        let again = client.expect_payload("x");
        assert_eq!((again.dup, again.id), (true, id));
        // [MQTT-4.3.3-13]: nor does the other exchange stop half way.
        publisher.send_ack(PacketType::PubRel, 1);
        let reason = publisher.ack_of(PacketType::PubComp, 1);
        assert_eq!(reason, ReasonCode::Success);
    });
}

#[test]
fn the_extremes_of_connect_are_taken() {
    at_brokers(|broker| {
        for (keep_alive, expiry) in [(0, 0), (0, u32::MAX), (u16::MAX, u32::MAX - 1)] {
            let mut connect = connect("c");
            connect.keep_alive_seconds = keep_alive;
            connect.properties.session_expiry_seconds = Some(expiry);
            let (mut client, _) = broker.connect_with(&connect);
            client.expect_nothing();
            client.bye();
            assert_eq!(broker.resume("c").1, expiry > 0);
        }
    });
}

#[test]
fn sessions_pass_between_versions() {
    in_all_versions(|broker, version| {
        let (mut client, _) = broker.resume_as("c", version);
        client.subscribe("a", Q1);
        client.bye();
        broker.connect("p").publish_acked("a", "1");
        for other in crate::client::VERSIONS {
            let (mut client, _) = broker.resume_as("c", other);
            let id = client.expect_payload("1").id;
            client.expect_nothing();
            client.send_ack(PacketType::PubAck, id);
            broker.connect("p").publish_acked("a", "1");
            client.expect_payload("1");
        }
    });
}

#[test]
fn an_alias_reaches_no_forbidden_topic() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        for topic in ["$SYS/x", ""] {
            let mut publish = message(topic, "x", Q1, 4);
            publish.properties.topic_alias = std::num::NonZeroU16::new(3);
            client.publish(publish);
            let reason = client.ack_of(PacketType::PubAck, 4);
            assert_eq!(reason, ReasonCode::NotAuthorized);
        }
    });
}
