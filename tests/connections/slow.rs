//! Slow readers behind TLS and WebSocket get everything, and floods without a reader are bounded.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tidewire::config::{Listener, Transport};

use crate::broker::{Broker, listener};
use crate::certificates::{Authority, Wish};
use crate::client::{Client, publish};
use crate::websocket;

const MESSAGES: u16 = 200;
const PAYLOAD_BYTES: usize = 100_000;

/// Publishes 20 MB to a subscriber that reads nothing meanwhile, then lets it read in silence.
fn all_arrives<S: Read + Write>(broker: &Broker, mut subscriber: Client<S>) {
    subscriber.connect("slow");
    subscriber.subscribe("backlog", 1);
    let mut publisher = broker.client("publisher");
    let payload = vec![b'x'; PAYLOAD_BYTES];
    for id in 1..=MESSAGES {
        publisher.send(&publish("backlog", 1, id, &payload));
        assert_eq!(publisher.packet().first, 0x40, "PUBACK");
    }
    // The send queue settles: from now on only the socket can wake the connection.
    std::thread::sleep(Duration::from_millis(300));
    for number in 0..MESSAGES {
        let packet = subscriber.packet();
        assert_eq!(packet.first, 0x32, "PUBLISH {number}");
        assert!(packet.body.ends_with(&payload), "PUBLISH {number}");
    }
    subscriber.ping();
}

/// All waits in the connection's buffer and none for the window, which would write again.
fn start(second: Listener) -> Broker {
    Broker::start(|config| {
        config.limits.write_buffer_bytes_max = 64 << 20;
        config.listeners = vec![listener(), second];
    })
}

#[test]
fn a_backlog_reaches_a_slow_reader_over_tls() {
    let authority = Authority::new();
    let broker = start(authority.listener());
    let wish = Wish {
        listener: 1,
        ..Wish::default()
    };
    all_arrives(&broker, authority.open(&broker, wish));
}

#[test]
fn a_backlog_reaches_a_slow_reader_over_websocket() {
    let broker = start(Listener {
        transport: Transport::Ws,
        ..listener()
    });
    let stream = crate::broker::open(broker.addresses[1]).stream;
    all_arrives(&broker, Client::new(websocket::Stream::upgrade(stream)));
}

#[test]
fn a_backlog_reaches_a_slow_reader_over_tcp() {
    let broker = Broker::start(|_| {});
    all_arrives(&broker, broker.open());
}

/// Sends `bytes` again and again without reading, until the broker takes no more of them.
fn flood(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream
        .set_write_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    let mut sent = 0;
    while let Ok(count) = stream.write(bytes) {
        sent += count;
        assert!(sent < 256 << 20, "the broker reads on and on");
    }
    sent
}

#[test]
fn pings_and_subscriptions_without_a_reader_are_no_longer_read() {
    let broker = Broker::start(|config| config.limits.write_buffer_bytes_max = 64 << 10);
    let mut pings = broker.client("pings");
    let mut subscriptions = broker.client("subscriptions");
    let subscribe = [0x82, 9, 0, 1, 0, 0, 3, b'a', b'/', b'b', 0].repeat(4_096);
    flood(&mut pings.stream, &[0xc0, 0].repeat(32_768));
    flood(&mut subscriptions.stream, &subscribe);
    // Both shards.
    for number in 0..8 {
        broker.client(&format!("other-{number}")).ping();
    }
}
