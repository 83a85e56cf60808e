//! From Kafka to us, and all the way round.

use std::collections::BTreeSet;
use std::time::Duration;

use super::party::{Reader, Writer, wait_for_group};
use super::server::Kafka;
use super::{STATE, bridge};
use crate::client::{Client, Q1};
use crate::faults::numbers;
use crate::federation::wait_until_up;
use crate::kill::through_kills;
use crate::process::{Broker, free_port};

/// A node whose bridge `up` feeds the first one, so that subscribers outlive it.
fn feeder(kafka: &Kafka, ours: &Broker, lines: &str) -> String {
    format!(
        "{}\n[[bridges]]\nname = \"on\"\nservers = [\"mqtt://127.0.0.1:{}\"]\n\
         restart_base_ms = 100\n[[bridges.out]]\nfilters = [\"in/#\"]",
        bridge(kafka.port, lines),
        ours.port
    )
}

pub(super) fn messages_come_with_their_properties_and_offsets_are_committed(kafka: &Kafka) {
    kafka.create_topic("commands", 1, &[]);
    let writer = Writer::new(kafka);
    let pairs: [(&str, &[u8]); 4] = [
        ("site", b"north"),
        ("mqtt-content-type", b"text/plain"),
        ("bytes", &[0xff, 0xfe]),
        ("site", b"south"),
    ];
    writer.send("commands", "valve", Some("open"), &pairs);
    writer.send("commands", "lamp", None, &[]);
    writer.flush();
    let lines = "[bridges.kafka]\nstart = \"earliest\"\ngroup = \"plant\"\n[[bridges.in]]\n\
         filters = [\"commands\"]\ntopic = \"c/{prop:site|default('no')}/{key|level}\"\n\
         retain = \"set\"";
    let config = bridge(kafka.port, lines);
    let ours = Broker::tidewire(free_port(), &config);
    wait_until_up(&ours);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("c/#");
    let got = receiver.wait_for("c/north/valve", "open");
    assert_eq!((got.qos, got.retain), (Q1, true));
    assert_eq!(got.content_type.as_deref(), Some("text/plain"));
    let site = |value: &str| ("site".to_owned(), value.to_owned());
    assert_eq!(got.headers, [site("north"), site("south")]);
    writer.send("commands", "valve", None, &[("site", b"north")]);
    writer.flush();
    let got = receiver.wait_for("c/north/valve", "");
    assert_eq!(got.payload, "");
    ours.stop();
    // The group goes on where it was: nothing comes again.
    writer.send("commands", "pump", Some("on"), &[]);
    writer.flush();
    let ours = Broker::tidewire(free_port(), &config);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("c/#");
    receiver.expect("c/no/pump", "on");
    receiver.expect_silence();
}

pub(super) fn regular_expressions_and_filters_name_topics(kafka: &Kafka) {
    for topic in ["site.a.cmd", "site.b.cmd", "site.b.other", "ext-1"] {
        kafka.create_topic(topic, 1, &[]);
    }
    let writer = Writer::new(kafka);
    let write = |topic: &str| writer.send(topic, "k", Some(topic), &[]);
    for topic in ["site.a.cmd", "site.b.cmd", "site.b.other", "ext-1"] {
        write(topic);
    }
    writer.flush();
    let came = |lines: &str, count: usize| {
        let ours = Broker::tidewire(free_port(), &bridge(kafka.port, lines));
        let mut receiver = Client::connect(&ours, "receiver");
        receiver.subscribe("in/#");
        let mut topics: Vec<String> = (0..count).map(|_| receiver.next().topic).collect();
        receiver.expect_silence();
        topics.sort_unstable();
        topics
    };
    let start = "start = \"earliest\"\nunaccepted_max = 1";
    let by_filter = format!(
        "[bridges.kafka]\ngroup = \"filters\"\n{start}\n[[bridges.in]]\n\
         filters = [\"site/+/cmd\"]\nlocal_prefix = \"in/\""
    );
    assert_eq!(came(&by_filter, 2), ["in/site/a/cmd", "in/site/b/cmd"]);
    let by_expression = format!(
        "[bridges.kafka]\ngroup = \"expressions\"\n{start}\n\
         topics = [\"^ext-[0-9]+$\", \"site.b.other\"]\n\
         [[bridges.in]]\nfilters = [\"#\"]\nlocal_prefix = \"in/\""
    );
    assert_eq!(came(&by_expression, 2), ["in/ext-1", "in/site/b/other"]);
}

pub(super) fn partitions_change_hands_without_loss(kafka: &Kafka) {
    kafka.create_topic("shared", 4, &[]);
    let ours = Broker::tidewire(free_port(), "");
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("in/#");
    let lines = "[bridges.kafka]\ngroup = \"sharers\"\nstart = \"earliest\"\nunaccepted_max = 50\n\
         [[bridges.in]]\nfilters = [\"shared\"]\ntopic = \"in/{key}\"";
    let config = feeder(kafka, &ours, lines);
    let first = Broker::tidewire(free_port(), &config);
    let writer = Writer::new(kafka);
    let mut missing = BTreeSet::new();
    let write = |range: std::ops::Range<usize>, missing: &mut BTreeSet<String>| {
        for number in range {
            let payload = number.to_string();
            writer.send("shared", &(number % 16).to_string(), Some(&payload), &[]);
            missing.insert(payload);
        }
        writer.flush();
    };
    write(0..500, &mut missing);
    missing.remove(&receiver.next().payload);
    // A second member takes partitions over in full flow, and gives them back by kill -9.
    let second = Broker::tidewire(free_port(), &config);
    write(500..1_000, &mut missing);
    wait_until_up(&second);
    write(1_000..1_500, &mut missing);
    for _ in 0..600 {
        missing.remove(&receiver.next().payload);
    }
    second.kill();
    write(1_500..2_000, &mut missing);
    while !missing.is_empty() {
        missing.remove(&receiver.next().payload);
    }
    drop(first);
}

pub(super) fn nothing_is_lost_from_end_to_end_while_everything_is_killed(kafka: &mut Kafka) {
    kafka.create_topic("ledger", 1, &[]);
    let above = Broker::tidewire(free_port(), "");
    let mut receiver = Client::connect(&above, "receiver");
    receiver.subscribe("in/#");
    let way_in = "[bridges.kafka]\ngroup = \"ledger\"\nstart = \"earliest\"\n\
         [[bridges.in]]\nfilters = [\"ledger\"]\ntopic = \"in/{key}\"";
    let way_in = feeder(kafka, &above, way_in);
    let way_out = "[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"ledger\"\nkey = \"k\"";
    let way_out = bridge(kafka.port, way_out);
    let ways = [&*way_out, &*way_in];
    let [all, came] = through_kills(ways, &mut receiver, || kafka.restart());
    assert_eq!(came, all);
    // In Kafka itself: a kill of ours may repeat what was in flight, and loses nothing.
    let mut there = Reader::new(kafka, "ledger", 1);
    let mut stored = Vec::new();
    while let Some(got) = there.poll(Duration::from_millis(2_000)) {
        stored.push(got.payload.expect("a payload"));
    }
    let mut kept = BTreeSet::new();
    stored.retain(|it| kept.insert(it.clone()));
    assert_eq!(stored, all);
}

pub(super) fn a_partition_that_was_never_read_begins_where_the_configuration_says(kafka: &Kafka) {
    kafka.create_topic("begins", 1, &[]);
    let writer = Writer::new(kafka);
    for (payload, at) in [
        ("old", 1_000_000),
        ("middle", 2_000_000),
        ("new", 3_000_000),
    ] {
        writer.send_at("begins", "k", payload, at);
        writer.flush();
    }
    let start = |group: &str, start: &str| {
        let lines = format!(
            "[bridges.kafka]\ngroup = \"{group}\"\nstart = {start}\n\
             [[bridges.in]]\nfilters = [\"begins\"]"
        );
        Broker::tidewire(free_port(), &bridge(kafka.port, &lines))
    };
    // A time as a text, and one of TOML's own.
    for (group, at) in [
        ("a", "\"1970-01-01T00:20:00+00:00\""),
        ("b", "1970-01-01T00:33:20Z"),
    ] {
        let ours = start(group, at);
        let mut receiver = Client::connect(&ours, "receiver");
        receiver.subscribe("begins");
        assert_eq!(receiver.payloads(2), ["middle", "new"], "{at}");
    }
    let ours = start("c", "\"stored\"");
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE).wait_for(STATE, "was never read");
    // What comes after the first look is not lost while nobody is there.
    let ours = start("d", "\"latest\"");
    wait_until_up(&ours);
    wait_for_group(kafka, "d", "begins");
    ours.stop();
    writer.send("begins", "k", Some("while away"), &[]);
    writer.flush();
    let ours = start("d", "\"latest\"");
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("begins").expect("begins", "while away");
}

pub(super) fn nothing_is_taken_while_nobody_would_receive_it(kafka: &Kafka) {
    kafka.create_topic("wanted", 1, &[]);
    let writer = Writer::new(kafka);
    let all = numbers(2_000);
    for payload in &all {
        writer.send("wanted", "k", Some(payload), &[]);
    }
    writer.flush();
    let lines = "[bridges.kafka]\ngroup = \"wanted\"\nstart = \"earliest\"\nunaccepted_max = 100\n\
         [[bridges.in]]\nfilters = [\"wanted\"]\nrequire_subscriber = true";
    let ours = Broker::tidewire(free_port(), &bridge(kafka.port, lines));
    wait_until_up(&ours);
    std::thread::sleep(Duration::from_secs(2));
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("wanted");
    assert_eq!(receiver.payloads(all.len()), all);
    receiver.expect_silence();
}

pub(super) fn a_topic_that_was_made_anew_is_read_from_its_beginning(kafka: &Kafka) {
    kafka.create_topic("again", 1, &[]);
    let writer = Writer::new(kafka);
    let lines = "[bridges.kafka]\ngroup = \"again\"\nstart = \"earliest\"\n\
         [[bridges.in]]\nfilters = [\"again\"]";
    let config = bridge(kafka.port, lines);
    let ours = Broker::tidewire(free_port(), &config);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("again");
    for payload in ["1", "2", "3"] {
        writer.send("again", "k", Some(payload), &[]);
    }
    assert_eq!(receiver.payloads(3), ["1", "2", "3"]);
    let directory = ours.stop_and_keep();
    kafka.admin.delete_topic("again");
    kafka.create_topic("again", 1, &[]);
    let writer = Writer::new(kafka);
    writer.send("again", "k", Some("of the new one"), &[]);
    writer.flush();
    let ours = Broker::tidewire_in(directory, free_port(), &config);
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver
        .subscribe("again")
        .expect("again", "of the new one");
    receiver.expect_silence();
}
