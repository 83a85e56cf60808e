//! What librdkafka counts, in the state of a bridge.

use serde_json::Value;

use super::party::{Reader, Writer};
use super::server::Kafka;
use super::{STATE, bridge};
use crate::client::{Client, Q1};
use crate::faults::numbers;
use crate::federation::wait_until_up;
use crate::process::{Broker, free_port};

pub(super) fn the_state_shows_what_both_clients_have_counted(kafka: &Kafka) {
    kafka.create_topic("counted", 2, &[]);
    kafka.create_topic("behind", 1, &[]);
    let writer = Writer::new(kafka);
    for payload in numbers(7) {
        writer.send("behind", "k", Some(&payload), &[]);
    }
    writer.flush();
    let lines = "[bridges.kafka]\nstart = \"earliest\"\nstatistics_interval_ms = 1000\n\
         [[bridges.out]]\nfilters = [\"t\"]\ntopic = \"counted\"\n\
         [[bridges.in]]\nfilters = [\"behind\"]\nrequire_subscriber = true";
    let ours = Broker::tidewire(free_port(), &bridge(kafka.port, lines));
    wait_until_up(&ours);
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    Client::connect(&ours, "sender").publish_all("t", &numbers(50), Q1);
    let mut there = Reader::new(kafka, "counted", 2);
    assert_eq!((0..50).map(|_| there.payload()).count(), 50);
    // They are not taken before somebody wants them.
    let said = watcher.wait_for(STATE, "\"lag\":7").payload;
    let state: Value = serde_json::from_str(&said).expect("JSON");
    let consumer = &state["statistics"]["consumer"];
    assert_eq!(consumer["partitions"], 1, "{said}");
    assert_eq!(consumer["lag_by_partition"]["behind/0"], 7, "{said}");
    let producer = &state["statistics"]["producer"];
    assert_eq!(producer["queue_messages"], 0, "{said}");
    assert_eq!(producer["retries"], 0, "{said}");
    for key in ["requests", "bytes_sent", "bytes_received"] {
        assert!(producer[key].as_u64() > Some(0), "{key}: {said}");
    }
    let name = format!("127.0.0.1:{}/1", kafka.port);
    assert_eq!(producer["servers"][&name]["connection"], "up", "{said}");
    let round_trip = &consumer["servers"][&name]["rtt_ms"];
    assert!(round_trip.as_f64() > Some(0.0), "{said}");
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("behind");
    assert_eq!(receiver.payloads(7), numbers(7));
    watcher.wait_for(STATE, "\"lag\":0");
    let (_, answer) = ours.order("up", "state");
    assert!(answer.contains("\"statistics\":"), "{answer}");
}
