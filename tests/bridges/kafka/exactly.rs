//! Exactly once, each way: the ledger of what was sent and what came balances over kills.

use std::collections::BTreeMap;
use std::time::Duration;

use super::party::{Reader, Writer};
use super::server::Kafka;
use super::{STATE, bridge};
use crate::client::{Client, Q1};
use crate::faults::numbers;
use crate::federation::wait_until_up;
use crate::kill::some_time;
use crate::process::{Broker, free_port};

/// What was sent, and came, by key; a record is its key and a number that ascends.
fn by_key(records: impl Iterator<Item = (String, String)>) -> BTreeMap<String, Vec<String>> {
    let mut ledger: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, payload) in records {
        ledger.entry(key).or_default().push(payload);
    }
    ledger
}

pub(super) fn records_are_taken_exactly_once_over_kills_of_this_node(kafka: &Kafka) {
    const COUNT: usize = 20_000;
    kafka.create_topic("once-in", 3, &[]);
    let lines = "[bridges.kafka]\ngroup = \"once-in\"\nstart = \"earliest\"\n\
         unaccepted_max = 500\n[[bridges.in]]\nfilters = [\"once-in\"]\ntopic = \"in/{key}\"";
    let config = bridge(kafka.port, lines);
    let port = free_port();
    let mut ours = Broker::tidewire(port, &config);
    Client::resume(&ours, "keeper").subscribe("in/#");
    let key_of = |number: &str| (number.len() * 7 + usize::from(number.as_bytes()[0])) % 13;
    let sent = || {
        numbers(COUNT)
            .into_iter()
            .map(|it| (format!("k{}", key_of(&it)), it))
    };
    let writer = Writer::new(kafka);
    let all: Vec<(String, String)> = sent().collect();
    for (round, some) in all.chunks(COUNT / 4).enumerate() {
        let mut watcher = Client::connect(&ours, "watcher");
        watcher.subscribe("in/#");
        for (key, payload) in some {
            writer.send("once-in", key, Some(payload), &[]);
        }
        if round == 3 {
            break;
        }
        // In full flow; the group gives its partitions to the next process after ten seconds.
        watcher.next();
        some_time();
        ours = Broker::tidewire_in(ours.kill_and_keep(), port, &config);
    }
    writer.flush();
    let mut keeper = Client::resume(&ours, "keeper");
    let came = (0..COUNT).map(|_| keeper.next());
    let came = by_key(came.map(|it| (it.topic["in/".len()..].to_owned(), it.payload)));
    assert_eq!(came, by_key(sent()));
    keeper.expect_silence();
}

fn outward(kafka: &Kafka, topic: &str, lines: &str) -> String {
    let lines = format!(
        "dead_letter = \"dead\"\n{lines}\n[bridges.kafka]\nguarantee = \"exactly_once\"\n\
         create_topics = true\ninflight_max = 200\ntransactional_id = \"{topic}\"\n\
         message_bytes_max = 5000\n[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"{topic}\""
    );
    bridge(kafka.port, &lines)
}

pub(super) fn messages_are_sent_exactly_once_over_kills_of_either_side(kafka: &mut Kafka) {
    const COUNT: usize = 6_000;
    kafka.create_topic("once-out", 3, &[]);
    let config = outward(kafka, "once-out", "messages_per_second_max = 3000");
    let port = free_port();
    let mut ours = Broker::tidewire(port, &config);
    let key_of = |number: &str| usize::from(number.as_bytes()[0]) % 5;
    let mut sender = Client::connect(&ours, "sender");
    for key in 0..5 {
        let all = numbers(COUNT).into_iter();
        let own: Vec<_> = all.filter(|it| key_of(it) == key).collect();
        sender.publish_all(&format!("t/{key}"), &own, Q1);
    }
    for round in 0..6 {
        some_time();
        match round {
            3 => kafka.restart(),
            _ => ours = Broker::tidewire_in(ours.kill_and_keep(), port, &config),
        }
        if round > 0 {
            wait_until_up(&ours);
        }
    }
    let sent = numbers(COUNT).into_iter();
    let sent = by_key(sent.map(|it| (format!("t/{}", key_of(&it)), it)));
    let mut there = Reader::new(kafka, "once-out", 3);
    let came = (0..COUNT).map(|_| there.next());
    let came = by_key(came.map(|it| (it.key.expect("a key"), it.payload.expect("a payload"))));
    assert_eq!(came, sent);
    assert_eq!(there.poll(Duration::from_secs(3)), None);
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
