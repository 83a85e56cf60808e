use std::path::{Path, PathBuf};

use super::keys::{Index, keys};
use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    let mut loader = Loader::default();
    loader.text(Path::new("t.toml"), text)?;
    loader.finish()
}

fn refusal(text: &str) -> String {
    read(text).expect_err("must be refused").to_string()
}

/// Refuses each text with a message that contains the part beside it.
pub(super) fn assert_refused(cases: &[(&str, &str)]) {
    for (text, part) in cases {
        let message = refusal(text);
        assert!(message.contains(part), "{text:?} gave {message}");
    }
}

fn with_environment(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(None, pairs)
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name)
}

fn load_shipped(name: &str) -> Config {
    Config::load(Some(&shipped(name)), std::iter::empty()).expect("a valid file")
}

#[test]
fn the_shipped_file_equals_the_defaults() {
    assert_eq!(load_shipped("tidewire.toml"), Config::default());
}

#[test]
fn the_shipped_file_lists_every_key_with_its_default_and_a_comment() {
    let text = std::fs::read_to_string(shipped("tidewire.toml")).expect("readable");
    let mut section = String::new();
    let mut listed = std::collections::HashMap::new();
    let mut before = "";
    for line in text.lines() {
        let bare = line.trim_start_matches("# ");
        if bare.starts_with('[') {
            section = bare
                .trim_matches(['[', ']'])
                .replace("listeners", "listeners.#")
                .replace("certificates", "certificates.#")
                .replace("auth.namespaces", "auth.namespaces.#")
                .replace("acl.groups", "acl.groups.#")
                .replace("acl.rules", "acl.rules.#")
                + ".";
            if let Some(rest) = section.strip_prefix("bridges.") {
                let is_list = !["", "amqp091.", "amqp10.", "kafka.", "rocketmq."].contains(&rest);
                let rest = rest.replacen('.', ".#.", usize::from(is_list));
                section = format!("bridges.#.{rest}");
            }
        } else if let Some((key, value)) = bare.split_once(" = ")
            && !key.contains(' ')
        {
            assert!(before.starts_with('#'), "{key} has no comment");
            let value = (!line.starts_with('#')).then(|| value.to_owned());
            listed.insert(format!("{section}{key}"), value);
        }
        before = line;
    }
    for key in keys() {
        let value = listed
            .remove(key.path)
            .unwrap_or_else(|| panic!("{} is missing", key.path));
        let mut default = Config::default();
        let expected = (key.field)(&mut default, Index::default()).and_then(|field| field.show());
        let plain = |text: String| text.replace('_', "");
        assert_eq!(value.map(plain), expected.map(plain), "{}", key.path);
    }
    assert!(listed.is_empty(), "unknown keys {listed:?}");
}

#[test]
fn the_examples_load() {
    assert_eq!(load_shipped("edge.toml").listeners.len(), 2);
    assert_eq!(load_shipped("central.toml").listeners.len(), 2);
    let bridges = load_shipped("bridges.toml").bridges;
    assert_eq!((bridges.len(), bridges[0].both.len()), (1, 1));
    let rabbitmq = load_shipped("rabbitmq.toml").bridges;
    assert_eq!(rabbitmq[0].kind, BridgeKind::Amqp091);
    let artemis = load_shipped("bridge-amqp10.toml").bridges;
    assert_eq!(artemis[0].kind, BridgeKind::Amqp10);
    let kafka = load_shipped("kafka.toml").bridges;
    assert_eq!(kafka[0].kind, BridgeKind::Kafka);
    assert_eq!(kafka[0].kafka.guarantee, KafkaGuarantee::ExactlyOnce);
    let rocketmq = load_shipped("bridge-rocketmq.toml").bridges;
    assert_eq!(rocketmq[0].kind, BridgeKind::Rocketmq);
    let tls = load_shipped("tls.toml");
    assert_eq!(
        tls.listeners[0].client_certificates,
        ClientCertificates::Required
    );
    assert_eq!(tls.listeners[0].certificates.len(), 1);
}

#[test]
fn a_refusal_names_place_key_value_and_expectation() {
    let cases = [
        ("a =", "t.toml:1: "),
        (
            "\nshard = 1",
            "t.toml:2: unknown key `shard`, did you mean `shards`?",
        ),
        (
            "[limits]\n\npacket_byte_max = 1",
            "t.toml:3: unknown key `limits.packet_byte_max`, did you mean \
             `limits.packet_bytes_max`?",
        ),
        (
            "[limit]",
            "t.toml:1: unknown key `limit`, did you mean `limits`?",
        ),
        (
            "[mqtt]\nreceive_maximum = 0",
            "t.toml:2: `mqtt.receive_maximum` is 0, expected an integer from 1 to 65535, default \
             1024",
        ),
        (
            "shards = \"4\"",
            "t.toml:1: `shards` is \"4\", expected an integer from 0 to 1024",
        ),
        (
            "shards = 1.5",
            "t.toml:1: `shards` is 1.5, expected an integer",
        ),
        (
            "limits = 1",
            "t.toml:1: `limits` is 1, expected a table [limits]",
        ),
        ("shards.x = 1", "`shards` is a table, expected an integer"),
    ];
    assert_refused(&cases);
}

#[test]
fn a_refusal_in_a_list_names_the_entry() {
    let cases = [
        ("listeners = 1", "expected tables, each under [[listeners]]"),
        (
            "listeners = [1]",
            "`listeners.0` is 1, expected a table, under [[listeners]]",
        ),
        (
            "[listeners]\nbind = \"a:1\"",
            "expected tables, each under [[listeners]]",
        ),
        (
            "[[listeners]]\n[[listeners]]\nbnd = \"a:1\"",
            "t.toml:3: unknown key `listeners.1.bnd`, did you mean `listeners.1.bind`?",
        ),
        (
            "[[listeners]]\ntransport = \"udp\"",
            "is \"udp\", expected one of \"tcp\", \"tls\"",
        ),
        (
            "[[listeners]]\nunix_mode = \"999\"",
            "expected an octal string",
        ),
        (
            "[[listeners]]\nunix_mode = 660",
            "is 660, expected an octal string",
        ),
        (
            "[[listeners]]\nversions = [\"4\"]",
            "is [\"4\"], expected a list, each one of \"3.1\"",
        ),
        (
            "[[listeners]]\nproxy_trusted = [\"x\"]",
            "expected a list, each an IP address",
        ),
    ];
    assert_refused(&cases);
}

#[test]
fn a_broken_rule_names_the_key_and_its_line() {
    let cases = [
        (
            "listeners = []",
            "t.toml:1: `listeners` needs at least one entry",
        ),
        (
            "\n[[listeners]]\ntransport = \"tls\"",
            "t.toml:2: `listeners.0.certificates` needs",
        ),
        (
            "[[listeners]]\ntransport = \"ws\"\npath = \"x\"",
            "t.toml:3: `listeners.0.path` must",
        ),
        (
            "[[listeners]]\nbind = \"localhost\"",
            "t.toml:2: `listeners.0.bind` must be host:port",
        ),
        (
            "[[listeners]]\nbind = \"::1:1883\"",
            "an IPv6 address in brackets",
        ),
        (
            "[[listeners]]\nversions = []",
            "t.toml:2: `listeners.0.versions` needs",
        ),
        (
            "[[listeners]]\n[[listeners]]",
            "t.toml:2: `listeners.1.bind` is the address of",
        ),
        (
            "[[listeners]]\nclient_ca = \"a\"",
            "`listeners.0.client_ca` is for the transports",
        ),
        ("[[listeners]]\nproxy_trusted = [\"::1\"]", "of no use"),
        (
            "[[listeners]]\ntransport = \"tls\"\n[[listeners.certificates]]\nkey = \"k\"",
            "t.toml:3: `listeners.0.certificates.0.certificate` is missing",
        ),
        (
            "[limits]\nqueue_bytes_max = 9",
            "t.toml:2: `limits.queue_bytes_max` must hold",
        ),
    ];
    assert_refused(&cases);
}

#[test]
fn the_environment_wins_over_the_file() {
    let pairs = [
        ("HOME", "/x"),
        ("TIDEWIRE_LIMITS_PACKET_BYTES_MAX", "65_536"),
        ("TIDEWIRE_LISTENERS_1_BIND", "[::1]:1884"),
        ("TIDEWIRE_LISTENERS_1_VERSIONS", "3.1.1, 5.0"),
        ("TIDEWIRE_LISTENERS_0_BIND", "0.0.0.0:1883"),
        ("TIDEWIRE_ALLOW_ANONYMOUS", "true"),
    ];
    let config = with_environment(&pairs).expect("valid");
    assert_eq!(config.limits.packet_bytes_max, 65_536);
    assert_eq!(config.listeners[0].bind, "0.0.0.0:1883");
    assert_eq!(config.listeners[1].bind, "[::1]:1884");
    assert_eq!(config.listeners[1].versions.len(), 2);
    assert_eq!(config.allow_anonymous, Some(true));
}

#[test]
fn an_unusable_variable_is_refused_by_name() {
    let cases = [
        (
            ("TIDEWIRE_SHARD", "1"),
            "unknown key `TIDEWIRE_SHARD`, did you mean `TIDEWIRE_SHARDS`?",
        ),
        (
            ("TIDEWIRE_LISTENERS_3_BND", "a"),
            "did you mean `TIDEWIRE_LISTENERS_3_BIND`?",
        ),
        (
            ("TIDEWIRE_LISTENERS_3_BIND", "a:1"),
            "expected list entries numbered without gaps",
        ),
        (
            ("TIDEWIRE_SHARDS", "x"),
            "environment variable TIDEWIRE_SHARDS: `shards` is \"x\"",
        ),
    ];
    for (pair, part) in cases {
        let message = with_environment(&[pair])
            .expect_err("must be refused")
            .to_string();
        assert!(message.contains(part), "{pair:?} gave {message}");
    }
}

#[test]
fn the_owner_of_a_socket_is_a_user_a_group_or_both() {
    let owner = |text: &str| {
        let url = format!("unix:///run/t.sock?unix_owner={text}");
        Listener::from_url(&url).map(|listener| listener.unix_owner)
    };
    for text in ["mqtt", "mqtt:adm", ":adm", "1000:4"] {
        let owner = owner(text).expect(text).expect("set");
        assert_eq!(owner.to_string(), text);
    }
    for text in [":", "a:b:c", "a b", "../x"] {
        owner(text).expect_err(text);
    }
    assert!(refusal("[[listeners]]\nunix_owner = \"a\"").contains("transport unix"));
}

#[test]
fn listeners_are_read_from_urls() {
    let tls = Listener::from_url("tls://[::]:8884?cert=a.pem&key=b%20c.pem").expect("valid");
    assert_eq!(
        (tls.transport, tls.bind.as_str()),
        (Transport::Tls, "[::]:8884")
    );
    assert_eq!(tls.certificates[0].key, Path::new("b c.pem"));
    let ws = Listener::from_url("ws://0.0.0.0:8080/chat?nodelay=false").expect("valid");
    assert_eq!((ws.path.as_str(), ws.nodelay), ("/chat", false));
    let unix = Listener::from_url("unix:///run/t.sock?unix_mode=0600").expect("valid");
    assert_eq!(
        (unix.bind.as_str(), unix.unix_mode),
        ("/run/t.sock", UnixMode(0o600))
    );
    assert_eq!(
        Listener::from_url("tcp://[::1]").expect("valid").bind,
        "[::1]:1883"
    );
    for url in [
        "x",
        "udp://a:1",
        "tls://a:1",
        "tcp://a:1/p",
        "tcp://a:1?b=%2",
        "tcp://a:1?q=1",
    ] {
        Listener::from_url(url).expect_err(url);
    }
}

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

#[test]
fn a_secret_is_never_shown() {
    let config = read(
        "[[bridges]]\nname = \"b\"\nservers = [\"mqtt://h\"]\nuser_name = \"u\"\n\
         password = \"hunter2\"\n[[bridges.out]]\nfilters = [\"#\"]\n",
    )
    .expect("valid");
    assert!(!format!("{config:?}").contains("hunter2"));
    let config = read("[auth.http]\nauthorization = \"Bearer hunter2\"\n").expect("valid");
    assert!(config.auth.http.authorization.is_some());
    assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
    // Neither where another key is wrong, nor as the default of one.
    for text in [
        "[auth.http]\nauthorization = \"hunter2\"\nurl = \"ftp://a\"\n",
        "[auth.http]\nauthorization = [\"hunter2\"]\n",
        "[[bridges]]\npassword = [\"hunter2\"]\n",
        "[[bridges]]\npassword = \"hunter2\n",
        "[auth.http]\nauthorization = \"Bearer hunter2\n",
        "[auth.http]\nauthorization = Bearer hunter2\n",
        "[auth.http]\nauthorization \"Bearer hunter2\"\n",
        "auth.http = { url = \"a\", authorization = \"hunter2\" }}\n",
        "[auth.http]\nauthorization = \"\"\"\nBearer \\q hunter2\"\"\"\n",
        "[auth.http]\nurl = \"ftp://u:hunter2@a\"\n",
        "[auth.http]\nurl = [\"https://u:hunter2@a\"]\n",
        "[auth.http]\nurl = \"https://u:hunter2@a\n",
        "[auth.jwt]\njwks_url = \"http://u:hunter2@a\"\n",
        "[[bridges]]\nname = \"b\"\nservers = [\"mqtt://u:hunter2@a\"]\n[[bridges.out]]\n\
         filters = [\"#\"]\n",
    ] {
        let said = refusal(text);
        assert!(!said.contains("hunter2"), "{said}");
    }
    let said = refusal("[auth.http]\nauthorization = \"Bearer hunter2\\n\"\n");
    assert!(
        said.contains("no header can hold") && !said.contains("hunter2"),
        "{said}"
    );
    for (name, value) in [
        ("TIDEWIRE_AUTH_HTTP_URL", "ftp://u:hunter2@a"),
        ("TIDEWIRE_AUTH_JWT_JWKS_URL", "http://u:hunter2@a"),
        ("TIDEWIRE_BRIDGES_0_SERVERS", "mqtt://u:hunter2@a"),
    ] {
        let variables = [
            ("TIDEWIRE_BRIDGES_0_NAME", "b"),
            ("TIDEWIRE_BRIDGES_0_OUT_0_FILTERS", "a"),
            ("TIDEWIRE_BRIDGES_0_SERVERS", "mqtt://h"),
            (name, value),
        ];
        let said = with_environment(&variables).expect_err("must be refused");
        let said = said.to_string();
        assert!(!said.contains("hunter2"), "{said}");
    }
}
