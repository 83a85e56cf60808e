//! `reason_strings` and `response_information`: what clients are told in words.

use std::num::NonZeroU32;

use tidewire_protocol::codec::{Connect, Packet, QoS, ReasonCode};

use crate::broker::{Broker, Got, connect, lasting, publish, subscribe, unsubscribe};

const Q1: QoS = QoS::AtLeastOnce;

fn broker() -> Broker {
    Broker::new(|config| config.limits.topic_bytes_max = 10)
}

/// What goes wrong for this client: PUBLISH of both kinds, SUBSCRIBE, UNSUBSCRIBE, CONNECT.
fn errors(broker: &mut Broker, connect: &Connect<'_>) -> Vec<(ReasonCode, Option<String>)> {
    let mut client = broker.connect(connect, None);
    broker.received(&mut client);
    let wrong: [Packet<'_>; 5] = [
        publish("a/topic/too/long", "", Q1),
        publish("$SYS/x", "", QoS::ExactlyOnce),
        subscribe("a/#/b", Q1),
        unsubscribe("a/#/b"),
        Packet::Connect(Box::new(connect.clone())),
    ];
    let mut seen = Vec::new();
    for packet in wrong {
        for got in broker.ask(&mut client, &packet) {
            match got {
                Got::Ack(reason, why) | Got::Disconnect(reason, why) => seen.push((reason, why)),
                other => panic!("{other:?}"),
            }
        }
    }
    seen
}

const REASONS: [ReasonCode; 5] = [
    ReasonCode::TopicNameInvalid,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::ProtocolError,
];

#[test]
fn errors_are_explained_in_words() {
    let seen = errors(&mut broker(), &connect("c"));
    assert_eq!(
        seen.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(),
        REASONS
    );
    for (reason, why) in seen {
        assert!(why.is_some_and(|why| why.len() > 5), "{reason:?}");
    }
}

#[test]
fn without_request_problem_information_only_the_end_is_explained() {
    // [MQTT-3.1.2-29]
    let mut terse = connect("c");
    terse.properties.request_problem_information = Some(false);
    let seen = errors(&mut broker(), &terse);
    let explained: Vec<bool> = seen.iter().map(|(_, why)| why.is_some()).collect();
    assert_eq!(explained, [false, false, false, false, true]);
}

#[test]
fn no_reason_string_makes_a_packet_larger_than_the_client_takes() {
    // [MQTT-3.4.2-2], [MQTT-3.9.2-1], [MQTT-3.11.2-1], [MQTT-3.14.2-3]
    let mut small = connect("c");
    small.properties.maximum_packet_size = NonZeroU32::new(20);
    let seen = errors(&mut broker(), &small);
    assert_eq!(seen, REASONS.map(|reason| (reason, None)));
}

#[test]
fn reason_strings_can_be_switched_off() {
    let mut broker = Broker::new(|config| {
        config.limits.topic_bytes_max = 10;
        config.mqtt.reason_strings = false;
    });
    let seen = errors(&mut broker, &connect("c"));
    assert_eq!(seen, REASONS.map(|reason| (reason, None)));
}

#[test]
fn a_refused_connect_is_explained() {
    let mut broker = Broker::new(|config| config.limits.sessions_max = 1);
    broker.connect(&lasting("one"), None);
    let mut two = broker.connect(&connect("two"), None);
    let got = broker.received(&mut two);
    let [Got::ConnAck(ReasonCode::QuotaExceeded, Some(why), ..)] = &got[..] else {
        panic!("{got:?}");
    };
    assert!(why.contains("limit"), "{why}");
}

#[test]
fn response_information_is_told_to_who_asks() {
    let mut broker = Broker::new(|config| {
        config.mqtt.response_information = Some("response/%c/".into());
    });
    let mut told = |client_id: &str, asks| {
        let mut connect = connect(client_id);
        connect.properties.request_response_information = asks;
        let mut client = broker.connect(&connect, None);
        match broker.received(&mut client).pop() {
            Some(Got::ConnAck(_, _, _, information)) => information,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told("c1", Some(true)).as_deref(), Some("response/c1/"));
    assert_eq!(told("c2", Some(false)), None);
    assert_eq!(told("c3", None), None);
    assert_eq!(told("c/#", Some(true)), None, "it would be no topic");
}
