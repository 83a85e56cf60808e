//! `mount_point`: a listener's clients see a part of the topics as if it were all.

use tidewire_protocol::codec::{ProtocolVersion, QoS, ReasonCode, Will, WillProperties};

use crate::broker::{
    Broker, Got, connect, full, lasting, publish, retained, subscribe, unsubscribe,
};

const T: Option<&str> = Some("t/");
const U: Option<&str> = Some("u/x/");
const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;

#[test]
fn topics_are_prefixed_on_the_way_in_and_shown_without_the_prefix() {
    for qos in [Q0, Q1] {
        for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
            let mut broker = Broker::new(|_| {});
            let mut inside = connect("inside");
            inside.version = version;
            let mut inside = broker.connect(&inside, T);
            let mut outside = broker.join("outsider", None);
            let mut other = broker.join("o", U);
            broker.subscribe(&mut inside, "#", qos);
            broker.subscribe(&mut outside, "#", qos);
            broker.subscribe(&mut other, "#", qos);
            let publisher = broker.join("p", T);
            broker.send(&publisher, &publish("a/b", "1", qos));
            broker.send(&publisher, &publish("a/b", "2", qos));
            assert!(
                broker
                    .received(&mut inside)
                    .ends_with(&[full("a/b=1"), full("a/b=2")])
            );
            assert_eq!(
                broker.received(&mut outside),
                [full("t/a/b=1"), full("t/a/b=2")]
            );
            assert_eq!(broker.received(&mut other), []);
        }
    }
}

#[test]
fn retained_messages_keep_their_part_of_the_tree() {
    let mut broker = Broker::new(|_| {});
    let publisher = broker.join("p", None);
    broker.send(&publisher, &retained("t/a", "mine"));
    broker.send(&publisher, &retained("u/a", "not mine"));
    let mut client = broker.join("c", T);
    let got = broker.subscribe(&mut client, "+", Q1);
    assert_eq!(got[1..], [full("a=mine")]);
}

#[test]
fn a_queue_is_delivered_without_the_prefix_when_its_session_is_resumed() {
    let mut broker = Broker::new(|_| {});
    let mut client = broker.connect(&lasting("c"), T);
    broker.subscribe(&mut client, "a", Q1);
    broker.close(&client);
    let publisher = broker.join("p", None);
    broker.send(&publisher, &publish("t/a", "1", Q1));
    let mut client = broker.connect(&lasting("c"), T);
    assert_eq!(broker.received(&mut client)[1..], [full("a=1")]);
}

#[test]
fn shared_exclusive_and_delayed_topics_are_mounted_inside() {
    let mut broker = Broker::new(|_| {});
    let mut shared = broker.join("shared", T);
    broker.subscribe(&mut shared, "$share/g/a", Q1);
    let mut exclusive = broker.join("e", T);
    broker.subscribe(&mut exclusive, "$exclusive/a", Q1);
    // The same topic elsewhere is another one.
    let mut elsewhere = broker.join("elsewhere", U);
    let granted = broker.subscribe(&mut elsewhere, "$exclusive/a", Q1);
    assert_eq!(granted, [Got::Ack(ReasonCode::GrantedQoS1, None)]);
    let publisher = broker.join("p", T);
    broker.send(&publisher, &publish("$delayed/5/a", "1", Q1));
    broker.pass(5_000);
    assert_eq!(broker.received(&mut shared), [full("a=1")]);
    assert_eq!(broker.received(&mut exclusive), [full("a=1")]);
    assert_eq!(broker.received(&mut elsewhere), []);
}

#[test]
fn unsubscribing_ends_what_the_same_filter_began() {
    let mut broker = Broker::new(|_| {});
    let mut client = broker.join("c", T);
    for filter in ["a/+", "a/b", "$share/g/a/b", "$exclusive/a/b"] {
        broker.subscribe(&mut client, filter, Q0);
        let ended = broker.ask(&mut client, &unsubscribe(filter));
        assert_eq!(ended, [Got::Ack(ReasonCode::Success, None)], "{filter}");
    }
    let publisher = broker.join("p", T);
    broker.send(&publisher, &publish("a/b", "1", Q0));
    assert_eq!(broker.received(&mut client), []);
}

#[test]
fn a_will_is_published_under_the_mount_point() {
    let mut broker = Broker::new(|_| {});
    let mut outside = broker.join("outsider", None);
    broker.subscribe(&mut outside, "t/will", Q0);
    let mut mortal = connect("m");
    mortal.will = Some(Will {
        qos: Q0,
        retain: false,
        topic: "will",
        payload: b"gone",
        properties: WillProperties::default(),
    });
    let mortal = broker.connect(&mortal, T);
    broker.close(&mortal);
    assert_eq!(broker.received(&mut outside), [full("t/will=gone")]);
}

#[test]
fn a_client_id_of_another_mount_point_is_another_session() {
    let mut broker = Broker::new(|_| {});
    let mut one = broker.connect(&lasting("c"), T);
    let mut two = broker.connect(&lasting("c"), U);
    broker.subscribe(&mut one, "a", Q0);
    broker.subscribe(&mut two, "a", Q0);
    let publisher = broker.join("p", None);
    broker.send(&publisher, &publish("t/a", "1", Q0));
    broker.send(&publisher, &publish("u/x/a", "2", Q0));
    assert_eq!(broker.received(&mut one), [full("a=1")]);
    assert_eq!(broker.received(&mut two), [full("a=2")]);
}

#[test]
fn sys_is_readable_and_other_dollar_topics_do_not_exist_under_a_mount_point() {
    let mut broker = Broker::new(|_| {});
    let mut client = broker.join("c", T);
    broker.subscribe(&mut client, "$SYS/#", Q0);
    let header = tidewire::message::Header::default();
    let message = tidewire::message::Message::new("$SYS/x", &[], b"1", header);
    broker.shards[0].publish_message(&message, 0);
    broker.settle();
    assert_eq!(broker.received(&mut client), [full("$SYS/x=1")]);
    for topic in ["$SYS/x", "$other/x"] {
        let refused = broker.ask(&mut client, &publish(topic, "", Q1));
        assert!(
            matches!(refused[..], [Got::Ack(ReasonCode::NotAuthorized, _)]),
            "{topic}"
        );
    }
    let refused = broker.ask(&mut client, &subscribe("$other/#", Q0));
    assert!(matches!(
        refused[..],
        [Got::Ack(ReasonCode::NotAuthorized, _)]
    ));
    broker.subscribe(&mut client, "#", Q0);
    let publisher = broker.join("p", None);
    broker.send(&publisher, &publish("t/$other/x", "", Q0));
    assert_eq!(broker.received(&mut client), []);
}

#[test]
fn lengths_and_levels_count_what_the_client_sends() {
    let mut broker = Broker::new(|config| {
        config.limits.topic_bytes_max = 5;
        config.limits.topic_levels_max = 3;
    });
    let mut client = broker.join("c", Some("tenant/one/"));
    let granted = broker.subscribe(&mut client, "a/b/c", Q0);
    assert_eq!(granted, [Got::Ack(ReasonCode::Success, None)]);
    broker.send(&client, &publish("a/b/c", "1", Q0));
    assert_eq!(broker.received(&mut client), [full("a/b/c=1")]);
    let refused = broker.ask(&mut client, &publish("a/b/cd", "", Q1));
    assert!(matches!(
        refused[..],
        [Got::Ack(ReasonCode::TopicNameInvalid, _)]
    ));
}
