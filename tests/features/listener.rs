//! The same at real listeners: what the shard decides reaches the socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tidewire::clock::Clock;
use tidewire::config::{Config, Listener};
use tidewire::server::Server;
use tidewire_protocol::codec::{Connect, Packet, ProtocolVersion, QoS, Receiver, decode};

use crate::broker::{connect, encoded, publish, subscribe};

pub(crate) const V5: ProtocolVersion = ProtocolVersion::V5;

pub(crate) fn serve(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config {
        shards: 2,
        listeners: vec![Listener {
            bind: "127.0.0.1:0".into(),
            ..Listener::default()
        }],
        ..Config::default()
    };
    change(&mut config);
    Server::start(config).unwrap()
}

pub(crate) fn open(server: &Server, listener: usize, client_id: &str) -> TcpStream {
    open_with(server, listener, &connect(client_id))
}

pub(crate) fn open_with(server: &Server, listener: usize, connect: &Connect<'_>) -> TcpStream {
    let address = server.addresses()[listener]
        .strip_prefix("mqtt://")
        .unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).unwrap();
    let packet = Packet::Connect(Box::new(connect.clone()));
    stream.write_all(&encoded(&packet, V5)).unwrap();
    read_until(&mut stream, |packet| matches!(packet, Packet::ConnAck(_)));
    stream
}

/// Reads packets up to one that is looked for; answers how many came before it.
pub(crate) fn read_until(stream: &mut TcpStream, is_found: impl Fn(&Packet<'_>) -> bool) -> usize {
    let mut bytes = Vec::new();
    let mut before = 0;
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
        if let Some((packet, _)) = decode(&bytes, V5, Receiver::Client, usize::MAX).unwrap() {
            if is_found(&packet) {
                return before;
            }
            before += 1;
            drop(packet);
            bytes.clear();
        }
    }
}

#[test]
fn a_held_client_is_read_again_until_everything_is_answered() {
    let server = serve(|config| config.limits.publish_messages_per_second_max = 100);
    let mut client = open(&server, 0, "fast");
    let mut bytes = encoded(&publish("t", "x", QoS::AtLeastOnce), V5).repeat(150);
    bytes.extend(encoded(&Packet::PingReq, V5));
    let clock = Clock::start();
    client.write_all(&bytes).unwrap();
    let answers = read_until(&mut client, |packet| matches!(packet, Packet::PingResp));
    assert_eq!(answers, 150);
    let took_ms = clock.now_ms();
    assert!(
        took_ms >= 450,
        "fifty messages above the burst take half a second: {took_ms} ms"
    );
    server.stop().unwrap();
}

#[test]
fn clients_of_a_listener_with_a_mount_point_see_its_topics_as_all() {
    let server = serve(|config| {
        let mounted = Listener {
            mount_point: Some("tenant1/".into()),
            ..config.listeners[0].clone()
        };
        config.listeners.push(mounted);
    });
    let mut outside = open(&server, 0, "c");
    let mut inside = open(&server, 1, "c");
    let is_suback = |packet: &Packet<'_>| matches!(packet, Packet::SubAck(_));
    outside
        .write_all(&encoded(&subscribe("#", QoS::AtMostOnce), V5))
        .unwrap();
    read_until(&mut outside, is_suback);
    inside
        .write_all(&encoded(&subscribe("#", QoS::AtMostOnce), V5))
        .unwrap();
    read_until(&mut inside, is_suback);
    let packet = publish("a", "x", QoS::AtMostOnce);
    inside.write_all(&encoded(&packet, V5)).unwrap();
    read_until(
        &mut inside,
        |it| matches!(it, Packet::Publish(it) if it.topic == "a"),
    );
    read_until(
        &mut outside,
        |it| matches!(it, Packet::Publish(it) if it.topic == "tenant1/a"),
    );
    server.stop().unwrap();
}
