//! User names and passwords in CONNECT.

use tidewire::config::{Config, Listener};
use tidewire::server::Server;
use tidewire_protocol::codec::{Connect, Packet, ProtocolVersion};

use super::broker::{Broker, connect, login, users};

const VERSIONS: [ProtocolVersion; 3] = [
    ProtocolVersion::V3_1,
    ProtocolVersion::V3_1_1,
    ProtocolVersion::V5,
];

/// The code of a reason before MQTT 5.0, or in it.
fn code(version: ProtocolVersion, old: u8, new: u8) -> u8 {
    if version == ProtocolVersion::V5 {
        new
    } else {
        old
    }
}

fn answers(broker: &Broker, connect: &Connect<'_>, old: u8, new: u8) {
    for version in VERSIONS {
        let connect = Connect {
            version,
            ..connect.clone()
        };
        let (mut client, found) = broker.connect(&connect);
        assert_eq!(found, code(version, old, new), "{version:?}");
        match found {
            0 => client.ping(),
            _ => client.is_closed(),
        }
    }
}

#[test]
fn the_right_password_lets_a_user_in() {
    answers(&Broker::start(), &login("c", "alice", "secret"), 0, 0);
}

#[test]
fn a_wrong_password_is_refused_with_0x86_or_4() {
    let broker = Broker::start();
    answers(&broker, &login("c", "alice", "Secret"), 4, 0x86);
    answers(&broker, &login("c", "alice", ""), 4, 0x86);
    let without_password = Connect {
        password: None,
        ..login("c", "alice", "")
    };
    answers(&broker, &without_password, 4, 0x86);
}

#[test]
fn an_unknown_user_is_refused_like_a_wrong_password() {
    let broker = Broker::start();
    answers(&broker, &login("c", "mallory", "secret"), 4, 0x86);
    answers(&broker, &login("c", "", "secret"), 4, 0x86);
}

#[test]
fn no_user_name_is_refused_with_0x87_or_5_where_anonymous_clients_are_not_allowed() {
    answers(&Broker::start(), &connect("c"), 5, 0x87);
    // Nobody can be known without a password file.
    let broker = Broker::with("", |_| {});
    answers(&broker, &login("c", "alice", "secret"), 5, 0x87);
}

#[test]
fn a_password_alone_is_no_login() {
    let password_alone = Connect {
        user_name: None,
        ..login("c", "", "secret")
    };
    let (_, found) = Broker::start().connect(&password_alone);
    assert_eq!(found, 0x87);
}

#[test]
fn where_anonymous_clients_are_allowed_a_wrong_password_is_still_refused() {
    let broker = Broker::with(&users(), |config| config.allow_anonymous = Some(true));
    answers(&broker, &connect("c"), 0, 0);
    answers(&broker, &login("c", "alice", "secret"), 0, 0);
    answers(&broker, &login("c", "alice", "wrong"), 4, 0x86);
}

#[test]
fn without_a_password_file_user_names_prove_nothing() {
    let broker = Broker::with("", |config| config.allow_anonymous = Some(true));
    answers(&broker, &login("c", "alice", "whatever"), 0, 0);
    // And so guard no session.
    let (mut first, _) = broker.connect(&login("c", "alice", "whatever"));
    let (_second, found) = broker.connect(&login("c", "bob", "whatever"));
    assert_eq!(found, 0);
    let end = first.receive();
    assert_eq!((end[0], end[2]), (0xE0, 0x8E));
}

#[test]
fn a_broker_with_a_malformed_password_file_does_not_start() {
    let file = std::env::temp_dir().join(format!("tidewire-malformed-{}", std::process::id()));
    std::fs::write(&file, "# users\nalice:secret\n").unwrap();
    let mut config = Config {
        listeners: vec![Listener {
            bind: "127.0.0.1:0".into(),
            ..Listener::default()
        }],
        ..Config::default()
    };
    config.auth.password_file = Some(file.clone());
    let error = Server::start(config).unwrap_err().to_string();
    let expected = format!("{}:2: the hash must begin with", file.display());
    assert!(error.starts_with(&expected), "{error}");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_flood_of_logins_is_answered_busy_and_delays_nobody_who_is_connected() {
    // A tenth of a second and more for each.
    let slow = "mallory:$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHQ$\
                nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n";
    let broker = Broker::with(slow, |config| {
        config.allow_anonymous = Some(true);
        config.auth.hashing_threads = 1;
        config.limits.logins_waiting_max = 4;
        config.limits.connect_seconds = 3_600;
    });
    let (mut connected, _) = broker.connect(&connect("connected"));
    let mut flood = Vec::new();
    for number in 0..40 {
        let version = VERSIONS[number % 3];
        let connect = Connect {
            version,
            ..login("flood", "mallory", "wrong")
        };
        let mut client = broker.open();
        client.send(&Packet::Connect(Box::new(connect)), version);
        flood.push((version, client));
    }
    for _ in 0..100 {
        connected.ping();
    }
    let mut busy = 0;
    for (version, mut client) in flood {
        let found = client.connack();
        let is_busy = found == code(version, 3, 0x89);
        assert!(is_busy || found == code(version, 4, 0x86), "{found}");
        busy += usize::from(is_busy);
        client.is_closed();
    }
    // The one at work, the four that wait, and what was done while the flood came in.
    assert!(
        (1..40).contains(&busy),
        "{busy} of 40 were told to come later"
    );
    // And then all is as before.
    let (_, found) = broker.connect(&login("c", "mallory", "wrong"));
    assert_eq!(found, 0x86);
    connected.ping();
}
