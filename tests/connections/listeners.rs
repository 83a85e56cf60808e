//! Addresses of listeners.

use std::os::unix::net::UnixStream;

use tidewire::config::{Config, Listener, Transport, UnixMode};
use tidewire::server::Server;

use crate::broker::{Broker, folder, listener, open};
use crate::client::Client;

#[test]
fn clients_come_by_ipv6() {
    let broker = Broker::start(|config| {
        config.listeners = vec![Listener {
            bind: "[::1]:0".into(),
            ..listener()
        }];
        config.limits.connections_per_address_max = 1;
    });
    assert!(broker.addresses[0].is_ipv6());
    let mut client = broker.client("six");
    client.ping();
    assert_eq!(open(broker.addresses[0]).until_closed(), b"");
}

#[test]
fn the_unspecified_ipv6_address_serves_ipv4_as_well() {
    let broker = Broker::start(|config| {
        config.listeners = vec![Listener {
            bind: "[::]:0".into(),
            allow_anonymous: Some(true),
            ..listener()
        }];
    });
    let port = broker.addresses[0].port();
    for address in ["127.0.0.1", "[::1]"] {
        let address = format!("{address}:{port}").parse().unwrap();
        open(address).connect("either");
    }
}

#[test]
fn a_unix_socket_serves_while_the_broker_runs_and_then_goes_away() {
    let path = folder("unix").join("broker.sock");
    let config = || Config {
        shards: 1,
        listeners: vec![Listener {
            bind: path.display().to_string(),
            transport: Transport::Unix,
            unix_mode: UnixMode(0o600),
            ..Listener::default()
        }],
        ..Config::default()
    };
    let server = Server::start(config()).unwrap();
    let mut client = Client::new(UnixStream::connect(&path).unwrap());
    client.connect("unix");
    client.ping();
    let second = Server::start(config()).unwrap_err().to_string();
    assert!(second.contains("in use"), "{second}");
    client.ping();
    drop(client);
    server.stop().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_broker_that_cannot_open_all_listeners_leaves_no_socket_file() {
    let path = folder("unix").join("broker.sock");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners = vec![
        Listener {
            bind: path.display().to_string(),
            transport: Transport::Unix,
            ..Listener::default()
        },
        Listener {
            bind: taken.local_addr().unwrap().to_string(),
            ..Listener::default()
        },
    ];
    let config = Config {
        listeners,
        ..Config::default()
    };
    assert!(Server::start(config).is_err());
    assert!(!path.exists());
}
