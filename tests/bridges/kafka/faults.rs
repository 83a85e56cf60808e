//! What an administrator of Kafka, or its disk, does to topics in use; afterwards the ledger
//! balances.

use std::thread::JoinHandle;
use std::time::Duration;

use super::admin::Operation::{Read, Write};
use super::admin::Resource::{Group, Topic};
use super::admin::{Operation, Resource};
use super::ledger::{Ledger, messages};
use super::party::{Reader, Writer};
use super::server::Kafka;
use super::{STATE, bridge};
use crate::client::{Client, Q1, Q2};
use crate::faults::numbers;
use crate::federation::wait_until_up;
use crate::process::{Broker, free_port};
use crate::publisher::publish_through_kills;

/// A client that sees each change of the state.
fn watch(ours: &Broker) -> Client {
    let mut watcher = Client::connect(ours, "observer");
    watcher.subscribe(STATE);
    watcher
}

/// A counter of the state.
fn counter(state: &str, name: &str) -> usize {
    let state: serde_json::Value = serde_json::from_str(state).expect("JSON");
    let value = state[name].as_u64().expect("a number");
    usize::try_from(value).expect("small")
}

/// Writes records to a topic, of one key.
fn write(kafka: &Kafka, topic: &str, payloads: &[String]) {
    let writer = Writer::new(kafka);
    for payload in payloads {
        writer.send(topic, "k", Some(payload), &[]);
    }
    writer.flush();
}

pub(super) fn a_topic_deleted_under_load_loses_nothing_that_it_had_not_acknowledged(kafka: &Kafka) {
    const COUNT: usize = 12_000;
    kafka.create_topic("deleted", 1, &[]);
    // So that a fast machine is not done before the topic is gone.
    let lines = "messages_per_second_max = 4000\n[[bridges.out]]\nfilters = [\"t/#\"]\n\
                 topic = \"deleted\"";
    let ours = Broker::tidewire(free_port(), &bridge(kafka.port, lines));
    wait_until_up(&ours);
    let mut watcher = watch(&ours);
    let publisher = publish_through_kills(ours.port, "publisher", Q2, messages(0..COUNT));
    let mut there = Reader::new(kafka, "deleted", 1);
    (0..COUNT / 4).for_each(|_| drop(there.next()));
    kafka.admin.delete_topic("deleted");
    watcher.wait_for(STATE, "3 UnknownTopicOrPartition");
    drop(watcher);
    publisher.join().expect("published");
    // What is retained is how it is now.
    let said = watch(&ours).wait_for(STATE, "\"state\":\"down\"").payload;
    let acknowledged = counter(&said, "sent");
    assert_eq!(acknowledged + counter(&said, "queue_messages"), COUNT);
    kafka.create_topic("deleted", 1, &[]);
    let mut there = Reader::new(kafka, "deleted", 1);
    let expected: Vec<String> = (acknowledged..COUNT).map(|it| it.to_string()).collect();
    let came: Vec<String> = expected.iter().map(|_| there.payload()).collect();
    assert_eq!(came, expected);
    assert_eq!(there.poll(Duration::from_millis(500)), None);
    wait_until_up(&ours);
}

pub(super) fn a_topic_that_is_deleted_while_it_is_read_is_read_anew_once_it_is_there_again(
    kafka: &Kafka,
) {
    kafka.create_topic("reread", 1, &[]);
    let lines = "[bridges.kafka]\ngroup = \"reread\"\nstart = \"earliest\"\n\
         [[bridges.in]]\nfilters = [\"reread\"]";
    let ours = Broker::tidewire(free_port(), &bridge(kafka.port, lines));
    let mut watcher = watch(&ours);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("reread");
    let all = numbers(700);
    write(kafka, "reread", &all[..500]);
    assert_eq!(receiver.payloads(500), all[..500]);
    kafka.admin.delete_topic("reread");
    watcher.wait_for(STATE, "3 UnknownTopicOrPartition");
    kafka.create_topic("reread", 1, &[]);
    write(kafka, "reread", &all[500..]);
    assert_eq!(receiver.payloads(200), all[500..]);
    receiver.expect_silence();
    watcher.wait_for(STATE, "\"state\":\"up\"");
}

pub(super) fn a_quota_is_seen_in_the_state_until_it_is_lifted(kafka: &Kafka) {
    kafka.create_topic("quota", 1, &[]);
    kafka.admin.set_quota("up.slow", Some(20_000));
    let lines = "[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"quota\"";
    let config = format!("node = \"slow\"\n{}", bridge(kafka.port, lines));
    let ours = Broker::tidewire(free_port(), &config);
    wait_until_up(&ours);
    let mut watcher = watch(&ours);
    let mut sender = Client::connect(&ours, "sender");
    let load: Vec<String> = (0..300)
        .map(|it| format!("{it} {}", "x".repeat(1_000)))
        .collect();
    sender.publish_all("t/1", &load, Q1);
    let said = watcher.wait_for(STATE, "\"state\":\"degraded\"").payload;
    assert!(said.contains("quota"), "{said}");
    kafka.admin.set_quota("up.slow", None);
    let mut there = Reader::new(kafka, "quota", 1);
    assert!(load.iter().all(|it| there.payload() == *it));
    assert_eq!(there.poll(Duration::from_millis(500)), None);
    watcher.wait_for(STATE, "\"state\":\"up\"");
}

/// Messages from a node of ours through Kafka to another, both as the user `mortal`.
struct Through {
    from: Broker,
    out: Client,
    back: Client,
    receiver: Client,
    sent: usize,
    ledger: Ledger,
    _to: Broker,
}

impl Through {
    /// The topic is the group as well.
    fn start(kafka: &Kafka, topic: &str) -> Self {
        kafka.create_topic(topic, 1, &[]);
        for (of, to) in rights(topic) {
            kafka.admin.allow("mortal", of, to);
        }
        let node = |name: &str, lines: &str| {
            let lines = format!(
                "messages_per_second_max = 1000\nuser_name = \"mortal\"\npassword = \"secret\"\n\
                 [bridges.kafka]\nsasl_mechanism = \"scram-sha-512\"\ngroup = \"{topic}\"\n{lines}"
            );
            let config = bridge(kafka.sasl_port, &lines);
            let ours = Broker::tidewire(free_port(), &format!("node = \"{name}\"\n{config}"));
            wait_until_up(&ours);
            ours
        };
        let rule = format!("[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"{topic}\"");
        let from = node("from", &rule);
        let rule = format!("[[bridges.in]]\nfilters = [\"{topic}\"]\ntopic = \"in/{{key}}\"");
        let to = node("to", &format!("start = \"earliest\"\n{rule}"));
        let mut receiver = Client::connect(&to, "receiver");
        receiver.subscribe("in/#");
        Self {
            out: watch(&from),
            back: watch(&to),
            receiver,
            sent: 0,
            ledger: Ledger::default(),
            from,
            _to: to,
        }
    }

    fn publish(&mut self, count: usize) -> JoinHandle<()> {
        let range = self.sent..self.sent + count;
        self.sent = range.end;
        publish_through_kills(self.from.port, "publisher", Q2, messages(range))
    }

    fn receive(&mut self, count: usize) {
        for _ in 0..count {
            let came = self.receiver.next();
            self.ledger.take(&came.topic, &came.payload);
        }
        assert_eq!(self.ledger.repeated, 0);
    }
}

fn rights(topic: &str) -> [(Resource<'_>, Operation); 3] {
    [
        (Topic(topic), Write),
        (Topic(topic), Read),
        (Group(topic), Read),
    ]
}

/// The state says in the server's words why nothing goes on.
fn expect_down(watcher: &mut Client, words: &str) {
    let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
    assert!(said.contains(words), "{said}");
}

pub(super) fn rights_that_are_taken_away_stop_the_bridge_until_they_are_given_back(kafka: &Kafka) {
    let mut through = Through::start(kafka, "rights");
    let [write, read, group] = rights("rights");
    // In full flow.
    let flow = through.publish(3_000);
    through.receive(500);
    kafka.admin.forbid("mortal", write.0, write.1);
    expect_down(&mut through.out, "29 TopicAuthorizationFailed");
    kafka.admin.allow("mortal", write.0, write.1);
    flow.join().expect("published");
    through.receive(2_500);
    for (right, words) in [
        (read, "29 TopicAuthorizationFailed"),
        (group, "30 GroupAuthorizationFailed"),
    ] {
        kafka.admin.forbid("mortal", right.0, right.1);
        through.publish(1_000).join().expect("published");
        expect_down(&mut through.back, words);
        kafka.admin.allow("mortal", right.0, right.1);
        through.receive(1_000);
        through.back.wait_for(STATE, "\"state\":\"up\"");
    }
    through.receiver.expect_silence();
}

pub(super) fn a_password_that_is_taken_away_stops_the_bridge_until_it_is_given_back(kafka: &Kafka) {
    let mut through = Through::start(kafka, "passwords");
    let flow = through.publish(6_000);
    through.receive(500);
    // Kafka asks for it again every three seconds.
    kafka.set_scram("mortal", None);
    expect_down(&mut through.out, "Authentication");
    expect_down(&mut through.back, "Authentication");
    kafka.set_scram("mortal", Some("secret"));
    flow.join().expect("published");
    through.receive(5_500);
    through.receiver.expect_silence();
    wait_until_up(&through.from);
}

pub(super) fn what_is_too_large_for_a_lowered_limit_goes_to_the_dead_letter_topic(kafka: &Kafka) {
    kafka.create_topic("lowered", 1, &[]);
    let lines = "dead_letter = \"dead\"\nmessages_per_second_max = 1000\n\
         [[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"lowered\"";
    let ours = Broker::tidewire(free_port(), &bridge(kafka.port, lines));
    wait_until_up(&ours);
    let mut dead = Client::connect(&ours, "dead");
    dead.subscribe("dead");
    let mut sender = Client::connect(&ours, "sender");
    let mut there = Reader::new(kafka, "lowered", 1);
    let large = "x".repeat(30_000);
    sender.publish("t/1", &large, Q1);
    assert_eq!(there.payload(), large);
    let flow = publish_through_kills(ours.port, "publisher", Q2, messages(0..3_000));
    let mut came = numbers(500)
        .iter()
        .map(|_| there.payload())
        .collect::<Vec<_>>();
    kafka
        .admin
        .set_topic("lowered", "max.message.bytes", "20000");
    sender.publish("t/1", &large, Q1);
    let letter = dead.expect("dead", &large);
    let words = "10 MessageSizeTooLarge";
    assert!(letter.error().contains(words), "{}", letter.error());
    flow.join().expect("published");
    came.extend((500..3_000).map(|_| there.payload()));
    // What was in a batch that was too large goes one by one, after what came later.
    came.sort_by_key(|it| it.parse::<usize>().expect("a number"));
    assert_eq!(came, numbers(3_000));
    kafka
        .admin
        .set_topic("lowered", "max.message.bytes", "1000000");
    sender.publish("t/1", &large, Q1);
    assert_eq!(there.payload(), large);
    assert_eq!(there.poll(Duration::from_millis(300)), None);
}

pub(super) fn records_that_were_deleted_before_they_were_read_are_said_in_the_state(kafka: &Kafka) {
    kafka.create_topic("expired", 1, &[]);
    let lines = "[bridges.kafka]\ngroup = \"expired\"\nstart = \"earliest\"\n\
         [[bridges.in]]\nfilters = [\"expired\"]";
    let ours = Broker::tidewire(free_port(), &bridge(kafka.port, lines));
    let mut watcher = watch(&ours);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("expired");
    let all = numbers(300);
    write(kafka, "expired", &all[..100]);
    assert_eq!(receiver.payloads(100), all[..100]);
    assert!(ours.order("up", "pause").0);
    watcher.wait_for(STATE, "\"state\":\"paused\"");
    write(kafka, "expired", &all[100..200]);
    kafka.admin.delete_records("expired", 150);
    assert!(ours.order("up", "resume").0);
    watcher.wait_for(STATE, "deleted before it was read: 100 to 150");
    write(kafka, "expired", &all[200..]);
    assert_eq!(receiver.payloads(150), all[150..]);
    watcher.wait_for(STATE, "\"state\":\"up\"");
    receiver.expect_silence();
}

/// To the process it is the same whether the disk has no room or it may not have more.
pub(super) fn a_disk_that_is_full_ends_the_server_and_loses_nothing(kafka: &mut Kafka) {
    kafka.create_topic("full", 1, &[]);
    let lines = "[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"full\"";
    let ours = Broker::tidewire(free_port(), &bridge(kafka.port, lines));
    wait_until_up(&ours);
    let mut watcher = watch(&ours);
    let mut sender = Client::connect(&ours, "sender");
    kafka.leave_room_for(4_000_000);
    let load: Vec<String> = (0..100)
        .map(|it| format!("{it} {}", "x".repeat(100_000)))
        .collect();
    sender.publish_all("t/1", &load, Q1);
    kafka.wait_until_ended();
    let said = watcher.wait_for(STATE, "AllBrokersDown").payload;
    assert!(said.contains("\"state\":\"degraded\""), "{said}");
    kafka.start_again();
    let mut there = Reader::new(kafka, "full", 1);
    assert!(load.iter().all(|it| there.payload() == *it));
    assert_eq!(there.poll(Duration::from_millis(500)), None);
    watcher.wait_for(STATE, "\"state\":\"up\"");
}
