//! More messages than wait in memory.

use std::time::Duration;

use crate::client::{Client, Connect, Out, PUBACK, Packet};
use crate::program::{Directory, Program, command};

/// Publishes numbered messages at QoS 1, many at a time.
fn publish_many(broker: &Program, topic: &str, numbers: std::ops::Range<usize>, padding: usize) {
    let mut writer = broker.passing("many");
    let padding = "x".repeat(padding);
    let numbers: Vec<usize> = numbers.collect();
    for part in numbers.chunks(500) {
        let mut bytes = Vec::new();
        for (id, number) in (1..).zip(part) {
            let mut out = Out::new(topic, 1, &format!("{number} {padding}"));
            out.id = id;
            bytes.extend(out.encode(5));
        }
        writer.send(&bytes);
        for _ in part {
            match writer.packet() {
                Packet::Ack {
                    first: PUBACK,
                    reason: 0 | 0x10,
                    ..
                } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn number_of(text: &str) -> usize {
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_messages_wait_on_disk_and_come_in_order_once_over_restarts() {
    const COUNT: usize = 10_000;
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 1);
    let before_kib = broker.memory_kib();
    publish_many(&broker, "a", 0..COUNT, 1_000);
    let more_kib = broker.memory_kib().saturating_sub(before_kib);
    // The messages alone are 10 MB, and the map shows as resident what the page cache has.
    assert!(more_kib < 40_000, "{more_kib} KiB more");
    let broker = broker.restart(&directory);
    let mut reader = broker.resume("reader");
    let first = reader.take(COUNT / 2);
    assert!(first.iter().map(|it| number_of(it)).eq(0..COUNT / 2));
    reader.settled_behind_messages();
    let broker = broker.restart(&directory);
    let mut reader = broker.resume("reader");
    let second = reader.take(COUNT / 2);
    assert!(second.iter().map(|it| number_of(it)).eq(COUNT / 2..COUNT));
    reader.ping();
}

#[test]
fn a_backlog_is_drained_in_order_while_more_is_published() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 1);
    publish_many(&broker, "a", 0..2_000, 10);
    let mut reader = broker.resume("reader");
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| publish_many(&broker, "a", 2_000..5_000, 10));
        let got = reader.take(5_000);
        assert!(got.iter().map(|it| number_of(it)).eq(0..5_000));
        writing.join().unwrap();
    });
    reader.ping();
}

#[test]
fn drop_oldest_settles_what_it_drops() {
    let directory = Directory::new();
    let limits = "[limits]\nqueue_messages_max = 300\nqueue_overflow = \"drop_oldest\"\n";
    let broker = Program::start_with(&directory, limits);
    broker.leave_subscribed("reader", "a", 1);
    publish_many(&broker, "a", 0..1_000, 10);
    // Dropped messages are settled by the reader's shard, for which nobody waits.
    std::thread::sleep(Duration::from_millis(200));
    let broker = broker.restart_with(&directory, limits);
    let log = broker.log();
    assert!(log.contains(" waiting=300 "), "{log}");
    publish_many(&broker, "a", 1_000..1_100, 10);
    let mut reader = broker.resume("reader");
    let got = reader.take(300);
    assert!(got.iter().map(|it| number_of(it)).eq(800..1_100), "{got:?}");
    reader.ping();
}

#[test]
fn drop_newest_and_reject_settle_what_they_do_not_take() {
    for (policy, refused) in [("drop_newest", 0), ("reject", 0x97)] {
        let directory = Directory::new();
        let lines = format!(
            "shards = 1\n[limits]\nqueue_messages_max = 100\nqueue_overflow = \"{policy}\"\n"
        );
        let broker = Program::start_with(&directory, &lines);
        broker.leave_subscribed("reader", "a", 1);
        let mut writer = broker.passing("writer");
        for number in 0..150 {
            let reason = writer.publish("a", 1, &number.to_string());
            assert_eq!(reason, if number < 100 { 0 } else { refused }, "{number}");
        }
        let broker = broker.restart_with(&directory, &lines);
        let mut reader = broker.resume("reader");
        let got = reader.take(100);
        assert!(got.iter().map(|it| number_of(it)).eq(0..100));
        reader.ping();
    }
}

#[test]
fn waiting_messages_expire_also_while_the_broker_is_down() {
    let directory = Directory::new();
    let mut broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 1);
    let mut writer = broker.passing("writer");
    for number in 0..300 {
        let mut out = Out::new("a", 1, &number.to_string());
        // Every third stays.
        out.expiry_seconds = match number % 3 {
            0 => None,
            1 => Some(1),
            _ => Some(600),
        };
        writer.publish_as(&out);
    }
    broker.kill();
    std::thread::sleep(Duration::from_millis(1_500));
    let broker = Program::start(&directory);
    let mut reader = broker.resume("reader");
    for number in (0..300).filter(|it| it % 3 != 1) {
        let message = reader.message();
        assert_eq!(message.text(), number.to_string());
        if number % 3 == 2 {
            let seconds: [u8; 4] = message.properties[1..].try_into().unwrap();
            assert!(
                u32::from_be_bytes(seconds) < 600,
                "time goes on: {seconds:?}"
            );
        }
        reader.settle(&message);
    }
    reader.ping();
}

#[test]
fn waiting_messages_that_expired_are_settled_in_the_store() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 1);
    let mut writer = broker.passing("writer");
    for _ in 0..300 {
        let mut out = Out::new("a", 1, "short");
        out.expiry_seconds = Some(1);
        writer.publish_as(&out);
    }
    writer.publish("a", 1, "long");
    std::thread::sleep(Duration::from_millis(1_200));
    let mut reader = broker.resume("reader");
    assert_eq!(reader.take(1), ["long"]);
    reader.settled();
    let broker = broker.restart(&directory);
    let log = broker.log();
    assert!(log.contains(" waiting=0 "), "{log}");
    assert!(!log.contains("removed messages"), "{log}");
}

#[test]
fn waiting_messages_that_expire_leave_the_store_while_their_reader_is_away() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 1);
    let mut writer = broker.passing("writer");
    for number in 0..300 {
        let mut out = Out::new("a", 1, &number.to_string());
        // Every third stays.
        out.expiry_seconds = (number % 3 > 0).then_some(1);
        writer.publish_as(&out);
    }
    std::thread::sleep(Duration::from_millis(3_500));
    broker.stop();
    let info = command(&["store", "info", "DIR"], &directory.store());
    let info = String::from_utf8(info.stdout).unwrap();
    assert!(info.lines().any(|it| it == "messages: 100"), "{info}");
    let broker = Program::start(&directory);
    let mut reader = broker.resume("reader");
    let expected: Vec<_> = (0..300).step_by(3).map(|it| it.to_string()).collect();
    assert_eq!(reader.take(100), expected);
    reader.ping();
}

#[test]
fn a_small_window_takes_a_backlog_one_by_one() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 2);
    let mut writer = broker.passing("writer");
    for number in 0..200 {
        writer.publish("a", 2, &number.to_string());
    }
    let broker = broker.restart(&directory);
    let connect = Connect {
        receive_maximum: 1,
        ..Connect::durable("reader")
    };
    let (mut reader, _) = Client::connect(broker.address, &connect);
    let got = reader.take(200);
    assert!(got.iter().map(|it| number_of(it)).eq(0..200));
    reader.ping();
}
