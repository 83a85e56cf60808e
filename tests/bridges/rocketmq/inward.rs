//! From RocketMQ to us, and all the way round.

use std::collections::BTreeSet;

use tidewire::clock::Clock;

use super::server::RocketMq;
use super::{bridge, bridged};
use crate::client::{Client, Q1};
use crate::faults::numbers;
use crate::federation::wait_until_up;
use crate::process::{Broker, free_port};

/// A node whose bridge `up` feeds the first one, so that subscribers outlive it.
fn feeder(rocket: &RocketMq, ours: &Broker, lines: &str) -> String {
    format!(
        "{}\n[[bridges]]\nname = \"on\"\nservers = [\"mqtt://127.0.0.1:{}\"]\n\
         restart_base_ms = 100\n[[bridges.out]]\nfilters = [\"in/#\"]",
        bridge(rocket, lines),
        ours.port
    )
}

/// A new group begins with what comes after its first poll.
fn settle_down() {
    std::thread::sleep(std::time::Duration::from_millis(1_500));
}

pub(super) fn messages_come_with_their_properties_and_do_not_come_again(rocket: &RocketMq) {
    let lines = "[bridges.rocketmq]\ngroup = \"plant\"\n[[bridges.in]]\n\
         filters = [\"commands\"]\ntopic = \"c/{prop:rocketmq-tag|level}\"\nretain = \"set\"";
    let config = bridge(rocket, lines);
    let ours = Broker::tidewire(free_port(), &config);
    wait_until_up(&ours);
    settle_down();
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("c/#");
    rocket.send("commands", "open", "valve", "k1 k2");
    // Compressed by the client of the tool.
    let large = "long-".repeat(2_000);
    rocket.send("commands", &large, "pump", "k3");
    let got = receiver.wait_for("c/valve", "open");
    assert_eq!((got.qos, got.retain), (Q1, true));
    let values = |name: &str| {
        let headers = got.headers.iter().filter(|it| it.0 == name);
        headers.map(|it| it.1.clone()).collect::<Vec<_>>()
    };
    assert_eq!(values("rocketmq-tag"), ["valve"]);
    assert_eq!(values("rocketmq-key"), ["k1", "k2"]);
    assert_eq!(values("rocketmq-message-id").len(), 1);
    assert_eq!(values("rocketmq-delivery-attempt").len(), 0);
    receiver.expect("c/pump", &large);
    ours.stop();
    rocket.send("commands", "on", "lamp", "k4");
    let ours = Broker::tidewire(free_port(), &config);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("c/#");
    receiver.expect("c/lamp", "on");
    receiver.expect_silence();
}

pub(super) fn tags_and_expressions_choose_messages(rocket: &RocketMq) {
    let lines = "[[bridges.out]]\nfilters = [\"t/+/+\"]\ntopic = \"chosen\"\ntag = \"{2}\"\n\
         user_properties_add = [\"level={3}\"]";
    let sender = bridged(rocket, lines);
    let way_in = |keys: &str| {
        let lines = format!(
            "[bridges.rocketmq]\n{keys}\n[[bridges.in]]\nfilters = [\"chosen\"]\ntopic = \"in\""
        );
        bridged(rocket, &lines)
    };
    let by_tag = way_in("group = \"by-tag\"\ntags = \"a || b\"");
    let by_level = way_in("group = \"by-level\"\nsql = \"level > 3 AND TAGS <> 'a'\"");
    settle_down();
    let mut receivers = [&by_tag, &by_level].map(|it| Client::connect(it, "receiver"));
    for receiver in &mut receivers {
        receiver.subscribe("in");
    }
    let mut sender = Client::connect(&sender, "sender");
    for tag in ["a", "b", "c"] {
        for level in ["1", "5"] {
            sender.publish(&format!("t/{tag}/{level}"), &format!("{tag}{level}"), Q1);
        }
    }
    let [by_tag, by_level] = &mut receivers;
    let sorted = |mut payloads: Vec<String>| {
        payloads.sort_unstable();
        payloads
    };
    assert_eq!(sorted(by_tag.payloads(4)), ["a1", "a5", "b1", "b5"]);
    assert_eq!(sorted(by_level.payloads(2)), ["b5", "c5"]);
    receivers.iter_mut().for_each(Client::expect_silence);
}

pub(super) fn what_finds_no_topic_here_goes_to_the_dead_letters_of_the_group(rocket: &RocketMq) {
    let lines = "[bridges.rocketmq]\ngroup = \"once-more\"\n[[bridges.in]]\n\
         filters = [\"odd\"]\ntopic = \"c/{prop:rocketmq-tag}\"";
    let ours = bridged(rocket, lines);
    settle_down();
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("c/#");
    rocket.send("odd", "first", "fits", "k1");
    rocket.send("odd", "poison", "no+topic", "k2");
    rocket.send("odd", "last", "fits", "k3");
    receiver.expect("c/fits", "first");
    receiver.expect("c/fits", "last");
    receiver.expect_silence();
    let letters = rocket.messages("%DLQ%once-more");
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].ends_with("BODY: poison"), "{letters:?}");
}

pub(super) fn a_delayed_message_comes_late_and_a_group_in_order(rocket: &RocketMq) {
    let lines = "[[bridges.out]]\nfilters = [\"later\"]\n\
         delay_ms = \"{prop:wait|default('3000')}\"\n\
         [[bridges.out]]\nfilters = [\"o/+\"]\ntopic = \"ordered\"\nkey = \"{2}\"";
    let sender = bridged(rocket, lines);
    let lines = "[bridges.rocketmq]\ngroup = \"in-order\"\n[[bridges.in]]\n\
         filters = [\"later\", \"ordered\"]\ntopic = \"in/{1}/{key|default('none')}\"";
    let ours = bridged(rocket, lines);
    settle_down();
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("in/#");
    let mut sender = Client::connect(&sender, "sender");
    let clock = Clock::start();
    sender.publish("later", "late", Q1);
    for part in numbers(60).chunks(10) {
        sender.publish_all("o/a", part, Q1);
        sender.publish_all("o/b", part, Q1);
    }
    let (mut came, mut late_ms) = ([Vec::new(), Vec::new()], 0);
    for _ in 0..121 {
        let message = receiver.next();
        match &*message.topic {
            "in/ordered/a" => came[0].push(message.payload),
            "in/ordered/b" => came[1].push(message.payload),
            _ => late_ms = clock.now_ms(),
        }
    }
    assert_eq!(came, [numbers(60), numbers(60)]);
    assert!((2_000..20_000).contains(&late_ms), "{late_ms}");
}

pub(super) fn a_message_that_finds_no_room_here_stays_ours_for_longer_than_its_time(
    rocket: &RocketMq,
) {
    let lines = "[[bridges.out]]\nfilters = [\"held\"]";
    let sender = bridged(rocket, lines);
    let lines = "[bridges.rocketmq]\ninvisible_seconds = 10\n[[bridges.in]]\nfilters = [\"held\"]\n\
         topic = \"in\"";
    let limits = "[limits]\nqueue_messages_max = 3\nqueue_overflow = \"reject\"";
    let config = format!("{}{limits}\n", bridge(rocket, lines));
    let ours = Broker::tidewire(free_port(), &config);
    wait_until_up(&ours);
    settle_down();
    let mut receiver = Client::resume(&ours, "receiver");
    receiver.subscribe("in");
    drop(receiver);
    Client::connect(&sender, "sender").publish_all("held", &numbers(40), Q1);
    // Longer than the server waits, unless it is told that we still have them.
    std::thread::sleep(std::time::Duration::from_secs(16));
    let mut receiver = Client::resume(&ours, "receiver");
    let came: BTreeSet<String> = receiver.payloads(40).into_iter().collect();
    assert_eq!(came.len(), 40);
    receiver.expect_silence();
    ours.stop();
}

pub(super) fn nothing_is_lost_from_end_to_end_while_everything_is_killed(rocket: &mut RocketMq) {
    let above = Broker::tidewire(free_port(), "");
    let mut receiver = Client::connect(&above, "receiver");
    receiver.subscribe("in/#");
    let way_in = "ack_timeout_seconds = 5\n[bridges.rocketmq]\ngroup = \"ledger\"\n\
         invisible_seconds = 10\n[[bridges.in]]\nfilters = [\"ledger\"]\ntopic = \"in/x\"";
    let way_in = feeder(rocket, &above, way_in);
    let way_out = "ack_timeout_seconds = 5\n[[bridges.out]]\nfilters = [\"t/#\"]\n\
         topic = \"ledger\"";
    let way_out = bridge(rocket, way_out);
    let out_port = free_port();
    let mut from = Broker::tidewire(out_port, &way_out);
    let mut to = Broker::tidewire(free_port(), &way_in);
    wait_until_up(&from);
    wait_until_up(&to);
    settle_down();
    let all = numbers(6_000);
    for (round, part) in all.chunks(1_000).enumerate() {
        Client::connect(&from, "sender").publish_all("t/1", part, Q1);
        match round {
            0 | 3 => from = Broker::tidewire_in(from.kill_and_keep(), out_port, &way_out),
            1 => {
                rocket.kill();
                rocket.start_again();
            }
            2 => {
                let port = free_port();
                to = Broker::tidewire_in(to.kill_and_keep(), port, &way_in);
            }
            _ => {}
        }
    }
    let mut missing: BTreeSet<String> = all.into_iter().collect();
    let mut repeated = 0;
    while !missing.is_empty() {
        repeated += usize::from(!missing.remove(&receiver.next().payload));
    }
    // Kills repeat what was on its way, and not all there is.
    assert!(repeated < 3_000, "{repeated}");
    drop(to);
}
