//! Every message is accounted for: none lost, none twice where that is promised, and each key in
//! order, over kill -9 of either side at random moments in full flow.

use std::ops::Range;
use std::time::Duration;

use super::bridge;
use super::party::{Reader, Writer};
use super::server::Kafka;
use crate::client::{Client, Q2};
use crate::kill::some_time;
use crate::process::{Broker, free_port};
use crate::publisher::{Outgoing, publish_through_kills};

/// What has come: the messages are numbers, dealt out to the keys in turn.
#[derive(Default)]
pub(super) struct Ledger {
    /// The number that each key awaits.
    next: [usize; KEYS],
    pub(super) repeated: usize,
}

impl Ledger {
    /// Whatever comes for the first time has to be what its key awaits.
    pub(super) fn take(&mut self, key: &str, payload: &str) {
        let number: usize = payload.parse().expect("a number");
        let key_of_it = number % KEYS;
        assert_eq!(key.rsplit('/').next(), Some(&*key_of_it.to_string()));
        let next = &mut self.next[key_of_it];
        // Keys begin at zero and go on in steps.
        let awaited = *next * KEYS + key_of_it;
        if number == awaited {
            *next += 1;
        } else {
            assert!(number < awaited, "{number} came where {awaited} is awaited");
            self.repeated += 1;
        }
    }

    /// How many different messages came.
    pub(super) fn count(&self) -> usize {
        self.next.iter().sum()
    }
}

/// The messages of a range, to topics below `t/`.
pub(super) fn messages(range: Range<usize>) -> impl Iterator<Item = Outgoing> {
    range.map(|number| (format!("t/{}", number % KEYS), number.to_string()))
}

/// How much is sent, in parts that are short enough to wait in one queue.
fn parts() -> impl Iterator<Item = Range<usize>> {
    let count = std::env::var("KAFKA_LEDGER").map_or(SHORT, |it| it.parse().expect("a number"));
    let starts = (0..count).step_by(PART);
    starts.map(move |start| start..count.min(start + PART))
}

pub(super) fn messages_reach_kafka_exactly_once_over_kills_of_either_side(kafka: &mut Kafka) {
    let mode = "guarantee = \"exactly_once\"\ntransactional_id = \"ledger\"\n\
                create_topics = true\ninflight_max = 1000";
    assert_eq!(outward(kafka, "ledger-once", mode), 0, "came twice");
}

pub(super) fn messages_reach_kafka_at_least_once_over_kills_of_either_side(kafka: &mut Kafka) {
    // A kill of this node repeats what was in flight, and what its store had not settled yet.
    outward(kafka, "ledger-least", "inflight_max = 1000");
}

/// Answers how many came more than once.
fn outward(kafka: &mut Kafka, topic: &str, mode: &str) -> usize {
    kafka.create_topic(topic, 3, &[]);
    let lines = format!(
        "[bridges.kafka]\n{mode}\n[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"{topic}\""
    );
    let config = bridge(kafka.port, &lines);
    let port = free_port();
    let mut ours = Broker::tidewire(port, &config);
    let mut there = Reader::new(kafka, topic, 3);
    let mut ledger = Ledger::default();
    let mut read_to = |count: usize, ledger: &mut Ledger| {
        while ledger.count() < count {
            let got = there.next();
            ledger.take(&got.key.expect("a key"), &got.payload.expect("a payload"));
        }
    };
    for part in parts() {
        let publisher = publish_through_kills(port, "publisher", Q2, messages(part.clone()));
        for quarter in 1..4 {
            read_to(part.start + part.len() * quarter / 4, &mut ledger);
            some_time();
            match quarter {
                2 => kafka.restart(),
                _ => ours = Broker::tidewire_in(ours.kill_and_keep(), port, &config),
            }
        }
        read_to(part.end, &mut ledger);
        publisher.join().expect("published");
        println!("  {}, {} of them again", part.end, ledger.repeated);
    }
    // What was in flight at a kill, and came already, may still come again.
    while let Some(got) = there.poll(Duration::from_secs(3)) {
        ledger.take(&got.key.expect("a key"), &got.payload.expect("a payload"));
    }
    ledger.repeated
}

fn inward(kafka: &Kafka, topic: &str) -> String {
    let lines = format!(
        "[bridges.kafka]\ngroup = \"{topic}\"\nstart = \"earliest\"\nunaccepted_max = 1000\n\
         [[bridges.in]]\nfilters = [\"{topic}\"]\ntopic = \"in/{{key}}\"\n\
         [limits]\nqueue_messages_max = {}",
        2 * PART
    );
    bridge(kafka.port, &lines)
}

pub(super) fn records_are_taken_exactly_once_over_kills_of_either_side(kafka: &mut Kafka) {
    let topic = "ledger-in";
    kafka.create_topic(topic, 3, &[]);
    let config = inward(kafka, topic);
    let port = free_port();
    let mut ours = Broker::tidewire(port, &config);
    Client::resume(&ours, "keeper").subscribe("in/#");
    let writer = Writer::new(kafka);
    let mut ledger = Ledger::default();
    for part in parts() {
        for kill in 0..3 {
            let mut watcher = Client::connect(&ours, "watcher");
            watcher.subscribe("in/#");
            send(&writer, topic, third(&part, kill));
            // In full flow.
            watcher.next();
            some_time();
            match kill {
                1 => kafka.restart(),
                _ => ours = Broker::tidewire_in(ours.kill_and_keep(), port, &config),
            }
        }
        writer.flush();
        let mut keeper = Client::resume(&ours, "keeper");
        while ledger.count() < part.end {
            let came = keeper.next();
            ledger.take(&came.topic, &came.payload);
        }
        keeper.expect_silence();
        println!("  {}, {} of them again", part.end, ledger.repeated);
        assert_eq!(ledger.repeated, 0, "came twice");
    }
}

pub(super) fn records_are_taken_at_least_once_without_a_store_over_kills_of_kafka(
    kafka: &mut Kafka,
) {
    let topic = "ledger-memory";
    kafka.create_topic(topic, 3, &[]);
    let ours = Broker::tidewire_in_memory(free_port(), &inward(kafka, topic));
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("in/#");
    let writer = Writer::new(kafka);
    let mut ledger = Ledger::default();
    for part in parts() {
        for kill in 0..3 {
            send(&writer, topic, third(&part, kill));
            let came = receiver.next();
            ledger.take(&came.topic, &came.payload);
            if kill == 1 {
                kafka.restart();
            }
        }
        writer.flush();
        while ledger.count() < part.end {
            let came = receiver.next();
            ledger.take(&came.topic, &came.payload);
        }
        println!("  {}, {} of them again", part.end, ledger.repeated);
    }
    receiver.expect_silence();
}

/// The first, second or third of a part.
fn third(part: &Range<usize>, which: usize) -> Range<usize> {
    let at = |third: usize| part.start + part.len() * third / 3;
    at(which)..at(which + 1)
}

fn send(writer: &Writer, topic: &str, range: Range<usize>) {
    for (key, payload) in messages(range) {
        writer.send(topic, &key, Some(&payload), &[]);
    }
}

const KEYS: usize = 12;
/// Without `KAFKA_LEDGER` in the environment.
const SHORT: usize = 20_000;
const PART: usize = 50_000;
