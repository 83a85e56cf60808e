//! Exactly once, each way: the ledger of what was sent and what came balances over kills.

use std::collections::BTreeMap;

use super::bridge;
use super::party::Writer;
use super::server::Kafka;
use crate::client::Client;
use crate::faults::numbers;
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
    for (key, payload) in sent() {
        writer.send("once-in", &key, Some(&payload), &[]);
    }
    for _ in 0..3 {
        // In full flow; the group gives its partitions to the next process after ten seconds.
        Client::connect(&ours, "watcher").subscribe("in/#").next();
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
