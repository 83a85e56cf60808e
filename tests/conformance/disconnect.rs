//! DISCONNECT in both directions.

use tidewire_protocol::codec::{ReasonCode, Will};

use crate::client::{Q1, at_brokers, at_brokers_with, connect, lasting, message, will};
use crate::got::Got;

/// Covers MQTT-3.14.4-3: only reason 0 discards the will.
#[test]
fn mqtt_3_14_4_3_disconnect_with_an_error_publishes_the_will() {
    at_brokers(|broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("will", Q1);
        for reason in [
            ReasonCode::UnspecifiedError,
            ReasonCode::MalformedPacket,
            ReasonCode::DisconnectWithWillMessage,
        ] {
            let mut connect = connect("c");
            connect.will = Some(will("will"));
            broker.connect_with(&connect).0.leave(reason, None);
            watcher.expect_payload("gone");
        }
    });
}

/// Covers MQTT-3.1.2-10: a will is published once.
#[test]
fn mqtt_3_1_2_10_a_will_is_gone_once_it_was_published() {
    at_brokers(|broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("will", Q1);
        let mut connect = lasting("c");
        connect.will = Some(will("will"));
        drop(broker.connect_with(&connect));
        watcher.expect_payload("gone");
        connect.will = None;
        drop(broker.connect_with(&connect));
        broker.connect("p").publish_acked("will", "fence");
        watcher.expect_payload("fence");
    });
}

/// Covers MQTT-3.1.2-7, MQTT-3.1.2-14 and MQTT-3.1.2-15.
#[test]
fn mqtt_3_1_2_15_a_will_is_retained_only_if_it_says_so() {
    at_brokers(|broker| {
        for retain in [false, true] {
            let mut connect = connect("c");
            connect.will = Some(Will {
                retain,
                ..will("will")
            });
            let (client, _) = broker.connect_with(&connect);
            client.leave(ReasonCode::DisconnectWithWillMessage, None);
            let mut late = broker.connect("late");
            late.subscribe("will", Q1);
            if retain {
                assert!(late.expect_payload("gone").retain);
            }
            late.expect_nothing();
        }
    });
}

#[test]
fn mqtt_3_1_2_8_a_clean_start_makes_a_delayed_will_due_at_once() {
    at_brokers(|broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("will", Q1);
        let mut connect = lasting("c");
        let mut delayed = will("will");
        delayed.properties.delay_seconds = Some(600);
        connect.will = Some(delayed);
        drop(broker.connect_with(&connect));
        broker.connect("p").publish_acked("will", "before");
        watcher.expect_payload("before");
        let (_client, is_present) = broker.connect_with(&crate::client::connect("c"));
        assert!(!is_present);
        watcher.expect_payload("gone");
    });
}

/// Covers MQTT-3.14.4-1 and -2 as the broker keeps them: nothing follows a DISCONNECT of ours.
#[test]
fn mqtt_3_14_4_1_nothing_follows_disconnect() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        client.subscribe("a", Q1);
        let mut bytes = vec![0xC0, 1, 0];
        // What follows the malformed PINGREQ is not processed.
        bytes.extend([0xC0, 0, 0x82, 6, 0, 1, 0, 0, 1, b'b', 0]);
        client.send_bytes(&bytes);
        assert_eq!(
            client.receive(),
            Got::Disconnect(ReasonCode::MalformedPacket)
        );
        assert_eq!(client.receive(), Got::Closed);
    });
}

/// Covers MQTT-3.14.4-1: what a client sends after its DISCONNECT is not processed.
#[test]
fn nothing_is_processed_after_the_disconnect_of_a_client() {
    at_brokers(|broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("#", Q1);
        let mut client = broker.connect("c");
        client.send_bytes(&[0xE0, 0, 0x30, 5, 0, 1, b'a', 0, b'x']);
        assert_eq!(client.receive(), Got::Closed);
        watcher.expect_nothing();
        broker.connect("p").publish(message("a", "next", Q1, 1));
        watcher.expect_payload("next");
    });
}

/// Covers MQTT-3.14.2-2: without reason strings, DISCONNECT of ours has no property at all; with
/// them, the client's decoder refuses a session expiry in every other test.
#[test]
fn mqtt_3_14_2_2_disconnect_of_the_server_has_no_session_expiry() {
    at_brokers_with(
        |config| config.mqtt.reason_strings = false,
        |broker| {
            let mut older = broker.connect_with(&lasting("c")).0;
            let _newer = broker.resume("c");
            assert_eq!(older.receive_bytes(4), [0xE0, 2, 0x8E, 0]);
            assert_eq!(older.receive(), Got::Closed);
        },
    );
}
