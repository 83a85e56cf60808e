//! Negative tests 31 and 45: another configuration for a running broker.

use std::sync::atomic::{AtomicBool, Ordering};

use tidewire::config::{Certificate, ClientCertificates, Listener, Transport};
use tidewire_protocol::codec::ReasonCode;

use super::broker::{Broker, login, users};
use super::client::{Client, Q1, connect};
use super::namespaces::keep_store;

const RULES: &str = "topic read b\nuser alice\ntopic a/#\n";

/// What holds as long as the first configuration does.
fn is_as_before(broker: &Broker, alice: &mut Client) {
    assert!(!alice.publish("a/1", Q1).is_error());
    assert_eq!(alice.publish("b", Q1), ReasonCode::NotAuthorized);
    let mut anyone = broker.anonymous("anyone");
    assert_eq!(anyone.publish("a/1", Q1), ReasonCode::NotAuthorized);
    let mut wrong = login("alice", "wrong");
    wrong.password = Some(b"wrong");
    let (_, reason) = broker.connect_with(&wrong);
    assert_eq!(reason, ReasonCode::BadUserNameOrPassword);
    broker.login("bob", "bob").expect_nothing();
}

#[test]
fn a_bad_acl_file_changes_nothing_and_is_named() {
    let mut broker = Broker::start(RULES);
    let mut alice = broker.login("alice", "alice");
    // Users that would be valid, so that a half-applied reload shows.
    broker.files.write("users", &users(&["alice", "carol"]));
    for (text, said) in [
        ("", "has no rule"),
        ("# nothing\n", "has no rule"),
        ("topic #\nbroken\n", "acl:2: expected"),
        ("topic #\ntopic read a", "acl:2: the last line has no end"),
    ] {
        broker.files.write("acl", text);
        let error = broker.reload_with(|_, _| {}).unwrap_err();
        assert!(error.contains(said), "{error}");
        is_as_before(&broker, &mut alice);
    }
    std::fs::remove_file(broker.files.path("acl")).unwrap();
    let error = broker.reload_with(|_, _| {}).unwrap_err();
    assert!(error.contains("cannot be read"), "{error}");
    is_as_before(&broker, &mut alice);
}

#[test]
fn a_bad_password_file_changes_nothing_and_is_named() {
    let mut broker = Broker::start(RULES);
    let mut alice = broker.login("alice", "alice");
    broker.files.write("acl", "topic #\n");
    for (text, said) in [
        ("", "has no user"),
        ("# nothing\n", "has no user"),
        ("alice\n", "users:1: expected"),
        ("alice:$argon2id$v=19$m=\n", "users:1:"),
    ] {
        broker.files.write("users", text);
        let error = broker.reload_with(|_, _| {}).unwrap_err();
        assert!(error.contains(said), "{error}");
        is_as_before(&broker, &mut alice);
    }
}

#[test]
fn a_bad_certificate_or_a_missing_authority_changes_nothing() {
    let mut broker = Broker::start(RULES);
    let mut alice = broker.login("alice", "alice");
    broker.files.write("acl", "topic #\n");
    let listener =
        |certificate: &str, ca: Option<&str>, files: &super::broker::Directory| Listener {
            bind: "127.0.0.1:0".into(),
            transport: Transport::Tls,
            certificates: vec![Certificate {
                certificate: files.path(certificate),
                key: files.path("server.key"),
            }],
            client_ca: ca.map(|name| files.path(name)),
            client_certificates: match ca {
                Some(_) => ClientCertificates::Required,
                None => ClientCertificates::Off,
            },
            ..Listener::default()
        };
    let hosts = ["localhost".to_owned()];
    let made = tidewire::cli::certs::write_development_certificates(&broker.files.path(""), &hosts);
    made.unwrap();
    broker
        .files
        .write("broken.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    for (certificate, ca, said) in [
        ("broken.crt", None, "broken.crt"),
        ("missing.crt", None, "missing.crt"),
        ("client.crt", None, "server.key"),
        ("server.crt", Some("missing-ca.crt"), "missing-ca.crt"),
    ] {
        let error = broker.reload_with(|config, files| {
            config.listeners.push(listener(certificate, ca, files));
        });
        let error = error.unwrap_err();
        assert!(error.contains(said), "{error}");
        assert_eq!(broker.addresses().len(), 1);
        is_as_before(&broker, &mut alice);
    }
    let taken = broker.addresses()[0].strip_prefix("mqtt://").unwrap();
    let taken = taken.to_owned();
    let error = broker.reload_with(|config, _| {
        config.listeners.push(Listener {
            bind: taken,
            ..Listener::default()
        });
    });
    assert!(error.unwrap_err().contains("cannot listen on"));
    is_as_before(&broker, &mut alice);
}

#[test]
fn listeners_come_and_go_and_clients_of_a_closed_one_stay() {
    let mut broker = Broker::start(RULES);
    let mut alice = broker.login("alice", "alice");
    let old = broker.addresses()[0].clone();
    let second = Listener {
        bind: "localhost:0".into(),
        ..Listener::default()
    };
    let added = second.clone();
    broker
        .reload_with(|config, _| config.listeners.push(added))
        .unwrap();
    assert_eq!(broker.addresses()[0], old);
    let address = broker.addresses()[1].strip_prefix("mqtt://").unwrap();
    let mut client = Client::open(address);
    client.send_connect(&connect("second"));
    client.receive();
    broker
        .reload_with(|config, _| config.listeners = vec![second])
        .unwrap();
    assert_eq!(broker.addresses().len(), 1);
    let old = old.strip_prefix("mqtt://").unwrap();
    let mut closed = false;
    for _ in 0..1_000 {
        closed = std::net::TcpStream::connect(old).is_err();
        if closed {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(closed, "the old address is not served any more");
    assert!(!alice.publish("a/1", Q1).is_error());
}

#[test]
fn users_and_limits_hold_from_the_reload_on() {
    let mut broker = Broker::start(RULES);
    broker.files.write("users", &users(&["alice", "dave"]));
    let waiting = broker.reload_with(|config, _| {
        config.limits.topic_levels_max = 2;
        config.shards = 7;
    });
    assert_eq!(waiting, Ok(vec!["shards"]));
    broker.login("dave", "dave").expect_nothing();
    let mut alice = broker.login("alice", "alice");
    assert!(!alice.publish("a/1", Q1).is_error());
    assert_eq!(alice.publish("a/1/2", Q1), ReasonCode::TopicNameInvalid);
}

#[test]
fn limits_of_connections_and_of_what_is_retained_hold_from_the_reload_on() {
    for is_durable in [false, true] {
        let mut broker = Broker::with(
            "topic #
",
            |config, files| {
                if is_durable {
                    keep_store(config, files);
                }
            },
        );
        let mut anyone = broker.anonymous("anyone");
        let _second = broker.anonymous("second");
        let mut retained = |topic: &str| !anyone.retain(topic).is_error();
        let mut limit = |connections: usize, messages: usize, bytes: usize| {
            let waiting = broker.reload_with(|config, _| {
                config.limits.connections_max = connections;
                config.limits.retained_messages_max = messages;
                config.limits.retained_bytes_max = bytes;
            });
            assert_eq!(waiting, Ok(Vec::new()));
            let mut third = broker.open();
            third.send_connect(&connect("third"));
            third.receive() != super::client::Got::Closed
        };
        assert!(retained("a") && retained("b"));
        assert!(!limit(1, 1, 1 << 20), "two are connected already");
        assert!(!retained("c"));
        assert!(retained("b"), "what is there may be replaced");
        assert!(limit(3, 3, 1 << 20));
        assert!(retained("c") && !retained("d"));
        limit(100, 10, 1);
        assert!(!retained("d"));
        assert!(retained("c"), "what takes no more room may come");
        limit(100, 10, 1 << 20);
        assert!(retained("d"));
    }
}

/// With `TIDEWIRE_RELOAD_CLIENTS=1000` the clients of the proof; fewer in every run.
fn client_count() -> usize {
    let asked = std::env::var("TIDEWIRE_RELOAD_CLIENTS").ok();
    asked.map_or(100, |it| it.parse().unwrap())
}

#[test]
fn a_reload_under_load_loses_no_message_and_no_client() {
    let clients = client_count();
    let messages = (100_000 / clients).min(200);
    let rules = "user alice\ntopic a/#\nuser bob\ntopic read #\nuser carol\ntopic read #\n";
    let mut broker = Broker::start(rules);
    let join = |user: &str, number: usize| {
        let mut reader = broker.login(user, &format!("{user}-{number}"));
        reader.subscribe("a/#", Q1);
        reader
    };
    let mut readers: Vec<Client> = (0..clients).map(|number| join("bob", number)).collect();
    // Her rights end at the first reload.
    let mut gone: Vec<Client> = (0..10).map(|number| join("carol", number)).collect();
    let mut alice = broker.login("alice", "alice");
    let is_done = AtomicBool::new(false);
    let reloads = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..messages {
                assert!(!alice.publish("a/x", Q1).is_error());
            }
            is_done.store(true, Ordering::Release);
        });
        let mut reloads = 0;
        broker.files.write("users", &users(&["alice", "bob"]));
        while !is_done.load(Ordering::Acquire) || reloads == 0 {
            // Each time other rules, so that everything is bound anew.
            let extra = format!("user carol\ntopic c/{reloads}\n");
            let acl = format!("user alice\ntopic a/#\nuser bob\ntopic read #\n{extra}");
            broker.files.write("acl", &acl);
            broker.reload();
            broker.files.write("acl", "broken\n");
            broker.reload_with(|_, _| {}).unwrap_err();
            reloads += 1;
        }
        reloads
    });
    assert!(reloads > 0);
    eprintln!("{clients} clients, {messages} messages to each, {reloads} reloads");
    for reader in &mut readers {
        assert_eq!(reader.expect_topics(messages).len(), messages);
    }
    for client in &mut gone {
        let end = std::iter::repeat_with(|| client.receive())
            .find(|got| !matches!(got, super::client::Got::Message(..)));
        let reason = ReasonCode::NotAuthorized;
        assert_eq!(end, Some(super::client::Got::Disconnect(reason)));
    }
}
