mod bridges;

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
