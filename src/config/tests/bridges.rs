//! What is refused in the tables of bridges, each kind with keys of its own.

use super::{read, refusal};
use crate::config::{Amqp10Dialect, Amqp10Node, BridgeKind, KafkaAcks, KafkaStart};

#[test]
fn a_bridge_that_cannot_work_is_refused_with_key_and_reason() {
    let bridge =
        |lines: &str| format!("[[bridges]]\nname = \"b\"\nservers = [\"mqtt://h\"]\n{lines}\n");
    let out = |lines: &str| bridge(&format!("[[bridges.out]]\nfilters = [\"#\"]\n{lines}"));
    let cases = [
        (bridge(""), "`bridges.0.out` is missing"),
        (
            out("local_prefix = \"a+\""),
            "`bridges.0.out.0.local_prefix` must not hold wildcards",
        ),
        (
            out("exclude = [\"a/#/b\"]"),
            "t.toml:6: `bridges.0.out.0.exclude.0` makes `a/#/b`",
        ),
        (
            out("qos_max = 3"),
            "`bridges.0.out.0.qos_max` is 3, expected an integer from 0 to 2",
        ),
        (out("qos = 1"), "unknown key `bridges.0.out.0.qos`"),
        (
            bridge("[[bridges.in]]\nfilters = [\"\"]"),
            "`bridges.0.in.0.filters.0` may be empty only with both",
        ),
        (
            out("").replace("mqtt://h", "mqtt://h:70000"),
            "`bridges.0.servers.0` has a port outside 1 to 65535",
        ),
        (
            out("").replace("mqtt://h", "mqtt://user:secret@h"),
            "must not hold credentials",
        ),
        (
            out("").replace("mqtt://h", "h:1883"),
            "`bridges.0.servers.0` must begin with mqtt://",
        ),
        (
            out("").replacen("\n[[bridges.out", "\nca = \"ca.crt\"\n[[bridges.out", 1),
            "`bridges.0.ca` is for servers with mqtts://, wss://, amqps://, kafkas:// or",
        ),
        (
            bridge("password = 5"),
            "`bridges.0.password` is a secret, expected a string",
        ),
        (
            out("").replacen("\n[[b", "\npassword_env = \"TIDEWIRE_NOT_SET\"\n[[b", 1),
            "`bridges.0.user_name` is needed for a password",
        ),
        (
            bridge("bridge_bit = false\nprotocol = \"3.1.1\"\n[[bridges.both]]\nfilters = [\"#\"]"),
            "`bridges.0.both.0.filters` would circle for ever",
        ),
        (
            out("") + &out(""),
            "t.toml:7: `bridges.1.name` is the name of an earlier bridge",
        ),
    ];
    for (text, expected) in cases {
        let text = text.replacen("\n\n", "\n", 9);
        let refusal = refusal(&text);
        assert!(refusal.contains(expected), "{refusal}\nnot: {expected}");
    }
}

#[test]
fn what_a_bridge_says_of_its_start_its_client_id_and_its_properties_is_checked() {
    let bridge = |lines: &str, rule: &str| {
        format!(
            "[[bridges]]\nname = \"b\"\nservers = [\"mqtt://h\"]\n{lines}\n\
             [[bridges.out]]\nfilters = [\"a/+\"]\n{rule}\n"
        )
    };
    let cases = [
        (
            bridge("start = \"lazy\"\n[[bridges.in]]\nfilters = [\"c\"]", ""),
            "t.toml:4: `bridges.0.start` connects only while something waits here",
        ),
        (
            bridge("connections = 2\n[[bridges.in]]\nfilters = [\"c\"]", ""),
            "t.toml:4: `bridges.0.connections` share the way out only",
        ),
        (
            bridge("connections_by = \"clients\"", ""),
            "t.toml:4: `bridges.0.connections_by` is \"clients\", expected",
        ),
        (
            bridge("connections = 65", ""),
            "t.toml:4: `bridges.0.connections` is 65, expected",
        ),
        (
            bridge("client_id = \"{nod}\"", ""),
            "t.toml:4: `bridges.0.client_id` has a brace that is no placeholder",
        ),
        (
            bridge("client_id = \"{node}\"", ""),
            "t.toml:4: `bridges.0.client_id` names {node}, but node is not set",
        ),
        (
            bridge("", "user_properties_add = [\"x={5}\"]"),
            "`bridges.0.out.0.user_properties_add.0` is \"{5}\": {5} never exists",
        ),
        (
            bridge(
                "",
                "[[bridges.in]]\nfilters = [\"+/x\"]\nlocal_prefix = \"$SYS/\"",
            ),
            "`bridges.0.in.0.filters.0` would make topics of the broker's own",
        ),
        (
            bridge("", "user_properties_rename = [\"x\"]"),
            "`bridges.0.out.0.user_properties_rename.0` must be NAME=TEXT",
        ),
        (
            bridge("", "user_properties_add = [\"tidewire-path=\"]"),
            "makes a property of the broker's own",
        ),
        (
            bridge("start = \"later\"", ""),
            "`bridges.0.start` is \"later\", expected",
        ),
        (
            bridge("idle_seconds = 0", ""),
            "`bridges.0.idle_seconds` is 0, expected",
        ),
        (bridge("linger = 5", ""), "unknown key `bridges.0.linger`"),
    ];
    for (text, expected) in cases {
        let refusal = refusal(&text);
        assert!(refusal.contains(expected), "{refusal}\nnot: {expected}");
    }
}

#[test]
fn a_bridge_to_rabbitmq_takes_the_keys_of_its_kind_and_no_others() {
    let bridge = |server: &str, lines: &str| {
        format!(
            "[[bridges]]\nname = \"b\"\nkind = \"amqp091\"\nservers = [\"{server}\"]\n\
             {lines}\n[[bridges.out]]\nfilters = [\"#\"]\n"
        )
    };
    let valid = read(&bridge("amqps://h", "exchange = \"\"\nca = \"ca.crt\"")).expect("valid");
    assert_eq!(valid.bridges[0].kind, BridgeKind::Amqp091);
    let amqp = |lines| bridge("amqp://h", lines);
    let cases = [
        (
            bridge("mqtt://h", ""),
            "`bridges.0.servers.0` must begin with amqp:// or amqps://",
        ),
        (
            bridge("amqp://h/plant", ""),
            "`bridges.0.servers.0` must not hold a path: use virtual_host",
        ),
        (
            amqp("queue = \"q\""),
            "`bridges.0.queue` is of no use without `in` or `both`",
        ),
        (
            amqp("[[bridges.in]]\nfilters = [\"#\"]"),
            "`bridges.0.queue` is missing",
        ),
        (
            amqp("client_id = \"c\""),
            "`bridges.0.client_id` is for kind = \"mqtt\"",
        ),
        (
            amqp("exchange = \"e\"").replace("amqp091", "mqtt"),
            "`bridges.0.exchange` is for kind = \"amqp091\"",
        ),
        (
            amqp("[bridges.amqp091]\nqueue_arguments = [\"x-queue-type=quorum\"]"),
            "`bridges.0.amqp091.queue_arguments` is of no use without declare = \"create\"",
        ),
        (
            amqp("[bridges.amqp091]\nconsumer_arguments = [\"x-priority=1\"]"),
            "`bridges.0.amqp091.consumer_arguments` is of no use without `in`",
        ),
        (
            amqp(
                "queue = \"q\"\n[[bridges.in]]\nfilters = [\"#\"]\n[bridges.amqp091]\n\
                 consumer_arguments = [\"x-priority\"]",
            ),
            "`bridges.0.amqp091.consumer_arguments.0` must be NAME=VALUE",
        ),
        (
            amqp("[bridges.amqp091]\npriority = 256"),
            "`bridges.0.amqp091.priority` is 256, expected",
        ),
        (
            amqp("[bridges.amqp091]\ndeclare = \"none\"")
                .replacen("amqp091", "mqtt", 1)
                .replace("amqp://", "mqtt://"),
            "`bridges.0.amqp091` is for kind = \"amqp091\"",
        ),
        (amqp("").replace("amqp091", "nats"), "amqp091"),
    ];
    for (text, expected) in cases {
        let refusal = refusal(&text.replacen("\n\n", "\n", 9));
        assert!(refusal.contains(expected), "{refusal}\nnot: {expected}");
    }
}

#[test]
fn a_bridge_over_amqp_1_0_takes_the_keys_of_its_kind_and_no_others() {
    let bridge = |lines: &str| {
        format!(
            "[[bridges]]\nname = \"b\"\nkind = \"amqp10\"\nservers = [\"amqp://h\"]\n\
             {lines}\n[[bridges.out]]\nfilters = [\"#\"]\n"
        )
    };
    let own = |lines: &str| bridge(&format!("[bridges.amqp10]\n{lines}"));
    let valid = read(&own("dialect = \"artemis\"\ntarget = \"queue\"")).expect("valid");
    let bridges = &valid.bridges[0];
    assert_eq!(bridges.amqp10.dialect, Amqp10Dialect::Artemis);
    assert_eq!(bridges.amqp10.target, Amqp10Node::Queue);
    let rabbit = "exchange = \"e\"\nvirtual_host = \"v\"\n[bridges.amqp10]\n";
    read(&bridge(&format!("{rabbit}dialect = \"rabbitmq3\""))).expect("valid");
    let cases = [
        (
            bridge("").replace("amqp://h", "mqtt://h"),
            "`bridges.0.servers.0` must begin with amqp:// or amqps://",
        ),
        (
            bridge(rabbit),
            "`bridges.0.exchange` is for amqp10.dialect = \"rabbitmq3\" and \"rabbitmq4\"",
        ),
        (
            bridge("mandatory = false"),
            "`bridges.0.mandatory` is for kind = \"amqp091\"",
        ),
        (
            own("address = \"q\""),
            "`bridges.0.amqp10.address` is of no use without `in` or `both`",
        ),
        (
            bridge("[[bridges.in]]\nfilters = [\"#\"]"),
            "`bridges.0.amqp10.address` is missing: `in` and `both` receive from an address",
        ),
        (
            own("dialect = \"rabbitmq4\"\nsource = \"topic\""),
            "`bridges.0.amqp10.source` must be \"queue\"",
        ),
        (
            own("sasl_mechanism = \"external\""),
            "`bridges.0.amqp10.sasl_mechanism` needs certificate and key",
        ),
        (
            bridge(
                "user_name = \"u\"\npassword = \"p\"\n[bridges.amqp10]\n\
                 sasl_mechanism = \"anonymous\"",
            ),
            "`bridges.0.password` is shown to nobody",
        ),
        (
            own("links_max = 0"),
            "`bridges.0.amqp10.links_max` is 0, expected an integer from 1 to 1024",
        ),
        (own("dialect = \"qpid\""), "rabbitmq3"),
        (
            own("priority = 5").replace("kind = \"amqp10\"", "kind = \"amqp091\""),
            "`bridges.0.amqp10` is for kind = \"amqp10\"",
        ),
    ];
    for (text, expected) in cases {
        let refusal = refusal(&text);
        assert!(refusal.contains(expected), "{refusal}\nnot: {expected}");
    }
}

#[test]
fn who_published_a_message_is_known_to_bridges_if_messages_carry_it() {
    let text = "[[bridges]]\nname = \"up\"\nservers = [\"mqtt://h\"]\n[[bridges.out]]\n\
                filters = [\"#\"]\ntopic = \"by/{client_id}\"\n";
    let refusal = refusal(text);
    let expected = "`bridges.0.out.0.topic` is \"by/{client_id}\": messages have no {client_id} \
                    unless mqtt.client_id_property = true";
    assert!(refusal.contains(expected), "{refusal}");
    let with_default = text.replace("{client_id}", "{client_id|default('x')}");
    assert!(read(&with_default).is_ok());
    assert!(read(&format!("{text}[mqtt]\nclient_id_property = true")).is_ok());
}

#[test]
fn a_bridge_to_rocketmq_takes_the_keys_of_its_kind_and_no_others() {
    let bridge = |lines: &str, rule: &str| {
        format!(
            "[[bridges]]\nname = \"b\"\nkind = \"rocketmq\"\nservers = [\"rocketmq://h\"]\n\
             {lines}\n[[bridges.out]]\nfilters = [\"a/+\"]\n{rule}\n"
        )
    };
    let way_in = "[[bridges.in]]\nfilters = [\"t\"]";
    let own = format!("[bridges.rocketmq]\ngroup = \"g\"\nsql = \"a > 1\"\n{way_in}");
    let valid = read(&bridge(
        &own,
        "key = \"{2}\"\ntag = \"{1}\"\nkeys = [\"{2}\"]",
    ));
    let bridges = &valid.expect("valid").bridges[0];
    assert_eq!(bridges.rocketmq.sql.as_deref(), Some("a > 1"));
    assert_eq!(bridges.out[0].keys, ["{2}"]);
    let cases = [
        (
            bridge("", "").replace("rocketmq://h", "mqtt://h"),
            "`bridges.0.servers.0` must begin with rocketmq:// or rocketmqs://",
        ),
        (
            bridge("[bridges.rocketmq]\ntopics = [\"t\"]", ""),
            "`bridges.0.rocketmq.topics` is of no use without `in` or `both`",
        ),
        (
            bridge(&own.replace("sql", "tags = \"x\"\nsql"), ""),
            "`bridges.0.rocketmq.sql` and tags exclude each other",
        ),
        (
            bridge(&own.replace("\"g\"", "\"g.h\""), ""),
            "`bridges.0.rocketmq.group` must be 1 to 127 letters, digits, `_`, `-` and `%`",
        ),
        (
            bridge(&way_in.replace("\"t\"", "\"t/+\""), ""),
            "`bridges.0.in.0.filters` has wildcards, by which RocketMQ finds no topic",
        ),
        (
            bridge("[bridges.rocketmq]\ninvisible_seconds = 9", ""),
            "`bridges.0.rocketmq.invisible_seconds` is 9, expected an integer from 10 to 43200",
        ),
        (
            bridge("", "priority = \"1\""),
            "`bridges.0.out.0.priority` is for kind = \"amqp091\" or \"amqp10\"",
        ),
        (
            bridge("", "key = \"k\"\ndelay_ms = \"5\""),
            "`bridges.0.out.0.delay_ms` and key exclude each other",
        ),
        (
            bridge("", "keys = [\"{1}\", \"{3}\"]"),
            "`bridges.0.out.0.keys.1` is \"{3}\": {3} never exists for the filter `a/+`",
        ),
        (
            bridge("", "partition = \"1\""),
            "`bridges.0.out.0.partition` is for kind = \"kafka\"",
        ),
        (
            bridge("", "tag = \"x\"").replace("rocketmq", "mqtt"),
            "`bridges.0.out.0.tag` is for kind = \"rocketmq\"",
        ),
    ];
    for (text, expected) in cases {
        let refusal = refusal(&text);
        assert!(refusal.contains(expected), "{refusal}\nnot: {expected}");
    }
}

#[test]
fn a_bridge_to_kafka_takes_the_keys_of_its_kind_and_no_others() {
    let bridge = |lines: &str, rule: &str| {
        format!(
            "[[bridges]]\nname = \"b\"\nkind = \"kafka\"\nservers = [\"kafka://h\"]\n\
             {lines}\n[[bridges.out]]\nfilters = [\"a/+\"]\n{rule}\n"
        )
    };
    let own = "[bridges.kafka]\nacks = \"leader\"\nidempotence = false\nstart = \"earliest\"";
    let valid = read(&bridge(own, "key = \"{2}\"")).expect("valid");
    let bridges = &valid.bridges[0];
    assert_eq!(bridges.kafka.acks, KafkaAcks::Leader);
    assert_eq!(bridges.kafka.start, KafkaStart::Earliest);
    let cases = [
        (
            bridge("", "").replace("kafka://h", "mqtt://h"),
            "`bridges.0.servers.0` must begin with kafka:// or kafkas://",
        ),
        (
            bridge("", "").replace("[\"kafka://h", "[\"kafkas://g\", \"kafka://h"),
            "`bridges.0.servers` must be all kafka:// or all kafkas://",
        ),
        (
            bridge("[bridges.kafka]\nacks = \"none\"", ""),
            "`bridges.0.kafka.idempotence` needs acks = \"all\"",
        ),
        (
            bridge("[bridges.kafka]\ntopics = [\"t\"]", ""),
            "`bridges.0.kafka.topics` is of no use without `in` or `both`",
        ),
        (
            bridge("kafka = 5", ""),
            "`bridges.0.kafka` is 5, expected a table [bridges.kafka]",
        ),
        (
            bridge("", "partition = \"{3}\""),
            "`bridges.0.out.0.partition` is \"{3}\": {3} never exists for the filter `a/+`",
        ),
        (
            bridge("", "key = \"{2}\"").replace("kafka", "mqtt"),
            "`bridges.0.out.0.key` is for kind = \"kafka\" or \"rocketmq\"",
        ),
    ];
    for (text, expected) in cases {
        let refusal = refusal(&text);
        assert!(refusal.contains(expected), "{refusal}\nnot: {expected}");
    }
}
