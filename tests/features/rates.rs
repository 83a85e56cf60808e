//! Limits of the rates of publishing and subscribing: what is too fast is read later, and nothing
//! is lost.

use tidewire_protocol::codec::{Packet, ProtocolVersion, QoS};

use crate::broker::{Broker, Client, Got, connect, encoded, publish, subscribe, unsubscribe};

/// What a driver does: offers bytes again once the client may be heard. Answers how long it took.
fn pour(broker: &mut Broker, client: &Client, mut bytes: &[u8]) -> u64 {
    let start_ms = broker.now_ms;
    while !bytes.is_empty() {
        let shard = &mut broker.shards[client.shard];
        let used = shard.receive(client.key, bytes, broker.now_ms);
        bytes = &bytes[used..];
        broker.settle();
        let output = broker.shards[client.shard].output(client.key).unwrap();
        let until_ms = output.held_until_ms.unwrap_or(0);
        assert!(bytes.is_empty() || until_ms > broker.now_ms, "stuck");
        let wait_ms = until_ms.saturating_sub(broker.now_ms);
        broker.pass(wait_ms);
    }
    broker.now_ms - start_ms
}

fn messages(count: usize, payload: &str) -> Vec<u8> {
    let packet = publish("t", payload, QoS::AtMostOnce);
    encoded(&packet, ProtocolVersion::V5).repeat(count)
}

#[test]
fn a_fast_publisher_is_slowed_down_to_its_rate_and_loses_nothing() {
    let mut broker = Broker::new(|config| {
        config.limits.publish_messages_per_second_max = 100;
    });
    let mut subscriber = broker.join("s", None);
    broker.subscribe(&mut subscriber, "t", QoS::AtMostOnce);
    let publisher = broker.join("p", None);
    let took_ms = pour(&mut broker, &publisher, &messages(1_100, "x"));
    // The first hundred are the burst.
    assert!((9_900..10_200).contains(&took_ms), "{took_ms}");
    assert_eq!(broker.received(&mut subscriber).len(), 1_100);
}

#[test]
fn the_rate_of_bytes_counts_whole_packets() {
    let mut broker = Broker::new(|config| {
        config.limits.publish_bytes_per_second_max = 10_000;
        config.limits.publish_burst_seconds = 2;
    });
    let publisher = broker.join("p", None);
    let bytes = messages(120, &"x".repeat(994));
    assert_eq!(bytes.len(), 120 * 1_001);
    let took_ms = pour(&mut broker, &publisher, &bytes);
    assert!((9_900..10_200).contains(&took_ms), "{took_ms}");
}

#[test]
fn clients_within_the_limit_and_other_packets_are_not_slowed_down() {
    let mut broker = Broker::new(|config| {
        config.limits.publish_messages_per_second_max = 10;
    });
    let mut client = broker.join("c", None);
    assert_eq!(pour(&mut broker, &client, &messages(10, "x")), 0);
    for _ in 0..100 {
        assert_eq!(broker.ask(&mut client, &Packet::PingReq), [Got::Pong]);
    }
    broker.pass(1_000);
    assert_eq!(pour(&mut broker, &client, &messages(10, "x")), 0);
}

#[test]
fn a_client_that_is_not_read_is_not_silent() {
    let mut broker = Broker::new(|config| {
        config.limits.publish_bytes_per_second_max = 10;
    });
    let mut slow = connect("slow");
    slow.keep_alive_seconds = 2;
    let mut client = broker.connect(&slow, None);
    broker.received(&mut client);
    // Held for ten seconds, and then it may be silent for three.
    broker.send(&client, &publish("t", &"x".repeat(104), QoS::AtMostOnce));
    broker.pass(10_000);
    assert_eq!(broker.received(&mut client), []);
    broker.pass(2_900);
    assert_eq!(broker.ask(&mut client, &Packet::PingReq), [Got::Pong]);
    broker.pass(3_000);
    let got = broker.received(&mut client);
    assert!(matches!(got[..], [Got::Disconnect(..)]), "{got:?}");
}

#[test]
fn filters_of_subscribe_and_unsubscribe_have_a_rate_of_their_own() {
    let mut broker = Broker::new(|config| {
        config.limits.filters_per_second_max = 10;
        config.limits.filter_burst_seconds = 1;
    });
    let mut client = broker.join("c", None);
    let packets = [subscribe("a", QoS::AtMostOnce), unsubscribe("a")];
    let packets = packets.map(|it| encoded(&it, ProtocolVersion::V5));
    let bytes = packets.concat().repeat(30);
    let took_ms = pour(&mut broker, &client, &bytes);
    // The first ten of sixty are the burst.
    assert!((4_900..5_200).contains(&took_ms), "{took_ms}");
    assert_eq!(broker.received(&mut client).len(), 60);
    assert_eq!(pour(&mut broker, &client, &messages(1_000, "x")), 0);
}
