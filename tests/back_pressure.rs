//! A full mailbox between shards holds publishers back and loses nothing above QoS 0.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use tidewire::config::{Config, Listener};
use tidewire::server::Server;

const MESSAGES: usize = 3_000;
const PAYLOAD_BYTES: usize = 2_000;

#[test]
fn qos_1_messages_all_arrive_through_mailboxes_that_are_always_full() {
    let mut config = Config {
        shards: 3,
        listeners: vec![Listener {
            bind: "127.0.0.1:0".into(),
            ..Listener::default()
        }],
        ..Config::default()
    };
    config.limits.packet_bytes_max = 4_096;
    config.limits.mailbox_bytes_max = 65_536;
    let server = Server::start(config).unwrap();
    let address = server.addresses()[0].replace("mqtt://", "");

    // With eight ids there is a subscriber on another shard than the publisher's.
    let subscribers: Vec<_> = (b'1'..=b'8')
        .map(|id| {
            let mut stream = connect(&address, id);
            stream.write_all(b"\x82\x06\x00\x01\x00\x01t\x01").unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
            thread::spawn(move || take_messages(&stream))
        })
        .collect();
    let mut publisher = connect(&address, b'p');
    let mut answers = publisher.try_clone().unwrap();
    let acknowledged = thread::spawn(move || {
        answers.read_exact(&mut vec![0; 4 * MESSAGES]).unwrap();
    });
    for number in 0..MESSAGES {
        publisher.write_all(&publish(number)).unwrap();
    }
    acknowledged.join().unwrap();
    for subscriber in subscribers {
        subscriber.join().unwrap();
    }
    server.stop().unwrap();
}

/// Reads all messages in order, acknowledging each.
fn take_messages(mut stream: &TcpStream) {
    for number in 0..MESSAGES {
        let mut packet = vec![0; publish(0).len()];
        stream.read_exact(&mut packet).unwrap();
        assert_eq!(packet[8..12], u32::try_from(number).unwrap().to_be_bytes());
        let puback = [0x40, 2, packet[6], packet[7]];
        stream.write_all(&puback).unwrap();
    }
}

/// Clean session, MQTT 3.1.1, a client id of one byte.
fn connect(address: &str, client_id: u8) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut packet = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01".to_vec();
    packet.push(client_id);
    stream.write_all(&packet).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    stream
}

/// QoS 1 to topic `t`, two-byte remaining length; the payload begins with the number.
fn publish(number: usize) -> Vec<u8> {
    let remaining = 5 + PAYLOAD_BYTES;
    let length = [(remaining % 128) as u8 | 0x80, (remaining / 128) as u8];
    let id = u16::try_from(number % 65_535 + 1).unwrap().to_be_bytes();
    let mut packet = vec![0x32, length[0], length[1], 0, 1, b't'];
    packet.extend(id);
    packet.extend(u32::try_from(number).unwrap().to_be_bytes());
    packet.resize(packet.len() + PAYLOAD_BYTES - 4, 7);
    packet
}
