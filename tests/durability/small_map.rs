//! A map of few megabytes, filled to the brim by publishers that do not wait for each other.

use std::thread;
use std::time::Duration;

use crate::client::{Client, Connect, Out, Packet};
use crate::filling::{drain, fill};
use crate::program::{Directory, Program};

const LINES: &str = "[store]\nmap_bytes_max = 4_194_304\ndisk_free_bytes_min = 0\n";

fn fills_and_drains(qos: u8, bytes: usize) {
    let directory = Directory::new();
    let mut broker = Program::start_with(&directory, LINES);
    broker.leave_subscribed("reader", "a", qos);
    broker.leave_subscribed("second", "a", 1);
    let mut least = usize::MAX;
    let mut number = 0;
    for round in 0..3 {
        let accepted = fill(&broker, &mut number, qos, bytes);
        least = least.min(accepted.len());
        // Before 5.0 nobody can be told.
        let (mut old, _) = Client::connect(broker.address, &Connect::durable_3("old"));
        let text = format!("0 {}", "x".repeat(bytes));
        old.send(&Out::new("a", 1, &text).encode(4));
        assert_eq!(old.next(), None);
        assert!(old.is_ended);
        if round == 1 {
            broker = broker.restart_with(&directory, LINES);
        }
        drain(&broker, "reader", &accepted);
        drain(&broker, "second", &accepted);
    }
    // Half of the map at the least is of use.
    let bytes_least = 2 << 20;
    assert!(
        least * (bytes + 100) > bytes_least,
        "{least} of {bytes} bytes"
    );
    assert_eq!(
        broker.passing("writer").publish("a", 1, "accepted again"),
        0
    );
}

/// A broker at QoS 1 and one at QoS 2, at the same time.
fn both_fill_and_drain(bytes_1: usize, bytes_2: usize) {
    thread::scope(|scope| {
        scope.spawn(move || fills_and_drains(1, bytes_1));
        scope.spawn(move || fills_and_drains(2, bytes_2));
    });
}

#[test]
fn a_small_map_of_small_messages_is_filled_and_drained_again_and_again() {
    both_fill_and_drain(20, 300);
}

#[test]
fn a_small_map_of_messages_of_8_kilobytes_is_filled_and_drained_again_and_again() {
    both_fill_and_drain(8_000, 8_192);
}

#[test]
fn a_small_map_of_messages_of_60_kilobytes_is_filled_and_drained_again_and_again() {
    both_fill_and_drain(60_000, 60_000);
}

#[test]
fn where_the_reserve_is_used_up_new_sessions_and_subscriptions_are_refused() {
    let directory = Directory::new();
    let lines = format!(
        "{}[limits]\nsubscriptions_per_client_max = 100_000\n",
        LINES
    )
    .replace("4_194_304", "1_048_576");
    let broker = Program::start_with(&directory, &lines);
    broker.leave_subscribed("reader", "a", 1);
    let mut greedy = broker.durable("greedy");
    let mut number = 0;
    let mut reason = 0;
    while reason == 0 {
        assert!(number < 50_000, "the store never fills");
        let filter = |number| format!("{number}/{}", "x".repeat(400));
        let bytes = (number..number + 100).flat_map(|it| greedy.subscription(&filter(it), 0));
        greedy.send(&bytes.collect::<Vec<_>>());
        for _ in 0..100 {
            match greedy.packet() {
                Packet::Granted { reason: it, .. } => reason = it,
                other => panic!("{other:?}"),
            }
        }
        number += 100;
    }
    assert_eq!(reason, 0x97);
    for (connect, expected) in [
        (Connect::durable("new"), 0x97),
        (Connect::durable_3("new"), 3),
    ] {
        let (.., reason) = Client::try_connect(broker.address, &connect).unwrap();
        assert_eq!(reason, expected);
    }
    // Those who were there, and those who leave nothing, go on; who ends a session makes room.
    let mut reader = broker.resume("reader");
    assert_eq!(reader.subscribe("b", 1), 0x97);
    reader.unsubscribe("a");
    broker.passing("passing").subscribe("a", 1);
    greedy.disconnect(Some(0));
    broker.passing("witness").ping();
    reader.unsubscribe("none");
    while reader.subscribe("a", 1) == 0x97 {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(broker.passing("writer").publish("a", 1, "kept"), 0);
    assert_eq!(reader.take(1), ["kept"]);
    broker.durable("new").settled();
}
