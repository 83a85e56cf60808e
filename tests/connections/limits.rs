//! Limits before the session.

use std::time::Duration;

use tidewire::config::Listener;

use crate::broker::{Broker, listener, log_line};
use crate::client::{connect, connect_3, packet, text};

fn closes_at_once(broker: &Broker, bytes: &[u8]) {
    let mut client = broker.open();
    client.send(bytes);
    client.until_closed();
}

#[test]
fn a_first_packet_of_any_other_type_and_length_closes_the_connection() {
    let broker = Broker::start(|config| config.limits.connect_seconds = 3_600);
    for packet_type in (0..16).filter(|it| *it != 1) {
        closes_at_once(&broker, &[packet_type << 4, 0]);
        closes_at_once(&broker, &[packet_type << 4 | 2, 0xff, 0xff, 0xff, 0x7f]);
    }
    closes_at_once(&broker, &[0x10, 0xff, 0xff, 0xff, 0x7f]);
    broker.serves();
}

#[test]
fn connections_of_one_address_are_limited() {
    let broker = Broker::start(|config| config.limits.connections_per_address_max = 3);
    let mut clients: Vec<_> = (0..3)
        .map(|number| broker.client(&format!("client-{number}")))
        .collect();
    closes_at_once(&broker, &[]);
    assert!(log_line("the address has too many").contains("peer=127.0.0.1:"));
    for client in &mut clients {
        client.ping();
    }
    // A place is free again once the broker has seen the end of a connection.
    drop(clients.pop());
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(20));
        let mut client = broker.open();
        client.stream.set_nodelay(true).unwrap();
        let is_sent = std::io::Write::write_all(&mut client.stream, &connect("again")).is_ok();
        if is_sent && client.until_first() == Some(0x20) {
            return;
        }
    }
    panic!("no place became free");
}

#[test]
fn an_address_that_connects_too_often_waits() {
    let broker = Broker::start(|config| {
        config.limits.connects_per_second_per_address = 1;
        config.limits.connects_burst_per_address = 5;
    });
    for _ in 0..5 {
        broker.serves();
    }
    closes_at_once(&broker, &[]);
    log_line("the address connects too often");
    std::thread::sleep(Duration::from_millis(1_500));
    broker.serves();
}

#[test]
fn hundreds_of_clients_of_one_address_are_welcome_by_default() {
    let broker = Broker::start(|_| {});
    let mut clients: Vec<_> = (0..400)
        .map(|number| broker.client(&format!("client-{number}")))
        .collect();
    for client in &mut clients {
        client.ping();
    }
}

#[test]
fn refused_connections_are_counted() {
    let broker = Broker::start(|config| config.sys_interval_seconds = 1);
    for _ in 0..3 {
        closes_at_once(&broker, &[0xc0, 0]);
    }
    let mut client = broker.client("counter");
    client.send(&packet(
        0x82,
        &[
            &[0, 9, 0][..],
            &text(b"$SYS/broker/connections/refused"),
            &[0],
        ]
        .concat(),
    ));
    for _ in 0..20 {
        let packet = client.packet();
        if packet.first & 0xf0 == 0x30 && packet.body.ends_with(b"3") {
            return;
        }
    }
    panic!("the count does not become 3");
}

#[test]
fn a_listener_that_is_full_refuses_and_the_others_do_not() {
    let broker = Broker::start(|config| {
        config.listeners.push(Listener {
            connections_max: Some(1),
            ..listener()
        });
    });
    let mut only = crate::broker::open(broker.addresses[1]);
    only.connect("only");
    assert_eq!(crate::broker::open(broker.addresses[1]).until_closed(), b"");
    log_line("the listener has too many connections");
    only.ping();
    broker.serves();
}

#[test]
fn only_the_versions_of_the_listener_are_spoken() {
    let versions = [
        connect_3("MQIsdp", 3, "a"),
        connect_3("MQTT", 4, "a"),
        connect("a"),
    ];
    let names = [
        tidewire_protocol::codec::ProtocolVersion::V3_1,
        tidewire_protocol::codec::ProtocolVersion::V3_1_1,
        tidewire_protocol::codec::ProtocolVersion::V5,
    ];
    let only = |version| Listener {
        versions: vec![version],
        ..listener()
    };
    let broker = Broker::start(|config| config.listeners = names.map(only).to_vec());
    for (place, address) in broker.addresses.iter().enumerate() {
        for (number, bytes) in versions.iter().enumerate() {
            let mut client = crate::broker::open(*address);
            client.send(bytes);
            let answer = client.packet();
            let refused = if number == 2 { 0x84 } else { 1 };
            let expected = if number == place { 0 } else { refused };
            assert_eq!((answer.first, answer.body[1]), (0x20, expected));
        }
    }
}

/// The start of a CONNECT of 200,000 bytes.
fn large_connect() -> Vec<u8> {
    let mut body = text(b"MQTT");
    // A will with a large payload.
    body.extend([5, 0x06, 0, 0, 0]);
    body.extend(text(b"large"));
    body.push(0);
    body.extend(text(b"will"));
    body.extend(text([b'x'; 60_000]));
    packet(0x10, &body)
}

#[test]
fn half_open_connections_share_a_bounded_memory() {
    let broker = Broker::start(|config| {
        config.limits.connecting_bytes_max = 1 << 20;
        config.limits.connect_seconds = 60;
    });
    let bytes = large_connect();
    let half = &bytes[..50_000];
    let mut half_open: Vec<_> = (0..200)
        .map(|_| {
            let mut client = broker.open();
            // Those beyond the bound may be closed meanwhile.
            let _ = std::io::Write::write_all(&mut client.stream, half);
            client
        })
        .collect();
    log_line("CONNECT packets that are not whole");
    // Small ones need nothing of it.
    broker.serves();
    let is_open = |client: &mut crate::client::Client<std::net::TcpStream>| {
        let wait = Duration::from_millis(2);
        client.stream.set_read_timeout(Some(wait)).unwrap();
        let read = std::io::Read::read(&mut client.stream, &mut [0]);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    // Each holds at least what it sent, without the first 4 KiB.
    let bound = 1 + (1 << 20) / (50_000 - 4_096);
    // A shard that is behind has not read them all yet.
    for _ in 0..200 {
        half_open.retain_mut(is_open);
        if half_open.len() <= bound {
            break;
        }
    }
    let open = half_open.len();
    assert!((1..=bound).contains(&open), "{open} are open");
    drop(half_open);
    // The broker sees one after the other that they are gone.
    let is_answered = || {
        let mut client = broker.open();
        let _ = std::io::Write::write_all(&mut client.stream, &bytes);
        client.until_first() == Some(0x20)
    };
    let is_free = (0..200).any(|_| is_answered());
    assert!(is_free, "the memory is free again");
}

#[test]
fn silent_connections_leave_room_and_go_at_the_deadline() {
    let broker = Broker::start(|config| config.limits.connect_seconds = 3);
    let silent: Vec<_> = (0..400)
        .map(|number| {
            let mut client = broker.open();
            client.send(&connect("half")[..number % 8]);
            client
        })
        .collect();
    broker.serves();
    for mut client in silent {
        assert_eq!(client.until_closed(), b"");
    }
}
