//! Each scenario of `tidewire bench` against a broker in this process: counts, never times.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use serde_json::Value;
use tidewire::config::{Config, Listener};
use tidewire::server::Server;

/// Runs the command against a fresh broker, and returns its result.
fn bench(words: &str) -> Value {
    let server = start();
    let output = run(&server.addresses()[0], words);
    server.stop().expect("the broker stops");
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {problem}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn start() -> Server {
    Server::start(Config {
        shards: 2,
        sys_interval_seconds: 0,
        listeners: vec![Listener {
            bind: "127.0.0.1:0".into(),
            ..Listener::default()
        }],
        ..Config::default()
    })
    .expect("the broker starts")
}

fn run(url: &str, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidewire"))
        .arg("bench")
        .args(words.split_whitespace())
        .args(["--json", "--url", url])
        .output()
        .expect("the command runs")
}

fn count(result: &Value, key: &str) -> u64 {
    result[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no {key} in {result}"))
}

/// Messages came, and each came once and in order.
fn is_faultless(result: &Value) {
    assert!(count(result, "delivered_messages") > 0, "{result}");
    for key in [
        "lost_messages",
        "duplicate_messages",
        "out_of_order_messages",
    ] {
        assert_eq!(count(result, key), 0, "{key} of {result}");
    }
}

fn at_once(all: [&str; 3], work: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        let work = &work;
        for one in all {
            scope.spawn(move || work(one));
        }
    });
}

#[test]
fn pairs_receive_what_they_publish_at_every_qos() {
    at_once(["0", "1", "2"], |qos| {
        let words = format!("pairs --clients 6 --window 10 --seconds 1 --warm-up 1 -q {qos}");
        is_faultless(&bench(&words));
    });
}

#[test]
fn one_subscriber_receives_from_many_publishers() {
    is_faultless(&bench(
        "fan-in --clients 7 --seconds 1 --warm-up 0 -q 1 -V 3.1.1",
    ));
}

#[test]
fn many_subscribers_receive_from_one_publisher() {
    let result = bench("fan-out --clients 7 --seconds 1 --warm-up 0 -q 1 --window 1");
    is_faultless(&result);
    assert_eq!(count(&result, "expected_messages") % 7, 0, "{result}");
}

#[test]
fn a_rate_is_sent_in_full_whatever_the_answers() {
    let result = bench("rate --clients 4 --rate 500 --seconds 1 --warm-up 1 -q 1");
    is_faultless(&result);
    let expected = count(&result, "expected_messages");
    // What a busy machine sends late may be on either side of the borders.
    assert!((400..=600).contains(&expected), "{result}");
    assert!(count(&result, "unsent_messages") <= 100, "{result}");
}

#[test]
fn each_topic_reaches_its_wildcard_filter() {
    let result = bench("wildcards --clients 6 --filters 500 --seconds 1 --warm-up 0 -q 1");
    is_faultless(&result);
    assert_eq!(count(&result, "filters"), 500);
}

#[test]
fn idle_connections_are_held_and_answer_at_the_end() {
    let result = bench("connect --clients 100 --filters 2 --keep-alive 1 --seconds 3");
    assert_eq!(count(&result, "connections"), 100);
    assert_eq!(count(&result, "subscriptions_per_connection"), 2);
    assert_eq!(count(&result, "lost_connections"), 0);
}

#[test]
fn sessions_that_were_away_find_all_acknowledged_messages() {
    at_once(["-V 5.0 -q 1", "-V 3.1.1 -q 1", "-V 5.0 -q 2"], |words| {
        let result = bench(&format!(
            "durable --clients 6 --messages 300 --outstanding 1,50 --seconds 60 {words}"
        ));
        let steps = result["steps"].as_array().expect("steps");
        assert_eq!(steps.len(), 2);
        // One outstanding message is one publisher, 50 are three.
        for (step, published) in steps.iter().zip([300, 300]) {
            assert_eq!(count(step, "acknowledged_messages"), published);
            assert_eq!(count(step, "drained_messages"), published);
            assert_eq!(count(step, "lost_messages"), 0);
            assert_eq!(count(step, "duplicate_messages"), 0);
        }
    });
}

#[test]
fn a_server_that_loses_acknowledged_messages_fails_the_measurement() {
    let mut config = Config {
        shards: 1,
        listeners: vec![Listener {
            bind: "127.0.0.1:0".into(),
            ..Listener::default()
        }],
        ..Config::default()
    };
    config.limits.queue_messages_max = 5;
    let server = Server::start(config).expect("the broker starts");
    let words = "durable --clients 2 --messages 50 --outstanding 10 --seconds 60";
    let output = run(&server.addresses()[0], words);
    server.stop().expect("the broker stops");
    assert_eq!(output.status.code(), Some(1));
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(count(&result, "lost_messages"), 45);
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(problem.contains("lost 45 and duplicated 0"), "{problem}");
}
