use std::path::Path;

use clap::CommandFactory;
use tidewire_protocol::codec::{ProtocolVersion, QoS};

use super::*;
use crate::config::{Config, LogLevel, Transport};

fn read(words: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("tidewire").chain(words.split_whitespace());
    Arguments::read(words.map(OsString::from)).map(Arguments::into_command)
}

fn config(words: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let Command::Run(run) = read(words).map_err(|error| error.to_string())? else {
        return Err("not run".into());
    };
    let pairs = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    run.config_in(pairs).map_err(|error| error.to_string())
}

#[test]
fn the_definition_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn no_command_is_run() {
    assert_eq!(config("", &[]), Ok(Config::default()));
    assert_eq!(config("--shards 2", &[]), config("run --shards 2", &[]));
}

#[test]
fn flags_win_over_environment_over_file() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/edge.toml");
    let words = format!("-c {} --shards 3 --log debug", file.display());
    let environment = [
        ("TIDEWIRE_SHARDS", "2"),
        ("TIDEWIRE_SYS_INTERVAL_SECONDS", "5"),
        ("PATH", "x"),
    ];
    let config = config(&words, &environment).expect("valid");
    assert_eq!((config.shards, config.sys_interval_seconds), (3, 5));
    assert_eq!(config.limits.sessions_max, 2000);
    assert_eq!(config.log.level, LogLevel::Debug);
}

#[test]
fn listen_replaces_the_listeners() {
    let words = "run --listen tcp://0.0.0.0:1 --listen ws://0.0.0.0:2/x --allow-anonymous";
    let config = config(words, &[("TIDEWIRE_LISTENERS_0_BIND", "a:9")]).expect("valid");
    let binds: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| listener.bind.as_str())
        .collect();
    assert_eq!(binds, ["0.0.0.0:1", "0.0.0.0:2"]);
    assert_eq!(config.allow_anonymous, Some(true));
}

#[test]
fn unusable_flags_are_refused_with_a_reason() {
    let cases = [
        (
            "--shards x",
            "argument --shards: `shards` is \"x\", expected an integer",
        ),
        (
            "--log loud",
            "argument --log: `log.level` is \"loud\", expected one of",
        ),
        (
            "--listen tls://a:1",
            "certificates needs at least one entry",
        ),
        (
            "--listen tcp://a:1 --listen tcp://a:1",
            "argument --listen: `listeners.1.bind`",
        ),
        (
            "--listen tcp://a:1?backlg=5",
            "did you mean `listeners.0.backlog`?",
        ),
        ("-c /does/not/exist", "/does/not/exist: cannot be read"),
    ];
    for (words, part) in cases {
        let message = config(words, &[]).expect_err(words);
        assert!(message.contains(part), "{words} gave {message}");
    }
    config("--store memory", &[]).expect("valid");
}

#[test]
fn pub_reads_its_flags() {
    let words = "pub --url wss://h/x -t a/b -m -5 -q 1 -r --property a=b=c --expiry 5 -u me";
    let Ok(Command::Pub(publish)) = read(words) else {
        panic!("must be pub")
    };
    let url = publish
        .connection
        .server
        .url(&publish.connection.credentials);
    assert_eq!(url.transport, Transport::Wss);
    assert_eq!(url.address, "h:443");
    assert_eq!(url.path, "/x");
    assert_eq!((publish.qos, publish.retain), (QoS::AtLeastOnce, true));
    assert_eq!(publish.message.as_deref(), Some("-5"));
    assert_eq!(
        publish.properties[0],
        UserProperty {
            name: "a".into(),
            value: "b=c".into()
        }
    );
    assert_eq!(publish.connection.version, ProtocolVersion::V5);
}

#[test]
fn a_password_is_not_shown_by_debug() {
    let command = read("sub -t a -u me -P geheim").expect("valid");
    assert!(!format!("{command:?}").contains("geheim"));
}

#[test]
fn sub_and_bench_read_their_flags() {
    let words = "sub -t a -t b/# --version 3.1.1 --count 2 --will-topic w --will-payload gone";
    let Ok(Command::Sub(subscribe)) = read(words) else {
        panic!("must be sub")
    };
    assert_eq!((subscribe.topics.len(), subscribe.count), (2, Some(2)));
    assert_eq!(subscribe.connection.version, ProtocolVersion::V3_1_1);
    let words = "bench fan-in --qos 2 --payload 100 --clients 9 --warm-up 0 --pid 7 --json";
    let Ok(Command::Bench(bench)) = read(words) else {
        panic!("must be bench")
    };
    assert_eq!(
        (bench.scenario, bench.qos),
        (Scenario::FanIn, QoS::ExactlyOnce)
    );
    assert!(matches!(read("version"), Ok(Command::Version)));
    let Ok(Command::Certs(certs)) = read("certs --out d --host a --host b") else {
        panic!("must be certs")
    };
    assert_eq!(certs.hosts, ["a", "b"]);
}

#[test]
fn wrong_usage_ends_with_status_2() {
    let cases = [
        "pub -t a",
        "pub -t a -m x -n",
        "pub -t a -m x -q 3",
        "pub -t a -m x --version 3.1.1 --expiry 5",
        "pub -t a -m x --cert c",
        "pub -t a -m x --url http://a",
        "pub -t a -m x --url mqtt://u:p@a",
        "pub -t a -m x --keep-session",
        "sub",
        "sub -t a --will-payload x",
        "bench",
        "bench rate --rate 0",
        "bench wildcards --clients 100 --filters 49",
        "bench durable --outstanding 0",
        "bench connect --insecure --ca c",
        "bench pairs --payload 1",
        "unheard-of",
    ];
    for words in cases {
        assert_eq!(read(words).expect_err(words).exit_code(), 2, "{words}");
    }
    assert_eq!(read("--help").expect_err("help").exit_code(), 0);
}

#[test]
fn trust_without_tls_is_refused() {
    for words in [
        "pub -t a -m x --url mqtt://h --ca c",
        "pub -t a -m x --insecure",
        "sub -t a --url unix:///s --ca c",
        "bench pairs --url ws://h --ca c",
    ] {
        let error = read(words).expect_err(words).to_string();
        assert!(error.contains("wss://"), "{words} gave {error}");
    }
    read("sub -t a --url wss://h --ca c").expect("TLS");
}

#[test]
fn h_is_the_host_of_a_client_as_with_mosquitto_pub() {
    for (words, transport, address) in [
        ("sub -h host -t a", Transport::Tcp, "host:1883"),
        ("sub -h host -p 1884 -t a", Transport::Tcp, "host:1884"),
        ("sub -p 1884 -t a", Transport::Tcp, "127.0.0.1:1884"),
        ("sub -h ::1 -V mqttv311 -t a", Transport::Tcp, "[::1]:1883"),
        ("sub -h host --ca f -t a", Transport::Tls, "host:8883"),
    ] {
        let Ok(Command::Sub(sub)) = read(words) else {
            panic!("{words} is not sub");
        };
        let url = sub.connection.server.url(&sub.connection.credentials);
        assert_eq!((url.transport, url.address.as_str()), (transport, address));
    }
    for words in [
        "pub -h",
        "sub -h a:b@c -t a",
        "sub -h a --url mqtt://b -t a",
    ] {
        let error = read(words).expect_err(words);
        assert_ne!(error.kind(), ErrorKind::DisplayHelp, "{words}");
    }
    for words in ["pub --help", "sub --help", "bench --help", "run -h"] {
        let error = read(words).expect_err(words);
        assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{words}");
    }
}
