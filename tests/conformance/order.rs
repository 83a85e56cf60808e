//! The order of messages from one publisher, within a shard and across shards.

use tidewire_protocol::codec::{PacketType, Publish};

use crate::client::{Q0, Q1, Q2, at_brokers, message};

/// Covers MQTT-4.5.0-1, MQTT-4.6.0-5 and MQTT-4.6.0-6.
#[test]
fn mqtt_4_6_0_5_messages_of_one_publisher_arrive_in_order_at_every_subscriber() {
    at_brokers(|broker| {
        for qos in [Q0, Q1, Q2] {
            let mut subscribers = ["s1", "s2", "s3", "s4"].map(|id| {
                let mut client = broker.connect(id);
                client.subscribe("a/#", qos);
                client
            });
            let mut publisher = broker.connect("p");
            for id in 1..=500 {
                publisher.publish(message("a/b", &id.to_string(), qos, id));
            }
            for client in &mut subscribers {
                for id in 1..=500 {
                    let got = client.expect_payload(&id.to_string());
                    assert_eq!(got.qos, qos);
                }
            }
        }
    });
}

/// Order survives an absence: what waited comes before what is new.
#[test]
fn mqtt_4_6_0_6_messages_that_waited_keep_their_order() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q2);
        let mut publisher = broker.connect("p");
        for number in 0..5 {
            publisher.publish_acked("a", &number.to_string());
        }
        for number in 0..3 {
            client.expect_payload(&number.to_string());
        }
        drop(client);
        for number in 5..10 {
            publisher.publish_exactly_once("a", &number.to_string());
        }
        let (mut client, _) = broker.resume("c");
        for number in 0..10 {
            let got = client.expect_payload(&number.to_string());
            assert!(got.dup || number >= 5, "{got:?}");
        }
        publisher.publish_acked("a", "10");
        client.expect_payload("10");
    });
}

/// Covers MQTT-3.3.1-1: only what is sent again is marked.
#[test]
fn mqtt_3_3_1_1_dup_marks_what_is_sent_again() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        publisher.publish(Publish {
            dup: true,
            ..message("a", "1", Q1, 1)
        });
        publisher.ack_of(PacketType::PubAck, 1);
        assert!(!client.expect_payload("1").dup);
        drop(client);
        let (mut client, _) = broker.resume("c");
        assert!(client.expect_payload("1").dup);
    });
}
