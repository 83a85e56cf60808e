//! What peers may write into the log: little, and never a line of their own.

use crate::broker::{Broker, log_line, logged};
use crate::client::{connect, connect_3, publish};

const FORGED: &str = "x\n2026-01-01T00:00:00Z  INFO forged\u{1b}[31m\r\u{2028}\u{7f}";

/// Nothing that a peer sent begins a line or reaches a terminal as a command.
fn assert_nothing_is_forged(mark: &str) {
    let line = log_line(mark);
    assert!(
        !line.contains(['\u{1b}', '\r', '\u{2028}', '\u{7f}']),
        "{line:?}"
    );
    for line in logged("forged") {
        let is_ours = line.contains("tidewire::") && line.contains("\\n");
        assert!(is_ours, "a line of its own: {line:?}");
    }
}

#[test]
fn client_ids_and_topics_cannot_forge_lines() {
    let broker = Broker::start(|_| {});
    let mut first = broker.open();
    first.connect(&format!("taken-over{FORGED}"));
    let mut second = broker.open();
    second.connect(&format!("taken-over{FORGED}"));
    first.until_closed();
    assert_nothing_is_forged("taken-over");
    second.send(&publish(&format!("$SYS/not-allowed{FORGED}"), 1, 1, b""));
    assert_eq!(second.packet().body[2], 0x87, "not authorized");
    assert_nothing_is_forged("not-allowed");
    // The same while there is no session yet.
    let closed = Broker::start(|config| config.allow_anonymous = Some(false));
    let mut third = closed.open();
    third.send(&connect_3("MQTT", 4, &format!("refused-id{FORGED}")));
    assert_eq!(third.packet().body[1], 5, "not authorized");
    assert_nothing_is_forged("refused-id");
}

#[test]
fn a_flood_of_bad_peers_writes_few_lines() {
    let broker = Broker::start(|config| config.log.peer_lines_per_second_max = 1);
    let mut peers = Vec::new();
    for _ in 0..100 {
        let mut client = broker.open();
        peers.push(client.stream.local_addr().unwrap());
        client.send(b"GET / HTTP/1.1\r\n\r\n");
        client.until_closed();
    }
    let lines: usize = peers
        .iter()
        .map(|peer| logged(&format!("peer={peer} ")).len())
        .sum();
    // Two shards, each a line and one more per second.
    assert!((1..50).contains(&lines), "{lines} lines");
}

#[test]
fn a_flood_of_forbidden_messages_writes_few_lines_and_says_how_many_more() {
    let broker = Broker::start(|config| config.log.peer_lines_per_second_max = 2);
    let mut client = broker.client("forbidden-flood");
    for id in 1..=500 {
        client.send(&publish("$SYS/flood", 1, id, b""));
        assert_eq!(client.packet().body[2], 0x87, "not authorized");
    }
    let lines = logged("forbidden-flood").len();
    assert!((1..100).contains(&lines), "{lines} lines");
    // Every ten seconds.
    let summary = log_line("kind=NotAuthorized");
    assert!(summary.contains("similar lines were left out"), "{summary}");
}

#[test]
fn a_refused_peer_is_named_with_its_client_id() {
    let broker = Broker::start(|config| config.allow_anonymous = Some(false));
    let mut client = broker.open();
    let peer = client.stream.local_addr().unwrap();
    client.send(&connect("nobody-special"));
    assert_eq!(client.packet().body[1], 0x87, "not authorized");
    let line = log_line("nobody-special");
    assert!(line.contains(&format!("peer={peer} ")), "{line}");
}
