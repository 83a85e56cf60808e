//! Will messages.

use std::time::Duration;

use tidewire_protocol::codec::{Connect, ReasonCode};

use crate::client::{Broker, Client, Q1, at_brokers, connect, lasting, will};

fn watcher(broker: &Broker) -> Client {
    let mut client = broker.connect("watcher");
    client.subscribe("will", Q1);
    client
}

fn mortal(client_id: &str) -> Connect<'_> {
    Connect {
        will: Some(will("will")),
        ..connect(client_id)
    }
}

#[test]
fn mqtt_3_1_2_8_the_will_is_published_when_the_connection_is_lost() {
    at_brokers(|broker| {
        let mut watcher = watcher(broker);
        drop(broker.connect_with(&mortal("c")));
        watcher.expect_payload("gone");
    });
}

#[test]
fn mqtt_3_14_4_3_disconnect_with_0_discards_the_will() {
    at_brokers(|broker| {
        let mut watcher = watcher(broker);
        broker.connect_with(&mortal("c")).0.bye();
        broker.connect("p").publish_acked("will", "fence");
        watcher.expect_payload("fence");
    });
}

#[test]
fn mqtt_3_1_2_8_disconnect_with_0x04_publishes_the_will() {
    at_brokers(|broker| {
        let mut watcher = watcher(broker);
        let (client, _) = broker.connect_with(&mortal("c"));
        client.leave(ReasonCode::DisconnectWithWillMessage, None);
        watcher.expect_payload("gone");
    });
}

#[test]
fn mqtt_3_1_3_9_a_resumed_session_cancels_its_delayed_will() {
    at_brokers(|broker| {
        let mut watcher = watcher(broker);
        let mut mortal = mortal("c");
        mortal.clean_start = false;
        mortal.properties.session_expiry_seconds = Some(600);
        if let Some(will) = &mut mortal.will {
            will.properties.delay_seconds = Some(1);
        }
        drop(broker.connect_with(&mortal));
        let (_client, _) = broker.connect_with(&lasting("c"));
        std::thread::sleep(Duration::from_millis(1_500));
        broker.connect("p").publish_acked("will", "fence");
        watcher.expect_payload("fence");
    });
}

#[test]
fn mqtt_3_1_2_8_a_will_waits_for_its_delay() {
    at_brokers(|broker| {
        let mut watcher = watcher(broker);
        let mut mortal = mortal("c");
        mortal.properties.session_expiry_seconds = Some(600);
        if let Some(will) = &mut mortal.will {
            will.properties.delay_seconds = Some(1);
        }
        let (client, _) = broker.connect_with(&mortal);
        client.leave(ReasonCode::DisconnectWithWillMessage, None);
        broker.connect("p").publish_acked("will", "before");
        watcher.expect_payload("before");
        watcher.expect_payload("gone");
    });
}

#[test]
fn mqtt_3_1_2_8_a_delayed_will_is_published_when_its_session_ends() {
    at_brokers(|broker| {
        let mut watcher = watcher(broker);
        let mut mortal = mortal("c");
        if let Some(will) = &mut mortal.will {
            will.properties.delay_seconds = Some(600);
        }
        drop(broker.connect_with(&mortal));
        watcher.expect_payload("gone");
    });
}

#[test]
fn mqtt_3_1_2_22_a_keep_alive_timeout_publishes_the_will() {
    at_brokers(|broker| {
        let mut watcher = watcher(broker);
        let mut mortal = mortal("c");
        mortal.keep_alive_seconds = 1;
        let (mut client, _) = broker.connect_with(&mortal);
        client.expect_end(ReasonCode::KeepAliveTimeout);
        watcher.expect_payload("gone");
    });
}

#[test]
fn mqtt_3_1_4_3_a_takeover_publishes_the_will_of_the_older_connection() {
    at_brokers(|broker| {
        let mut watcher = watcher(broker);
        let (mut older, _) = broker.connect_with(&mortal("c"));
        let _newer = broker.connect("c");
        older.expect_end(ReasonCode::SessionTakenOver);
        watcher.expect_payload("gone");
    });
}
