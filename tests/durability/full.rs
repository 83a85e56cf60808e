//! A store without room: what cannot be kept is refused, and everything else goes on.

use std::time::Duration;

use crate::client::{Client, Connect, Out, PUBREC, Packet};
use crate::program::{Directory, Program};

/// Than that of a store of one megabyte, with its map.
const LARGER_THAN_THE_RESERVE: usize = 3_300_000;

/// A store of few bytes.
fn small(megabytes: u32) -> String {
    let bytes = megabytes << 20;
    format!("[store]\nmap_bytes_max = {bytes}\ndisk_free_bytes_min = 0\n")
}

fn fill(broker: &Program, topic: &str) -> usize {
    let mut writer = broker.passing("filling");
    let padding = "x".repeat(32_000);
    for count in 0..10_000 {
        match writer.publish(topic, 1 + (count % 2) as u8, &format!("{count} {padding}")) {
            0 => {}
            reason => {
                assert_eq!(reason, 0x97);
                return count;
            }
        }
    }
    panic!("the store never fills");
}

#[test]
fn durable_publishes_are_refused_and_accepted_again_once_drained() {
    let directory = Directory::new();
    let lines = small(16);
    let mut broker = Program::start_with(&directory, &lines);
    broker.leave_subscribed("reader", "a", 2);
    for _ in 0..3 {
        let count = fill(&broker, "a");
        assert!(count > 100, "{count}");
        // Before 5.0 nobody can be told.
        let (mut old, _) = Client::connect(broker.address, &Connect::durable_3("old"));
        old.send(&Out::new("a", 1, "x").encode(4));
        assert_eq!(old.next(), None);
        assert!(old.is_ended);
        // Nobody durable is concerned.
        let mut passing = broker.passing("passing");
        passing.subscribe("b", 1);
        assert_eq!(broker.passing("writer").publish("b", 1, "goes on"), 0);
        assert_eq!(passing.take(1), ["goes on"]);
        // Full before and after.
        broker = broker.restart_with(&directory, &lines);
        let mut reader = broker.resume("reader");
        let got = reader.take(count);
        let numbers = got.iter().map(|it| it.split(' ').next().unwrap());
        let numbers: Vec<usize> = numbers.map(|it| it.parse().unwrap()).collect();
        // In the order of each QoS.
        for odd in 0..2 {
            let of_one = numbers.iter().copied().filter(|it| it % 2 == odd);
            assert!(of_one.eq((odd..count).step_by(2)));
        }
        reader.settled();
        reader.disconnect(None);
    }
}

#[test]
fn a_message_larger_than_the_room_is_refused_though_it_looked_welcome() {
    let directory = Directory::new();
    let lines = small(1);
    let broker = Program::start_with(&directory, &lines);
    broker.leave_subscribed("reader", "a", 2);
    let large = "x".repeat(LARGER_THAN_THE_RESERVE);
    let mut writer = broker.durable("writer");
    for qos in [1, 2] {
        assert_eq!(writer.publish("a", qos, &large), 0x97);
        assert_eq!(writer.publish_as(&Out::retained("r", qos, &large)), 0x97);
        assert_eq!(writer.publish("$delayed/1/a", qos, &large), 0x97);
    }
    // The refused QoS 2 identifier is not taken for one that was received.
    let mut out = Out::new("a", 2, &large);
    out.dup = true;
    assert_eq!(writer.publish_as(&out), 0x97);
    // Of several at once, only the large one is refused.
    let mut bytes = Vec::new();
    for (id, text) in (1..).zip(["one", &large, "two"]) {
        let mut out = Out::new("a", 2, text);
        out.id = id;
        bytes.extend(out.encode(5));
    }
    writer.send(&bytes);
    let mut reasons = Vec::new();
    for _ in 0..3 {
        match writer.packet() {
            Packet::Ack {
                first: PUBREC,
                id,
                reason,
            } => reasons.push((id, reason)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(reasons.len(), 3);
    assert_eq!(reasons[1], (2, 0x97));
    let accepted = reasons.iter().filter(|it| it.1 == 0).count();
    let broker = broker.restart_with(&directory, &lines);
    let mut reader = broker.resume("reader");
    let texts = reader.take(accepted);
    assert!(texts.iter().all(|it| it.len() == 3), "{accepted}");
    reader.settled();
    // What was refused before is accepted now: it is another message.
    let mut writer = broker.resume("writer");
    let mut out = Out::new("a", 2, "small");
    (out.id, out.dup) = (2, true);
    assert_eq!(writer.publish_as(&out), 0);
    assert_eq!(reader.take(1), ["small"]);
}

#[test]
fn a_qos_2_message_that_its_receiver_may_have_is_accepted_from_the_reserve() {
    let directory = Directory::new();
    let broker = Program::start_with(&directory, &small(1));
    broker.leave_subscribed("away", "a", 2);
    let mut reader = broker.passing("reader");
    reader.subscribe("a", 2);
    let (mut writer, _) = Client::connect(broker.address, &Connect::durable_3("writer"));
    let large = "x".repeat(1_100_000);
    writer.publish("a", 2, &large);
    let message = reader.message();
    assert_eq!(message.text().len(), large.len());
    reader.settle(&message);
    reader.ping();
    assert_eq!(broker.resume("away").message().text().len(), large.len());
}

#[test]
fn a_client_of_3_1_1_is_disconnected_when_its_message_finds_no_room() {
    let directory = Directory::new();
    let broker = Program::start_with(&directory, &small(1));
    broker.leave_subscribed("reader", "a", 2);
    let connect = Connect::durable_3("writer");
    let large = "x".repeat(LARGER_THAN_THE_RESERVE);
    for qos in [1, 2] {
        let (mut writer, _) = Client::connect(broker.address, &connect);
        writer.send(&Out::new("a", qos, &large).encode(4));
        assert_eq!(writer.next(), None);
        assert!(writer.is_ended);
    }
    let (mut writer, is_present) = Client::connect(broker.address, &connect);
    assert!(is_present);
    let mut out = Out::new("a", 2, "small");
    out.dup = true;
    assert_eq!(writer.publish_as(&out), 0);
    let mut reader = broker.resume("reader");
    // The large one may have gone out before the store said no; the small one is not lost.
    loop {
        let message = reader.message();
        reader.settle(&message);
        if message.text() == "small" {
            break;
        }
    }
}

#[test]
fn delayed_messages_and_wills_that_were_accepted_use_the_reserve() {
    let directory = Directory::new();
    let broker = Program::start_with(&directory, &small(16));
    broker.leave_subscribed("delayed", "d", 1);
    broker.leave_subscribed("reader", "a", 1);
    let mut writer = broker.passing("writer");
    assert_eq!(writer.publish("$delayed/4/d", 1, "accepted"), 0);
    fill(&broker, "a");
    let mut reader = broker.resume("delayed");
    assert_eq!(reader.take(1), ["accepted"]);
}

#[test]
fn a_delayed_message_that_was_refused_is_not_published_when_it_is_due() {
    let directory = Directory::new();
    let broker = Program::start_with(&directory, &small(1));
    let mut reader = broker.passing("reader");
    reader.subscribe("a", 0);
    let mut writer = broker.passing("writer");
    let large = "x".repeat(1_100_000);
    assert_eq!(writer.publish("$delayed/1/a", 1, &large), 0x97);
    assert!(writer.publish("$delayed/1/a", 1, "small") < 0x80);
    assert_eq!(reader.message().text(), "small");
    reader.set_patience(Duration::from_millis(500));
    assert_eq!(reader.next(), None);
}
