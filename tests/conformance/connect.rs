//! CONNECT, sessions and malformed beginnings.

use std::time::Duration;

use tidewire_protocol::codec::{Packet, ProtocolVersion, ReasonCode};

use crate::client::{Got, Q1, at_brokers, connect, lasting};

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
fn mqtt_3_1_2_23_a_session_without_expiry_ends_with_its_connection() {
    at_brokers(|broker| {
        broker.connect("c").bye();
        assert!(!broker.resume("c").1);
    });
}

#[test]
fn mqtt_3_14_2_2_2_disconnect_changes_the_session_expiry() {
    at_brokers(|broker| {
        let (client, _) = broker.resume("c");
        client.leave(ReasonCode::Success, Some(0));
        assert!(!broker.resume("c").1);
    });
}

#[test]
fn mqtt_3_14_2_2_2_disconnect_cannot_extend_a_session_without_expiry() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.send_bytes(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9]);
        client.expect_end(ReasonCode::ProtocolError);
    });
}

#[test]
fn mqtt_3_1_2_11_2_a_session_expires_after_its_interval() {
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
fn mqtt_4_12_0_1_an_unknown_authentication_method_is_refused_with_0x8c() {
    at_brokers(|broker| {
        let mut client = broker.open();
        let mut connect = connect("c");
        connect.properties.authentication_method = Some("none-such");
        client.send_connect(&connect);
        let Got::ConnAck { reason, .. } = client.receive() else {
            panic!("no CONNACK");
        };
        assert_eq!(reason, ReasonCode::BadAuthenticationMethod);
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
fn clients_of_3_1_and_3_1_1_resume_sessions_without_clean_session() {
    at_brokers(|broker| {
        for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1] {
            let mut connect = connect("old");
            connect.version = version;
            broker.connect_with(&connect);
            connect.clean_start = false;
            let (mut client, is_present) = broker.connect_with(&connect);
            assert!(!is_present);
            client.subscribe("a", Q1);
            client.bye();
            broker.connect("p").publish_acked("a", "1");
            let (mut client, is_present) = broker.connect_with(&connect);
            // CONNACK of 3.1 cannot say it.
            assert_eq!(is_present, version == ProtocolVersion::V3_1_1);
            client.expect_payload("1");
        }
    });
}
