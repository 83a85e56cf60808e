//! CONNECT, sessions and malformed beginnings.

use std::num::NonZeroU32;
use std::time::Duration;

use tidewire_protocol::codec::{Packet, ReasonCode};

use crate::client::{
    Client, Q0, Q1, Q2, VERSIONS, at_brokers, at_brokers_with, connect, lasting, message, options,
};
use crate::got::Got;

#[test]
fn mqtt_3_1_4_3_an_older_connection_with_the_same_client_id_ends_with_0x8e() {
    at_brokers(|broker| {
        let mut older = broker.connect("c");
        let mut newer = broker.connect("c");
        older.expect_end(ReasonCode::SessionTakenOver);
        newer.expect_nothing();
    });
}

#[test]
fn mqtt_3_1_2_5_a_session_is_resumed_and_reported_present() {
    at_brokers(|broker| {
        let (mut client, is_present) = broker.resume("c");
        assert!(!is_present);
        client.subscribe("a", Q1);
        client.bye();
        broker.connect("p").publish_acked("a", "1");
        let (mut client, is_present) = broker.resume("c");
        assert!(is_present);
        client.expect_payload("1");
    });
}

#[test]
fn mqtt_3_1_2_4_clean_start_discards_the_session() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q1);
        client.bye();
        let (mut client, is_present) = broker.connect_with(&connect("c"));
        assert!(!is_present);
        broker.connect("p").publish_acked("a", "1");
        client.expect_nothing();
    });
}

#[test]
fn mqtt_4_1_0_2_a_session_without_expiry_ends_with_its_connection() {
    at_brokers(|broker| {
        broker.connect("c").bye();
        assert!(!broker.resume("c").1);
    });
}

#[test]
fn section_3_14_2_2_2_disconnect_changes_the_session_expiry() {
    at_brokers(|broker| {
        let (client, _) = broker.resume("c");
        client.leave(ReasonCode::Success, Some(0));
        assert!(!broker.resume("c").1);
    });
}

#[test]
fn section_3_14_2_2_2_disconnect_cannot_extend_a_session_without_expiry() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.send_bytes(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9]);
        client.expect_end(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_4_1_0_2_a_session_expires_after_its_interval() {
    at_brokers(|broker| {
        let mut lasting = lasting("c");
        lasting.properties.session_expiry_seconds = Some(1);
        broker.connect_with(&lasting).0.bye();
        std::thread::sleep(Duration::from_millis(1_700));
        assert!(!broker.resume("c").1);
    });
}

#[test]
fn mqtt_3_1_3_7_an_empty_client_id_is_assigned() {
    at_brokers(|broker| {
        let mut client = broker.open();
        client.send_connect(&connect(""));
        let Got::ConnAck { assigned, .. } = client.receive() else {
            panic!("no CONNACK");
        };
        assert!(assigned.is_some_and(|id| !id.is_empty()));
    });
}

#[test]
fn mqtt_3_1_0_2_a_second_connect_ends_with_0x82() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.send_connect(&connect("c"));
        client.expect_end(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_3_1_0_1_a_first_packet_that_is_no_connect_closes() {
    at_brokers(|broker| {
        let mut client = broker.open();
        client.send(&Packet::PingReq);
        assert_eq!(client.receive(), Got::Closed);
    });
}

#[test]
fn mqtt_3_1_2_22_silence_beyond_the_keep_alive_ends_with_0x8d() {
    at_brokers(|broker| {
        let mut connect = connect("c");
        connect.keep_alive_seconds = 1;
        let (mut client, _) = broker.connect_with(&connect);
        client.expect_end(ReasonCode::KeepAliveTimeout);
    });
}

#[test]
fn mqtt_3_12_4_1_a_pingreq_is_answered() {
    at_brokers(|broker| broker.connect("c").expect_nothing());
}

#[test]
fn mqtt_3_1_2_1_a_wrong_protocol_name_closes() {
    at_brokers(|broker| {
        let mut client = broker.open();
        client.send_bytes(b"\x10\x0e\x00\x04MQTX\x05\x02\x00\x3c\x00\x00\x01c");
        assert_eq!(client.receive(), Got::Closed);
    });
}

#[test]
fn mqtt_3_1_2_2_an_unknown_version_is_answered_with_0x84() {
    at_brokers(|broker| {
        let mut client = broker.open();
        client.send_bytes(b"\x10\x0e\x00\x04MQTT\x06\x02\x00\x3c\x00\x00\x01c");
        assert_eq!(
            reason_of(&mut client),
            ReasonCode::UnsupportedProtocolVersion
        );
        assert_eq!(client.receive(), Got::Closed);
    });
}

#[test]
fn mqtt_3_1_2_6_a_session_begins_where_there_was_none() {
    at_brokers(|broker| {
        let (mut client, is_present) = broker.resume("c");
        assert!(!is_present);
        client.subscribe("a", Q1);
        broker.connect("p").publish_acked("a", "1");
        client.expect_payload("1");
    });
}

#[test]
fn mqtt_3_1_2_22_only_what_the_client_sends_keeps_it_alive() {
    at_brokers(|broker| {
        let mut connect = connect("c");
        connect.keep_alive_seconds = 1;
        let (mut client, _) = broker.connect_with(&connect);
        client.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        for _ in 0..20 {
            publisher.publish_acked("a", "x");
            std::thread::sleep(Duration::from_millis(100));
        }
        while let Got::Message(_) = client.receive() {}
        assert_eq!(client.receive(), Got::Closed);
    });
}

#[test]
fn mqtt_3_1_2_22_packets_within_the_keep_alive_keep_a_connection() {
    at_brokers(|broker| {
        let mut connect = connect("c");
        connect.keep_alive_seconds = 2;
        let (mut client, _) = broker.connect_with(&connect);
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(900));
            client.publish(message("a", "alive", Q0, 0));
        }
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_1_2_23_a_session_is_kept_for_its_expiry_interval() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q2);
        drop(client);
        broker.connect("p").publish_exactly_once("a", "kept");
        let (mut client, is_present) = broker.resume("c");
        assert!(is_present);
        assert_eq!(client.expect_payload("kept").qos, Q2);
    });
}

#[test]
fn mqtt_3_1_2_24_answers_too_large_for_the_client_are_not_sent() {
    at_brokers(|broker| {
        let mut connect = connect("c");
        connect.properties.maximum_packet_size = NonZeroU32::new(10);
        let mut client = broker.open();
        client.send_connect(&connect);
        assert_eq!(
            client.receive(),
            Got::Closed,
            "CONNACK has more than 10 bytes"
        );
        connect.properties.maximum_packet_size = NonZeroU32::new(30);
        let (mut client, _) = broker.connect_with(&connect);
        let filters = ["a"; 30].map(|filter| (filter, options(Q0)));
        client.send_subscribe(3, &filters);
        client.expect_end(ReasonCode::PacketTooLarge);
    });
}

#[test]
fn mqtt_3_1_3_2_sessions_belong_to_client_ids() {
    at_brokers(|broker| {
        let (mut one, _) = broker.resume("one");
        one.subscribe("a", Q1);
        one.bye();
        assert!(!broker.resume("One").1);
        assert!(broker.resume("one").1);
    });
}

#[test]
fn mqtt_3_1_3_5_client_ids_of_1_to_23_letters_and_digits_are_allowed() {
    at_brokers(|broker| {
        for id in [
            "0",
            "9azAZ",
            "abcdefghijklmnopqrstuvw",
            "XYZ01234567890123456789",
        ] {
            assert!(id.len() <= 23);
            broker.connect(id).expect_nothing();
        }
    });
}

#[test]
fn mqtt_3_1_4_2_a_client_without_the_right_to_connect_is_refused() {
    let change = |config: &mut tidewire::config::Config| {
        config.allow_anonymous = Some(false);
    };
    at_brokers_with(change, |broker| {
        for version in VERSIONS {
            let mut connect = connect("c");
            connect.version = version;
            let mut client = broker.open();
            client.send_connect(&connect);
            assert_eq!(reason_of(&mut client), ReasonCode::NotAuthorized);
            assert_eq!(client.receive(), Got::Closed);
        }
    });
}

#[test]
fn mqtt_3_1_4_6_nothing_is_processed_after_a_refused_connect() {
    at_brokers(|broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("#", Q0);
        let mut connect = connect("c");
        connect.properties.authentication_method = Some("none-such");
        let mut client = broker.open();
        client.send_pipelined(&connect, &[message("a", "x", Q0, 0)]);
        assert_eq!(reason_of(&mut client), ReasonCode::BadAuthenticationMethod);
        assert_eq!(client.receive(), Got::Closed);
        watcher.expect_nothing();
    });
}

fn reason_of(client: &mut Client) -> ReasonCode {
    match client.receive() {
        Got::ConnAck {
            is_present: false,
            reason,
            ..
        } => reason,
        other => panic!("no CONNACK: {other:?}"),
    }
}
