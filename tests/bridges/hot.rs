//! Bridges that come, change, rest and go while the broker runs.

use tidewire_protocol::codec::{PublishProperties, UserProperties};

use crate::client::{Client, Q0, Q1, Q2};
use crate::durable::wait_for_state;
use crate::faults::numbers;
use crate::federation::{bridge, wait_until_up};
use crate::process::{Broker, free_port};
use crate::proxy::Proxy;

pub(crate) const OUT: &str = "[[bridges.out]]\nfilters = [\"t/#\"]";

/// Waits until `tidewire bridge` says this of a bridge.
pub(crate) fn wait_until_says(broker: &Broker, name: &str, text: &str) {
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
    let (_, said) = edge.order("up", "resume");
    assert!(
        !said.contains("paused") && said.contains("\"name\":\"up\""),
        "{said}"
    );
    assert_eq!(above.payloads(51), numbers(51));
    // What it does already needs no other connection.
    assert!(edge.order("up", "resume").0);
    below.publish("t/1", "stays", Q1);
    above.expect("t/1", "stays");
    wait_until_says(&edge, "up", "\"connects\":2");

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

#[test]
fn a_lazy_bridge_connects_for_what_waits_and_leaves_when_there_is_nothing() {
    let central = Broker::tidewire(free_port(), "");
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let proxy = Proxy::start(central.port);
    let lines = format!("start = \"lazy\"\nstart_messages = 3\nidle_seconds = 1\n{OUT}");
    let edge = Broker::tidewire(free_port(), &bridge(proxy.port, &lines));
    let mut below = Client::connect(&edge, "below");
    for round in 1..=2 {
        wait_until_says(&edge, "up", "\"state\":\"idle\"");
        below.publish_all("t/1", &numbers(2), Q1);
        above.expect_silence();
        assert_eq!(proxy.accepted(), round - 1);
        below.publish("t/1", "2", Q1);
        assert_eq!(above.payloads(3), numbers(3));
        assert_eq!(proxy.accepted(), round);
    }
}

#[test]
fn a_bridge_that_connects_once_ends_with_its_connection_until_it_is_resumed() {
    let central = Broker::tidewire(free_port(), "");
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let proxy = Proxy::start(central.port);
    let lines = format!("start = \"once\"\n{OUT}");
    let edge = Broker::tidewire(free_port(), &bridge(proxy.port, &lines));
    wait_until_up(&edge);
    proxy.reset();
    wait_until_says(&edge, "up", "\"state\":\"ended\"");
    let mut below = Client::connect(&edge, "below");
    below.publish("t/1", "waits", Q2);
    above.expect_silence();
    assert!(edge.order("up", "resume").0);
    above.expect("t/1", "waits");
    assert_eq!(proxy.accepted(), 2);
}

#[test]
fn user_properties_are_passed_removed_renamed_and_added_and_the_client_id_is_made_of_names() {
    let log = "[[bridges.out]]\nfilters = [\"t/+\"]\nuser_properties_pass = [\"a*\", \"b\"]\n\
               user_properties_remove = [\"ab\"]\nuser_properties_rename = [\"b=c\"]\n\
               user_properties_add = [\"line={2|upper}\", \"from={node}\"]";
    let central = Broker::tidewire(free_port(), "");
    let lines = format!("client_id = \"{{node}}-{{bridge}}\"\n{log}");
    let config = format!("node = \"plant\"\n{}", bridge(central.port, &lines));
    let edge = Broker::tidewire(free_port(), &config);
    wait_until_up(&edge);
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let pairs = [("a", "1"), ("ab", "2"), ("b", "3"), ("d", "4")];
    let properties = PublishProperties {
        user_properties: UserProperties::from_pairs(&pairs),
        ..PublishProperties::default()
    };
    Client::connect(&edge, "below").publish_with("t/x", "m", Q1, false, &properties);
    let mut headers = above.expect("t/x", "m").headers;
    headers.retain(|(name, _)| !name.starts_with("tidewire-"));
    let expected = [("a", "1"), ("c", "3"), ("line", "X"), ("from", "plant")];
    assert_eq!(headers, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    // Whoever takes this client id ends the bridge's connection.
    let before = edge.order("up", "state").1;
    assert!(before.contains("\"connects\":1"), "{before}");
    drop(Client::connect(&central, "plant-up"));
    wait_until_says(&edge, "up", "\"connects\":2");
}

#[test]
fn a_bridge_becomes_one_of_another_kind_and_back_with_its_queue() {
    let central = Broker::tidewire(free_port(), "");
    let proxy = Proxy::start(central.port);
    let mqtt = bridge(proxy.port, OUT);
    let rabbit = mqtt
        .replace("mqtt://", "amqp://")
        .replace("servers", "kind = \"amqp091\"\nservers");
    let port = free_port();
    let edge = Broker::tidewire(port, &mqtt);
    wait_until_up(&edge);
    Client::resume(&central, "keeper").subscribe("t/#");
    proxy.mute();
    let mut below = Client::connect(&edge, "below");
    below.publish_all("t/1", &numbers(100), Q2);
    proxy.cut();
    edge.reload(&rabbit);
    wait_until_says(&edge, "up", "\"remote\":null");
    below.publish_all("t/1", &numbers(200)[100..], Q2);
    let edge = Broker::tidewire_in(edge.kill_and_keep(), port, &rabbit);
    edge.reload(&mqtt);
    proxy.heal();
    wait_until_up(&edge);
    let mut keeper = Client::resume(&central, "keeper");
    let mut first_seen: Vec<String> = Vec::new();
    while first_seen.len() < 200 {
        let payload = keeper.next().payload;
        if !first_seen.contains(&payload) {
            first_seen.push(payload);
        }
    }
    assert_eq!(first_seen, numbers(200));
}
