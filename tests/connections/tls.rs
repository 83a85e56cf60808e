//! TLS listeners.

use std::io::{Read, Write};
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;
use tidewire::config::{Certificate, ClientCertificates, Config, Listener, TlsVersion, Transport};

use crate::broker::{Broker, listener, log_length, log_line_since};
use crate::certificates::{Authority, TLS_1_2, TLS_1_3, TlsStream, Wish, der};
use crate::client::{Client, connect, publish};

fn with_listeners(listeners: Vec<Listener>) -> impl FnOnce(&mut Config) {
    move |config| config.listeners = listeners
}

/// The line on a connection that ended, behind the first `start` bytes of the log: earlier ones may
/// be on another connection from the same port.
fn line_on(client: &Client<TlsStream>, start: usize) -> String {
    let address = client.stream.sock.local_addr().unwrap();
    log_line_since(start, &format!("peer={address} "))
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let authority = Authority::new();
    let broker = Broker::start(with_listeners(vec![authority.listener()]));
    for versions in [&TLS_1_2, &TLS_1_3] {
        let mut client = authority.open(
            &broker,
            Wish {
                versions,
                ..Wish::default()
            },
        );
        client.connect("tls");
        client.subscribe("a", 0);
        client.send(&publish("a", 0, 0, b"x"));
        assert!(client.packet().body.ends_with(b"x"));
        let spoken = client.stream.conn.protocol_version().unwrap();
        assert_eq!(spoken, versions[0].version);
    }
}

#[test]
fn a_listener_may_demand_the_newer_version() {
    let authority = Authority::new();
    let broker = Broker::start(with_listeners(vec![Listener {
        tls_version_min: TlsVersion::V1_3,
        ..authority.listener()
    }]));
    let open = |versions| {
        let wish = Wish {
            versions,
            ..Wish::default()
        };
        authority.open(&broker, wish)
    };
    open(&TLS_1_3).connect("new");
    let start = log_length();
    let mut old = open(&TLS_1_2);
    assert!(old.stream.write_all(&connect("old")).is_err());
    assert!(line_on(&old, start).contains("tls handshake"));
}

#[test]
fn a_client_that_asks_for_another_protocol_is_refused() {
    let authority = Authority::new();
    let broker = Broker::start(with_listeners(vec![
        authority.listener(),
        Listener {
            alpn: Some(Vec::new()),
            ..authority.listener()
        },
        Listener {
            transport: Transport::Wss,
            ..authority.listener()
        },
    ]));
    let open = |listener, alpn: &[&str]| {
        let wish = Wish {
            listener,
            alpn,
            ..Wish::default()
        };
        authority.open(&broker, wish)
    };
    for (listener, alpn, chosen) in [
        (0, &[][..], None),
        (0, &["h2", "mqtt"], Some("mqtt")),
        (0, &["x-amzn-mqtt-ca"], Some("x-amzn-mqtt-ca")),
        (1, &["h2"], None),
        (2, &["h2", "http/1.1"], Some("http/1.1")),
    ] {
        let mut client = open(listener, alpn);
        client
            .stream
            .conn
            .complete_io(&mut client.stream.sock)
            .unwrap();
        let found = client.stream.conn.alpn_protocol();
        assert_eq!(found, chosen.map(str::as_bytes), "{listener} {alpn:?}");
    }
    let start = log_length();
    let mut other = open(0, &["h2", "http/1.1"]);
    assert!(other.stream.write_all(&connect("other")).is_err());
    assert!(line_on(&other, start).contains("tls handshake"));
}

#[test]
fn the_name_a_client_asks_for_picks_the_certificate() {
    let authority = Authority::new();
    let names = ["first.test", "second.test", "*.wild.test"];
    let certificates: Vec<_> = names.iter().map(|name| authority.server(name)).collect();
    let broker = Broker::start(with_listeners(vec![Listener {
        certificates: certificates.clone(),
        ..authority.listener()
    }]));
    for (host, pair) in [
        ("first.test", &certificates[0]),
        ("second.test", &certificates[1]),
        ("a.wild.test", &certificates[2]),
    ] {
        let mut client = authority.open(
            &broker,
            Wish {
                host,
                ..Wish::default()
            },
        );
        client.connect(host);
        let shown = client.stream.conn.peer_certificates().unwrap();
        assert_eq!(shown[0], der(&pair.certificate), "{host}");
    }
    // An unknown name gets the first, which does not fit: the client hangs up, and says so.
    let mut client = authority.open(
        &broker,
        Wish {
            host: "third.test",
            ..Wish::default()
        },
    );
    let refused = client.stream.write_all(&connect("third"));
    assert!(refused.is_err());
    drop(client);
    let mut good = authority.open(
        &broker,
        Wish {
            host: "first.test",
            ..Wish::default()
        },
    );
    good.connect("good");
}

/// The broker with a listener for each way to treat client certificates.
struct Checked {
    authority: Authority,
    broker: Broker,
}

impl Checked {
    fn start() -> Self {
        let authority = Authority::new();
        let with = |client_certificates| Listener {
            client_ca: Some(authority.file.clone()),
            client_certificates,
            allow_anonymous: Some(true),
            ..authority.listener()
        };
        let listeners = vec![
            with(ClientCertificates::Required),
            with(ClientCertificates::Optional),
            Listener {
                client_ca: None,
                ..with(ClientCertificates::Off)
            },
        ];
        let broker = Broker::start(with_listeners(listeners));
        Self { authority, broker }
    }

    fn open(&self, listener: usize, certificate: Option<&Certificate>) -> Client<TlsStream> {
        self.authority.open(
            &self.broker,
            Wish {
                listener,
                certificate,
                ..Wish::default()
            },
        )
    }

    fn refuses(&self, listener: usize, certificate: Option<&Certificate>, reason: &str) {
        let start = log_length();
        let mut client = self.open(listener, certificate);
        // With TLS 1.3 the client is told only when it reads.
        let _ = client.stream.write_all(&connect("refused"));
        assert_eq!(client.until_closed(), b"");
        let line = line_on(&client, start);
        assert!(line.contains("tls handshake"), "{line}");
        assert!(line.contains(reason), "{line}");
    }
}

#[test]
fn a_client_certificate_is_required_optional_or_not_asked_for() {
    let checked = Checked::start();
    let good = checked.authority.client("good");
    for listener in 0..3 {
        // Names of their own: a session that had a certificate is not for somebody without.
        let id = format!("certified-{listener}");
        checked.open(listener, Some(&good)).connect(&id);
    }
    checked.open(1, None).connect("without");
    checked.open(2, None).connect("without");
    checked.refuses(0, None, "peer sent no certificates");
}

#[test]
fn a_wrong_client_certificate_is_refused_with_the_reason_in_the_log() {
    let checked = Checked::start();
    let expired = checked.authority.expired_client();
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    let for_servers = checked.authority.sign("wrong", usage, |_| {});
    let foreign = Authority::new().client("foreign");
    for listener in [0, 1] {
        checked.refuses(listener, Some(&expired), "expired");
        checked.refuses(listener, Some(&for_servers), "extended key usage");
        checked.refuses(listener, Some(&foreign), "UnknownIssuer");
    }
    checked.open(1, None).connect("after");
}

#[test]
fn mqtt_without_tls_is_refused_where_tls_is_spoken() {
    let authority = Authority::new();
    let broker = Broker::start(with_listeners(vec![listener(), authority.listener()]));
    let start = log_length();
    let mut client = crate::broker::open(broker.addresses[1]);
    let peer = format!("peer={} ", client.stream.local_addr().unwrap());
    client.send(&connect("plain"));
    let answer = client.until_closed();
    assert!(answer.len() < 8, "at most an alert: {answer:02x?}");
    let line = log_line_since(start, &peer);
    assert!(line.contains("tls handshake"), "{line}");
    broker.serves();
}

#[test]
fn tls_is_refused_where_none_is_spoken() {
    let authority = Authority::new();
    let broker = Broker::start(|_| {});
    let start = log_length();
    let mut client = authority.open(&broker, Wish::default());
    assert!(client.stream.write_all(b"x").is_err());
    assert!(line_on(&client, start).contains("no TLS is spoken"));
    broker.serves();
}

#[test]
fn a_flood_of_slow_handshakes_ends_at_the_deadline_and_others_are_served() {
    let authority = Authority::new();
    let broker = Broker::start(|config| {
        config.limits.connect_seconds = 2;
        config.listeners = vec![listener(), authority.listener()];
    });
    let mut flood: Vec<_> = (0..100)
        .map(|number| {
            let mut client = crate::broker::open(broker.addresses[1]);
            // The start of a ClientHello, cut at another byte each time.
            let hello = [&[0x16, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3][..], &[7; 80]].concat();
            client.send(&hello[..number % hello.len()]);
            client
        })
        .collect();
    let wish = Wish {
        listener: 1,
        ..Wish::default()
    };
    authority.open(&broker, wish).connect("in time");
    for client in &mut flood {
        client
            .stream
            .set_read_timeout(Some(Duration::from_secs(6)))
            .unwrap();
        // Nothing is ever said to a peer that is late.
        assert_eq!(client.stream.read(&mut [0; 64]).unwrap_or(0), 0);
    }
    broker.serves();
}
