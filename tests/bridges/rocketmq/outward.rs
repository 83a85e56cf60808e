//! From us to RocketMQ.

use std::collections::BTreeSet;

use tidewire_protocol::codec::{PublishProperties, UserProperties};

use super::server::RocketMq;
use super::{STATE, bridge, bridged};
use crate::client::{Client, Message, Q0, Q1, Q2};
use crate::faults::numbers;
use crate::federation::wait_until_up;
use crate::process::{Broker, free_port};

pub(super) fn everything_that_rocketmq_has_a_place_for_arrives(rocket: &RocketMq) {
    let lines = "[[bridges.out]]\nfilters = [\"s/+/+\"]\ntopic = \"plant/{2}\"\n\
         tag = \"{3}\"\nkeys = [\"{json:/id|default('none')}\", \"second\"]\n\
         user_properties_add = [\"level={2}\"]\n\
         [[bridges.out]]\nfilters = [\"line/+\"]\ntopic = \"line\"\nkey = \"{2}\"";
    let ours = bridged(rocket, lines);
    let mut sender = Client::connect(&ours, "sender");
    let pairs = [("a", "b"), ("a", "c")];
    let properties = PublishProperties {
        user_properties: UserProperties::from_pairs(&pairs),
        correlation_data: Some(b"id-1"),
        response_topic: Some("answers/1"),
        content_type: Some("text/plain"),
        ..PublishProperties::default()
    };
    for (qos, payload) in [(Q0, "zero"), (Q1, "{\"id\":7}"), (Q2, "two")] {
        sender.publish_with("s/a/boiler", payload, qos, false, &properties);
    }
    sender.publish("line/pump", "in order", Q1);
    // Sent in order, and so is the last one there when the group's is.
    let mut lines = rocket.messages("plant-a");
    lines.sort_unstable();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, payload) in lines.iter().zip(["zero", "{\"id\":7}", "two"]) {
        assert!(line.ends_with(&format!("BODY: {payload}")), "{line}");
        for part in [
            "TAGS=boiler",
            "a=b",
            "a.2=c",
            "level=a",
            "tidewire-path=",
            "mqtt-content-type=text/plain",
            "mqtt-response-topic=answers/1",
            "mqtt-correlation-data=id-1",
        ] {
            assert!(line.contains(part), "{line}\nnot: {part}");
        }
        let key = if payload.contains('7') { "7" } else { "none" };
        assert!(line.contains(&format!("KEYS={key} second")), "{line}");
    }
    let lines = rocket.messages("line");
    assert!(lines[0].contains("__SHARDINGKEY=pump"), "{lines:?}");
}

pub(super) fn each_message_of_a_batch_arrives_with_its_own_tag(rocket: &RocketMq) {
    let ours = bridged(
        rocket,
        "[[bridges.out]]\nfilters = [\"many/+\"]\ntopic = \"many\"\ntag = \"{2}\"",
    );
    let mut sender = Client::connect(&ours, "sender");
    for part in numbers(300).chunks(15) {
        sender.publish_all("many/even", part, Q1);
        sender.publish_all("many/odd", part, Q1);
    }
    wait_until_sent(&ours, 600);
    let lines = rocket.messages("many");
    for tag in ["even", "odd"] {
        let of_tag = lines
            .iter()
            .filter(|it| it.contains(&format!("TAGS={tag},")));
        let bodies = of_tag.filter_map(|it| it.rsplit_once("BODY: "));
        let bodies: BTreeSet<&str> = bodies.map(|it| it.1).collect();
        assert_eq!(bodies.len(), 300, "{tag}");
    }
    assert_eq!(lines.len(), 600);
}

fn wait_until_sent(ours: &Broker, count: usize) {
    let mut watcher = Client::connect(ours, "counter");
    watcher.subscribe(STATE);
    watcher.wait_for(STATE, &format!("\"sent\":{count},"));
}

fn down(rocket: &RocketMq, lines: &str, words: &str) -> (Broker, Message) {
    let ours = Broker::tidewire(free_port(), &bridge(rocket, lines));
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let said = watcher.wait_for(STATE, "\"state\":\"down\"");
    assert!(said.payload.contains(words), "{said:?}\nnot: {words}");
    (ours, said)
}

pub(super) fn what_is_wrong_over_there_is_said_in_its_words(rocket: &RocketMq) {
    let lines = "[[bridges.out]]\nfilters = [\"f/#\"]\ntopic = \"fixed\"";
    let (ours, _) = down(rocket, lines, "topic \\\"fixed\\\": 40402 TOPIC_NOT_FOUND");
    let mut sender = Client::connect(&ours, "sender");
    sender.publish_all("f/1", &numbers(20), Q1);
    rocket.create_topic("fixed", "NORMAL");
    wait_until_sent(&ours, 20);
    let lines = "[[bridges.in]]\nfilters = [\"nowhere\"]";
    down(
        rocket,
        lines,
        "topic \\\"nowhere\\\": 40402 TOPIC_NOT_FOUND",
    );
    // A message without a group for a topic of groups: nothing gets through until it is mended.
    let lines = "[[bridges.out]]\nfilters = [\"t\"]\ntopic = \"line\"";
    let ours = bridged(rocket, lines);
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    Client::connect(&ours, "sender").publish("t", "x", Q1);
    let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
    assert!(
        said.contains("topic \\\"line\\\": 40014 MESSAGE_PROPERTY_CONFLICT_WITH_TYPE"),
        "{said}"
    );
}

pub(super) fn a_message_that_is_refused_goes_to_the_dead_letter_topic_and_holds_up_nothing(
    rocket: &RocketMq,
) {
    let lines = "dead_letter = \"dead\"\n[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"many\"\n\
         [[bridges.out]]\nfilters = [\"any/#\"]";
    let ours = bridged(rocket, lines);
    let mut dead = Client::connect(&ours, "dead");
    dead.subscribe("dead");
    let mut sender = Client::connect(&ours, "sender");
    let mut refuse = |topic: &str, payload: &str, pair: (&str, &str), words: &str| {
        let pairs = [pair];
        let properties = PublishProperties {
            user_properties: UserProperties::from_pairs(&pairs),
            ..PublishProperties::default()
        };
        sender.publish_all("t/fits", &numbers(10), Q1);
        sender.publish_with(topic, payload, Q1, false, &properties);
        let letter = dead.expect("dead", payload);
        let error = letter.headers.iter().find(|it| it.0 == "tidewire-error");
        let error = &error.expect("an error").1;
        assert!(error.contains(words), "{error}\nnot: {words}");
    };
    let large = "x".repeat(100_000);
    refuse(
        "t/large",
        &large,
        ("a", "b"),
        "msg body length limit 65536B",
    );
    refuse(
        "t/own",
        "own",
        ("DELAY", "3"),
        "40007 ILLEGAL_MESSAGE_PROPERTY_KEY",
    );
    refuse("t/group", "group", ("__SHARDINGKEY", "g"), "RocketMQ's own");
    refuse(
        "any/nowhere",
        "lost",
        ("a", "b"),
        "topic \"any-nowhere\": 40",
    );
    refuse("any/ä", "strange", ("a", "b"), "40002 ILLEGAL_TOPIC");
    wait_until_sent(&ours, 50);
    // Each fits, and all at once do not.
    let padding = "x".repeat(20_000);
    let many: Vec<String> = (0..20).map(|it| format!("{it} {padding}")).collect();
    sender.publish_all("t/fits", &many, Q1);
    wait_until_sent(&ours, 70);
}

pub(super) fn tls_trusts_the_authority_that_is_given_and_no_other(rocket: &RocketMq) {
    let lines = |file: &str| {
        let ca = rocket.file(file);
        format!(
            "ca = \"{}\"\n[[bridges.out]]\nfilters = [\"t\"]\ntopic = \"many\"",
            ca.display()
        )
    };
    let encrypted = |file: &str| {
        let config = bridge(rocket, &lines(file));
        config.replace("rocketmq://127.0.0.1", "rocketmqs://localhost")
    };
    let ours = Broker::tidewire(free_port(), &encrypted("ca.crt"));
    wait_until_up(&ours);
    Client::connect(&ours, "sender").publish("t", "hidden", Q1);
    wait_until_sent(&ours, 1);
    let ours = Broker::tidewire(free_port(), &encrypted("client.crt"));
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
    assert!(said.contains("certificate"), "{said}");
}

pub(super) fn users_are_let_in_and_refused_in_the_servers_words(rocket: &RocketMq) {
    let rule = "[[bridges.out]]\nfilters = [\"t\"]\ntopic = \"signed\"";
    let ours = bridged(rocket, &format!("{}{rule}", rocket.credentials()));
    Client::connect(&ours, "sender").publish("t", "let in", Q1);
    wait_until_sent(&ours, 1);
    let wrong = rocket.credentials().replace("secret-key", "wrong");
    down(rocket, &format!("{wrong}{rule}"), "40100 UNAUTHORIZED");
    down(rocket, rule, "40100 UNAUTHORIZED");
}

pub(super) fn a_user_without_rights_is_refused_until_he_has_them(rocket: &RocketMq) {
    rocket.create_user("guest", "guest-key");
    let guest = "user_name = \"guest\"\npassword = \"guest-key\"\n";
    let rule = "[[bridges.out]]\nfilters = [\"t\"]\ntopic = \"guarded\"";
    // 40300 FORBIDDEN is what this proxy never says.
    let words = "40100 UNAUTHORIZED: User:guest has no permission to access Topic:guarded";
    let (ours, _) = down(rocket, &format!("{guest}{rule}"), words);
    Client::connect(&ours, "sender").publish("t", "waits", Q1);
    rocket.allow("guest", "Pub", "Topic:guarded");
    wait_until_sent(&ours, 1);
    // Of a topic that a message has chosen only the message is concerned.
    let rule = "dead_letter = \"dead\"\n[[bridges.out]]\nfilters = [\"p/+\"]\ntopic = \"{2}\"";
    let ours = bridged(rocket, &format!("{guest}{rule}"));
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("dead");
    let mut sender = Client::connect(&ours, "sender");
    sender.publish("p/signed", "kept out", Q1);
    sender.publish("p/guarded", "let in", Q1);
    let error = receiver.expect("dead", "kept out").error();
    assert!(
        error.contains("has no permission to access Topic:signed"),
        "{error}"
    );
    wait_until_sent(&ours, 1);
}

pub(super) fn nothing_is_lost_and_groups_keep_their_order_while_the_server_is_killed(
    rocket: &mut RocketMq,
) {
    let lines = "ack_timeout_seconds = 5\n[[bridges.out]]\nfilters = [\"k/+\"]\n\
         topic = \"killed\"\nkey = \"{2}\"";
    let ours = bridged(rocket, lines);
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let mut sender = Client::connect(&ours, "sender");
    let all = numbers(600);
    let groups = ["k/a", "k/b", "k/c"];
    let mut publish = |part: &[String]| {
        groups
            .iter()
            .for_each(|group| sender.publish_all(group, part, Q1));
    };
    publish(&all[..200]);
    rocket.kill();
    publish(&all[200..400]);
    watcher.wait_for(STATE, "\"state\":\"down\"");
    rocket.start_again();
    publish(&all[400..]);
    wait_until_sent(&ours, 1_800);
    let lines = rocket.messages("killed");
    for group in ["a", "b", "c"] {
        let of_group = lines.iter();
        let of_group = of_group.filter(|it| it.contains(&format!("__SHARDINGKEY={group},")));
        let mut bodies: Vec<&str> = of_group
            .filter_map(|it| it.rsplit_once("BODY: "))
            .map(|it| it.1)
            .collect();
        // What was in flight at the kill may be there twice, one after the other.
        bodies.dedup();
        assert_eq!(bodies, all, "{group}");
    }
}
