//! Links and servers that fail.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use tidewire::clock::Clock;

use crate::client::{Client, Q0, Q1, Q2};
use crate::durable::wait_for_state;
use crate::federation::{bridge, wait_until_up};
use crate::process::{Broker, at_once, free_port};
use crate::proxy::Proxy;

const OUT: &str = "[[bridges.out]]\nfilters = [\"t/#\"]";
const BOTH: &str = "[[bridges.both]]\nfilters = [\"t/#\"]";
const STATE: &str = "$SYS/bridges/up/state";

pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|it| it.to_string()).collect()
}

/// So many different payloads, in the order in which each came first.
pub(crate) fn first_seen(count: usize, mut next: impl FnMut() -> String) -> Vec<String> {
    let mut in_order = Vec::new();
    let mut seen = HashSet::new();
    while in_order.len() < count {
        let payload = next();
        if seen.insert(payload.clone()) {
            in_order.push(payload);
        }
    }
    in_order
}

#[test]
fn the_queue_fills_before_the_first_connect_and_drains_in_order() {
    let central = Broker::tidewire(free_port(), "");
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let proxy = Proxy::start(central.port);
    proxy.cut();
    let edge = Broker::tidewire(free_port(), &bridge(proxy.port, OUT));
    let mut below = Client::connect(&edge, "below");
    for numbers in numbers(3_000).chunks(5) {
        let (last, others) = numbers.split_last().expect("some");
        below.publish_all("t/1", others, Q1);
        below.publish("t/1", last, Q2);
    }
    proxy.heal();
    assert_eq!(above.payloads(3_000), numbers(3_000));
    above.expect_silence();
}

#[test]
fn acknowledgements_that_come_late_and_in_another_order_lose_and_double_nothing() {
    at_once([Q1, Q2], |qos| {
        let central = Broker::tidewire(free_port(), "");
        let proxy = Proxy::start(central.port);
        let edge = Broker::tidewire(free_port(), &bridge(proxy.port, OUT));
        wait_until_up(&edge);
        proxy.delay_and_swap_answers(5);
        let mut above = Client::connect(&central, "above");
        above.subscribe("t/#");
        let mut below = Client::connect(&edge, "below");
        below.publish_all("t/1", &numbers(2_000), qos);
        assert_eq!(above.payloads(2_000), numbers(2_000));
        above.expect_silence();
        assert!(proxy.swapped() > 10, "{}", proxy.swapped());
        wait_for_state(&edge, "\"queue_messages\":0");
    });
}

#[test]
fn with_qos_2_nothing_is_lost_or_doubled_while_the_link_breaks_again_and_again() {
    at_once([("out", true), ("in", false)], |(out, from_edge)| {
        let central = Broker::tidewire(free_port(), "");
        let proxy = Proxy::start(central.port);
        let rules = format!("inflight_max = 20\n[[bridges.{out}]]\nfilters = [\"t/#\"]");
        let edge = Broker::tidewire(free_port(), &bridge(proxy.port, &rules));
        wait_until_up(&edge);
        let (from, to) = if from_edge {
            (&edge, &central)
        } else {
            (&central, &edge)
        };
        let mut receiver = Client::connect(to, "receiver");
        receiver.subscribe("t/#");
        let mut sender = Client::connect(from, "sender");
        for (index, number) in numbers(2_000).iter().enumerate() {
            sender.publish("t/1", number, Q2);
            if index % 100 == 50 {
                // In the middle of a packet: answers are 4 or 5 bytes long.
                proxy.cut_after(41 + index % 13);
                thread::sleep(Duration::from_millis(150));
            }
        }
        assert_eq!(receiver.payloads(2_000), numbers(2_000));
        receiver.expect_silence();
        assert!(proxy.accepted() > 4, "{} connections", proxy.accepted());
    });
}

#[test]
fn with_qos_1_nothing_is_lost_while_the_link_breaks_and_order_is_kept() {
    let central = Broker::tidewire(free_port(), "");
    let proxy = Proxy::start(central.port);
    let edge = Broker::tidewire(free_port(), &bridge(proxy.port, BOTH));
    wait_until_up(&edge);
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let mut below = Client::connect(&edge, "below");
    for (index, number) in numbers(1_000).iter().enumerate() {
        below.publish("t/1", number, Q1);
        if index % 200 == 100 {
            proxy.reset();
        }
    }
    let mut first_seen = Vec::new();
    while first_seen.len() < 1_000 {
        let payload = above.next().payload;
        if !first_seen.contains(&payload) {
            first_seen.push(payload);
        }
    }
    assert_eq!(first_seen, numbers(1_000));
}

#[test]
fn a_server_that_takes_but_never_acknowledges_is_left_and_tried_again() {
    let central = Broker::tidewire(free_port(), "");
    let proxy = Proxy::start(central.port);
    let rules = format!("ack_timeout_seconds = 1\n{OUT}");
    let edge = Broker::tidewire(free_port(), &bridge(proxy.port, &rules));
    wait_until_up(&edge);
    let mut watcher = Client::connect(&edge, "watcher");
    watcher.subscribe(STATE);
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    proxy.mute();
    Client::connect(&edge, "below").publish("t/1", "once", Q2);
    watcher.wait_for(STATE, "acknowledged nothing for 1 s");
    proxy.heal();
    above.expect("t/1", "once");
    above.expect_silence();
}

#[test]
fn a_remote_killed_and_started_again_gets_what_it_had_not_acknowledged() {
    let port = free_port();
    let central = Broker::tidewire(port, "");
    let edge = Broker::tidewire(free_port(), &bridge(port, OUT));
    wait_until_up(&edge);
    central.kill();
    let mut below = Client::connect(&edge, "below");
    let mut watcher = Client::connect(&edge, "watcher");
    watcher
        .subscribe(STATE)
        .wait_for(STATE, "\"state\":\"down\"");
    for number in numbers(10) {
        below.publish("t/retained", &number, Q1);
    }
    below.retain("t/retained", "last");
    let state = watcher.wait_for(STATE, "\"queue_messages\":11").payload;
    assert!(state.contains("\"state\":\"down\""), "{state}");
    let central = Broker::tidewire(port, "");
    watcher.wait_for(STATE, "\"queue_messages\":0");
    Client::connect(&central, "above")
        .subscribe("t/#")
        .expect("t/retained", "last");
}

#[test]
fn malformed_answers_of_a_server_end_the_connection_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let answers: [&[u8]; 7] = [
            b"\x20\x02\x02\x00",
            b"\x20\xff\xff\xff\xff\x7f",
            b"\x20\x03\x00\x00",
            b"\x30\x05\x00\x01a",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\x20\x03\x00\x00\x00\x32\x07\x00\x01+\x00\x01\x00x",
            b"\x20\x03\x00\x00\x00\xe0\x02\x93\x00",
        ];
        for (mut stream, answer) in listener.incoming().map_while(Result::ok).zip(answers) {
            let mut bytes = [0; 1_024];
            let _ = stream.read(&mut bytes);
            let _ = stream.write_all(answer);
            thread::sleep(Duration::from_millis(20));
        }
    });
    let edge = Broker::tidewire(free_port(), &bridge(port, BOTH));
    let mut watcher = Client::connect(&edge, "watcher");
    watcher.subscribe(STATE);
    watcher.wait_for(STATE, "broke the protocol");
    watcher.wait_for(STATE, "ReceiveMaximumExceeded");
    let mut below = Client::connect(&edge, "below");
    below.subscribe("t/#").publish("t/1", "still here", Q2);
    below.expect("t/1", "still here");
}

#[test]
fn a_full_queue_drops_the_oldest_counts_them_and_then_drains() {
    let central = Broker::tidewire(free_port(), "");
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let proxy = Proxy::start(central.port);
    proxy.cut();
    let rules = format!("queue_messages_max = 2000\n{OUT}");
    let edge = Broker::tidewire(free_port(), &bridge(proxy.port, &rules));
    let mut below = Client::connect(&edge, "below");
    for number in numbers(2_500) {
        below.publish("t/1", &number, Q1);
    }
    let mut watcher = Client::connect(&edge, "watcher");
    watcher.subscribe(STATE).wait_for(STATE, "\"overflow\":500");
    proxy.heal();
    let came = above.payloads(2_000);
    // The first were already lent to the bridge; of those that waited the oldest went.
    assert_eq!(came.last().map(String::as_str), Some("2499"));
    let mut sorted = came.clone();
    sorted.sort_by_key(|it| it.parse::<usize>().ok());
    assert_eq!(came, sorted);
    above.expect_silence();
}

#[test]
fn a_message_that_the_server_never_takes_becomes_a_dead_letter() {
    let limits = "[limits]\npacket_bytes_max = 2000\nqueue_bytes_max = 100000\n\
                  mailbox_bytes_max = 100000\nconnect_bytes_max = 2000\n";
    let central = Broker::tidewire(free_port(), limits);
    let rules = format!("dead_letter = \"dead\"\n{OUT}");
    let edge = Broker::tidewire(free_port(), &bridge(central.port, &rules));
    wait_until_up(&edge);
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let mut below = Client::connect(&edge, "below");
    below.subscribe("dead");
    for qos in [Q0, Q1, Q2] {
        below.publish("t/1", &"x".repeat(3_000), qos);
        let letter = below.next();
        let errors: Vec<_> = letter
            .headers
            .iter()
            .filter(|(name, _)| name == "tidewire-error")
            .collect();
        assert_eq!(errors[0].1, "larger than the server takes");
        below.publish("t/1", "small", qos);
        above.expect("t/1", "small");
    }
}

#[test]
fn a_bridge_turns_to_the_second_server_and_returns_to_the_first() {
    let (first, second) = (free_port(), free_port());
    let standby = Broker::tidewire(second, "");
    let servers = format!("\"mqtt://127.0.0.1:{first}\", \"mqtt://127.0.0.1:{second}\"");
    let rules = format!("first_server_probe_seconds = 1\n{OUT}");
    let lines = bridge(first, &rules).replace(&format!("\"mqtt://127.0.0.1:{first}\""), &servers);
    let edge = Broker::tidewire(free_port(), &lines);
    let mut watcher = Client::connect(&edge, "watcher");
    watcher.subscribe(STATE);
    let up = watcher.wait_for(STATE, "\"state\":\"up\"").payload;
    assert!(up.contains(&second.to_string()), "{up}");
    let home = Broker::tidewire(first, "");
    watcher.wait_for(STATE, "the first server can be reached again");
    let up = watcher.wait_for(STATE, "\"state\":\"up\"").payload;
    assert!(up.contains(&first.to_string()), "{up}");
    home.kill();
    let up = watcher.wait_for(STATE, "\"state\":\"up\"").payload;
    assert!(up.contains(&second.to_string()), "{up}");
    drop(standby);
}

#[test]
fn a_backlog_is_sent_no_faster_than_it_may_be() {
    let central = Broker::tidewire(free_port(), "");
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    let proxy = Proxy::start(central.port);
    proxy.cut();
    let rules = format!("messages_per_second_max = 100\n{OUT}");
    let edge = Broker::tidewire(free_port(), &bridge(proxy.port, &rules));
    let mut below = Client::connect(&edge, "below");
    for number in numbers(300) {
        below.publish("t/1", &number, Q1);
    }
    proxy.heal();
    above.expect("t/1", "0");
    let clock = Clock::start();
    assert_eq!(above.payloads(299), numbers(300)[1..]);
    // A second's worth may go at once.
    assert!(clock.now_ms() > 1_500, "{} ms", clock.now_ms());
}

#[test]
fn what_waits_over_there_comes_after_a_restart_of_ours() {
    let central = Broker::tidewire(free_port(), "");
    let port = free_port();
    let lines = bridge(central.port, BOTH);
    let edge = Broker::tidewire(port, &lines);
    wait_until_up(&edge);
    // Identifiers of QoS 2 messages of this process are known over there.
    let mut below = Client::connect(&edge, "below");
    for number in numbers(20) {
        below.publish("t/before", &number, Q2);
    }
    edge.kill();
    let mut above = Client::connect(&central, "above");
    for number in numbers(50) {
        above.retain(&format!("t/{number}"), &number);
    }
    let edge = Broker::tidewire(port, &lines);
    wait_until_up(&edge);
    let mut below = Client::connect(&edge, "below");
    below.subscribe("t/+");
    let mut came = below.payloads(50);
    came.sort_by_key(|it| it.parse::<usize>().ok());
    assert_eq!(came, numbers(50));
    above.subscribe("t/after");
    for number in numbers(50) {
        below.publish("t/after", &number, Q2);
    }
    assert_eq!(above.payloads(50), numbers(50));
    above.expect_silence();
}

#[test]
fn a_peer_cannot_reach_topics_that_are_not_for_it() {
    let central = Broker::tidewire(free_port(), "");
    let rules = "[[bridges.in]]\nfilters = [\"t/#\"]\ntopic = \"{json:/topic}\"";
    let edge = Broker::tidewire(free_port(), &bridge(central.port, rules));
    wait_until_up(&edge);
    let mut below = Client::connect(&edge, "below");
    below.subscribe("#");
    let mut above = Client::connect(&central, "above");
    let deep = "a/".repeat(200);
    let bad = [
        "$SYS/broker/version",
        "$share/g/t",
        "$delayed/1/t",
        "a/#",
        "+",
        "",
        "a\\u0000b",
        &deep,
    ];
    for topic in bad {
        above.publish("t/1", &format!("{{\"topic\":\"{topic}\"}}"), Q1);
    }
    above.publish("t/1", "no json", Q1);
    above.publish("t/1", "{\"topic\":\"good\"}", Q1);
    below.expect("good", "{\"topic\":\"good\"}");
    below.expect_silence();
    let mut watcher = Client::connect(&edge, "watcher");
    watcher.subscribe(STATE).wait_for(STATE, "\"mapping\":9");
}
