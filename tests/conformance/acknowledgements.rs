//! The exchanges of QoS 1 and 2 to their ends, regular and not.

use tidewire_protocol::codec::{PacketType, ProtocolVersion, Publish, ReasonCode};

use crate::client::{Q1, Q2, at_brokers, in_all_versions, message};
use crate::got::Got;

/// Covers MQTT-2.2.1-5, MQTT-4.3.2-4 and MQTT-4.3.2-5.
#[test]
fn mqtt_4_3_2_5_after_puback_the_same_packet_id_is_a_new_message_whatever_its_dup() {
    in_all_versions(|broker, version| {
        let mut subscriber = broker.connect_as("s", version);
        subscriber.subscribe("a", Q1);
        let mut publisher = broker.connect_as("p", version);
        for (payload, dup) in [("1", false), ("2", true), ("3", false)] {
            publisher.publish(Publish {
                dup,
                ..message("a", payload, Q1, 77)
            });
            publisher.ack_of(PacketType::PubAck, 77);
            // DUP is of the hop, not of the message [MQTT-3.3.1-3].
            assert!(!subscriber.expect_payload(payload).dup);
        }
    });
}

/// Covers MQTT-4.3.3-8, -10, -11 and -12, also with DUP storms.
#[test]
fn mqtt_4_3_3_12_after_pubcomp_the_same_packet_id_is_a_new_message() {
    in_all_versions(|broker, version| {
        let mut subscriber = broker.connect_as("s", version);
        subscriber.subscribe("a", Q1);
        let mut publisher = broker.connect_as("p", version);
        for payload in ["1", "2"] {
            for number in 0..1_000 {
                publisher.publish(Publish {
                    dup: number > 0,
                    ..message("a", payload, Q2, 5)
                });
                publisher.ack_of(PacketType::PubRec, 5);
            }
            publisher.send_ack(PacketType::PubRel, 5);
            publisher.ack_of(PacketType::PubComp, 5);
            subscriber.expect_payload(payload);
            subscriber.expect_nothing();
        }
    });
}

#[test]
fn a_pubrel_after_a_resumed_session_is_answered_with_pubcomp() {
    in_all_versions(|broker, version| {
        let (mut publisher, _) = broker.resume_as("p", version);
        publisher.publish(message("a", "x", Q2, 5));
        publisher.ack_of(PacketType::PubRec, 5);
        drop(publisher);
        let (mut publisher, _) = broker.resume_as("p", version);
        for expected in [ReasonCode::Success, ReasonCode::PacketIdentifierNotFound] {
            publisher.send_ack(PacketType::PubRel, 5);
            let reason = publisher.ack_of(PacketType::PubComp, 5);
            let is_v5 = version == ProtocolVersion::V5;
            assert!(reason == expected || (!is_v5 && reason == ReasonCode::Success));
        }
    });
}

/// Covers MQTT-4.3.3-9.
#[test]
fn mqtt_4_3_3_9_after_a_pubrec_with_an_error_the_same_packet_id_is_a_new_message() {
    at_brokers(|broker| {
        let mut subscriber = broker.connect("s");
        subscriber.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        publisher.publish(message("$SYS/x", "refused", Q2, 5));
        let reason = publisher.ack_of(PacketType::PubRec, 5);
        assert_eq!(reason, ReasonCode::NotAuthorized);
        publisher.publish(message("a", "new", Q2, 5));
        assert_eq!(publisher.ack_of(PacketType::PubRec, 5), ReasonCode::Success);
        subscriber.expect_payload("new");
    });
}

/// Covers MQTT-4.3.2-1, -2, -3 and MQTT-4.3.3-1 to -5, towards a subscriber.
#[test]
fn mqtt_4_3_3_5_an_exchange_goes_on_until_pubcomp() {
    in_all_versions(|broker, version| {
        let (mut client, _) = broker.resume_as("c", version);
        client.subscribe("a", Q2);
        let mut publisher = broker.connect("p");
        publisher.publish_acked("a", "1");
        publisher.publish_exactly_once("a", "2");
        let one = client.expect_payload("1");
        let two = client.expect_payload("2");
        assert!(one.id != 0 && two.id != 0 && one.id != two.id);
        assert!(!one.dup && !two.dup);
        for _ in 0..2 {
            client.send_ack(PacketType::PubRec, two.id);
            assert_eq!(
                client.ack_of(PacketType::PubRel, two.id),
                ReasonCode::Success
            );
        }
        drop(client);
        let (mut client, _) = broker.resume_as("c", version);
        let again = client.expect_payload("1");
        assert_eq!((again.dup, again.id), (true, one.id));
        client.ack_of(PacketType::PubRel, two.id);
        client.send_ack(PacketType::PubComp, two.id);
        client.send_ack(PacketType::PubAck, one.id);
        client.expect_nothing();
        drop(client);
        broker.resume_as("c", version).0.expect_nothing();
    });
}

/// Covers MQTT-4.4.0-1: while the connection lasts nothing is sent again.
#[test]
fn mqtt_4_4_0_1_nothing_is_sent_again_on_the_same_connection() {
    in_all_versions(|broker, version| {
        let mut client = broker.connect_as("c", version);
        client.subscribe("a", Q2);
        broker.connect("p").publish_exactly_once("a", "1");
        client.expect_payload("1");
        std::thread::sleep(std::time::Duration::from_millis(200));
        client.expect_nothing();
    });
}

/// Covers MQTT-4.4.0-2.
#[test]
fn mqtt_4_4_0_2_an_acknowledgement_with_an_error_ends_the_exchange() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q2);
        let mut publisher = broker.connect("p");
        publisher.publish_acked("a", "1");
        publisher.publish_exactly_once("a", "2");
        let one = client.expect_payload("1").id;
        let two = client.expect_payload("2").id;
        client.send_ack_with(PacketType::PubAck, one, ReasonCode::UnspecifiedError);
        client.send_ack_with(PacketType::PubRec, two, ReasonCode::UnspecifiedError);
        client.expect_nothing();
        drop(client);
        broker.resume("c").0.expect_nothing();
    });
}

#[test]
fn acknowledgements_for_unknown_packet_ids_are_ignored() {
    in_all_versions(|broker, version| {
        let mut client = broker.connect_as("c", version);
        for _ in 0..3 {
            client.send_ack(PacketType::PubAck, 9);
            client.send_ack(PacketType::PubComp, 9);
        }
        client.expect_nothing();
    });
}

/// Covers MQTT-4.13.1-1; 3.1.1: MQTT-4.8.0-1.
#[test]
fn acknowledgements_of_another_qos_or_out_of_turn_end_with_0x82() {
    in_all_versions(|broker, version| {
        for (qos, kind) in [
            (Q1, PacketType::PubRec),
            (Q1, PacketType::PubComp),
            (Q2, PacketType::PubAck),
            (Q2, PacketType::PubComp),
        ] {
            let mut client = broker.connect_as("c", version);
            client.subscribe("a", qos);
            broker.connect("p").publish_exactly_once("a", "x");
            let id = client.expect_payload("x").id;
            client.send_ack(kind, id);
            client.expect_end(ReasonCode::ProtocolError);
        }
    });
}

/// Covers MQTT-4.6.0-2 and MQTT-4.6.0-3 as the broker keeps them.
#[test]
fn acknowledgements_come_in_the_order_of_their_messages() {
    in_all_versions(|broker, version| {
        let mut client = broker.connect_as("c", version);
        for id in 1..=100 {
            let qos = if id % 3 == 0 { Q2 } else { Q1 };
            client.publish(message("a", "x", qos, id));
        }
        for id in 1..=100 {
            let kind = if id % 3 == 0 {
                PacketType::PubRec
            } else {
                PacketType::PubAck
            };
            client.ack_of(kind, id);
        }
        client.send(&tidewire_protocol::codec::Packet::PingReq);
        assert_eq!(client.receive(), Got::Pong);
    });
}
