//! `$SYS`: every number moves with the traffic that it counts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;

use tidewire_protocol::codec::{Packet, QoS};

use crate::broker::{encoded, publish, retained, subscribe};
use crate::listener::{V5, open, read_until, serve};

/// The numbers of one publication in which `until` is at least one, without `$SYS/broker/`.
fn numbers(watcher: &mut TcpStream, until: &str) -> HashMap<String, f64> {
    let seen = RefCell::new(HashMap::new());
    read_until(watcher, |packet| {
        let Packet::Publish(it) = packet else {
            return false;
        };
        let text = String::from_utf8_lossy(it.payload);
        let number: f64 = text.split(' ').next().unwrap().parse().unwrap_or(0.0);
        let topic = it.topic.strip_prefix("$SYS/broker/").unwrap();
        seen.borrow_mut().insert(topic.to_owned(), number);
        topic == LAST && seen.borrow().get(until).is_some_and(|it| *it >= 1.0)
    });
    seen.into_inner()
}

#[test]
fn every_number_counts_the_traffic_that_it_names() {
    let server = serve(|config| {
        config.sys_interval_seconds = 1;
        config.limits.session_expiry_seconds_max = 1;
    });
    let is_suback = |packet: &Packet<'_>| matches!(packet, Packet::SubAck(_));
    let is_puback = |packet: &Packet<'_>| matches!(packet, Packet::PubAck(_));
    let mut client = open(&server, 0, "c");
    for (filter, qos) in [("a", QoS::AtMostOnce), ("$share/g/b", QoS::AtLeastOnce)] {
        client
            .write_all(&encoded(&subscribe(filter, qos), V5))
            .unwrap();
        read_until(&mut client, is_suback);
    }
    let mut publisher = open(&server, 0, "p");
    publisher
        .write_all(&encoded(&publish("a", "12345", QoS::AtMostOnce), V5))
        .unwrap();
    publisher
        .write_all(&encoded(&publish("b", "12345", QoS::AtLeastOnce), V5))
        .unwrap();
    read_until(&mut publisher, is_puback);
    publisher
        .write_all(&encoded(&retained("kept", "1"), V5))
        .unwrap();
    read_until(&mut publisher, is_puback);
    for _ in 0..2 {
        read_until(&mut client, |packet| matches!(packet, Packet::Publish(_)));
    }
    drop(open_lasting(&server));
    let mut watcher = open(&server, 0, "w");
    watcher
        .write_all(&encoded(&subscribe("$SYS/#", QoS::AtMostOnce), V5))
        .unwrap();
    read_until(&mut watcher, is_suback);
    let seen = numbers(&mut watcher, "clients/expired");
    for (topic, least) in LEAST {
        let number = seen.get(topic).copied().unwrap_or(-1.0);
        assert!(number >= least, "{topic}: {number} is below {least}");
    }
    for topic in [
        "clients/disconnected",
        "publish/messages/dropped",
        "version",
    ] {
        assert!(seen.contains_key(topic), "{topic}");
    }
    assert_eq!(seen.get("publish/bytes/received"), Some(&11.0));
    server.stop().unwrap();
}

#[test]
fn an_interval_of_zero_turns_sys_off() {
    let server = serve(|config| config.sys_interval_seconds = 0);
    let mut watcher = open(&server, 0, "w");
    let mut bytes = encoded(&subscribe("$SYS/#", QoS::AtMostOnce), V5);
    bytes.extend(encoded(&Packet::PingReq, V5));
    watcher.write_all(&bytes).unwrap();
    let is_pong = |packet: &Packet<'_>| matches!(packet, Packet::PingResp);
    assert_eq!(read_until(&mut watcher, is_pong), 1, "the SUBACK alone");
    server.stop().unwrap();
}

fn open_lasting(server: &tidewire::server::Server) -> TcpStream {
    crate::listener::open_with(server, 0, &crate::broker::lasting("mortal"))
}

/// The last topic of a publication.
const LAST: &str = "load/bytes/sent/15min";

/// What the traffic amounts to at the least.
const LEAST: [(&str, f64); 24] = [
    ("clients/connected", 3.0),
    ("clients/total", 3.0),
    ("clients/maximum", 3.0),
    ("clients/expired", 1.0),
    ("messages/received", 9.0),
    ("messages/sent", 9.0),
    ("publish/messages/received", 3.0),
    ("publish/messages/sent", 2.0),
    ("publish/bytes/received", 11.0),
    ("publish/bytes/sent", 10.0),
    ("bytes/received", 80.0),
    ("bytes/sent", 80.0),
    ("retained messages/count", 1.0),
    ("messages/stored", 1.0),
    ("subscriptions/count", 2.0),
    ("shared_subscriptions/count", 1.0),
    ("load/messages/received/1min", 1.0),
    ("load/messages/sent/1min", 1.0),
    ("load/publish/received/5min", 0.1),
    ("load/publish/sent/15min", 0.1),
    ("load/bytes/received/1min", 10.0),
    ("load/bytes/sent/1min", 10.0),
    ("load/connections/1min", 1.0),
    ("uptime", 1.0),
];
