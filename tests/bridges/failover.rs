//! Several servers, and kill -9 of ours while one stands in for another.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use tidewire::clock::Clock;

use crate::client::{Client, Q2};
use crate::durable::wait_for_state;
use crate::faults::numbers;
use crate::federation::{bridge, wait_until_up};
use crate::kill::some_time;
use crate::process::{Broker, free_port};
use crate::proxy::Proxy;

const COUNT: usize = 4_000;
const WINDOW: usize = 50;

/// All that the session of a server has got, in order.
fn read_all(broker: &Broker) -> Vec<usize> {
    Client::connect(broker, "last").publish("out/1", "end", Q2);
    let mut keeper = Client::resume(broker, "keeper");
    let next = || Some(keeper.next().payload).filter(|it| it != "end");
    let came = std::iter::from_fn(next);
    came.map(|it| it.parse().expect("a number")).collect()
}

/// Waits until the bridge is connected to the server with this port.
fn wait_until_at(edge: &Broker, port: u16) {
    let mut watcher = Client::connect(edge, "watcher");
    let topic = "$SYS/bridges/up/state";
    watcher.subscribe(topic);
    watcher.wait_for(topic, &format!(":{port}\""));
}

/// The two servers are not one system: what the first has, and could not acknowledge any more, is
/// at the second too. More than that is not.
#[test]
fn a_change_of_the_server_repeats_what_was_in_flight_and_kills_of_ours_repeat_nothing() {
    let [first, second] = [(); 2].map(|()| Broker::tidewire(free_port(), ""));
    let proxy = Proxy::start(first.port);
    let here = free_port();
    let rules = format!(
        "inflight_max = {WINDOW}\nmessages_per_second_max = 800\nfirst_server_probe_seconds = 1\n\
         [[bridges.out]]\nfilters = [\"out/#\"]"
    );
    let servers = format!(
        "\"mqtt://127.0.0.1:{}\", \"mqtt://127.0.0.1:{}\"",
        proxy.port, second.port
    );
    let config = bridge(proxy.port, &rules)
        .replace(&format!("\"mqtt://127.0.0.1:{}\"", proxy.port), &servers);
    let mut edge = Broker::tidewire(here, &config);
    wait_until_up(&edge);
    for server in [&first, &second] {
        Client::resume(server, "keeper").subscribe("out/#");
    }
    let mut below = Client::connect(&edge, "below");
    let all = numbers(COUNT);
    below.publish_all("out/1", &all[..COUNT / 8], Q2);
    // A window of messages that the first server takes, and whose answers are lost.
    proxy.mute();
    below.publish_all("out/1", &all[COUNT / 8..], Q2);
    let clock = Clock::start();
    while proxy.swallowed() == 0 {
        assert!(clock.now_ms() < 30_000, "the first server answers nothing");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(300));
    proxy.cut();
    wait_until_at(&edge, second.port);
    for _ in 0..3 {
        some_time();
        edge = Broker::tidewire_in(edge.kill_and_keep(), here, &config);
    }
    wait_until_at(&edge, second.port);
    proxy.heal();
    wait_until_at(&edge, proxy.port);
    some_time();
    edge = Broker::tidewire_in(edge.kill_and_keep(), here, &config);
    wait_for_state(&edge, "\"queue_messages\":0");
    let [at_first, at_second] = [&first, &second].map(read_all);
    // One stretch, and three kills in it.
    assert!(at_second.is_sorted_by(|one, next| one + 1 == *next));
    assert!(at_second.len() > 2 * WINDOW, "{}", at_second.len());
    let all: BTreeSet<usize> = at_first.iter().chain(&at_second).copied().collect();
    assert_eq!(all, (0..COUNT).collect());
    let repeated = at_first.len() + at_second.len() - COUNT;
    assert!((1..=2 * WINDOW).contains(&repeated), "{repeated}");
}
