//! What was in flight when the process was killed, in both directions.

use crate::client::{Client, Connect, Out, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, ack, acked};
use crate::program::{Directory, Program};

#[test]
fn an_acknowledged_message_is_delivered_after_a_restart() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 2);
    let mut writer = broker.passing("writer");
    for qos in [1, 2] {
        assert_eq!(writer.publish("a", qos, &format!("qos {qos}")), 0);
    }
    let broker = broker.restart(&directory);
    let mut reader = broker.resume("reader");
    assert_eq!(reader.take(2), ["qos 1", "qos 2"]);
    reader.settled();
    let broker = broker.restart(&directory);
    broker.resume("reader").ping();
}

#[test]
fn messages_in_flight_are_sent_again_in_order_with_dup_and_their_identifier() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let mut reader = broker.durable("reader");
    reader.subscribe("a", 2);
    let mut writer = broker.durable("writer");
    let mut sent = Vec::new();
    for number in 0..6 {
        assert_eq!(writer.publish("a", 1 + number % 2, &number.to_string()), 0);
        sent.push(reader.message());
    }
    // Out of the middle, so that identifiers and order differ.
    reader.settle(&sent[2]);
    reader.settled_in_flight();
    let broker = broker.restart(&directory);
    let mut reader = broker.resume("reader");
    for message in [0, 1, 3, 4, 5].map(|it| &sent[it]) {
        let again = reader.message();
        assert!(again.dup && !message.dup);
        assert_eq!((again.id, again.qos), (message.id, message.qos));
        assert_eq!(again.payload, message.payload);
        reader.settle(&again);
    }
    reader.settled();
    let broker = broker.restart(&directory);
    broker.resume("reader").ping();
}

#[test]
fn pubrel_is_sent_instead_of_publish_after_pubrec() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let mut reader = broker.durable("reader");
    reader.subscribe("a", 2);
    let mut writer = broker.durable("writer");
    writer.publish("a", 2, "first");
    writer.publish("a", 2, "second");
    let (first, second) = (reader.message(), reader.message());
    reader.ack(PUBREC, first.id);
    assert_eq!(reader.packet(), acked(PUBREL, first.id));
    let broker = broker.restart(&directory);
    let mut reader = broker.resume("reader");
    let mut got = [reader.packet(), reader.packet()];
    got.sort_by_key(|it| matches!(it, Packet::Publish(_)));
    assert_eq!(got[0], acked(PUBREL, first.id));
    assert!(matches!(&got[1], Packet::Publish(it) if it.dup && it.id == second.id));
    reader.ping();
    reader.ack(PUBCOMP, first.id);
    reader.settled();
    let broker = broker.restart(&directory);
    let mut reader = broker.resume("reader");
    assert_eq!(reader.take(1), ["second"]);
    reader.ping();
}

#[test]
fn a_qos_2_publish_sent_again_after_a_restart_is_not_published_twice() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 2);
    let mut writer = broker.durable("writer");
    let mut out = Out::new("a", 2, "once");
    writer.send(&out.encode(5));
    assert_eq!(writer.packet(), acked(PUBREC, 1));
    let broker = broker.restart(&directory);
    let mut writer = broker.resume("writer");
    out.dup = true;
    assert_eq!(writer.publish_as(&out), 0);
    // The exchange is over: the identifier is free.
    let broker = broker.restart(&directory);
    let mut writer = broker.resume("writer");
    assert_eq!(writer.publish("a", 2, "another"), 0);
    let mut reader = broker.resume("reader");
    assert_eq!(reader.take(2), ["once", "another"]);
    reader.ping();
}

#[test]
fn identifiers_in_flight_are_not_given_to_new_messages_after_a_restart() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let mut reader = broker.durable("reader");
    reader.subscribe("a", 1);
    let mut writer = broker.durable("writer");
    for number in 0..100 {
        writer.publish("a", 1, &number.to_string());
    }
    let sent: Vec<_> = (0..100).map(|_| reader.message()).collect();
    for message in sent.iter().filter(|it| it.id % 7 != 0) {
        reader.ack(PUBACK, message.id);
    }
    reader.settled_in_flight();
    let broker = broker.restart(&directory);
    let mut writer = broker.resume("writer");
    writer.publish("a", 1, "new");
    let mut reader = broker.resume("reader");
    let mut ids = Vec::new();
    loop {
        let message = reader.message();
        assert!(!ids.contains(&message.id));
        ids.push(message.id);
        if message.text() == "new" {
            break;
        }
        assert!(message.dup && message.id.is_multiple_of(7));
    }
    assert_eq!(
        ids.len(),
        1 + sent.iter().filter(|it| it.id.is_multiple_of(7)).count()
    );
}

#[test]
fn more_in_flight_than_one_answer_of_the_reader_holds_comes_back_in_order() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let mut reader = broker.durable("reader");
    reader.subscribe("a", 1);
    let mut writer = broker.durable("writer");
    let padding = "x".repeat(300_000);
    for number in 0..12 {
        writer.publish("a", 1, &format!("{number} {padding}"));
    }
    let sent: Vec<_> = (0..12).map(|_| reader.message()).collect();
    reader.settled();
    let broker = broker.restart(&directory);
    // A first connection asks and leaves before the answer.
    broker.resume("reader").close();
    let mut reader = broker.resume("reader");
    for message in &sent {
        let again = reader.message();
        assert_eq!((again.id, &again.payload), (message.id, &message.payload));
    }
    reader.ping();
}

#[test]
fn an_identifier_whose_message_expired_over_the_downtime_is_freed_by_pubrel() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let mut reader = broker.durable("reader");
    reader.subscribe("a", 2);
    let mut out = Out::new("a", 2, "short");
    out.expiry_seconds = Some(1);
    broker.passing("writer").publish_as(&out);
    let message = reader.message();
    reader.ping();
    let mut broker = broker;
    broker.kill();
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    let broker = Program::start(&directory);
    let mut reader = broker.resume("reader");
    match reader.packet() {
        Packet::Publish(again) => assert_eq!(again.id, message.id),
        other => assert_eq!(other, acked(PUBREL, message.id)),
    }
    reader.ping();
}

#[test]
fn aliases_are_defined_before_they_are_used_though_qos_2_waits_for_its_commit() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let mut connect = Connect::durable("reader");
    connect.alias_maximum = 10;
    let (mut reader, _) = Client::connect(broker.address, &connect);
    reader.subscribe("a/topic", 2);
    let mut writer = broker.passing("writer");
    let mut bytes = Vec::new();
    for (id, qos) in (1..).zip([2, 1, 0, 2, 1, 0]) {
        let mut out = Out::new("a/topic", qos, &id.to_string());
        out.id = id;
        bytes.extend(out.encode(5));
    }
    writer.send(&bytes);
    let mut is_defined = false;
    for _ in 0..6 {
        let message = reader.message();
        is_defined |= !message.topic.is_empty() && !message.properties.is_empty();
        assert!(is_defined || !message.topic.is_empty(), "{message:?}");
    }
}

#[test]
fn a_takeover_while_answers_are_held_loses_and_doubles_nothing() {
    let directory = Directory::new();
    // Commits far apart, so that answers are held for long.
    let broker = Program::start_with(&directory, "[store]\ncommit_interval_milliseconds = 10\n");
    let mut reader = broker.durable("reader");
    reader.subscribe("a", 2);
    let mut writer = broker.durable("writer");
    for round in 0..30 {
        let mut out = Out::new("a", 2, &round.to_string());
        writer.send(&out.encode(5));
        // Taken over before PUBREC can leave.
        writer = broker.resume("writer");
        out.dup = true;
        assert_eq!(writer.publish_as(&out), 0);
        reader = broker.resume("reader");
        loop {
            match reader.packet() {
                Packet::Publish(message) => {
                    assert_eq!(message.text(), round.to_string());
                    reader.settle(&message);
                    break;
                }
                Packet::Ack {
                    first: PUBREL, id, ..
                } => reader.ack(PUBCOMP, id),
                other => panic!("{other:?}"),
            }
        }
    }
    reader.ping();
}

#[test]
fn a_client_that_leaves_while_its_answer_is_held_has_published_once() {
    let directory = Directory::new();
    let broker = Program::start_with(&directory, "[store]\ncommit_interval_milliseconds = 10\n");
    broker.leave_subscribed("reader", "a", 1);
    for number in 0..10 {
        let mut writer = broker.passing(&format!("writer-{number}"));
        let out = Out::new("a", 1, &number.to_string());
        writer.send(&out.encode(5));
        match number % 2 {
            0 => drop(writer),
            _ => writer.disconnect(None),
        }
    }
    // The last has been received when a later one is acknowledged.
    broker.passing("writer").publish("a", 1, "last");
    let broker = broker.restart(&directory);
    let mut reader = broker.resume("reader");
    let expected: Vec<_> = (0..10).map(|it| it.to_string()).collect();
    let mut got = reader.take(11);
    got.sort_unstable();
    assert_eq!(got[..10], expected);
    assert_eq!(got[10], "last");
    reader.ping();
}

#[test]
fn a_client_of_3_1_1_gets_what_it_had_in_flight() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let connect = Connect::durable_3("reader");
    let (mut reader, _) = Client::connect(broker.address, &connect);
    reader.subscribe("a", 1);
    let mut writer = broker.passing("writer");
    writer.publish("a", 1, "one");
    let first = reader.message();
    reader.settled_in_flight();
    let broker = broker.restart(&directory);
    let (mut reader, is_present) = Client::connect(broker.address, &connect);
    assert!(is_present);
    let again = reader.message();
    assert!(again.dup && again.id == first.id && again.text() == "one");
    reader.send(&ack(PUBACK, again.id));
    reader.ping();
}

#[test]
fn an_identifier_just_taken_into_use_outlives_a_stop() {
    let directory = Directory::new();
    // Longer than it takes to stop: nothing is kept by the way.
    let broker = Program::start_with(&directory, "[store]\ncommit_interval_milliseconds = 10\n");
    let mut reader = broker.durable("reader");
    reader.subscribe("a", 1);
    let mut writer = broker.passing("writer");
    writer.send(&Out::new("a", 1, "one").encode(5));
    let first = reader.message();
    assert!(broker.stop().success());
    let broker = Program::start(&directory);
    let again = broker.resume("reader").message();
    assert!(again.dup && again.id == first.id && again.text() == "one");
}

#[test]
fn messages_of_both_qos_keep_one_order_while_identifiers_are_stored() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 2);
    let mut writer = broker.durable("writer");
    let texts: Vec<_> = (0..200).map(|it| it.to_string()).collect();
    for (text, qos) in texts.iter().zip([1, 2].into_iter().cycle()) {
        writer.publish("a", qos, text);
    }
    assert_eq!(broker.resume("reader").take(200), texts);
}
