//! kill -9 of either side at random moments: nothing is lost, and nothing of QoS 2 comes twice.

use std::time::Duration;

use crate::client::{Client, Q1, Q2};
use crate::durable::wait_for_state;
use crate::faults::{first_seen, numbers};
use crate::federation::{bridge, wait_until_up};
use crate::process::{Broker, free_port};
use crate::proxy::Proxy;

const RULES: &str = "inflight_max = 50\nmessages_per_second_max = 4000\n\
                     [[bridges.out]]\nfilters = [\"out/#\"]\n\
                     [[bridges.in]]\nfilters = [\"in/#\"]";

/// Between 20 and 250 ms, from the clock.
pub(crate) fn some_time() {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time");
    let millis = 20 + u64::from(now.subsec_micros() % 230);
    std::thread::sleep(Duration::from_millis(millis));
}

/// What a session that outlives processes has got, until the last of so many came.
fn read_all(broker: &Broker, count: usize) -> Vec<String> {
    let mut keeper = Client::resume(broker, "keeper");
    let last = (count - 1).to_string();
    let mut came: Vec<String> = Vec::new();
    while came.last() != Some(&last) {
        came.push(keeper.next().payload);
    }
    keeper.expect_silence();
    came
}

#[test]
fn qos_2_crosses_both_ways_exactly_once_over_kills_of_either_side_at_any_time() {
    const COUNT: usize = 6_000;
    let there = free_port();
    let here = free_port();
    let mut central = Broker::tidewire(there, "");
    let proxy = Proxy::start(there);
    let config = bridge(proxy.port, RULES);
    let mut edge = Broker::tidewire(here, &config);
    wait_until_up(&edge);
    Client::resume(&central, "keeper").subscribe("out/#");
    Client::resume(&edge, "keeper").subscribe("in/#");
    proxy.cut();
    Client::connect(&edge, "below").publish_all("out/1", &numbers(COUNT), Q2);
    Client::connect(&central, "above").publish_all("in/1", &numbers(COUNT), Q2);
    proxy.heal();
    for round in 0..ROUNDS {
        some_time();
        if round % 2 == 0 {
            edge = Broker::tidewire_in(edge.kill_and_keep(), here, &config);
        } else {
            central = Broker::tidewire_in(central.kill_and_keep(), there, "");
        }
    }
    wait_for_state(&edge, "\"queue_messages\":0");
    assert_eq!(read_all(&central, COUNT), numbers(COUNT));
    assert_eq!(read_all(&edge, COUNT), numbers(COUNT));
}

/// mosquitto keeps snapshots: what it acknowledged since the last one ends with a kill of it.
#[test]
fn mosquitto_stopped_and_ours_killed_at_any_time_give_qos_2_exactly_once() {
    const COUNT: usize = 3_000;
    let there = free_port();
    let kept = crate::process::directory();
    let lines = format!(
        "user root\npersistence true\npersistence_location {}/\nmax_inflight_messages 100\n",
        kept.display()
    );
    let mut theirs = Broker::mosquitto(there, &lines);
    let here = free_port();
    let config = bridge(there, RULES);
    let mut ours = Broker::tidewire(here, &config);
    wait_until_up(&ours);
    Client::resume(&theirs, "keeper").subscribe("out/#");
    Client::connect(&ours, "below").publish_all("out/1", &numbers(COUNT), Q2);
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            ours = Broker::tidewire_in(ours.kill_and_keep(), here, &config);
        } else {
            theirs.stop();
            theirs = Broker::mosquitto(there, &lines);
        }
        some_time();
    }
    wait_for_state(&ours, "\"queue_messages\":0");
    assert_eq!(read_all(&theirs, COUNT), numbers(COUNT));
    std::fs::remove_dir_all(kept).expect("removed");
}

const ROUNDS: usize = 6;

/// Sends numbers out through a server and in again, while the server and both nodes of ours are
/// killed; answers what was sent, and what came in the order in which each came first.
#[cfg(any(feature = "amqp10", feature = "kafka"))]
pub(crate) fn through_kills(
    [way_out, way_in]: [&str; 2],
    receiver: &mut Client,
    mut restart: impl FnMut(),
) -> [Vec<String>; 2] {
    let out_port = free_port();
    let mut from = Broker::tidewire(out_port, way_out);
    let mut to = Broker::tidewire(free_port(), way_in);
    wait_until_up(&from);
    let all = numbers(6_000);
    for (round, part) in all.chunks(1_000).enumerate() {
        Client::connect(&from, "sender").publish_all("t/1", part, Q1);
        match round {
            0 | 3 => from = Broker::tidewire_in(from.kill_and_keep(), out_port, way_out),
            1 => restart(),
            2 => to = Broker::tidewire_in(to.kill_and_keep(), free_port(), way_in),
            _ => {}
        }
    }
    let came = first_seen(all.len(), || receiver.next().payload);
    to.stop();
    [all, came]
}
