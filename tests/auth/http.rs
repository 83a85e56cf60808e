//! Logins that a server elsewhere decides about.

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tidewire::config::{Authentication, Config, Secret};
use tidewire_protocol::codec::{Connect, Packet, ProtocolVersion, ReasonCode};

use super::broker::{Broker, connect, login, users};
use super::http_server::HttpServer;
use super::token_login::{staff_only, subscribe};

fn broker(server: &HttpServer, lines: &str, change: impl FnOnce(&mut Config)) -> Broker {
    let url = server.url.clone();
    Broker::with(lines, |config| {
        config.auth.http.url = Some(url);
        config.auth.http.timeout_milliseconds = 5_000;
        change(config);
    })
}

/// Each user is a client of its own: the broker may still have to hear that the one before left.
fn codes(broker: &Broker, user_name: &str) -> [u8; 2] {
    let connect = login(user_name, user_name, "secret");
    let old = Connect {
        version: ProtocolVersion::V3_1_1,
        ..connect.clone()
    };
    [broker.connect(&connect).1, broker.connect(&old).1]
}

#[test]
fn the_server_decides_by_what_the_client_shows() {
    let server = HttpServer::start();
    let broker = broker(&server, "", |config| {
        config.auth.http.authorization = Some(Secret("Bearer us".into()));
    });
    assert_eq!(codes(&broker, "anna"), [0, 0]);
    assert_eq!(codes(&broker, "denied"), [0x86, 4]);
    assert_eq!(codes(&broker, "ignored"), [0x86, 4]);
    // Nothing to ask about.
    assert_eq!(broker.connect(&connect("c")).1, 0x87);
    let questions = server.seen.questions.lock().unwrap();
    let (head, question) = &questions[0];
    assert!(head.starts_with("POST /login HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: Bearer us\r\n"), "{head}");
    let expected = json!({
        "client_id": "anna", "user_name": "anna", "password": "secret",
        "address": "127.0.0.1", "certificate": null,
    });
    assert_eq!(*question, expected);
}

#[test]
fn the_server_may_name_the_groups_that_rules_are_about() {
    let server = HttpServer::start();
    let broker = broker(&server, "", staff_only);
    for (user, is_allowed) in [("worker", true), ("driver", false), ("carol", true)] {
        let (mut client, found) = broker.connect(&login(user, user, "secret"));
        assert_eq!(found, 0, "{user}");
        let allowed = subscribe(&mut client, "staff/a") < 0x80;
        assert_eq!(allowed, is_allowed, "{user}");
    }
    assert_eq!(codes(&broker, "grouped"), [0x88, 3]);
}

#[test]
fn a_server_that_is_down_slow_or_talks_nonsense_lets_nobody_in() {
    let server = HttpServer::start();
    let broker = broker(&server, "", |config| {
        config.allow_anonymous = Some(true);
        config.auth.http.timeout_milliseconds = 200;
    });
    let (mut connected, _) = broker.connect(&connect("connected"));
    for user_name in [
        "garbage",
        "empty",
        "huge",
        "slow",
        "error",
        "forbidden",
        "moved",
        "silent",
        "nonsense",
    ] {
        assert_eq!(codes(&broker, user_name), [0x88, 3], "{user_name}");
    }
    connected.ping();
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let down = Broker::with("", |config| {
        config.allow_anonymous = Some(true);
        config.auth.http.url = Some(format!("http://{nobody}/"));
    });
    assert_eq!(codes(&down, "anna"), [0x88, 3]);
}

#[test]
fn answers_are_remembered_and_failures_are_not() {
    let server = HttpServer::start();
    let remembering = broker(&server, "", |_| {});
    assert_eq!(codes(&remembering, "anna"), [0, 0]);
    assert_eq!(codes(&remembering, "denied"), [0x86, 4]);
    assert_eq!(server.count(), 2);
    // Another password, and another client id, are other questions.
    assert_eq!(remembering.connect(&login("anna", "anna", "other")).1, 0);
    assert_eq!(remembering.connect(&login("d", "anna", "secret")).1, 0);
    assert_eq!(server.count(), 4);
    assert_eq!(codes(&remembering, "error"), [0x88, 3]);
    assert_eq!(server.count(), 6);
    let forgetful = broker(&server, "", |config| config.auth.http.cache_seconds = 0);
    assert_eq!(codes(&forgetful, "anna"), [0, 0]);
    assert_eq!(server.count(), 8);
    let short = broker(&server, "", |config| config.auth.http.cache_seconds = 1);
    // One login each time: two may be further apart than a second.
    assert_eq!(short.connect(&login("anna", "anna", "secret")).1, 0);
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(short.connect(&login("anna", "anna", "secret")).1, 0);
    assert_eq!(server.count(), 10);
    let small = broker(&server, "", |config| config.auth.http.cache_entries_max = 1);
    for user_name in ["anna", "bert", "anna", "bert"] {
        assert_eq!(codes(&small, user_name), [0, 0]);
    }
    assert_eq!(server.count(), 15);
}

#[test]
fn few_questions_are_asked_at_once_and_the_rest_waits_or_is_told_to_come_later() {
    let server = HttpServer::start();
    let broker = broker(&server, &users(), |config| {
        config.auth.http.requests_max = 2;
        config.limits.logins_waiting_max = 3;
        config.auth.http.cache_seconds = 0;
        config.auth.order = vec![Authentication::Http];
        config.allow_anonymous = Some(true);
    });
    let (mut connected, _) = broker.connect(&connect("connected"));
    let version = ProtocolVersion::V5;
    let mut flood: Vec<_> = (0..20)
        .map(|_| {
            let mut client = broker.open();
            let slow = Packet::Connect(Box::new(login("", "slow", "secret")));
            client.send(&slow, version);
            client
        })
        .collect();
    connected.ping();
    let found: Vec<u8> = flood
        .iter_mut()
        .map(super::broker::Client::connack)
        .collect();
    let busy = found.iter().filter(|code| **code == 0x89).count();
    let allowed = found.iter().filter(|code| **code == 0).count();
    assert_eq!(busy + allowed, 20, "{found:02x?}");
    assert!((2..20).contains(&allowed), "{found:02x?}");
    assert!(server.seen.at_once_max.load(Ordering::SeqCst) <= 2);
}

#[test]
fn users_of_the_password_file_do_not_wait_for_a_server_that_is_down() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let broker = Broker::with(&users(), |config| {
        config.auth.http.url = Some(format!("http://{nobody}/"));
    });
    assert_eq!(codes(&broker, "alice"), [0, 0]);
    assert_eq!(broker.connect(&login("c", "alice", "wrong")).1, 0x86);
    assert_eq!(codes(&broker, "anna"), [0x88, 3]);
}

#[test]
fn the_server_may_give_rules_and_lift_all_others() {
    let server = HttpServer::start();
    let broker = broker(&server, "", |config| {
        config.acl.rules.push(tidewire::config::AclRule {
            actions: vec![tidewire::config::AclAction::All],
            topics: vec!["common".into()],
            ..Default::default()
        });
    });
    for (user_name, expected) in [
        ("anna", [true, false, false]),
        ("ruled", [true, true, false]),
        ("super", [true, true, true]),
    ] {
        let (mut client, found) = broker.connect(&login(user_name, user_name, "secret"));
        assert_eq!(found, 0);
        let found = ["common", "mine/a", "b"].map(|it| subscribe(&mut client, it) < 0x80);
        assert_eq!(found, expected, "{user_name}");
    }
}

#[test]
fn the_server_may_say_when_a_login_ends() {
    let server = HttpServer::start();
    let broker = broker(&server, "", |config| config.auth.http.cache_seconds = 600);
    let (mut guest, found) = broker.connect(&login("guest", "guest", "secret"));
    assert_eq!(found, 0);
    let (mut anna, found) = broker.connect(&login("anna", "anna", "secret"));
    assert_eq!(found, 0);
    guest.ends_with(ReasonCode::MaximumConnectTime);
    anna.ping();
    // What has ended is asked about again.
    assert_eq!(broker.connect(&login("guest", "guest", "secret")).1, 0);
    assert_eq!(server.seen.questions.lock().unwrap().len(), 3);
}
