//! Negative tests 12 and 27: certificates that do not count after a reload end their connections.

use rcgen::ExtendedKeyUsagePurpose;
use tidewire::config::{ClientCertificates, Listener};

use crate::broker::Broker;
use crate::certificates::{Authority, TlsStream, Wish};
use crate::client::Client;

fn broker(authority: &Authority, wanted: ClientCertificates) -> Broker {
    Broker::start(|config| {
        config.listeners = vec![Listener {
            client_ca: Some(authority.file.clone()),
            client_certificates: wanted,
            allow_anonymous: Some(true),
            ..authority.listener()
        }];
    })
}

fn client(authority: &Authority, broker: &Broker, serial_number: u64) -> Client<TlsStream> {
    let name = format!("device-{serial_number}");
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let certificate = authority.sign(&name, usage, |params| {
        params.serial_number = Some(serial_number.into());
    });
    let wish = Wish {
        certificate: Some(&certificate),
        ..Wish::default()
    };
    let mut client = authority.open(broker, wish);
    client.connect(&name);
    client
}

/// DISCONNECT with 0x87, and the end.
fn is_turned_out(client: &mut Client<TlsStream>) {
    let goodbye = client.packet();
    assert_eq!((goodbye.first, goodbye.body[0]), (0xe0, 0x87));
    assert_eq!(client.until_closed(), b"");
}

#[test]
fn a_certificate_revoked_while_its_client_is_connected_disconnects_it() {
    let authority = Authority::new();
    let mut broker = broker(&authority, ClientCertificates::Required);
    let mut revoked = client(&authority, &broker, 7);
    let mut valid = client(&authority, &broker, 8);
    let list = authority.revoke(7, 2050);
    broker.reload_with(|config| config.listeners[0].client_crl = Some(list));
    is_turned_out(&mut revoked);
    valid.ping();
}

#[test]
fn another_authority_disconnects_the_clients_of_the_one_before() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut broker = broker(&authority, ClientCertificates::Required);
    let mut device = client(&authority, &broker, 7);
    broker.reload_with(|config| config.listeners[0].client_ca = Some(other.file.clone()));
    is_turned_out(&mut device);
}

#[test]
fn certificates_that_are_newly_required_disconnect_who_has_shown_none() {
    let authority = Authority::new();
    let mut broker = broker(&authority, ClientCertificates::Optional);
    let mut without = authority.open(&broker, Wish::default());
    without.connect("without");
    let mut with = client(&authority, &broker, 7);
    broker.reload_with(|config| {
        config.listeners[0].client_certificates = ClientCertificates::Required;
    });
    is_turned_out(&mut without);
    with.ping();
    broker.reload_with(|config| {
        config.listeners[0].client_certificates = ClientCertificates::Off;
        config.listeners[0].client_ca = None;
    });
    is_turned_out(&mut with);
}
