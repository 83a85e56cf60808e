//! Bridges that come, change, rest and go while the broker runs.

use crate::client::{Client, Q0, Q1, Q2};
use crate::durable::wait_for_state;
use crate::faults::numbers;
use crate::federation::{bridge, wait_until_up};
use crate::process::{Broker, free_port};
use crate::proxy::Proxy;

const OUT: &str = "[[bridges.out]]\nfilters = [\"t/#\"]";

/// Waits until `tidewire bridge` says this of a bridge.
fn wait_until_says(broker: &Broker, name: &str, text: &str) {
    for _ in 0..300 {
        if broker.order(name, "state").1.contains(text) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{}, not {text}", broker.order(name, "state").1);
}

fn named(name: &str, port: u16, lines: &str) -> String {
    bridge(port, lines).replace("\"up\"", &format!("\"{name}\""))
}

#[test]
fn a_reload_adds_changes_and_removes_bridges_and_the_others_notice_nothing() {
    let central = Broker::tidewire(free_port(), "");
    let proxy = Proxy::start(central.port);
    let steady = named("steady", proxy.port, "[[bridges.out]]\nfilters = [\"s/#\"]");
    let edge = Broker::tidewire(free_port(), &steady);
    wait_until_says(&edge, "steady", "\"state\":\"up\"");
    let mut above = Client::connect(&central, "above");
    above.subscribe("#");
    let mut below = Client::connect(&edge, "below");
    below.subscribe("back/#");

    let rules = format!("{OUT}\n[[bridges.in]]\nfilters = [\"back/1\"]");
    edge.reload(&format!("{steady}{}", bridge(central.port, &rules)));
    wait_until_up(&edge);
    below.publish("t/1", "added", Q2);
    above.expect("t/1", "added");
    above.publish("back/1", "back", Q2);
    below.expect("back/1", "back");
    above.expect("back/1", "back");

    let rules = "[[bridges.out]]\nfilters = [\"u/#\"]\nremote_prefix = \"x/\"\n\
                 [[bridges.in]]\nfilters = [\"back/2\"]";
    edge.reload(&format!("{steady}{}", bridge(central.port, rules)));
    wait_until_says(&edge, "up", "\"connects\":2");
    wait_until_up(&edge);
    below.publish("t/1", "not wanted", Q1);
    below.publish("u/1", "changed", Q1);
    above.expect("x/u/1", "changed");
    above.publish("back/1", "no", Q1);
    above.publish("back/2", "yes", Q1);
    below.expect("back/2", "yes");
    above.expect("back/1", "no");
    above.expect("back/2", "yes");

    edge.reload(&steady);
    for _ in 0..100 {
        if !edge.order("up", "state").0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(edge.order("up", "state").1.contains("running: steady"));
    below.publish("u/1", "gone", Q1);
    below.publish("s/1", "steady", Q1);
    above.expect("s/1", "steady");
    above.expect_silence();
    assert_eq!(proxy.accepted(), 1, "the other bridge kept its connection");
    // Nothing of it is left, neither its queue nor its state.
    let edge = Broker::tidewire_in(edge.kill_and_keep(), free_port(), &steady);
    assert!(!edge.log().contains("its queue ends"), "{}", edge.log());
}

#[test]
fn a_bridge_that_is_turned_off_and_on_by_reloads_keeps_its_queue() {
    let central = Broker::tidewire(free_port(), "");
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let proxy = Proxy::start(central.port);
    proxy.cut();
    let on = bridge(proxy.port, OUT);
    let off = bridge(proxy.port, &format!("enabled = false\n{OUT}"));
    let port = free_port();
    let edge = Broker::tidewire(port, &on);
    let mut below = Client::connect(&edge, "below");
    below.publish_all("t/1", &numbers(100), Q1);
    edge.reload(&off);
    wait_until_says(&edge, "up", "\"state\":\"off\"");
    below.publish("t/1", "not queued", Q1);
    // Off over a restart, and then on.
    let edge = Broker::tidewire_in(edge.kill_and_keep(), port, &off);
    proxy.heal();
    edge.reload(&on);
    assert_eq!(above.payloads(100), numbers(100));
    edge.reload(&off);
    wait_until_says(&edge, "up", "\"state\":\"off\"");
    edge.reload(&on);
    wait_until_up(&edge);
    Client::connect(&edge, "below").publish("t/1", "again", Q1);
    above.expect("t/1", "again");
    above.expect_silence();
}

#[test]
fn an_operator_pauses_resumes_drains_and_purges_a_bridge() {
    let central = Broker::tidewire(free_port(), "");
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let edge = Broker::tidewire(free_port(), &bridge(central.port, OUT));
    wait_until_up(&edge);
    let mut below = Client::connect(&edge, "below");
    let (is_well, said) = edge.order("up", "pause");
    assert!(is_well && said.contains("\"state\":\"paused\""), "{said}");
    below.publish_all("t/1", &numbers(50), Q2);
    below.publish("t/1", "50", Q0);
    above.expect_silence();
    wait_for_state(&edge, "\"queue_messages\":51");
    assert!(edge.order("up", "resume").0);
    assert_eq!(above.payloads(51), numbers(51));

    assert!(edge.order("up", "pause").0);
    below.publish_all("t/1", &numbers(5_000), Q1);
    assert!(edge.order("up", "purge").0);
    wait_until_says(&edge, "up", "\"purged\":5000");
    wait_until_says(&edge, "up", "\"queue_messages\":0");
    below.publish("t/1", "after", Q1);
    assert!(edge.order("up", "drain").0);
    above.expect("t/1", "after");
    wait_until_says(&edge, "up", "\"state\":\"drained\"");
    below.publish("t/1", "not queued", Q1);
    assert!(edge.order("up", "resume").0);
    wait_until_up(&edge);
    below.publish("t/1", "last", Q1);
    above.expect("t/1", "last");
    above.expect_silence();
    let (is_well, said) = edge.order("other", "pause");
    assert!(!is_well && said.contains("running: up"), "{said}");
}
