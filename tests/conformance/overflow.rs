//! Queues that are full, by policy.

use std::num::NonZeroU16;
use std::time::Duration;

use tidewire::config::{Config, QueueOverflow};
use tidewire_protocol::codec::ReasonCode;

use crate::client::{Broker, Client, Q1, at_brokers_with, connect};

fn with(overflow: QueueOverflow, test: impl Fn(&Broker) + Sync) {
    let change = |config: &mut Config| {
        config.limits.queue_messages_max = 2;
        config.limits.queue_overflow = overflow;
    };
    at_brokers_with(change, test);
}

/// Publishes 1 to 4 for a client that is away, and answers who it is and the last reason.
fn fill(broker: &Broker) -> (Client, ReasonCode) {
    fill_queue_of("a", broker)
}

fn fill_queue_of(filter: &str, broker: &Broker) -> (Client, ReasonCode) {
    let (mut client, _) = broker.resume("away");
    client.subscribe(filter, Q1);
    client.bye();
    let mut publisher = broker.connect("p");
    let reasons = ["1", "2", "3", "4"].map(|payload| publisher.publish_acked("a", payload));
    // Another shard may still be about to queue them.
    std::thread::sleep(Duration::from_millis(100));
    (broker.resume("away").0, reasons[3])
}

#[test]
fn drop_oldest_keeps_the_newest_messages() {
    with(QueueOverflow::DropOldest, |broker| {
        let (mut client, reason) = fill(broker);
        assert_eq!(reason, ReasonCode::Success);
        client.expect_payload("3");
        client.expect_payload("4");
        client.expect_nothing();
    });
}

#[test]
fn drop_newest_keeps_the_oldest_messages() {
    with(QueueOverflow::DropNewest, |broker| {
        let (mut client, reason) = fill(broker);
        assert_eq!(reason, ReasonCode::Success);
        client.expect_payload("1");
        client.expect_payload("2");
        client.expect_nothing();
    });
}

/// What a queue of another shard refuses, its publisher does not learn.
#[test]
fn reject_answers_the_publisher_with_0x97() {
    let change = |config: &mut Config| {
        config.shards = 1;
        config.limits.queue_messages_max = 2;
        config.limits.queue_overflow = QueueOverflow::Reject;
    };
    for filter in ["a", "$share/g/a"] {
        at_brokers_with(change, |broker| {
            let (mut client, reason) = fill_queue_of(filter, broker);
            assert_eq!(reason, ReasonCode::QuotaExceeded, "{filter}");
            client.expect_payload("1");
            client.expect_payload("2");
            client.expect_nothing();
        });
    }
}

#[test]
fn disconnect_ends_the_connection_of_the_slow_consumer_with_0x97() {
    with(QueueOverflow::Disconnect, |broker| {
        let mut connect = connect("slow");
        connect.properties.receive_maximum = NonZeroU16::new(1);
        let (mut client, _) = broker.connect_with(&connect);
        client.subscribe("a", Q1);
        let mut publisher = broker.connect("p");
        for payload in ["1", "2", "3", "4"] {
            publisher.publish_acked("a", payload);
        }
        client.expect_payload("1");
        client.expect_end(ReasonCode::QuotaExceeded);
        publisher.expect_nothing();
    });
}
