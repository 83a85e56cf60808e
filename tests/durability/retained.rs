//! Retained and delayed messages over restarts.

use std::time::Duration;

use crate::client::{Client, Connect, Out, Packet};
use crate::program::{Directory, Program};

#[test]
fn retained_messages_are_there_after_a_restart_and_cleared_ones_are_not() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let mut writer = broker.passing("writer");
    for qos in [0, 1, 2] {
        writer.publish_as(&Out::retained(&format!("r/{qos}"), qos, "kept"));
    }
    writer.publish_as(&Out::retained("r/gone", 1, "x"));
    writer.publish_as(&Out::retained("r/gone", 1, ""));
    writer.publish_as(&Out::retained("r/new", 1, "old"));
    writer.publish_as(&Out::retained("r/new", 1, "new"));
    let broker = broker.restart(&directory);
    let mut reader = broker.passing("reader");
    reader.subscribe("r/#", 1);
    let mut got: Vec<_> = (0..4).map(|_| reader.message()).collect();
    got.sort_by(|a, b| a.topic.cmp(&b.topic));
    assert!(got.iter().all(|it| it.retain));
    let got: Vec<_> = got
        .iter()
        .map(|it| (&*it.topic, it.qos, it.text()))
        .collect();
    let expected = [
        ("r/0", 0, "kept"),
        ("r/1", 1, "kept"),
        ("r/2", 1, "kept"),
        ("r/new", 1, "new"),
    ];
    assert_eq!(got, expected);
    reader.ping();
}

#[test]
fn many_retained_messages_come_paced_and_others_are_served_meanwhile() {
    const COUNT: usize = 20_000;
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let mut writer = broker.passing("writer");
    let mut bytes = Vec::new();
    for number in 0..COUNT {
        bytes.extend(Out::retained(&format!("many/{number}"), 0, &number.to_string()).encode(5));
    }
    writer.send(&bytes);
    assert_eq!(writer.publish_as(&Out::retained("last", 1, "x")), 0x10);
    let mut broker = broker.restart(&directory);
    for id in ["passing", "durable"] {
        let mut reader = match id {
            "durable" => broker.durable(id),
            _ => broker.passing(id),
        };
        reader.subscribe("many/#", 1);
        let mut witness = broker.passing("witness");
        // Long before all of them could have been taken.
        witness.set_patience(Duration::from_secs(2));
        witness.ping();
        let mut numbers: Vec<usize> = reader
            .take(COUNT)
            .iter()
            .map(|it| it.parse().unwrap())
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), COUNT);
        reader.settled();
        broker = broker.restart(&directory);
    }
    broker.resume("durable").ping();
}

#[test]
fn new_topics_beyond_the_limit_are_refused_with_0x97_and_known_ones_go_on() {
    let directory = Directory::new();
    let lines = "[limits]\nretained_messages_max = 10\n";
    let broker = Program::start_with(&directory, lines);
    let mut writer = broker.passing("writer");
    let reasons: Vec<u8> = (0..12)
        .map(|it| writer.publish_as(&Out::retained(&format!("r/{it}"), 1 + it % 2, "first")))
        .collect();
    assert!(reasons[..10].iter().all(|it| *it < 0x80), "{reasons:?}");
    assert_eq!(reasons[10..], [0x97, 0x97]);
    assert!(writer.publish_as(&Out::retained("r/3", 1, "second")) < 0x80);
    let broker = broker.restart_with(&directory, lines);
    let mut reader = broker.passing("reader");
    reader.subscribe("r/#", 0);
    let mut got: Vec<_> = (0..10).map(|_| reader.message()).collect();
    got.sort_by(|a, b| a.topic.cmp(&b.topic));
    assert_eq!(got[3].text(), "second");
    reader.ping();
    // Room again.
    let mut writer = broker.passing("writer");
    assert!(writer.publish_as(&Out::retained("r/0", 1, "")) < 0x80);
    assert!(writer.publish_as(&Out::retained("r/11", 1, "now")) < 0x80);
}

#[test]
fn delayed_messages_are_published_once_after_a_restart() {
    let directory = Directory::new();
    let mut broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 1);
    let mut writer = broker.passing("writer");
    writer.publish("$delayed/1/a", 1, "due in the downtime");
    writer.publish("$delayed/3/a", 1, "due later");
    broker.kill();
    std::thread::sleep(Duration::from_millis(1_200));
    let broker = Program::start(&directory);
    let mut reader = broker.resume("reader");
    assert_eq!(reader.take(2), ["due in the downtime", "due later"]);
    reader.settled();
    let broker = broker.restart(&directory);
    let mut reader = broker.resume("reader");
    reader.set_patience(Duration::from_millis(300));
    assert_eq!(reader.next(), None);
}

#[test]
fn an_expired_retained_message_is_not_sent_after_a_restart() {
    let directory = Directory::new();
    let mut broker = Program::start(&directory);
    let mut writer = broker.passing("writer");
    let mut out = Out::retained("r/short", 1, "x");
    out.expiry_seconds = Some(1);
    writer.publish_as(&out);
    writer.publish_as(&Out::retained("r/long", 1, "y"));
    broker.kill();
    std::thread::sleep(Duration::from_millis(1_200));
    let broker = Program::start(&directory);
    let mut reader = broker.passing("reader");
    reader.subscribe("r/#", 0);
    assert_eq!(reader.message().topic, "r/long");
    reader.send(&[0xC0, 0]);
    assert_eq!(reader.packet(), Packet::Pong);
}

#[test]
fn connack_comes_first_though_a_publish_sent_with_connect_is_refused() {
    let directory = Directory::new();
    let lines = "[limits]\nretained_messages_max = 1\n";
    let broker = Program::start_with(&directory, lines);
    broker.leave_subscribed("reader", "a", 1);
    let mut writer = broker.passing("writer");
    writer.publish_as(&Out::retained("r/known", 1, "x"));
    writer.publish("a", 1, "waiting");
    let refused = Out::retained("r/new", 1, "x").encode(5);
    for _ in 0..5 {
        let connect = Connect::durable("reader");
        // Panics if the first packet is no CONNACK.
        let mut reader = Client::connect_with(broker.address, &connect, &refused);
        let packets = [reader.packet(), reader.packet()];
        let is_refusal = |it: &Packet| matches!(it, Packet::Ack { reason: 0x97, .. });
        assert!(packets.iter().any(is_refusal), "{packets:?}");
        assert!(packets.iter().any(|it| matches!(it, Packet::Publish(_))));
        reader.close();
    }
}
