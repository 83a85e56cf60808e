//! Quotas: Receive Maximum and Maximum Packet Size of the client.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use tidewire_protocol::codec::{Connect, PacketType, ReasonCode};

use crate::client::{
    Broker, Client, Q0, Q1, Q2, at_brokers, at_brokers_with, connect, lasting, message,
};

fn narrow(connect: Connect<'_>, receive_maximum: u16) -> Connect<'_> {
    let mut connect = connect;
    connect.properties.receive_maximum = NonZeroU16::new(receive_maximum);
    connect
}

/// A client with a quota of one: the first of two QoS 2 messages has come, with this packet id.
fn one_of_two(broker: &Broker) -> (Client, u16) {
    let (mut client, _) = broker.connect_with(&narrow(connect("c"), 1));
    client.subscribe("a", Q2);
    let mut publisher = broker.connect("p");
    for payload in ["1", "2"] {
        publisher.publish_exactly_once("a", payload);
    }
    let id = client.expect_payload("1").id;
    (client, id)
}

#[test]
fn mqtt_4_9_0_2_a_pubrec_with_an_error_frees_the_quota() {
    at_brokers(|broker| {
        let (mut client, id) = one_of_two(broker);
        client.expect_nothing();
        client.send_ack_with(PacketType::PubRec, id, ReasonCode::QuotaExceeded);
        client.expect_payload("2");
    });
}

/// The quota of a QoS 2 message is free with PUBCOMP, not with PUBREC.
#[test]
fn mqtt_4_9_0_2_a_pubrec_without_an_error_frees_no_quota() {
    at_brokers(|broker| {
        let (mut client, id) = one_of_two(broker);
        client.send_ack(PacketType::PubRec, id);
        client.ack_of(PacketType::PubRel, id);
        client.expect_nothing();
        client.send_ack(PacketType::PubComp, id);
        client.expect_payload("2");
    });
}

/// Covers MQTT-3.3.4-10 and MQTT-4.9.0-3.
#[test]
fn mqtt_4_9_0_3_without_quota_all_other_packets_are_answered() {
    at_brokers(|broker| {
        let (mut client, _) = broker.connect_with(&narrow(connect("c"), 1));
        client.subscribe("a", Q1);
        broker.connect("p").publish_acked("a", "1");
        broker.connect("p").publish_acked("a", "2");
        client.expect_payload("1");
        assert_eq!(client.subscribe("b", Q1), ReasonCode::GrantedQoS1);
        client.publish(message("c", "x", Q2, 4));
        client.ack_of(PacketType::PubRec, 4);
        client.send_ack(PacketType::PubRel, 4);
        client.ack_of(PacketType::PubComp, 4);
        broker.connect("p").publish(message("b", "now", Q0, 0));
        client.expect_payload("now");
        assert_eq!(client.unsubscribe("b"), ReasonCode::Success);
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_3_4_9_what_is_sent_again_obeys_the_quota_of_the_new_connection() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        for payload in ["1", "2", "3"] {
            publisher.publish_acked("a", payload);
        }
        let ids = ["1", "2", "3"].map(|payload| client.expect_payload(payload).id);
        client.bye();
        publisher.publish_acked("a", "4");
        let (mut client, _) = broker.connect_with(&narrow(lasting("c"), 1));
        for (payload, id) in ["1", "2", "3"].into_iter().zip(ids) {
            let got = client.expect_payload(payload);
            assert_eq!((got.dup, got.id), (true, id));
            client.expect_nothing();
            client.send_ack(PacketType::PubAck, id);
        }
        assert!(!client.expect_payload("4").dup);
    });
}

/// A packet of exactly the maximum is sent.
#[test]
fn mqtt_3_1_2_24_a_packet_of_exactly_the_maximum_size_is_sent() {
    at_brokers(|broker| {
        let mut connect = connect("c");
        connect.properties.maximum_packet_size = NonZeroU32::new(40);
        let (mut client, _) = broker.connect_with(&connect);
        client.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        // Fixed header 2, topic 3, packet id 2, property length 1.
        publisher.publish_acked("a", &"x".repeat(40 - 8));
        publisher.publish_acked("a", &"y".repeat(40 - 7));
        publisher.publish_acked("a", "end");
        client.expect_payload(&"x".repeat(40 - 8));
        client.expect_payload("end");
    });
}

#[test]
fn a_retained_message_too_large_for_the_client_is_left_out() {
    at_brokers(|broker| {
        let mut publisher = broker.connect("p");
        publisher.retain("a/large", &"x".repeat(50));
        publisher.retain("a/small", "small");
        let mut connect = narrow(connect("c"), 1);
        connect.properties.maximum_packet_size = NonZeroU32::new(40);
        let (mut client, _) = broker.connect_with(&connect);
        client.subscribe("a/#", Q1);
        client.expect_payload("small");
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_3_2_5_what_expires_while_the_quota_is_full_neither_comes_nor_stalls() {
    at_brokers(|broker| {
        let (mut client, _) = broker.connect_with(&narrow(connect("c"), 1));
        client.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        publisher.publish_acked("a", "first");
        let id = client.expect_payload("first").id;
        for number in 1..=3 {
            let mut publish = message("a", "short", Q1, number);
            publish.properties.message_expiry_seconds = Some(1);
            publisher.publish(publish);
            publisher.ack_of(PacketType::PubAck, number);
        }
        publisher.publish_acked("a", "lasting");
        std::thread::sleep(Duration::from_millis(1_200));
        client.send_ack(PacketType::PubAck, id);
        client.expect_payload("lasting");
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_2_2_15_a_packet_above_the_servers_maximum_ends_with_0x95() {
    let change = |config: &mut tidewire::config::Config| config.limits.packet_bytes_max = 1_000;
    at_brokers_with(change, |broker| {
        let mut client = broker.connect("c");
        client.publish(message("a", &"x".repeat(900), Q0, 0));
        client.expect_nothing();
        client.publish(message("a", &"x".repeat(1_000), Q0, 0));
        client.expect_end(ReasonCode::PacketTooLarge);
    });
}

#[test]
fn a_client_that_never_acknowledges_hinders_nobody() {
    at_brokers(|broker| {
        let mut silent = broker.connect("silent");
        silent.subscribe("a", Q1);
        let mut other = broker.connect("other");
        other.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        for number in 0..3_000 {
            publisher.publish_acked("a", &number.to_string());
            let id = other.expect_payload(&number.to_string()).id;
            other.send_ack(PacketType::PubAck, id);
        }
        silent.expect_payload("0");
    });
}
