//! Namespaces: nothing crosses from one to another.

use tidewire::config::{Config, Namespace, StoreEngine};
use tidewire_protocol::codec::{Connect, Publish, ReasonCode};

use super::broker::{Broker, Directory, login};
use super::client::{Client, Got, Q0, Q1, message, will};

fn namespace(name: &str, user: &str) -> Namespace {
    Namespace {
        name: name.into(),
        users: vec![user.into()],
        ..Namespace::default()
    }
}

/// Alice lives in acme, bob in beta, carol in none.
fn broker(acl: &str, change: impl FnOnce(&mut Config)) -> Broker {
    Broker::with(acl, |config, _| {
        config.auth.namespaces = vec![namespace("acme", "alice"), namespace("beta", "bob")];
        change(config);
    })
}

pub(crate) fn keep_store(config: &mut Config, files: &Directory) {
    config.store.engine = StoreEngine::Lmdb;
    config.store.directory = files.path("store");
}

/// Whether it becomes true within some seconds.
fn soon(mut is_true: impl FnMut() -> bool) -> bool {
    let pause = std::time::Duration::from_millis(5);
    (0..1_000).any(|_| {
        is_true() || {
            std::thread::sleep(pause);
            false
        }
    })
}

fn subscribed(broker: &Broker, user: &str, id: &str, filter: &str) -> Client {
    let mut client = broker.login(user, id);
    assert_eq!(client.subscribe(filter, Q1), ReasonCode::GrantedQoS1);
    client
}

#[test]
fn topics_shares_and_client_ids_are_of_one_namespace() {
    let broker = broker("", |_| {});
    // The same client ids and the same groups.
    let mut ours = subscribed(&broker, "alice", "c", "#");
    let mut theirs = subscribed(&broker, "bob", "c", "#");
    let mut our_share = subscribed(&broker, "alice", "s", "$share/g/t");
    let mut their_share = subscribed(&broker, "bob", "s", "$share/g/t");
    let mut whole = subscribed(&broker, "carol", "c", "#");
    let mut publisher = broker.login("alice", "publisher");
    for topic in ["t", "t", "beta/t", "acme/t"] {
        publisher.publish(topic, Q1);
    }
    assert_eq!(ours.expect_topics(4), ["t", "t", "beta/t", "acme/t"]);
    assert_eq!(our_share.expect_topics(2), ["t", "t"]);
    let seen = ["acme/t", "acme/t", "acme/beta/t", "acme/acme/t"];
    assert_eq!(whole.expect_topics(4), seen);
    theirs.expect_nothing();
    their_share.expect_nothing();
}

#[test]
fn retained_messages_and_wills_are_of_one_namespace() {
    let broker = broker("", |_| {});
    let mut ours = subscribed(&broker, "alice", "ours", "gone");
    let mut theirs = subscribed(&broker, "bob", "theirs", "gone");
    let mut leaver = broker.accepted(&Connect {
        will: Some(will("gone")),
        ..login("alice", "leaver")
    });
    assert_eq!(leaver.retain("kept"), ReasonCode::NoMatchingSubscribers);
    leaver.vanish();
    assert_eq!(ours.expect_topics(1), ["gone"]);
    theirs.expect_nothing();
    let mut theirs = subscribed(&broker, "bob", "later", "#");
    theirs.expect_nothing();
    let mut ours = subscribed(&broker, "alice", "later", "#");
    assert_eq!(ours.expect_topics(1), ["kept"]);
}

#[test]
fn what_the_broker_says_of_itself_is_for_no_namespace_unless_a_rule_says_so() {
    let open = broker("", |_| {});
    for (user, reason) in [
        ("alice", ReasonCode::NotAuthorized),
        ("carol", ReasonCode::GrantedQoS1),
    ] {
        let mut client = open.login(user, user);
        for filter in ["$SYS/#", "$SYS/broker/+", "$share/g/$SYS/#"] {
            assert_eq!(client.subscribe(filter, Q1), reason, "{user} {filter}");
        }
        assert_eq!(client.publish("$SYS/x", Q1), ReasonCode::NotAuthorized);
    }
    let ruled = broker("user alice\ntopic read $SYS/#\n", |_| {});
    let mut alice = ruled.login("alice", "alice");
    assert_eq!(alice.subscribe("$SYS/#", Q1), ReasonCode::GrantedQoS1);
}

#[test]
fn rules_and_patterns_are_about_topics_with_their_namespace() {
    let rules = "pattern readwrite acme/%c/#\npattern readwrite +/%u/own\n";
    let broker = broker(rules, |_| {});
    let mut device = broker.login("alice", "d1");
    for (topic, is_allowed) in [
        ("d1/x", true),
        ("d2/x", false),
        ("alice/own", true),
        ("bob/own", false),
        // The prefix is no way around: it is below the own namespace.
        ("acme/d1/x", false),
        ("../acme/d1/x", false),
    ] {
        let reason = device.publish(topic, Q1);
        assert_eq!(!reason.is_error(), is_allowed, "{topic}");
    }
    // The same client id elsewhere has no rule; the same pattern by user has.
    let mut other = broker.login("bob", "d1");
    assert!(other.publish("d1/x", Q1).is_error());
    assert!(other.publish("acme/d1/x", Q1).is_error());
    assert!(!other.publish("bob/own", Q1).is_error());
    // A client id with a meaning widens nothing, with a prefix neither.
    for id in ["+", "#", "d1/x", "$SYS"] {
        let mut client = broker.login("alice", id);
        assert!(client.publish("d1/x", Q1).is_error(), "{id}");
        let granted = client.subscribe("#", Q0);
        assert!(!granted.is_error(), "filtered by topic");
        device.publish("d1/x", Q1);
        client.expect_nothing();
    }
}

#[test]
fn a_namespace_has_as_many_connections_as_it_may_and_others_do_not_mind() {
    let mut broker = broker("", |config| {
        config.auth.namespaces[0].connections_max = Some(2);
    });
    let first = broker.login("alice", "1");
    let mut second = broker.login("alice", "2");
    let refused = ReasonCode::QuotaExceeded;
    assert_eq!(broker.connect_with(&login("alice", "3")).1, refused);
    broker.login("bob", "3").expect_nothing();
    // A reload keeps count.
    broker.reload();
    assert_eq!(broker.connect_with(&login("alice", "3")).1, refused);
    first.vanish();
    let is_in = || broker.connect_with(&login("alice", "3")).1 == ReasonCode::Success;
    assert!(soon(is_in), "the place is free again");
    second.expect_nothing();
}

fn persistent(user: &'static str, client_id: &'static str) -> Connect<'static> {
    let mut connect = login(user, client_id);
    connect.properties.session_expiry_seconds = Some(600);
    connect
}

#[test]
fn a_namespace_has_as_many_sessions_as_it_may_and_others_do_not_mind() {
    let mut broker = Broker::with("", |config, files| {
        config.auth.namespaces = vec![namespace("acme", "alice"), namespace("beta", "bob")];
        config.auth.namespaces[0].sessions_max = Some(2);
        keep_store(config, files);
    });
    for id in ["1", "2"] {
        broker.accepted(&persistent("alice", id)).vanish();
    }
    let refused = ReasonCode::QuotaExceeded;
    assert_eq!(broker.connect_with(&login("alice", "3")).1, refused);
    broker.login("bob", "3").expect_nothing();
    // What a restart brings back counts, and whose session is there comes in.
    broker.restart();
    assert_eq!(broker.connect_with(&login("alice", "3")).1, refused);
    broker.accepted(&persistent("alice", "2")).vanish();
    // A clean start without expiry ends a session, and there is room.
    broker.login("alice", "1").vanish();
    broker.reload_with(|_, _| {}).unwrap();
    let is_in = || broker.connect_with(&login("alice", "3")).1 == ReasonCode::Success;
    assert!(soon(is_in), "the place is free again");
    broker
        .reload_with(|config, _| config.auth.namespaces[0].sessions_max = None)
        .unwrap();
    broker.login("alice", "4").expect_nothing();
}

#[test]
fn a_user_has_as_many_sessions_as_it_may_and_others_do_not_mind() {
    let mut broker = Broker::with("", |config, files| {
        config.limits.sessions_per_user_max = 2;
        keep_store(config, files);
    });
    for id in ["1", "2"] {
        broker.accepted(&persistent("alice", id)).vanish();
    }
    let refused = ReasonCode::QuotaExceeded;
    assert_eq!(broker.connect_with(&login("alice", "3")).1, refused);
    for id in ["3", "4", "5"] {
        broker.anonymous(id).expect_nothing();
    }
    broker.login("bob", "6").expect_nothing();
    broker.restart();
    assert_eq!(broker.connect_with(&login("alice", "7")).1, refused);
    broker.accepted(&persistent("alice", "2")).expect_nothing();
    broker.login("alice", "1").vanish();
    let is_in = || broker.connect_with(&login("alice", "7")).1 == ReasonCode::Success;
    assert!(soon(is_in), "the place is free again");
}

#[test]
fn a_namespace_retains_as_much_as_it_may_and_others_do_not_mind() {
    for is_durable in [false, true] {
        let mut broker = Broker::with("", |config, files| {
            config.auth.namespaces = vec![namespace("acme", "alice"), namespace("beta", "bob")];
            config.auth.namespaces[0].retained_messages_max = Some(2);
            if is_durable {
                keep_store(config, files);
            }
        });
        let mut alice = broker.login("alice", "a");
        let mut bob = broker.login("bob", "b");
        let retain = |client: &mut Client, topic: &str, payload: &'static [u8]| {
            client.publish_as(Publish {
                retain: true,
                payload,
                ..message(topic, Q1)
            })
        };
        let full = ReasonCode::QuotaExceeded;
        for topic in ["1", "2", "2"] {
            assert!(!retain(&mut alice, topic, b"x").is_error(), "{topic}");
        }
        assert_eq!(retain(&mut alice, "3", b"x"), full);
        for topic in ["1", "2", "3"] {
            assert!(!retain(&mut bob, topic, b"x").is_error(), "{topic}");
        }
        assert!(!retain(&mut alice, "1", b"").is_error());
        assert!(!retain(&mut alice, "3", b"x").is_error());
        // A limit that comes later counts what is there.
        let limit = |config: &mut Config| config.auth.namespaces[1].retained_messages_max = Some(3);
        broker.reload_with(|config, _| limit(config)).unwrap();
        assert_eq!(retain(&mut bob, "4", b"x"), full);
        assert!(!retain(&mut bob, "3", b"y").is_error());
        if is_durable {
            broker.restart();
            let mut alice = broker.login("alice", "a");
            assert_eq!(retain(&mut alice, "4", b"x"), full);
        }
    }
}

#[test]
fn a_client_whose_listener_has_another_mount_point_is_disconnected() {
    let mut broker = broker("", |_| {});
    let mut carol = broker.login("carol", "c");
    broker.reload();
    carol.expect_nothing();
    let change = |config: &mut Config| config.listeners[0].mount_point = Some("site/".into());
    broker.reload_with(|config, _| change(config)).unwrap();
    carol.expect_end(ReasonCode::NotAuthorized);
    broker.login("carol", "c").expect_nothing();
}

#[test]
fn a_listener_may_be_for_clients_of_namespaces_only() {
    let broker = broker("", |config| {
        config.listeners[0].namespace_required = true;
        // A mount point of the listener comes before.
        config.listeners[0].mount_point = Some("site/".into());
    });
    let refused = ReasonCode::NotAuthorized;
    assert_eq!(broker.connect_with(&login("carol", "c")).1, refused);
    let anonymous = super::client::connect("nobody");
    assert_eq!(broker.connect_with(&anonymous).1, refused);
    let mut alice = subscribed(&broker, "alice", "a", "t");
    let mut bob = subscribed(&broker, "bob", "b", "t");
    alice.send(&tidewire_protocol::codec::Packet::Publish(message("t", Q0)));
    let got = alice.receive();
    assert_eq!(got, Got::Message("t".into(), "x".into(), 0));
    bob.expect_nothing();
}

#[test]
fn a_client_whose_namespace_is_another_after_a_reload_is_disconnected() {
    let mut broker = broker("", |_| {});
    let mut alice = broker.login("alice", "a");
    let mut bob = broker.login("bob", "b");
    let mut carol = broker.login("carol", "c");
    broker.reload();
    for client in [&mut alice, &mut bob, &mut carol] {
        client.expect_nothing();
    }
    let change = |config: &mut Config| {
        config.auth.namespaces[0].users = vec!["carol".into()];
        config.auth.namespaces[1].connections_max = Some(9);
    };
    broker.reload_with(|config, _| change(config)).unwrap();
    alice.expect_end(ReasonCode::NotAuthorized);
    carol.expect_end(ReasonCode::NotAuthorized);
    bob.expect_nothing();
}

#[test]
fn a_name_that_is_no_level_or_given_twice_is_refused_at_start() {
    for names in [
        ["a/b", "c"],
        ["$SYS", "c"],
        ["", "c"],
        ["+", "c"],
        ["a", "a"],
    ] {
        let text: String = names
            .iter()
            .map(|name| format!("[[auth.namespaces]]\nname = \"{name}\"\n"))
            .collect();
        let files = Directory::new();
        let file = files.write("c.toml", &text);
        let error = Config::load(Some(&file), std::iter::empty()).unwrap_err();
        assert!(error.to_string().contains("auth.namespaces"), "{error}");
    }
}
