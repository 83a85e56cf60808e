//! Listeners behind a proxy that announces its clients.

use std::net::IpAddr;

use tidewire::config::{Config, Listener, Network};

use crate::broker::{Broker, listener, log_length, log_line, log_line_since};
use crate::client::connect;

const V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

fn start(trusted: &[&str], change: impl FnOnce(&mut tidewire::config::Limits)) -> Broker {
    let proxied = Listener {
        proxy_protocol: true,
        proxy_trusted: trusted.iter().map(|it| it.parse().unwrap()).collect(),
        allow_anonymous: Some(true),
        ..listener()
    };
    Broker::start(|config| {
        config.listeners = vec![listener(), proxied];
        change(&mut config.limits);
    })
}

/// What a connection to the proxied listener is answered that begins with `bytes`, and its log line
/// if it is closed.
fn answer(broker: &Broker, bytes: &[u8]) -> Result<(), String> {
    // An earlier connection may have had the same port.
    let start = log_length();
    let mut client = crate::broker::open(broker.addresses[1]);
    let peer = client.stream.local_addr().unwrap();
    client.send(bytes);
    let mut first = [0];
    match std::io::Read::read(&mut client.stream, &mut first) {
        Ok(1) if first[0] == 0x20 => Ok(()),
        Ok(0) | Err(_) => Err(log_line_since(start, &format!("peer={peer} "))),
        other => panic!("{other:?}"),
    }
}

fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&V2[..], &[command, family], &length, body].concat()
}

fn then_connect(header: &[u8]) -> Vec<u8> {
    [header, &connect("proxied")].concat()
}

#[test]
fn a_trusted_proxy_may_speak_for_clients_itself_and_the_unknown() {
    let broker = start(&["127.0.0.1"], |_| {});
    let four = [10, 1, 2, 3, 127, 0, 0, 1, 4, 0, 7, 91];
    for header in [
        &b"PROXY TCP4 10.1.2.3 127.0.0.1 1024 1883\r\n"[..],
        b"PROXY UNKNOWN\r\n",
        &binary(0x21, 0x11, &four),
        &binary(0x21, 0x11, &[&four[..], &[4, 0, 2, 7, 7]].concat()),
        &binary(0x20, 0x00, &[]),
    ] {
        answer(&broker, &then_connect(header)).expect("accepted");
    }
}

#[test]
fn a_header_that_is_missing_wrong_or_doubled_ends_the_connection() {
    let broker = start(&["127.0.0.1"], |_| {});
    let refused = |bytes: &[u8], reason: &str| {
        let line = answer(&broker, bytes).expect_err(reason);
        assert!(line.contains(reason), "{line}");
    };
    refused(&connect("without a header at all"), "no signature");
    let cut = binary(0x21, 0x11, &[&[1; 12][..], &[4, 0, 9, 7]].concat());
    refused(&then_connect(&cut), "value cut short");
    let long = binary(0x21, 0x11, &[0; 5_000]);
    refused(&then_connect(&long), "too long");
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    refused(&then_connect(long.as_bytes()), "too long");
    let mut log_lines = Vec::new();
    // An address of this test alone: all tests write into the same log.
    let one = &b"PROXY TCP4 10.9.8.7 127.0.0.1 1024 1883\r\n"[..];
    let two = binary(0x21, 0x11, &[10, 9, 8, 7, 127, 0, 0, 1, 4, 0, 7, 91]);
    for both in [[one, &two].concat(), [&two[..], one].concat()] {
        let mut client = crate::broker::open(broker.addresses[1]);
        client.send(&then_connect(&both));
        assert_eq!(client.until_closed(), b"");
        // The first header is believed already.
        log_lines.push(log_line("peer=10.9.8.7:"));
    }
    assert!(
        log_lines[0].contains("first packet must be CONNECT"),
        "{}",
        log_lines[0]
    );
    broker.serves();
}

#[test]
fn a_peer_that_is_no_trusted_proxy_is_refused() {
    let header = then_connect(b"PROXY TCP4 10.1.2.3 127.0.0.1 1024 1883\r\n");
    for trusted in [&[][..], &["10.0.0.1"]] {
        let broker = start(trusted, |_| {});
        let line = answer(&broker, &header).expect_err("untrusted");
        assert!(line.contains("not a trusted proxy"), "{line}");
        broker.serves();
    }
}

#[test]
fn the_announced_address_is_the_one_that_is_limited() {
    let broker = start(&["127.0.0.1"], |limits| {
        limits.connections_per_address_max = 1
    });
    let open = |address: &str| {
        let mut client = crate::broker::open(broker.addresses[1]);
        let kind = match address.parse::<IpAddr>().unwrap() {
            IpAddr::V4(_) => "TCP4 {} 127.0.0.1",
            IpAddr::V6(_) => "TCP6 {} ::1",
        };
        let header = format!("PROXY {} 7 1883\r\n", kind.replace("{}", address));
        client.send(&then_connect(header.as_bytes()));
        client
    };
    let mut first = open("192.0.2.71");
    assert_eq!(first.packet().first, 0x20, "CONNACK");
    assert_eq!(open("192.0.2.71").until_closed(), b"");
    assert!(log_line("peer=192.0.2.71:7 reason").contains("too many connections"));
    let mut other = open("192.0.2.72");
    assert_eq!(other.packet().first, 0x20, "CONNACK");
    let mut six = open("2001:db8:1:1::1");
    assert_eq!(six.packet().first, 0x20, "CONNACK");
    assert_eq!(open("2001:db8:1:1:ffff::2").until_closed(), b"");
    assert_eq!(open("2001:db8:1:2::1").packet().first, 0x20, "CONNACK");
}

/// A connection of this announced address is let in, or closed and logged with a reason.
fn expect(broker: &Broker, address: &str, refused: Option<&str>) {
    let kind = if address.contains(':') {
        "TCP6"
    } else {
        "TCP4"
    };
    let header = format!("PROXY {kind} {address} {address} 7 1883\r\n");
    let mut client = crate::broker::open(broker.addresses[1]);
    client.send(&then_connect(header.as_bytes()));
    let Some(reason) = refused else {
        assert_eq!(client.packet().first, 0x20, "{address}");
        return;
    };
    assert_eq!(client.until_closed(), b"", "{address}");
    assert!(log_line(reason).contains("connection refused"));
}

#[test]
fn whoever_is_banned_by_the_configuration_is_closed() {
    let broker = start(&["127.0.0.1"], |limits| {
        let networks = ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"];
        limits.banned_addresses = networks.map(|it| Network::parse(it).unwrap()).into();
    });
    for (address, is_in) in [
        ("192.0.2.200", false),
        ("192.0.3.1", true),
        ("2001:db8:1::9", false),
        ("2001:db9::1", true),
        ("198.51.100.7", false),
        ("198.51.100.8", true),
    ] {
        let refused = (!is_in).then_some("banned by the configuration");
        expect(&broker, address, refused);
    }
}

#[test]
fn the_addresses_of_one_network_share_what_it_may() {
    let broker = start(&["127.0.0.1"], |limits| {
        limits.connects_per_second_per_network = 1;
        limits.connects_burst_per_network = 2;
    });
    for (address, is_in) in [
        ("192.0.2.1", true),
        ("192.0.2.2", true),
        ("192.0.2.3", false),
        ("192.0.3.1", true),
        ("2001:db8:1:1::1", true),
        ("2001:db8:1:2::1", true),
        ("2001:db8:1:3::1", false),
        ("2001:db8:2:1::1", true),
    ] {
        let refused = (!is_in).then_some("the network connects too often");
        expect(&broker, address, refused);
    }
}

#[test]
fn behind_a_proxy_nobody_is_of_this_machine() {
    let proxied = |allow_anonymous| Listener {
        proxy_protocol: true,
        proxy_trusted: vec!["127.0.0.1".parse().unwrap()],
        allow_anonymous,
        ..listener()
    };
    let broker = Broker::start(|config| {
        config.listeners = vec![proxied(None), proxied(Some(true))];
    });
    for header in [
        "PROXY TCP4 192.0.2.9 127.0.0.1 PORT 1883\r\n",
        "PROXY TCP4 127.0.0.1 127.0.0.1 PORT 1883\r\n",
        "PROXY UNKNOWN\r\n",
    ] {
        let reason = |at: usize| {
            let mut client = crate::broker::open(broker.addresses[at]);
            let header = header.replace("PORT", &(1024 + at).to_string());
            client.send(&then_connect(header.as_bytes()));
            let connack = client.packet();
            assert_eq!(connack.first, 0x20);
            connack.body[1]
        };
        assert_eq!([reason(0), reason(1)], [0x87, 0], "{header}");
    }
    assert!(log_line("peer=192.0.2.9:1024 ").contains("anonymous clients are not allowed"));
}

#[test]
fn whoever_is_of_this_machine_needs_a_login_as_soon_as_there_is_one() {
    let reason = |change: fn(&mut Config)| {
        let broker = Broker::start(change);
        let mut client = broker.open();
        client.send(&then_connect(b""));
        client.packet().body[1]
    };
    assert_eq!(reason(|_| {}), 0);
    let checked = |config: &mut Config| {
        config.auth.http.url = Some("https://127.0.0.1:1/".into());
    };
    assert_eq!(reason(checked), 0x87);
    // Nothing is checked at this listener.
    let unchecked = |config: &mut Config| {
        config.auth.http.url = Some("https://127.0.0.1:1/".into());
        config.listeners[0].auth = Some(Vec::new());
    };
    assert_eq!(reason(unchecked), 0);
}
