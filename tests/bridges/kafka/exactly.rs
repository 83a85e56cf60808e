//! The way out, exactly once.

use super::party::Reader;
use super::server::Kafka;
use super::{STATE, bridge};
use crate::client::{Client, Q1};
use crate::federation::wait_until_up;
use crate::process::{Broker, free_port};

fn outward(kafka: &Kafka, topic: &str, lines: &str) -> String {
    let lines = format!(
        "dead_letter = \"dead\"\n{lines}\n[bridges.kafka]\nguarantee = \"exactly_once\"\n\
         create_topics = true\ninflight_max = 200\ntransactional_id = \"{topic}\"\n\
         message_bytes_max = 5000\n[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"{topic}\""
    );
    bridge(kafka.port, &lines)
}

pub(super) fn a_transaction_leaves_out_what_kafka_refuses_and_keeps_the_order(kafka: &Kafka) {
    kafka.create_topic("whole", 1, &[("max.message.bytes", "2000")]);
    let ours = Broker::tidewire(free_port(), &outward(kafka, "whole", ""));
    wait_until_up(&ours);
    let mut dead = Client::connect(&ours, "dead");
    dead.subscribe("dead");
    let word = |number: usize, length: usize| format!("{number} {}", "x".repeat(length));
    let lengths = [500, 500, 3_000, 500, 8_000, 500, 500];
    let all: Vec<String> = (0..7).map(|it| word(it, lengths[it])).collect();
    Client::connect(&ours, "sender").publish_all("t/1", &all, Q1);
    // The longer one librdkafka refuses itself, before the server sees the other.
    for _ in 0..2 {
        let letter = dead.next();
        assert!(letter.payload.len() > 2_000, "{}", letter.payload);
        let error = letter.headers.iter().find(|it| it.0 == "tidewire-error");
        let error = &error.expect("an error").1;
        assert!(error.contains("10 MessageSizeTooLarge"), "{error}");
    }
    let mut there = Reader::new(kafka, "whole", 1);
    for index in [0, 1, 3, 5, 6] {
        assert_eq!(there.payload(), all[index]);
    }
}

pub(super) fn of_two_with_one_transactional_id_the_later_one_sends(kafka: &Kafka) {
    kafka.create_topic("fenced", 1, &[]);
    let config = outward(kafka, "fenced", "");
    let first = Broker::tidewire(free_port(), &config);
    wait_until_up(&first);
    Client::connect(&first, "sender").publish("t/1", "of the first", Q1);
    let mut there = Reader::new(kafka, "fenced", 1);
    assert_eq!(there.payload(), "of the first");
    // Long pauses, so that the first does not come back at once.
    let patient = |it: &str| {
        it.replace("_ms = 100", "_ms = 600000")
            .replace("300", "600000")
    };
    let mut watcher = Client::connect(&first, "watcher");
    watcher.subscribe(STATE);
    let second = Broker::tidewire(free_port(), &patient(&config));
    wait_until_up(&second);
    Client::connect(&first, "sender").publish("t/1", "of a zombie", Q1);
    let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
    assert!(said.contains("fenced by a newer instance"), "{said}");
}
