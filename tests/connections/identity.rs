//! Who a client is by what its connection shows: certificates (negative test 12) and processes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rcgen::ExtendedKeyUsagePurpose;
use tidewire::config::{
    AclAction, AclRule, CertificateAs, CertificateName, ClientCertificates, Config, Listener,
    Namespace, Transport,
};
use tidewire_protocol::codec::{Connect, Packet, ProtocolVersion, encode};

use crate::broker::{Broker, folder};
use crate::certificates::{Authority, Wish};

const SUCCESS: u8 = 0;
const NOT_AUTHORIZED: u8 = 0x87;
const CLIENT_ID_NOT_VALID: u8 = 0x85;

fn connect(client_id: &str, user_name: Option<&str>) -> Vec<u8> {
    let connect = Connect {
        user_name,
        ..Connect::new(ProtocolVersion::V5, client_id)
    };
    let mut bytes = Vec::new();
    let packet = Packet::Connect(Box::new(connect));
    encode(&packet, ProtocolVersion::V5, &mut bytes).unwrap();
    bytes
}

fn listener(authority: &Authority, stands_for: CertificateAs) -> Listener {
    Listener {
        client_ca: Some(authority.file.clone()),
        client_certificates: ClientCertificates::Optional,
        certificate_name: CertificateName::DnsName,
        certificate_as: stands_for,
        allow_anonymous: Some(true),
        ..authority.listener()
    }
}

/// Only the user "device" may publish, and only below its own client id.
fn only_device(config: &mut Config) {
    config.acl.rules = vec![AclRule {
        users: vec!["device".into()],
        actions: vec![AclAction::Write],
        topics: vec!["d/%c".into()],
        ..AclRule::default()
    }];
}

#[test]
fn a_certificate_stands_for_user_name_and_client_id() {
    let authority = Authority::new();
    let device = authority.client("device");
    let open = |broker: &Broker, bytes: &[u8], certificate| {
        let wish = Wish {
            certificate,
            ..Wish::default()
        };
        let mut client = authority.open(broker, wish);
        client.send(bytes);
        let reason = client.packet().body[1];
        (client, reason)
    };
    let broker = Broker::start(|config| {
        config.listeners = vec![listener(&authority, CertificateAs::Both)];
        only_device(config);
    });
    for (client_id, user_name, expected) in [
        ("device", None, SUCCESS),
        ("", None, SUCCESS),
        ("device", Some("device"), SUCCESS),
        ("device", Some("other"), NOT_AUTHORIZED),
        ("other", None, CLIENT_ID_NOT_VALID),
    ] {
        let bytes = connect(client_id, user_name);
        let (mut client, reason) = open(&broker, &bytes, Some(&device));
        assert_eq!(reason, expected, "{client_id:?} {user_name:?}");
        if reason == SUCCESS {
            client.send(&crate::client::publish("d/device", 1, 1, b"x"));
            let answer = client.packet().body;
            assert_eq!(answer.get(2).copied().unwrap_or(0) & 0x80, 0, "{answer:?}");
            client.send(&crate::client::publish("d/other", 1, 2, b"x"));
            assert_eq!(client.packet().body[2], NOT_AUTHORIZED);
        }
    }
    // Without a certificate a user name proves nothing.
    let (mut client, reason) = open(&broker, &connect("plain", Some("device")), None);
    assert_eq!(reason, SUCCESS);
    client.send(&crate::client::publish("d/device", 1, 1, b"x"));
    assert_eq!(client.packet().body[2], NOT_AUTHORIZED);
}

#[test]
fn a_certificate_without_the_name_that_counts_is_refused() {
    let authority = Authority::new();
    let device = authority.client("device");
    let broker = Broker::start(|config| {
        config.listeners = vec![Listener {
            certificate_name: CertificateName::Email,
            ..listener(&authority, CertificateAs::UserName)
        }];
    });
    let wish = Wish {
        certificate: Some(&device),
        ..Wish::default()
    };
    let mut client = authority.open(&broker, wish);
    client.send(&connect("c", None));
    assert_eq!(client.packet().body[1], NOT_AUTHORIZED);
}

#[test]
fn a_revoked_certificate_is_refused_and_so_is_every_one_by_an_old_list() {
    let authority = Authority::new();
    let sign = |name: &str, serial: u64| {
        authority.sign(name, ExtendedKeyUsagePurpose::ClientAuth, |params| {
            params.serial_number = Some(serial.into());
        })
    };
    let (good, revoked) = (sign("good", 7), sign("revoked", 8));
    for (end_year, good_is_let_in) in [(2100, true), (2021, false)] {
        let broker = Broker::start(|config| {
            config.listeners = vec![Listener {
                client_crl: Some(authority.revoke(8, end_year)),
                ..listener(&authority, CertificateAs::UserName)
            }];
        });
        let is_let_in = |certificate| {
            let wish = Wish {
                certificate: Some(certificate),
                ..Wish::default()
            };
            let mut client = authority.open(&broker, wish);
            let mut answer = [0; 4];
            let stream = &mut client.stream;
            let sent = stream.write_all(&connect("c", None));
            sent.and_then(|()| stream.read_exact(&mut answer)).is_ok() && answer[3] == SUCCESS
        };
        assert_eq!(is_let_in(&good), good_is_let_in, "list to {end_year}");
        assert!(!is_let_in(&revoked), "list to {end_year}");
    }
}

#[test]
fn the_user_of_a_process_is_the_user_name_over_a_unix_socket() {
    let path = folder("peer").join("socket");
    let broker = Broker::start(|config| {
        config.listeners = vec![Listener {
            bind: path.display().to_string(),
            transport: Transport::Unix,
            unix_peer_as_user: true,
            ..Listener::default()
        }];
        config.allow_anonymous = Some(false);
    });
    let reason_of = |user_name| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(&connect("c", user_name)).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        answer[3]
    };
    assert_eq!(reason_of(None), SUCCESS);
    assert_eq!(reason_of(Some("nobody-of-this-name")), NOT_AUTHORIZED);
    drop(broker);
}

#[test]
fn the_organization_in_a_certificate_may_be_a_namespace() {
    let authority = Authority::new();
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let of = |name: &str, kind: rcgen::DnType, text: &str| {
        authority.sign(name, usage.clone(), |params| {
            params.distinguished_name.push(kind, text);
        })
    };
    let acme = of("a", rcgen::DnType::OrganizationName, "Acme Inc");
    let plant = of("b", rcgen::DnType::OrganizationalUnitName, "plant 4");
    let other = of("c", rcgen::DnType::OrganizationName, "plant 4");
    let namespace = |name: &str| Namespace {
        name: name.into(),
        ..Namespace::default()
    };
    let broker = Broker::start(|config| {
        config.auth.namespaces = vec![
            Namespace {
                organizations: vec!["Acme Inc".into()],
                ..namespace("acme")
            },
            Namespace {
                organizational_units: vec!["plant 4".into()],
                ..namespace("plant")
            },
            Namespace {
                certificates: vec!["d".into()],
                ..namespace("named")
            },
        ];
        config.listeners = vec![listener(&authority, CertificateAs::Nothing)];
    });
    let whole = Wish {
        certificate: Some(&other),
        ..Wish::default()
    };
    let mut whole = authority.open(&broker, whole);
    whole.connect("same");
    whole.subscribe("#", 0);
    let named = authority.client("d");
    for (certificate, topic) in [(&acme, "acme/t"), (&plant, "plant/t"), (&named, "named/t")] {
        let wish = Wish {
            certificate: Some(certificate),
            ..Wish::default()
        };
        let mut client = authority.open(&broker, wish);
        client.connect("same");
        client.send(&crate::client::publish("t", 0, 0, b"x"));
        client.ping();
        let body = whole.packet().body;
        let length = topic.len();
        assert_eq!(body[2..2 + length], *topic.as_bytes());
    }
}
