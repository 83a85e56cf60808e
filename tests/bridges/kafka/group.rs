//! A consumer group in which a node of ours is one member among others.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use tidewire::clock::Clock;

use super::bridge;
use super::ledger::messages;
use super::party::Writer;
use super::server::Kafka;
use crate::client::Client;
use crate::java::START_MS;
use crate::kill::some_time;
use crate::process::{Broker, free_port};

/// A member of a group that is no node of ours.
struct Member {
    got: Arc<Mutex<BTreeSet<String>>>,
    leaves: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Member {
    fn join(kafka: &Kafka, group: &str, topic: &str) -> Self {
        let mut config = kafka.config();
        config
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("auto.commit.interval.ms", "200");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        consumer.subscribe(&[topic]).expect("subscribed");
        let got: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let leaves = Arc::new(AtomicBool::new(false));
        let (shelf, is_over) = (Arc::clone(&got), Arc::clone(&leaves));
        let thread = spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let message = consumer.poll(Duration::from_millis(50));
                // Errors are connections that come and go.
                if let Some(Ok(message)) = message {
                    let payload = message.payload().expect("a payload");
                    let payload = String::from_utf8_lossy(payload).into_owned();
                    shelf.lock().expect("not poisoned").insert(payload);
                }
            }
        });
        Self {
            got,
            leaves,
            thread,
        }
    }

    fn wait_until_it_has(&self, numbers: Range<usize>) {
        let clock = Clock::start();
        loop {
            let got = self.got.lock().expect("not poisoned");
            let missing = numbers.clone().find(|it| !got.contains(&it.to_string()));
            drop(got);
            let Some(missing) = missing else { return };
            assert!(clock.now_ms() < START_MS, "{missing} does not come");
            sleep(Duration::from_millis(50));
        }
    }

    /// Gives its partitions back; answers all that came.
    fn leave(self) -> BTreeSet<String> {
        self.leaves.store(true, Ordering::Relaxed);
        self.thread.join().expect("left");
        std::mem::take(&mut self.got.lock().expect("not poisoned"))
    }
}

fn wait_for_partitions(ours: &Broker, count: usize) {
    let wanted = format!("\"partitions\":{count}");
    let clock = Clock::start();
    while !ours.order("up", "state").1.contains(&wanted) {
        assert!(clock.now_ms() < START_MS, "no {count} partitions");
        sleep(Duration::from_millis(100));
    }
}

/// What a session here has got, to the last number of all.
fn accepted(ours: &Broker) -> BTreeSet<String> {
    let mut keeper = Client::resume(ours, "keeper");
    let mut came = BTreeSet::new();
    while !(4_000..5_000).all(|it: usize| came.contains(&it.to_string())) {
        let number = keeper.next().payload;
        assert!(came.insert(number.clone()), "{number} came here twice");
    }
    keeper.expect_silence();
    came
}

pub(super) fn another_member_takes_over_from_a_killed_node_and_gives_back(kafka: &Kafka) {
    kafka.create_topic("relay", 4, &[]);
    let writer = Writer::new(kafka);
    let write = |numbers: Range<usize>| {
        for (key, payload) in messages(numbers) {
            writer.send("relay", &key, Some(&payload), &[]);
        }
        writer.flush();
    };
    let lines = "[bridges.kafka]\ngroup = \"relay\"\nstart = \"earliest\"\n\
                 statistics_interval_ms = 300\n[[bridges.in]]\nfilters = [\"relay\"]\n\
                 topic = \"in/{key}\"\n[limits]\nqueue_messages_max = 10000";
    let (port, config) = (free_port(), bridge(kafka.port, lines));
    let ours = Broker::tidewire(port, &config);
    Client::resume(&ours, "keeper").subscribe("in/#");
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe("in/#");
    write(0..1_000);
    watcher.payloads(1_000);
    // Offsets are committed every second.
    sleep(Duration::from_millis(1_500));
    write(1_000..2_000);
    // In full flow: some of it is accepted, and not committed to the group.
    watcher.next();
    some_time();
    let directory = ours.kill_and_keep();
    let member = Member::join(kafka, "relay", "relay");
    write(2_000..3_000);
    member.wait_until_it_has(2_000..3_000);
    let ours = Broker::tidewire_in(directory, port, &config);
    wait_for_partitions(&ours, 2);
    write(3_000..4_000);
    // Whoever has the partition takes it.
    some_time();
    let theirs = member.leave();
    wait_for_partitions(&ours, 4);
    write(4_000..5_000);
    let came = accepted(&ours);
    let missing = (0..5_000).map(|it: usize| it.to_string());
    let missing: Vec<String> = missing
        .filter(|it| !came.contains(it) && !theirs.contains(it))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What the group did not know at the kill, and nothing older or newer.
    let twice: Vec<usize> = came
        .intersection(&theirs)
        .map(|it| it.parse().expect("a number"))
        .collect();
    println!("  {} of them at both", twice.len());
    let of_the_last_second = 1_000..2_000;
    assert!(
        twice.iter().all(|it| of_the_last_second.contains(it)),
        "{twice:?}"
    );
}
