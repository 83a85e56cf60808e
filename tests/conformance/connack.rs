//! CONNACK: what it says and that it comes first.

use tidewire_protocol::codec::{PacketType, ReasonCode};

use crate::client::{Q1, at_brokers, at_brokers_with, connect, lasting, message};
use crate::got::Got;

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
fn mqtt_3_2_2_22_a_server_keep_alive_is_told_and_used() {
    let change = |config: &mut tidewire::config::Config| {
        config.mqtt.server_keep_alive_seconds = Some(1);
    };
    at_brokers_with(change, |broker| {
        let mut client = broker.open();
        client.send_connect(&connect("c"));
        let Got::ConnAck {
            keep_alive_seconds, ..
        } = client.receive()
        else {
            panic!("no CONNACK");
        };
        assert_eq!(keep_alive_seconds, Some(1));
        client.expect_end(ReasonCode::KeepAliveTimeout);
    });
}

#[test]
fn mqtt_3_2_2_16_assigned_client_ids_are_unique_and_usable() {
    at_brokers(|broker| {
        let mut ids = [(); 2].map(|()| {
            let mut client = broker.open();
            client.send_connect(&lasting(""));
            let Got::ConnAck { assigned, .. } = client.receive() else {
                panic!("no CONNACK");
            };
            client.subscribe("a", Q1);
            assigned.expect("assigned")
        });
        assert!(broker.resume(&ids[0]).1);
        ids.sort();
        assert_ne!(ids[0], ids[1]);
    });
}

#[test]
fn mqtt_3_2_0_1_connack_comes_first_and_once_whatever_was_sent_already() {
    at_brokers(|broker| {
        let (mut client, _) = broker.resume("c");
        client.subscribe("a", Q1);
        client.bye();
        broker.connect("p").publish_acked("a", "waiting");
        let mut client = broker.open();
        client.send_pipelined(&lasting("c"), &[message("b", "x", Q1, 9)]);
        let Got::ConnAck { is_present, .. } = client.receive() else {
            panic!("CONNACK is not the first packet");
        };
        assert!(is_present);
        // In either order.
        let both = [client.receive(), client.receive()];
        let is_ack = |got: &Got| matches!(got, Got::Ack(PacketType::PubAck, 9, _));
        let is_message = |got: &Got| matches!(got, Got::Message(it) if it.payload == "waiting");
        assert!(
            both.iter().any(is_ack) && both.iter().any(is_message),
            "{both:?}"
        );
        client.expect_nothing();
    });
}

#[test]
fn mqtt_3_2_2_2_a_clean_start_has_no_session_present() {
    at_brokers(|broker| {
        let (client, _) = broker.resume("c");
        client.bye();
        let (client, is_present) = broker.connect_with(&connect("c"));
        assert!(!is_present);
        client.bye();
    });
}

#[test]
fn mqtt_3_2_2_6_an_error_has_no_session_present_and_closes() {
    at_brokers(|broker| {
        let (client, _) = broker.resume("c");
        client.bye();
        let mut connect = lasting("c");
        connect.properties.authentication_method = Some("none-such");
        let mut client = broker.open();
        client.send_connect(&connect);
        let Got::ConnAck {
            is_present, reason, ..
        } = client.receive()
        else {
            panic!("no CONNACK");
        };
        assert!(!is_present && reason.is_error());
        assert_eq!(client.receive(), Got::Closed);
        assert!(broker.resume("c").1, "the session is untouched");
    });
}

#[test]
fn section_3_2_2_3_2_a_shortened_session_expiry_is_told() {
    let change = |config: &mut tidewire::config::Config| {
        config.limits.session_expiry_seconds_max = 5;
    };
    at_brokers_with(change, |broker| {
        let mut client = broker.open();
        client.send_connect(&lasting("c"));
        let Got::ConnAck {
            session_expiry_seconds,
            ..
        } = client.receive()
        else {
            panic!("no CONNACK");
        };
        assert_eq!(session_expiry_seconds, Some(5));
    });
}

#[test]
fn mqtt_4_12_0_7_an_auth_without_a_method_in_connect_ends_with_0x82() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.send_bytes(&[0xF0, 6, 0x18, 4, 0x15, 0, 1, b'M']);
        client.expect_end(ReasonCode::ProtocolError);
    });
}
