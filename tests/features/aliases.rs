//! Topic aliases that the broker sets for clients that take them.

use std::num::NonZeroU32;

use tidewire_protocol::codec::{Connect, QoS};

use crate::broker::{Broker, aliased, connect, full, lasting, publish};

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;

fn taking(mut connect: Connect<'_>, aliases: u16) -> Connect<'_> {
    connect.properties.topic_alias_maximum = Some(aliases);
    connect
}

#[test]
fn a_topic_is_written_once_and_then_stands_behind_its_alias() {
    for qos in [Q0, Q1] {
        let mut broker = Broker::new(|_| {});
        let mut client = broker.connect(&taking(connect("c"), 1), None);
        broker.subscribe(&mut client, "#", qos);
        let mut plain = broker.join("plain", None);
        broker.subscribe(&mut plain, "#", qos);
        let publisher = broker.join("p", None);
        for payload in ["1", "2"] {
            broker.send(&publisher, &publish("long/topic", payload, qos));
            broker.send(&publisher, &publish("other/topic", payload, qos));
        }
        let expected = [
            "long/topic=1",
            "other/topic=1",
            "long/topic=2",
            "other/topic=2",
        ];
        let mut got = broker.received(&mut client);
        assert_eq!(got.pop(), Some(full(expected[3])), "there is one alias");
        assert_eq!(got.pop(), Some(aliased(expected[2])));
        assert_eq!(got, [full(expected[0]), full(expected[1])]);
        assert_eq!(broker.received(&mut plain), expected.map(full));
    }
}

#[test]
fn a_run_of_messages_that_others_share_is_rewritten_for_a_client_with_aliases() {
    let mut broker = Broker::new(|_| {});
    let mut client = broker.connect(&taking(connect("c"), 8), Some("t/"));
    broker.subscribe(&mut client, "#", Q0);
    let mut plain = broker.join("plain", None);
    broker.subscribe(&mut plain, "t/long/topic", Q0);
    let publisher = broker.join("p", None);
    let payload = "x".repeat(3_000);
    let packets: Vec<u8> = (0..3)
        .flat_map(|_| {
            let packet = publish("t/long/topic", &payload, Q0);
            crate::broker::encoded(&packet, tidewire_protocol::codec::ProtocolVersion::V5)
        })
        .collect();
    broker.shards[publisher.shard].receive(publisher.key, &packets, 0);
    broker.settle();
    let text = format!("long/topic={payload}");
    let expected = [full(&text), aliased(&text), aliased(&text)];
    assert_eq!(broker.received(&mut client), expected);
    let text = format!("t/long/topic={payload}");
    assert_eq!(
        broker.received(&mut plain),
        [full(&text), full(&text), full(&text)]
    );
}

#[test]
fn a_message_sent_again_uses_no_alias_of_the_connection_before() {
    let mut broker = Broker::new(|_| {});
    let mut client = broker.connect(&taking(lasting("c"), 8), None);
    broker.subscribe(&mut client, "#", Q1);
    let publisher = broker.join("p", None);
    broker.send(&publisher, &publish("long/topic", "1", Q1));
    broker.send(&publisher, &publish("long/topic", "2", Q1));
    let first = [full("long/topic=1"), aliased("long/topic=2")];
    assert_eq!(broker.received(&mut client), first);
    broker.close(&client);
    let mut client = broker.connect(&taking(lasting("c"), 8), None);
    assert_eq!(broker.received(&mut client)[1..], first);
    broker.close(&client);
    let mut client = broker.connect(&lasting("c"), None);
    let again = [full("long/topic=1"), full("long/topic=2")];
    assert_eq!(broker.received(&mut client)[1..], again);
}

#[test]
fn an_alias_that_would_make_a_packet_too_large_is_left_out() {
    let mut broker = Broker::new(|_| {});
    let mut small = taking(connect("c"), 8);
    // Enough for the topic alone: 2 + 2 + 10 + 1 + 50.
    small.properties.maximum_packet_size = NonZeroU32::new(65);
    let mut client = broker.connect(&small, None);
    broker.subscribe(&mut client, "#", Q0);
    let publisher = broker.join("p", None);
    let payload = "x".repeat(50);
    broker.send(&publisher, &publish("long/topic", &payload, Q0));
    broker.send(&publisher, &publish("long/topic", "1", Q0));
    broker.send(&publisher, &publish("long/topic", &"x".repeat(57), Q0));
    let got = broker.received(&mut client);
    let text = format!("long/topic={payload}");
    let aliased_text = format!("long/topic={}", "x".repeat(57));
    assert_eq!(
        got,
        [full(&text), full("long/topic=1"), aliased(&aliased_text)]
    );
}

#[test]
fn no_alias_is_set_unless_both_sides_take_one() {
    let mut broker = Broker::new(|config| config.mqtt.topic_aliases_sent_max = 0);
    let mut client = broker.connect(&taking(connect("c"), 8), None);
    broker.subscribe(&mut client, "#", Q0);
    let publisher = broker.join("p", None);
    broker.send(&publisher, &publish("long/topic", "1", Q0));
    broker.send(&publisher, &publish("long/topic", "2", Q0));
    let expected = [full("long/topic=1"), full("long/topic=2")];
    assert_eq!(broker.received(&mut client), expected);
}
