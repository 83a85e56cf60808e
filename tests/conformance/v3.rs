//! What 3.1.1 and 3.1 say that 5.0 says otherwise or no more.

use std::time::Duration;

use tidewire_protocol::codec::{Connect, PacketType, ProtocolVersion, Publish, ReasonCode};

use crate::client::{Broker, Q0, Q1, Q2, at_brokers, connect, message, will};
use crate::got::Got;

const OLD: [ProtocolVersion; 2] = [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1];

fn old(client_id: &str, clean_session: bool) -> Connect<'_> {
    Connect {
        version: ProtocolVersion::V3_1_1,
        clean_start: clean_session,
        ..connect(client_id)
    }
}

fn refused_with(broker: &Broker, connect: &Connect<'_>) -> ReasonCode {
    let mut client = broker.open();
    client.send_connect(connect);
    let Got::ConnAck {
        is_present: false,
        reason,
        ..
    } = client.receive()
    else {
        panic!("no CONNACK");
    };
    assert_eq!(client.receive(), Got::Closed);
    reason
}

#[test]
fn mqtt311_3_1_2_2_an_unknown_level_is_answered_with_1() {
    at_brokers(|broker| {
        for name in ["MQTT", "MQIsdp"] {
            let mut client = broker.open();
            client.speak(ProtocolVersion::V3_1_1);
            let mut bytes = vec![0x10, u8::try_from(name.len()).expect("short") + 9];
            bytes.extend([0, u8::try_from(name.len()).expect("short")]);
            bytes.extend(name.bytes());
            bytes.extend([1, 2, 0, 60, 0, 1, b'c']);
            client.send_bytes(&bytes);
            let Got::ConnAck { reason, .. } = client.receive() else {
                panic!("no CONNACK for {name}");
            };
            assert_eq!(reason, ReasonCode::UnsupportedProtocolVersion);
            assert_eq!(client.receive(), Got::Closed);
        }
    });
}

#[test]
fn mqtt311_3_1_2_4_sessions_are_resumed_or_begun_without_clean_session() {
    at_brokers(|broker| {
        for version in OLD {
            let mut connect = old("old", true);
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

#[test]
fn mqtt311_3_1_2_6_clean_session_discards_what_was_and_keeps_nothing() {
    at_brokers(|broker| {
        let (mut client, _) = broker.connect_with(&old("c", false));
        client.subscribe("a", Q1);
        client.bye();
        let (mut client, is_present) = broker.connect_with(&old("c", true));
        assert!(!is_present);
        broker.connect("p").publish_acked("a", "1");
        client.expect_nothing();
        client.subscribe("b", Q1);
        client.bye();
        let (mut client, is_present) = broker.connect_with(&old("c", false));
        assert!(!is_present);
        broker.connect("p").publish_acked("b", "2");
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_1_2_8_the_will_of_a_lost_connection_is_published_with_its_qos_and_retain() {
    at_brokers(|broker| {
        for version in OLD {
            for (qos, retain) in [(Q0, false), (Q1, true), (Q2, false)] {
                let mut watcher = broker.connect("watcher");
                watcher.subscribe("will", Q2);
                let mut connect = old("c", true);
                connect.version = version;
                let mut will = will("will");
                (will.qos, will.retain) = (qos, retain);
                connect.will = Some(will);
                drop(broker.connect_with(&connect));
                let got = watcher.expect_payload("gone");
                assert_eq!((got.qos, got.retain), (qos, false));
                let mut late = broker.connect("late");
                late.subscribe("will", Q0);
                if retain {
                    assert!(late.expect_payload("gone").retain);
                    broker.connect("p").retain("will", "");
                } else {
                    late.expect_nothing();
                }
            }
        }
    });
}

#[test]
fn mqtt311_3_1_2_12_without_a_will_flag_nothing_is_published() {
    at_brokers(|broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("#", Q2);
        drop(broker.connect_with(&old("c", true)));
        std::thread::sleep(Duration::from_millis(50));
        watcher.expect_nothing();
    });
}

#[test]
fn mqtt311_3_14_4_3_disconnect_discards_the_will() {
    at_brokers(|broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("will", Q1);
        for version in OLD {
            let mut connect = old("c", true);
            connect.version = version;
            connect.will = Some(will("will"));
            broker.connect_with(&connect).0.bye();
        }
        broker.connect("p").publish_acked("will", "fence");
        watcher.expect_payload("fence");
    });
}

#[test]
fn mqtt311_3_1_3_6_an_empty_client_id_is_unique() {
    at_brokers(|broker| {
        let (mut one, _) = broker.connect_with(&old("", true));
        let (mut two, _) = broker.connect_with(&old("", true));
        one.expect_nothing();
        two.expect_nothing();
    });
}

#[test]
fn mqtt311_3_1_3_8_an_empty_client_id_without_clean_session_is_rejected_with_2() {
    at_brokers(|broker| {
        let reason = refused_with(broker, &old("", false));
        assert_eq!(reason, ReasonCode::ClientIdentifierNotValid);
        let mut client = broker.open();
        client.speak(ProtocolVersion::V3_1);
        client.send_bytes(b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00");
        let Got::ConnAck { reason, .. } = client.receive() else {
            panic!("no CONNACK");
        };
        assert_eq!(reason, ReasonCode::ClientIdentifierNotValid);
        assert_eq!(client.receive(), Got::Closed);
    });
}

#[test]
fn mqtt311_3_2_2_1_session_present_tells_whether_there_was_a_session() {
    at_brokers(|broker| {
        for (clean_session, expected) in [(false, false), (false, true), (true, false)] {
            let (client, is_present) = broker.connect_with(&old("c", clean_session));
            assert_eq!(is_present, expected);
            client.bye();
        }
        assert!(!broker.connect_with(&old("c", false)).1);
    });
}

#[test]
fn mqtt311_3_3_1_8_retain_marks_only_what_a_new_subscription_brings() {
    at_brokers(|broker| {
        let (mut client, _) = broker.connect_with(&old("c", true));
        client.subscribe("a", Q1);
        let mut publisher = broker.connect_as("p", ProtocolVersion::V3_1_1);
        publisher.retain("a", "1");
        let got = client.expect_payload("1");
        assert!(!got.retain);
        client.send_ack(PacketType::PubAck, got.id);
        // Subscribed again, the same message comes again [MQTT-3.8.4-3].
        client.subscribe("a", Q1);
        assert!(client.expect_payload("1").retain);
    });
}

#[test]
fn mqtt311_3_3_1_7_a_retained_message_of_qos_0_replaces_the_one_before() {
    at_brokers(|broker| {
        let mut publisher = broker.connect_as("p", ProtocolVersion::V3_1_1);
        publisher.retain("a", "1");
        publisher.publish(Publish {
            retain: true,
            ..message("a", "2", Q0, 0)
        });
        publisher.publish_acked("b", "fence");
        let (mut client, _) = broker.connect_with(&old("c", true));
        client.subscribe("a", Q1);
        assert_eq!(client.expect_payload("2").qos, Q0);
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_3_5_2_a_publish_not_authorized_is_acknowledged_and_goes_nowhere() {
    at_brokers(|broker| {
        for version in OLD {
            let mut watcher = broker.connect("watcher");
            watcher.subscribe("$SYS/mine", Q2);
            let mut client = broker.connect_as("c", version);
            client.publish_acked("$SYS/mine", "no");
            client.publish_exactly_once("$SYS/mine", "no");
            watcher.expect_nothing();
        }
    });
}

#[test]
fn mqtt311_4_8_0_2_a_publish_that_cannot_be_accepted_ends_the_connection() {
    at_brokers(|broker| {
        let deep = "/".repeat(1_000);
        for version in OLD {
            for qos in [Q0, Q1, Q2] {
                let mut client = broker.connect_as("c", version);
                client.publish(message(&deep, "x", qos, 7));
                assert_eq!(client.receive(), Got::Closed);
            }
        }
    });
}

#[test]
fn mqtt311_3_9_3_2_a_refused_filter_is_answered_with_0x80() {
    at_brokers(|broker| {
        for version in OLD {
            let mut client = broker.connect_as("c", version);
            for filter in ["a#", "$share/g"] {
                assert_eq!(client.subscribe(filter, Q0), ReasonCode::UnspecifiedError);
            }
            client.expect_nothing();
        }
    });
}

#[test]
fn mqtt311_4_6_0_6_messages_of_each_qos_arrive_in_order() {
    at_brokers(|broker| {
        for qos in [Q0, Q1, Q2] {
            let mut subscriber = broker.connect_as("s", ProtocolVersion::V3_1_1);
            subscriber.subscribe("a/#", qos);
            let mut publisher = broker.connect_as("p", ProtocolVersion::V3_1_1);
            for number in 1..=200 {
                publisher.publish(message("a/b", &number.to_string(), qos, number));
            }
            for number in 1..=200 {
                assert_eq!(subscriber.expect_payload(&number.to_string()).qos, qos);
            }
        }
    });
}

#[test]
fn mqtt311_3_1_0_2_a_second_connect_ends_the_connection() {
    at_brokers(|broker| {
        for version in OLD {
            let mut client = broker.connect_as("c", version);
            let mut again = old("c", true);
            again.version = version;
            client.send_connect(&again);
            assert_eq!(client.receive(), Got::Closed);
        }
    });
}

#[test]
fn mqtt311_3_1_2_24_silence_beyond_the_keep_alive_publishes_the_will_and_closes() {
    at_brokers(|broker| {
        let mut watcher = broker.connect("watcher");
        watcher.subscribe("will", Q1);
        let mut connect = old("c", true);
        connect.keep_alive_seconds = 1;
        connect.will = Some(will("will"));
        let (mut client, _) = broker.connect_with(&connect);
        watcher.expect_payload("gone");
        assert_eq!(client.receive(), Got::Closed);
    });
}

#[test]
fn mqtt311_3_1_4_2_an_older_connection_with_the_same_client_id_ends() {
    at_brokers(|broker| {
        for version in OLD {
            let mut older = broker.connect_as("c", version);
            let mut newer = broker.connect_as("c", version);
            assert_eq!(older.receive(), Got::Closed);
            newer.expect_nothing();
        }
    });
}

#[test]
fn mqtt311_3_10_4_6_several_filters_get_one_unsuback() {
    at_brokers(|broker| {
        let mut client = broker.connect_as("c", ProtocolVersion::V3_1_1);
        client.subscribe("a", Q1);
        client.subscribe("b", Q1);
        client.send_unsubscribe(500, &["a", "none", "b"]);
        assert_eq!(client.receive(), Got::UnsubAck(500, vec![]));
        broker.connect("p").publish_acked("a", "1");
        broker.connect("p").publish_acked("b", "1");
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_12_4_1_a_pingreq_is_answered() {
    at_brokers(|broker| {
        for version in OLD {
            broker.connect_as("c", version).expect_nothing();
        }
    });
}
