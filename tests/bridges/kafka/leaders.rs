//! The leader of partitions goes away while messages go through them, out and in again.

use tidewire::clock::Clock;

use super::cluster::Cluster;
use super::ledger::{Ledger, messages};
use crate::client::{Client, Message, Q1, Q2};
use crate::process::{Broker, free_port};
use crate::publisher::publish_through_kills;

#[test]
#[ignore = "needs Apache Kafka, which tests/run fetches"]
fn nothing_is_lost_or_comes_twice_while_leaders_move_in_a_cluster_of_kafka() {
    let clock = Clock::start();
    let said = |what: &str| println!("  {} ms: {what}", clock.now_ms());
    let mut cluster = Cluster::start();
    for topic in TOPICS {
        cluster.create_topic(topic, 3);
    }
    said("started");
    let from = Broker::tidewire(free_port(), &way_out(&cluster));
    let to = Broker::tidewire(free_port(), &way_in(&cluster));
    let mut there = There::new(&to);
    let mut watchers = [&from, &to].map(|it| Client::connect(it, "watcher"));
    for watcher in &mut watchers {
        watcher.subscribe(STATES).subscribe("end");
    }
    let publisher = publish_through_kills(from.port, "publisher", Q2, messages(0..COUNT));
    there.read_to(COUNT / 5);
    let killed = cluster.kill_leader(TOPICS[0]);
    said("leader killed");
    cluster.wait_until_moved(TOPICS[0], killed);
    said("another one leads");
    there.read_to(COUNT * 2 / 5);
    cluster.start_again(killed);
    TOPICS.iter().for_each(|it| cluster.wait_until_in_sync(it));
    said("all replicas in sync");
    there.read_to(COUNT * 3 / 5);
    let stopped = cluster.stop_leader(TOPICS[0]);
    said("leader stopped");
    there.read_to(COUNT);
    said("all read");
    publisher.join().expect("published");
    there.receiver.expect_silence();
    // One node is left: too few for what is to be in two.
    let last = cluster.kill_leader(TOPICS[0]);
    assert_ne!(last, stopped);
    let rest = messages(COUNT..COUNT + 1_000);
    let publisher = publish_through_kills(from.port, "publisher", Q2, rest);
    for topic in TOPICS {
        let state = format!("$SYS/bridges/{topic}/state");
        let mut observer = Client::connect(&from, "observer");
        observer.subscribe(&state);
        observer.wait_for(&state, "nothing was acknowledged for 5 s");
    }
    publisher.join().expect("published");
    said("the state says that nothing goes on");
    cluster.start_again(stopped);
    cluster.start_again(last);
    TOPICS.iter().for_each(|it| cluster.wait_until_in_sync(it));
    there.read_to(COUNT + 1_000);
    said("all the rest read");
    assert_eq!(there.ledgers.map(|it| it.repeated), [0, 0]);
    for node in [&from, &to] {
        Client::connect(node, "sender").publish("end", "", Q1);
    }
    for watcher in watchers {
        connected_all_the_time(watcher);
    }
}

/// A cluster with one node less is no reason to give up a connection.
fn connected_all_the_time(mut watcher: Client) {
    let mut states = Vec::new();
    loop {
        let Message { topic, payload, .. } = watcher.next();
        if topic == "end" {
            break;
        }
        states.push(payload);
    }
    let is_up = |it: &&String| it.contains("\"state\":\"up\"");
    let since = states.iter().position(|it| is_up(&it));
    let mut states = states.iter().skip(since.expect("it was up"));
    assert!(!states.any(|it| it.contains("\"state\":\"down\"")));
}

/// Who gets what went round.
struct There {
    receiver: Client,
    /// One for each topic.
    ledgers: [Ledger; 2],
}

impl There {
    fn new(to: &Broker) -> Self {
        let mut receiver = Client::connect(to, "receiver");
        receiver.subscribe("in/#");
        Self {
            receiver,
            ledgers: Default::default(),
        }
    }

    /// Until so many have come by each topic.
    fn read_to(&mut self, count: usize) {
        while self.ledgers.iter().any(|it| it.count() < count) {
            let Message { topic, payload, .. } = self.receiver.next();
            let of = TOPICS.iter().position(|it| topic.contains(it));
            self.ledgers[of.expect("a topic")].take(&topic, &payload);
        }
    }
}

/// Each message to both topics: with an idempotent producer, and in transactions.
fn way_out(cluster: &Cluster) -> String {
    let bridge = |name: &str, lines: &str| {
        let lines = format!(
            "[bridges.kafka]\n{lines}\n[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"{name}\""
        );
        bridge(cluster, name, &lines)
    };
    let once = "guarantee = \"exactly_once\"\ncreate_topics = true";
    format!(
        "node = \"from\"\n{}{}",
        bridge(TOPICS[0], "acks = \"all\""),
        bridge(TOPICS[1], once)
    )
}

fn way_in(cluster: &Cluster) -> String {
    let rule = |topic: &str| {
        format!("\n[[bridges.in]]\nfilters = [\"{topic}\"]\ntopic = \"in/{topic}/{{key}}\"")
    };
    let lines = format!(
        "[bridges.kafka]\nstart = \"earliest\"{}{}",
        rule(TOPICS[0]),
        rule(TOPICS[1])
    );
    format!("node = \"to\"\n{}", bridge(cluster, "back", &lines))
}

fn bridge(cluster: &Cluster, name: &str, lines: &str) -> String {
    let servers: Vec<String> = cluster
        .servers
        .iter()
        .map(|it| format!("\"kafka://{it}\""))
        .collect();
    format!(
        "[[bridges]]\nname = \"{name}\"\nkind = \"kafka\"\nservers = [{}]\n\
         restart_base_ms = 100\nrestart_max_ms = 300\nmessages_per_second_max = 1500\n{lines}\n",
        servers.join(", ")
    )
}

const TOPICS: [&str; 2] = ["moved", "whole"];
const STATES: &str = "$SYS/bridges/+/state";
const COUNT: usize = 30_000;
