//! Bridges with several connections: how messages are divided, and which order is kept.

use std::collections::{HashMap, HashSet};

use crate::client::{Client, Q1, Q2};
use crate::faults::numbers;
use crate::federation::{bridge, wait_until_up};
use crate::hot::{OUT, wait_until_says};
use crate::kill::some_time;
use crate::process::{Broker, free_port};
use crate::proxy::Proxy;

fn by(what: &str, connections: usize) -> String {
    format!("connections = {connections}\nconnections_by = \"{what}\"\n{OUT}")
}

/// What each connection has sent since the process began.
fn sent(broker: &Broker) -> Vec<u64> {
    let states = broker.order("up", "state").1;
    let states: serde_json::Value = serde_json::from_str(&states).expect("JSON");
    let states = states.as_array().expect("several").iter();
    states
        .map(|it| it["sent"].as_u64().expect("a number"))
        .collect()
}

/// Waits until nothing waits in so many connections.
fn wait_until_empty(broker: &Broker, connections: usize) {
    wait_until_all_say(broker, connections, "\"queue_messages\":0");
}

fn wait_until_all_say(broker: &Broker, connections: usize, text: &str) {
    for _ in 0..300 {
        let states = broker.order("up", "state").1;
        if states.matches(text).count() == connections {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{}", broker.order("up", "state").1);
}

/// Each client sends some numbers, over four topics that all of them use.
fn publish_some(broker: &Broker, numbers: std::ops::Range<usize>) {
    for (client, qos) in CLIENTS.iter().zip([Q1, Q2].into_iter().cycle()) {
        let messages: Vec<(String, String)> = numbers
            .clone()
            .map(|it| (format!("t/{}", it * 7 % 4), format!("{client} {it}")))
            .collect();
        let messages: Vec<_> = messages.iter().map(|(a, b)| (&**a, &**b)).collect();
        Client::connect(broker, client).publish_each(&messages, qos);
    }
}

/// What came of each client, with the last of each and all that comes besides.
fn read_by_client(keeper: &mut Client, count: usize) -> HashMap<String, Vec<usize>> {
    let mut came = HashMap::<String, Vec<usize>>::new();
    let last = (count - 1).to_string();
    let mut ended = HashSet::new();
    let mut rest = Vec::new();
    while ended.len() < CLIENTS.len() {
        let message = keeper.next();
        let (client, number) = message.payload.split_once(' ').expect("two words");
        if number == last {
            ended.insert(client.to_owned());
        }
        rest.push(message.payload);
    }
    rest.extend(keeper.rest().into_iter().map(|it| it.payload));
    for payload in rest {
        let (client, number) = payload.split_once(' ').expect("two words");
        let number = number.parse().expect("a number");
        came.entry(client.to_owned()).or_default().push(number);
    }
    came
}

#[test]
fn three_connections_keep_the_order_of_each_client_over_its_topics_through_kills_and_cuts() {
    const ROUND: usize = 90;
    let [here, there] = [free_port(), free_port()];
    let mut central = Broker::tidewire(there, "");
    let proxy = Proxy::start(there);
    let config = bridge(proxy.port, &by("client", 3));
    let mut edge = Broker::tidewire(here, &config);
    wait_until_up(&edge);
    Client::resume(&central, "keeper").subscribe("t/#");
    for round in 0..ROUNDS {
        let numbers = round * ROUND..(round + 1) * ROUND;
        match round % 4 {
            1 => proxy.cut(),
            _ => proxy.heal(),
        }
        publish_some(&edge, numbers);
        match round % 4 {
            0 => {
                let sent = sent(&edge);
                assert!(sent.iter().all(|it| *it > 0), "divided: {sent:?}");
            }
            1 | 3 => edge = Broker::tidewire_in(edge.kill_and_keep(), here, &config),
            _ => central = Broker::tidewire_in(central.kill_and_keep(), there, ""),
        }
        some_time();
    }
    proxy.heal();
    wait_until_empty(&edge, 3);
    let mut keeper = Client::resume(&central, "keeper");
    let came = read_by_client(&mut keeper, ROUNDS * ROUND);
    let all: Vec<usize> = (0..ROUNDS * ROUND).collect();
    for (index, client) in CLIENTS.into_iter().enumerate() {
        let mut numbers = came[client].clone();
        // At QoS 1 a kill repeats what was in flight, after it came for the first time.
        if index % 2 == 0 {
            let mut next = 0;
            numbers.retain(|it| {
                let is_next = *it == next;
                next += usize::from(is_next);
                is_next || *it > next
            });
        }
        assert_eq!(numbers, all, "{client}");
    }
}

#[test]
fn a_will_and_a_delayed_message_of_before_a_kill_go_the_way_of_their_client() {
    let central = Broker::tidewire(free_port(), "");
    let config = bridge(central.port, &by("client", 3));
    let port = free_port();
    let edge = Broker::tidewire(port, &config);
    wait_until_up(&edge);
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let mut meter = Client::resume_with_will(&edge, "meter", "t/1", "gone");
    meter.publish("t/2", "now", Q1);
    above.expect("t/2", "now");
    wait_until_empty(&edge, 3);
    let before = sent(&edge);
    assert_eq!(
        (before[0], before.iter().sum::<u64>()),
        (0, 1),
        "not the first"
    );
    meter.publish("$delayed/1/t/3", "later", Q1);
    let edge = Broker::tidewire_in(edge.kill_and_keep(), port, &config);
    let mut came = above.payloads(2);
    came.sort();
    assert_eq!(came, ["gone", "later"]);
    Client::connect(&edge, "meter").publish("t/4", "again", Q2);
    above.expect("t/4", "again");
    wait_until_empty(&edge, 3);
    assert_eq!(
        sent(&edge),
        before.iter().map(|it| it * 3).collect::<Vec<_>>()
    );
}

#[test]
fn what_connections_divide_changes_at_a_reload_once_the_bridge_is_drained() {
    let central = Broker::tidewire(free_port(), "");
    let config = |what| bridge(central.port, &by(what, 2));
    let edge = Broker::tidewire(free_port(), &config("client"));
    wait_until_up(&edge);
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    edge.reload(&config("topic"));
    wait_for_log(
        &edge,
        "connections_by cannot change while messages come or wait",
    );
    assert!(edge.order("up", "drain").0);
    wait_until_all_say(&edge, 2, "\"state\":\"drained\"");
    edge.reload(&config("topic"));
    wait_until_says(&edge, "up:2", "\"state\":\"up\"");
    wait_until_up(&edge);
    let mut below = Client::connect(&edge, "below");
    for number in numbers(12) {
        below.publish(&format!("t/{number}"), "m", Q1);
    }
    assert_eq!(above.payloads(12), ["m"; 12]);
    above.expect_silence();
    let sent = sent(&edge);
    assert!(
        sent.iter().all(|it| *it > 0),
        "one client, divided: {sent:?}"
    );
}

fn wait_for_log(broker: &Broker, text: &str) {
    for _ in 0..100 {
        if broker.log().contains(text) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{}", broker.log());
}

#[test]
fn several_connections_share_the_topics_and_keep_the_order_of_each_over_kills_and_fewer_of_them() {
    let central = Broker::tidewire(free_port(), "");
    let proxy = Proxy::start(central.port);
    let port = free_port();
    let config = |count| bridge(proxy.port, &by("topic", count));
    let edge = Broker::tidewire(port, &config(3));
    wait_until_up(&edge);
    Client::resume(&central, "keeper").subscribe("t/#");
    let mut below = Client::connect(&edge, "below");
    let topics: Vec<String> = (0..12).map(|number| format!("t/{number}")).collect();
    for topic in &topics {
        below.publish_all(topic, &numbers(20), Q2);
    }
    wait_until_says(&edge, "up", "\"queue_messages\":0");
    assert_eq!(proxy.accepted(), 3);
    let states = edge.order("up", "state").1;
    assert!(!states.contains("\"sent\":0,") && states.matches("\"state\":\"up\"").count() == 3);
    // All of them rest, and their queues outlive the process; then there is one connection less.
    assert!(edge.order("up", "pause").0);
    for topic in &topics {
        below.publish_all(topic, &numbers(40)[20..], Q2);
    }
    let edge = Broker::tidewire_in(edge.kill_and_keep(), port, &config(2));
    wait_until_says(&edge, "up", "\"state\":\"drained\"");
    wait_until_up(&edge);
    wait_until_empty(&edge, 3);
    let mut keeper = Client::resume(&central, "keeper");
    let mut came = HashMap::<String, Vec<String>>::new();
    for _ in 0..12 * 40 {
        let message = keeper.next();
        came.entry(message.topic).or_default().push(message.payload);
    }
    assert!(topics.iter().all(|topic| came[topic] == numbers(40)));
    keeper.expect_silence();
    let (is_well, _) = edge.order("up:2", "pause");
    assert!(is_well, "each connection has a name");
}

#[test]
fn connections_change_at_a_reload_once_the_bridge_is_drained_and_are_refused_before() {
    let central = Broker::tidewire(free_port(), "");
    let config = |count| bridge(central.port, &by("topic", count));
    let edge = Broker::tidewire(free_port(), &config(1));
    wait_until_up(&edge);
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let mut below = Client::connect(&edge, "below");
    edge.reload(&config(3));
    wait_for_log(&edge, "drain it first (tidewire bridge up drain)");
    for (before, count) in [(1, 3), (3, 2)] {
        assert!(edge.order("up", "drain").0);
        wait_until_all_say(&edge, before, "\"state\":\"drained\"");
        edge.reload(&config(count));
        wait_until_says(&edge, &format!("up:{count}"), "\"state\":\"up\"");
        wait_until_up(&edge);
        for topic in ["t/1", "t/2", "t/3", "t/4"] {
            below.publish(topic, "again", Q2);
        }
        assert_eq!(above.payloads(4), ["again"; 4]);
        let states = edge.order("up", "state").1;
        assert_eq!(
            states.matches("\"state\":\"up\"").count(),
            count,
            "{states}"
        );
    }
    assert!(!edge.order("up:3", "state").0);
    above.expect_silence();
}

/// Of each of three parts some.
const CLIENTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const ROUNDS: usize = 8;
