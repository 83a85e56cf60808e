//! Sessions, their subscriptions, expiry and wills over restarts.

use std::time::Duration;

use crate::client::{Client, Connect, Out, Packet, Will};
use crate::program::{Directory, Program};

fn expiring(id: &str, seconds: u32) -> Connect {
    Connect {
        expiry_seconds: seconds,
        ..Connect::durable(id)
    }
}

fn is_present(broker: &Program, connect: &Connect) -> bool {
    let (client, is_present) = Client::connect(broker.address, connect);
    client.close();
    is_present
}

#[test]
fn subscriptions_are_there_with_their_options_and_gone_once_unsubscribed() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    let mut reader = broker.durable("reader");
    // No Local and Retain As Published.
    reader.subscribe("own/#", 0x04 | 0x08 | 1);
    reader.subscribe("+/b", 1);
    reader.subscribe("gone", 1);
    reader.unsubscribe("gone");
    let broker = broker.restart(&directory);
    let mut reader = broker.resume("reader");
    reader.publish("own/x", 1, "not to me");
    let mut writer = broker.passing("writer");
    writer.publish("gone", 1, "to nobody");
    writer.publish_as(&Out::retained("own/x", 1, "kept"));
    writer.publish("a/b", 1, "plus");
    let message = reader.message();
    assert!(message.retain && message.text() == "kept");
    reader.settle(&message);
    assert_eq!(reader.take(1), ["plus"]);
    reader.ping();
}

#[test]
fn a_session_expires_over_the_downtime_and_another_does_not() {
    let directory = Directory::new();
    let mut broker = Program::start(&directory);
    let (short, long) = (expiring("short", 1), expiring("long", 600));
    for connect in [&short, &long] {
        Client::connect(broker.address, connect).0.disconnect(None);
    }
    // Longer than it was asked for with CONNECT, and for ever.
    for (id, seconds) in [("extended", 600), ("forever", u32::MAX)] {
        let (client, _) = Client::connect(broker.address, &expiring(id, 1));
        client.disconnect(Some(seconds));
    }
    // Nobody waits for the commit of a DISCONNECT.
    std::thread::sleep(Duration::from_millis(100));
    broker.kill();
    std::thread::sleep(Duration::from_millis(1_300));
    let broker = Program::start(&directory);
    assert!(!is_present(&broker, &short));
    assert!(is_present(&broker, &long));
    assert!(is_present(&broker, &expiring("extended", 600)));
    assert!(is_present(&broker, &expiring("forever", u32::MAX)));
}

#[test]
fn a_session_that_was_connected_begins_to_expire_when_the_broker_is_back() {
    let directory = Directory::new();
    let mut broker = Program::start(&directory);
    let connect = expiring("client", 2);
    let client = Client::connect(broker.address, &connect);
    broker.kill();
    drop(client);
    std::thread::sleep(Duration::from_millis(2_200));
    let broker = Program::start(&directory);
    assert!(is_present(&broker, &connect));
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(!is_present(&broker, &connect));
}

#[test]
fn a_clean_start_and_an_expiry_of_zero_remove_everything() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    for id in ["clean", "zero"] {
        let mut client = broker.durable(id);
        client.subscribe("a", 1);
        client.close();
    }
    let mut writer = broker.passing("writer");
    for _ in 0..200 {
        writer.publish("a", 1, "waits");
    }
    let clean = Connect {
        clean_start: true,
        ..Connect::durable("clean")
    };
    let (mut client, was_present) = Client::connect(broker.address, &clean);
    assert!(!was_present);
    client.ping();
    broker.resume("zero").take(3);
    let mut zero = broker.resume("zero");
    zero.take(5);
    zero.disconnect(Some(0));
    // Both ends are committed before anything later.
    writer.publish("a", 1, "after");
    broker.durable("witness").ping();
    let broker = broker.restart(&directory);
    let log = broker.log();
    assert!(log.contains(" waiting=0 "), "{log}");
    broker.resume("clean").ping();
    assert!(!is_present(&broker, &Connect::durable("zero")));
}

fn with_will(id: &str, delay_seconds: u32) -> Connect {
    Connect {
        will: Some(Will {
            topic: format!("will/{id}"),
            payload: id.into(),
            qos: 1,
            delay_seconds,
        }),
        ..Connect::durable(id)
    }
}

#[test]
fn wills_of_clients_lost_with_the_broker_are_sent_after_their_delay() {
    let directory = Directory::new();
    let mut broker = Program::start(&directory);
    broker.leave_subscribed("reader", "will/#", 1);
    let connects = [
        with_will("at-once", 0),
        with_will("later", 2),
        with_will("back", 2),
    ];
    let clients = connects
        .each_ref()
        .map(|it| Client::connect(broker.address, it));
    // A normal end has no will.
    Client::connect(broker.address, &with_will("ended", 0))
        .0
        .disconnect(None);
    broker.durable("witness").ping();
    broker.kill();
    drop(clients);
    let broker = Program::start(&directory);
    let mut reader = broker.resume("reader");
    assert_eq!(reader.take(1), ["at-once"]);
    let mut back = broker.resume("back");
    assert_eq!(reader.take(1), ["later"]);
    back.ping();
    reader.settled();
    // Each was sent once.
    let broker = broker.restart(&directory);
    let mut reader = broker.resume("reader");
    reader.set_patience(Duration::from_millis(2_500));
    assert_eq!(reader.next(), None);
}

#[test]
fn a_will_already_waiting_goes_on_over_the_downtime() {
    let directory = Directory::new();
    let mut broker = Program::start(&directory);
    broker.leave_subscribed("reader", "will/#", 1);
    let (client, _) = Client::connect(broker.address, &with_will("lost", 3));
    client.close();
    std::thread::sleep(Duration::from_millis(500));
    broker.kill();
    std::thread::sleep(Duration::from_millis(2_700));
    let broker = Program::start(&directory);
    let mut reader = broker.resume("reader");
    reader.set_patience(Duration::from_millis(1_500));
    assert_eq!(reader.take(1), ["lost"]);
}

#[test]
fn a_takeover_during_connack_gives_no_disconnect_before_it() {
    let directory = Directory::new();
    let broker = Program::start_with(&directory, "[store]\ncommit_interval_milliseconds = 10\n");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let address = broker.address;
            std::thread::spawn(move || {
                for _ in 0..20 {
                    // Panics if the first packet is no CONNACK.
                    let connected = Client::try_connect(address, &Connect::durable("same"));
                    if let Some((mut client, ..)) = connected {
                        client.set_patience(Duration::from_millis(2));
                        assert!(matches!(
                            client.next(),
                            None | Some(Packet::Disconnect { reason: 0x8E })
                        ));
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    broker.resume("same").ping();
}

#[test]
fn another_number_of_shards_finds_everything() {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    for number in 0..20 {
        broker.leave_subscribed(&format!("reader-{number}"), &format!("t/{number}"), 1);
    }
    let mut writer = broker.passing("writer");
    for number in 0..20 {
        for part in 0..5 {
            writer.publish(&format!("t/{number}"), 1, &format!("{number}.{part}"));
        }
    }
    let mut broker = broker;
    for shards in [1, 5, 2] {
        broker = broker.restart_with(&directory, &format!("shards = {shards}\n"));
        for number in 0..20 {
            let mut reader = broker.resume(&format!("reader-{number}"));
            // The rest goes back to be sent again.
            let got = reader.take(1);
            assert!(got[0].starts_with(&format!("{number}.")), "{got:?}");
            reader.settled_behind_messages();
        }
    }
    let broker = broker.restart(&directory);
    for number in 0..20 {
        let mut reader = broker.resume(&format!("reader-{number}"));
        assert_eq!(
            reader.take(2),
            [format!("{number}.3"), format!("{number}.4")]
        );
        reader.ping();
    }
}
