//! What a session in flight gets when its client comes back with smaller limits.

use std::num::{NonZeroU16, NonZeroU32};

use tidewire_protocol::codec::PacketType;

use crate::client::{Broker, Client, Q1, Q2, at_brokers, lasting, message};
use crate::got::Got;

/// A session with `payloads` in flight at QoS 2, none of them answered.
fn leave_in_flight(broker: &Broker, payloads: &[&str]) -> Vec<u16> {
    let (mut client, _) = broker.resume("c");
    client.subscribe("t", Q2);
    let mut publisher = broker.connect("p");
    let ids = payloads.iter().zip(1..).map(|(payload, id)| {
        publisher.publish(message("t", payload, Q2, id));
        publisher.ack_of(PacketType::PubRec, id);
        publisher.send_ack(PacketType::PubRel, id);
        publisher.ack_of(PacketType::PubComp, id);
        client.expect_payload(payload).id
    });
    let ids = ids.collect();
    drop(client);
    ids
}

fn resume_with(broker: &Broker, receive_maximum: u16, packet_bytes_max: u32) -> Client {
    let mut connect = lasting("c");
    connect.properties.receive_maximum = NonZeroU16::new(receive_maximum);
    connect.properties.maximum_packet_size = NonZeroU32::new(packet_bytes_max);
    let (client, is_present) = broker.connect_with(&connect);
    assert!(is_present);
    client
}

#[test]
fn mqtt_3_3_4_9_a_smaller_receive_maximum_holds_for_what_is_sent_again() {
    at_brokers(|broker| {
        let ids = leave_in_flight(broker, &["1", "2", "3", "4"]);
        let mut client = resume_with(broker, 2, 1_000);
        for (payload, id) in ["1", "2"].iter().zip(&ids) {
            let again = client.expect_payload(payload);
            assert_eq!((again.dup, again.id), (true, *id));
        }
        client.expect_nothing();
        client.send_ack(PacketType::PubRec, ids[0]);
        client.ack_of(PacketType::PubRel, ids[0]);
        client.expect_nothing();
        client.send_ack(PacketType::PubComp, ids[0]);
        let third = client.expect_payload("3");
        assert_eq!((third.dup, third.id), (true, ids[2]));
        client.expect_nothing();
    });
}

#[test]
fn mqtt_4_4_0_1_pubrel_is_sent_again_whatever_the_receive_maximum() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("t", Q2);
        let mut publisher = broker.connect("p");
        for (payload, id) in [("1", 1), ("2", 2), ("3", 3)] {
            publisher.publish(message("t", payload, Q2, id));
            publisher.ack_of(PacketType::PubRec, id);
            let id = client.expect_payload(payload).id;
            if payload != "2" {
                client.send_ack(PacketType::PubRec, id);
                client.ack_of(PacketType::PubRel, id);
            }
        }
        drop(client);
        let mut client = resume_with(broker, 1, 1_000);
        client.ack_of(PacketType::PubRel, 1);
        client.ack_of(PacketType::PubRel, 3);
        client.expect_nothing();
        client.send_ack(PacketType::PubComp, 1);
        client.expect_nothing();
        client.send_ack(PacketType::PubComp, 3);
        assert!(client.expect_payload("2").dup);
    });
}

#[test]
fn mqtt_3_1_2_25_what_no_longer_fits_is_ended_and_takes_no_quota() {
    at_brokers(|broker| {
        let large = "x".repeat(200);
        let ids = leave_in_flight(broker, &[&large, "small"]);
        let mut client = resume_with(broker, 2, 100);
        client.ack_of(PacketType::PubRel, ids[0]);
        assert_eq!(client.expect_payload("small").id, ids[1]);
        client.send_ack(PacketType::PubComp, ids[0]);
        let mut publisher = broker.connect("p");
        publisher.publish_acked("t", "more");
        client.expect_payload("more");
        client.expect_nothing();
    });
}

#[test]
fn thousands_of_retained_messages_arrive_each_once_past_the_queue_and_the_window() {
    at_brokers(|broker| {
        let mut publisher = broker.connect("p");
        for number in 0..3_000 {
            publisher.retain(&format!("r/{}/{number}", number % 7), "x");
        }
        let mut connect = lasting("c");
        connect.properties.receive_maximum = NonZeroU16::new(10);
        let (mut client, _) = broker.connect_with(&connect);
        client.subscribe("#", Q1);
        let mut topics = Vec::new();
        while topics.len() < 3_000 {
            match client.receive() {
                Got::Message(message) => {
                    assert!(message.retain);
                    client.send_ack(PacketType::PubAck, message.id);
                    topics.push(message.topic);
                }
                other => panic!("no PUBLISH: {other:?}"),
            }
        }
        client.expect_nothing();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), 3_000);
    });
}
