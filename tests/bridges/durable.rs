//! The queue of a bridge in the store: what survives which end of which process.

use crate::client::{Client, Q0, Q1, Q2};
use crate::faults::numbers;
use crate::federation::{bridge, wait_until_up};
use crate::process::{Broker, free_port};
use crate::proxy::Proxy;

const OUT: &str = "[[bridges.out]]\nfilters = [\"t/#\"]";
const STATE: &str = "$SYS/bridges/up/state";

/// Waits until the state of the bridge has this text.
pub(crate) fn wait_for_state(broker: &Broker, text: &str) {
    let mut watcher = Client::connect(broker, "watcher");
    watcher.subscribe(STATE).wait_for(STATE, text);
}

/// A node with a subscriber to everything that crosses, behind a link that is cut.
fn unreachable_node() -> (Broker, Client, Proxy) {
    let central = Broker::tidewire(free_port(), "");
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let proxy = Proxy::start(central.port);
    proxy.cut();
    (central, above, proxy)
}

#[test]
fn what_waits_for_the_other_broker_survives_a_kill_of_ours_in_order() {
    let (_central, mut above, proxy) = unreachable_node();
    let port = free_port();
    let config = bridge(proxy.port, OUT);
    let edge = Broker::tidewire(port, &config);
    let mut below = Client::connect(&edge, "below");
    below.publish_all("t/1", &numbers(4_000), Q1);
    below.publish_all("t/1", &numbers(5_000)[4_000..], Q2);
    let edge = Broker::tidewire_in(edge.kill_and_keep(), port, &config);
    wait_for_state(&edge, "\"queue_messages\":5000");
    let mut later = Client::connect(&edge, "later");
    later.publish_all("t/1", &numbers(5_100)[5_000..], Q1);
    proxy.heal();
    // The link was cut all the time: nothing can have come before the kill.
    assert_eq!(above.payloads(5_100), numbers(5_100));
    above.expect_silence();
    wait_for_state(&edge, "\"queue_messages\":0");
    let edge = Broker::tidewire_in(edge.kill_and_keep(), port, &config);
    wait_until_up(&edge);
    above.expect_silence();
}

#[test]
fn a_kill_of_ours_in_full_flow_loses_nothing_and_repeats_only_the_latest() {
    let (_central, mut above, proxy) = unreachable_node();
    proxy.heal();
    let port = free_port();
    let config = bridge(proxy.port, &format!("inflight_max = 50\n{OUT}"));
    let mut edge = Broker::tidewire(port, &config);
    wait_until_up(&edge);
    let all = numbers(3_000);
    for (part, qos) in all.chunks(1_000).zip([Q1, Q2, Q1]) {
        Client::connect(&edge, "below").publish_all("t/1", part, qos);
        edge = Broker::tidewire_in(edge.kill_and_keep(), port, &config);
    }
    let mut came = Vec::new();
    while came.last() != all.last() {
        came.push(above.next().payload);
    }
    let repeats = came.len() - all.len();
    let mut first_seen = Vec::new();
    for payload in came {
        if !first_seen.contains(&payload) {
            first_seen.push(payload);
        }
    }
    assert_eq!(first_seen, all);
    // In flight, and acknowledged since the last commit, which a busy machine delays.
    assert!(repeats < all.len() / 2, "{repeats} repeats");
}

#[test]
fn a_stop_of_ours_in_full_flow_loses_nothing_and_repeats_nothing() {
    let (_central, mut above, proxy) = unreachable_node();
    proxy.heal();
    let port = free_port();
    let config = bridge(proxy.port, OUT);
    let mut edge = Broker::tidewire(port, &config);
    wait_until_up(&edge);
    let all = numbers(3_000);
    for part in all.chunks(600) {
        Client::connect(&edge, "below").publish_all("t/1", part, Q2);
        edge = Broker::tidewire_in(edge.stop_and_keep(), port, &config);
    }
    assert_eq!(above.payloads(3_000), all);
    above.expect_silence();
}

#[test]
fn a_remote_killed_and_started_again_gets_a_durable_backlog_once() {
    let there = free_port();
    let central = Broker::tidewire(there, "");
    let edge = Broker::tidewire(free_port(), &bridge(there, OUT));
    wait_until_up(&edge);
    let mut first = Client::connect(&central, "above");
    first.subscribe("t/#");
    let mut below = Client::connect(&edge, "below");
    below.publish_all("t/1", &numbers(100), Q2);
    assert_eq!(first.payloads(100), numbers(100));
    wait_for_state(&edge, "\"queue_messages\":0");
    let directory = central.kill_and_keep();
    wait_for_state(&edge, "\"state\":\"down\"");
    below.publish_all("t/kept", &numbers(3_000), Q2);
    below.retain("t/last", "end");
    let central = Broker::tidewire_in(directory, there, "");
    wait_for_state(&edge, "\"queue_messages\":0");
    let mut above = Client::connect(&central, "late");
    above.subscribe("t/#").expect("t/last", "end");
    wait_for_state(&edge, "\"sent\":3101");
}

#[test]
fn a_full_durable_queue_drops_the_oldest_for_ever() {
    let (_central, mut above, proxy) = unreachable_node();
    let port = free_port();
    let config = bridge(proxy.port, &format!("queue_messages_max = 2000\n{OUT}"));
    let edge = Broker::tidewire(port, &config);
    let mut below = Client::connect(&edge, "below");
    below.publish_all("t/1", &numbers(5_000), Q1);
    wait_for_state(&edge, "\"overflow\":3000");
    let edge = Broker::tidewire_in(edge.kill_and_keep(), port, &config);
    wait_for_state(&edge, "\"queue_messages\":2000");
    proxy.heal();
    let came = above.payloads(2_000);
    // The first were lent to the bridge; of those that waited behind the oldest went.
    let lent = came.iter().zip(numbers(5_000)).take_while(|(a, b)| *a == b);
    let lent = lent.count();
    assert!(lent < 2_000, "nothing was dropped");
    assert_eq!(came[lent..], numbers(5_000)[3_000 + lent..]);
    above.expect_silence();
}

#[test]
fn the_queue_of_a_bridge_that_is_gone_ends_and_one_that_is_off_is_kept() {
    let (_central, mut above, proxy) = unreachable_node();
    let port = free_port();
    let config = bridge(proxy.port, OUT);
    let off = bridge(proxy.port, &format!("enabled = false\n{OUT}"));
    let edge = Broker::tidewire(port, &config);
    Client::connect(&edge, "below").publish_all("t/1", &numbers(700), Q1);
    let edge = Broker::tidewire_in(edge.kill_and_keep(), port, &off);
    let edge = Broker::tidewire_in(edge.stop_and_keep(), port, &config);
    wait_for_state(&edge, "\"queue_messages\":700");
    let edge = Broker::tidewire_in(edge.kill_and_keep(), port, "");
    let log = edge.log();
    assert!(log.contains("its queue ends"), "{log}");
    assert!(log.contains("700"), "{log}");
    let edge = Broker::tidewire_in(edge.stop_and_keep(), port, &config);
    proxy.heal();
    wait_until_up(&edge);
    Client::connect(&edge, "below").publish("t/1", "new", Q1);
    above.expect("t/1", "new");
    above.expect_silence();
}

#[test]
fn what_a_bridge_has_brought_is_not_sent_back_after_a_kill() {
    let central = Broker::tidewire(free_port(), "");
    let port = free_port();
    let config = bridge(central.port, "[[bridges.both]]\nfilters = [\"t/#\"]");
    let edge = Broker::tidewire(port, &config);
    wait_until_up(&edge);
    let mut above = Client::connect(&central, "above");
    let mut below = Client::connect(&edge, "below");
    below.subscribe("t/#");
    above.publish_all("t/1", &numbers(100), Q2);
    assert_eq!(below.payloads(100), numbers(100));
    above.subscribe("t/#");
    let edge = Broker::tidewire_in(edge.kill_and_keep(), port, &config);
    wait_until_up(&edge);
    wait_for_state(&edge, "\"queue_messages\":0");
    above.expect_silence();
}

#[test]
fn without_a_store_the_queue_is_in_memory_and_drains_in_order() {
    let (_central, mut above, proxy) = unreachable_node();
    let edge = Broker::tidewire_in_memory(free_port(), &bridge(proxy.port, OUT));
    let mut below = Client::connect(&edge, "below");
    below.publish_all("t/1", &numbers(2_999), Q1);
    below.publish("t/1", "2999", Q0);
    wait_for_state(&edge, "\"queue_messages\":3000");
    proxy.heal();
    assert_eq!(above.payloads(3_000), numbers(3_000));
    above.expect_silence();
}
