//! A store of ours that is full while messages come over a bridge.

use std::collections::BTreeSet;
use std::thread;

use tidewire_protocol::codec::QoS;

use crate::client::{Client, Q1, Q2};
use crate::federation::{bridge, number_of, wait_until_up};
use crate::process::{Broker, free_port};

const COUNT: usize = 720;
const PUBLISHERS: usize = 8;
/// All together they are more than the store holds.
const BYTES: usize = 100_000;

fn cross_a_full_store(qos: QoS) -> Vec<usize> {
    let central = Broker::tidewire_in_memory(free_port(), "");
    let rules = "[[bridges.in]]\nfilters = [\"t/#\"]\n[limits]\nqueue_bytes_max = 1_000_000_000";
    let edge = Broker::tidewire(free_port(), &bridge(central.port, rules));
    wait_until_up(&edge);
    Client::resume(&edge, "keeper").subscribe("t/#");
    // Many at once, so that more is on its way than is left when the store says that it is full.
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let mut above = Client::connect(&central, &format!("above-{publisher}"));
            scope.spawn(move || {
                let padding = "x".repeat(BYTES);
                let mine = (publisher..COUNT).step_by(PUBLISHERS);
                let texts: Vec<String> = mine.map(|it| format!("{it} {padding}")).collect();
                above.publish_all(&format!("t/{publisher}"), &texts, qos);
            });
        }
    });
    let mut watcher = Client::connect(&edge, "watcher");
    let is_full = "$SYS/broker/store/is full";
    watcher.subscribe(is_full).wait_for(is_full, "1");
    let state = "$SYS/bridges/up/state";
    watcher.subscribe(state);
    while number_of(
        &watcher.wait_for(state, "\"held_back\":").payload,
        "held_back",
    ) == 0
    {}
    let mut keeper = Client::resume(&edge, "keeper");
    let mut came = Vec::new();
    let mut missing: BTreeSet<usize> = (0..COUNT).collect();
    while !missing.is_empty() {
        let payload = keeper.next().payload;
        let (number, _) = payload.split_once(' ').expect("a number");
        let number = number.parse().expect("a number");
        missing.remove(&number);
        came.push(number);
    }
    keeper.expect_silence();
    came
}

#[test]
fn what_comes_over_a_bridge_while_the_store_is_full_waits_over_there() {
    cross_a_full_store(Q1);
    let came = cross_a_full_store(Q2);
    assert_eq!(came.len(), COUNT, "some came twice");
}
