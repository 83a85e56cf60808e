//! Share groups with durable members over restarts.

use crate::client::{PUBCOMP, PUBREC, PUBREL, acked};
use crate::program::{Directory, Program};

const FILTER: &str = "$share/group/jobs/+";

#[test]
fn messages_waiting_in_a_group_are_shared_out_once_after_a_restart() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    for id in ["one", "two"] {
        broker.leave_subscribed(id, FILTER, 1);
    }
    let mut writer = broker.passing("writer");
    for number in 0..500 {
        assert_eq!(
            writer.publish(&format!("jobs/{}", number % 3), 1, &number.to_string()),
            0
        );
    }
    let broker = broker.restart(&directory);
    let mut got = Vec::new();
    let mut one = broker.resume("one");
    got.extend(one.take(200));
    one.settled_behind_messages();
    one.close();
    let mut two = broker.resume("two");
    got.extend(two.take(300));
    let mut numbers: Vec<usize> = got.iter().map(|it| it.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 500);
    // Settled in the store as well.
    two.settled();
    let broker = broker.restart(&directory);
    broker.resume("one").ping();
    broker.resume("two").ping();
}

#[test]
fn a_qos_2_message_in_flight_stays_with_its_member_over_a_restart() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let mut one = broker.durable("one");
    one.subscribe(FILTER, 2);
    let mut writer = broker.passing("writer");
    writer.publish("jobs/1", 2, "first");
    writer.publish("jobs/1", 2, "second");
    let (first, second) = (one.message(), one.message());
    one.ack(PUBREC, first.id);
    assert_eq!(one.packet(), acked(PUBREL, first.id));
    let mut two = broker.durable("two");
    two.subscribe(FILTER, 2);
    let broker = broker.restart(&directory);
    let mut two = broker.resume("two");
    two.ping();
    let mut one = broker.resume("one");
    let mut is_released = false;
    let mut is_again = false;
    for _ in 0..2 {
        match one.packet() {
            crate::client::Packet::Publish(it) => {
                assert!(it.dup && it.id == second.id && it.text() == "second");
                is_again = true;
            }
            other => {
                assert_eq!(other, acked(PUBREL, first.id));
                is_released = true;
            }
        }
    }
    assert!(is_released && is_again);
    one.ack(PUBCOMP, first.id);
    one.ping();
    two.ping();
}

#[test]
fn qos_1_messages_of_a_killed_member_go_to_another() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let mut one = broker.durable("one");
    one.subscribe(FILTER, 1);
    let mut writer = broker.passing("writer");
    for number in 0..10 {
        writer.publish("jobs/1", 1, &number.to_string());
        one.message();
    }
    broker.leave_subscribed("two", FILTER, 1);
    let broker = broker.restart(&directory);
    let mut two = broker.resume("two");
    let got = two.take(10);
    assert!(got.iter().map(|it| it.parse::<usize>().unwrap()).eq(0..10));
    two.ping();
}

#[test]
fn a_qos_2_message_in_flight_ends_with_the_session_of_its_member() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("durable", FILTER, 2);
    let mut passing = broker.passing("passing");
    passing.subscribe(FILTER, 2);
    let mut writer = broker.passing("writer");
    writer.publish("jobs/1", 2, "once");
    assert_eq!(passing.message().text(), "once");
    passing.close();
    // To nobody else [MQTT-4.8.2-5], now or after a restart.
    let mut durable = broker.resume("durable");
    durable.publish("jobs/1", 2, "next");
    assert_eq!(durable.take(1), ["next"]);
    durable.settled();
    let broker = broker.restart(&directory);
    broker.resume("durable").ping();
}

#[test]
fn a_group_ends_with_its_last_member_and_its_messages_with_it() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("one", FILTER, 1);
    let mut writer = broker.passing("writer");
    for _ in 0..100 {
        writer.publish("jobs/1", 1, "waits");
    }
    broker.resume("one").disconnect(Some(0));
    broker.durable("witness").ping();
    let broker = broker.restart(&directory);
    let log = broker.log();
    assert!(
        log.contains("named_queues=0 ") && log.contains(" waiting=0 "),
        "{log}"
    );
}
