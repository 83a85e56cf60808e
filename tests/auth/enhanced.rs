//! SCRAM-SHA-256 in AUTH packets.

use tidewire_protocol::codec::{Connect, Packet, ProtocolVersion, ReasonCode};

use super::broker::{Broker, Client, METHOD, connect, login, users};
use super::scram_client::ScramClient;

use ReasonCode::{ContinueAuthentication, ReAuthenticate};

/// A connection that sent CONNECT with the method and this data.
fn begin(broker: &Broker, data: &[u8]) -> Client {
    begin_with(broker, &connect("c"), data)
}

fn begin_with(broker: &Broker, connect: &Connect<'_>, data: &[u8]) -> Client {
    let mut connect = connect.clone();
    connect.properties.authentication_method = Some(METHOD);
    connect.properties.authentication_data = Some(data);
    let mut client = broker.open();
    client.send(&Packet::Connect(Box::new(connect)), ProtocolVersion::V5);
    client
}

/// A connection whose challenge has come.
fn challenged(broker: &Broker) -> (Client, Vec<u8>) {
    let mut client = begin(broker, &ScramClient::new("alice", "secret").first());
    let (reason, challenge) = client.authentication();
    assert_eq!(reason, ContinueAuthentication);
    (client, challenge)
}

fn refused(client: &mut Client, reason: ReasonCode) {
    assert_eq!(client.connack(), reason as u8);
    client.is_closed();
}

/// A client that has logged in.
fn logged_in(broker: &Broker, user: &'static str) -> Client {
    let mut scram = ScramClient::new(user, "secret");
    let mut client = begin(broker, &scram.first());
    let (reason, challenge) = client.authentication();
    assert_eq!(reason, ContinueAuthentication);
    client.send_auth(reason, Some(METHOD), &scram.last(&challenge));
    let (reason, answer) = client.authentication();
    assert_eq!(reason, ReasonCode::Success);
    scram.check(&answer);
    client
}

#[test]
fn mqtt_4_12_0_5_a_user_logs_in_and_connack_has_method_and_proof() {
    let broker = Broker::start();
    logged_in(&broker, "alice").ping();
}

#[test]
fn a_wrong_password_is_refused_with_0x87() {
    let broker = Broker::start();
    // An unknown user is challenged as a known one.
    for (user, password) in [("alice", "wrong"), ("mallory", "secret")] {
        let mut scram = ScramClient::new(user, password);
        let mut client = begin(&broker, &scram.first());
        let (reason, challenge) = client.authentication();
        client.send_auth(reason, Some(METHOD), &scram.last(&challenge));
        refused(&mut client, ReasonCode::NotAuthorized);
    }
}

#[test]
fn a_user_name_in_connect_has_to_be_that_of_the_exchange() {
    let broker = Broker::start();
    for (name, expected) in [("alice", 0), ("bob", 0x87)] {
        let mut scram = ScramClient::new("alice", "secret");
        let mut client = begin_with(&broker, &login("c", name, "ignored"), &scram.first());
        let (reason, challenge) = client.authentication();
        client.send_auth(reason, Some(METHOD), &scram.last(&challenge));
        assert_eq!(client.connack(), expected);
    }
}

#[test]
fn malformed_data_is_refused_with_0x87() {
    let broker = Broker::start();
    for data in [&b""[..], b"n", b"\xff", b"p=tls-exporter,,n=alice,r=abc"] {
        refused(&mut begin(&broker, data), ReasonCode::NotAuthorized);
    }
    let (mut client, _) = challenged(&broker);
    client.send_auth(ContinueAuthentication, Some(METHOD), b"c=biws");
    refused(&mut client, ReasonCode::NotAuthorized);
    let mut without_data = connect("c");
    without_data.properties.authentication_method = Some(METHOD);
    let (_, found) = broker.connect(&without_data);
    assert_eq!(found, 0x87);
}

#[test]
fn a_challenge_answers_one_exchange_only() {
    let broker = Broker::start();
    let (mut first, challenge) = challenged(&broker);
    let (mut second, other) = challenged(&broker);
    assert_ne!(challenge, other);
    let last = ScramClient::new("alice", "secret").last(&challenge);
    second.send_auth(ContinueAuthentication, Some(METHOD), &last);
    refused(&mut second, ReasonCode::NotAuthorized);
    first.send_auth(ContinueAuthentication, Some(METHOD), &last);
    assert_eq!(first.authentication().0, ReasonCode::Success);
}

#[test]
fn mqtt_4_12_0_1_other_methods_are_refused_with_0x8c() {
    let broker = Broker::start();
    for method in ["", "PLAIN", "SCRAM-SHA-1", "scram-sha-256"] {
        let mut connect = login("c", "alice", "secret");
        connect.properties.authentication_method = Some(method);
        let (mut client, found) = broker.connect(&connect);
        assert_eq!(found, 0x8C, "{method}");
        client.is_closed();
    }
    // Where nobody has a verifier the method is not offered.
    let text = users();
    let hash_only = text.split_once(":SCRAM").unwrap().0;
    for lines in ["", hash_only] {
        let broker = Broker::with(lines, |config| config.allow_anonymous = Some(true));
        let first = ScramClient::new("alice", "secret").first();
        let mut client = begin(&broker, &first);
        refused(&mut client, ReasonCode::BadAuthenticationMethod);
    }
}

#[test]
fn mqtt_3_1_2_30_other_packets_before_connack_are_refused_with_0x82() {
    let broker = Broker::start();
    for bytes in [
        &[0xC0, 0][..],
        &[0x30, 4, 0, 1, b'a', 0],
        &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0],
    ] {
        let (mut client, _) = challenged(&broker);
        client.send_bytes(bytes);
        refused(&mut client, ReasonCode::ProtocolError);
    }
    // Nor may they come right behind the last AUTH.
    let (mut client, challenge) = challenged(&broker);
    let last = ScramClient::new("alice", "secret").last(&challenge);
    let mut bytes = auth_bytes(&last);
    bytes.extend([0xC0, 0]);
    client.send_bytes(&bytes);
    refused(&mut client, ReasonCode::ProtocolError);
}

#[test]
fn mqtt_4_12_0_5_auth_of_another_method_or_reason_is_refused_with_0x82() {
    let broker = Broker::start();
    for (reason, method) in [
        (ContinueAuthentication, Some("PLAIN")),
        (ContinueAuthentication, None),
        (ReAuthenticate, Some(METHOD)),
        (ReasonCode::Success, Some(METHOD)),
    ] {
        let (mut client, _) = challenged(&broker);
        client.send_auth(reason, method, b"data");
        refused(&mut client, ReasonCode::ProtocolError);
    }
    let (mut client, _) = challenged(&broker);
    client.send_bytes(&[0xF0, 0]);
    refused(&mut client, ReasonCode::ProtocolError);
}

#[test]
fn a_disconnect_ends_an_exchange_without_connack() {
    let broker = Broker::start();
    let (mut client, _) = challenged(&broker);
    client.send_bytes(&[0xE0, 0]);
    client.is_closed();
}

#[test]
fn an_unfinished_exchange_meets_the_deadline_of_connect() {
    let broker = Broker::with(&users(), |config| config.limits.connect_seconds = 1);
    let (mut client, _) = challenged(&broker);
    client.is_closed();
}

#[test]
fn an_exchange_is_within_the_byte_cap_of_connect() {
    let broker = Broker::with(&users(), |config| config.limits.connect_bytes_max = 1_024);
    let (mut client, _) = challenged(&broker);
    // Refused by its length alone: the rest never comes.
    client.send_bytes(&[0xF0, 0x80, 0x08, 0x18]);
    refused(&mut client, ReasonCode::PacketTooLarge);
}

#[test]
fn mqtt_4_12_1_1_a_client_proves_again_who_it_is() {
    let broker = Broker::start();
    let mut client = logged_in(&broker, "alice");
    for _ in 0..2 {
        let mut scram = ScramClient::new("alice", "secret");
        client.send_auth(ReAuthenticate, Some(METHOD), &scram.first());
        let (reason, challenge) = client.authentication();
        assert_eq!(reason, ContinueAuthentication);
        // Everything else goes on.
        client.ping();
        client.send_auth(reason, Some(METHOD), &scram.last(&challenge));
        let (reason, answer) = client.authentication();
        assert_eq!(reason, ReasonCode::Success);
        scram.check(&answer);
        client.ping();
    }
}

#[test]
fn mqtt_4_12_1_2_a_client_that_fails_to_prove_it_again_is_disconnected_with_0x87() {
    let broker = Broker::start();
    let mut client = logged_in(&broker, "alice");
    let mut scram = ScramClient::new("alice", "wrong");
    client.send_auth(ReAuthenticate, Some(METHOD), &scram.first());
    let (reason, challenge) = client.authentication();
    client.send_auth(reason, Some(METHOD), &scram.last(&challenge));
    client.ends_with(ReasonCode::NotAuthorized);
    // As another user, whatever the password.
    let mut client = logged_in(&broker, "alice");
    let first = ScramClient::new("bob", "secret").first();
    client.send_auth(ReAuthenticate, Some(METHOD), &first);
    client.ends_with(ReasonCode::NotAuthorized);
}

#[test]
fn auth_at_the_wrong_time_ends_a_connection_with_0x82() {
    let broker = Broker::start();
    let first = ScramClient::new("alice", "secret").first();
    for (reason, method) in [
        (ContinueAuthentication, Some(METHOD)),
        (ReasonCode::Success, Some(METHOD)),
        (ReAuthenticate, Some("PLAIN")),
        (ReAuthenticate, None),
    ] {
        let mut client = logged_in(&broker, "alice");
        client.send_auth(reason, method, &first);
        client.ends_with(ReasonCode::ProtocolError);
    }
    // Twice at a time.
    let mut client = logged_in(&broker, "alice");
    client.send_auth(ReAuthenticate, Some(METHOD), &first);
    client.authentication();
    client.send_auth(ReAuthenticate, Some(METHOD), &first);
    client.ends_with(ReasonCode::ProtocolError);
}

#[test]
fn mqtt_4_12_0_7_auth_without_a_method_in_connect_ends_with_0x82() {
    let broker = Broker::start();
    let (mut client, found) = broker.connect(&login("c", "alice", "secret"));
    assert_eq!(found, 0);
    let first = ScramClient::new("alice", "secret").first();
    client.send_auth(ReAuthenticate, Some(METHOD), &first);
    client.ends_with(ReasonCode::ProtocolError);
}

/// An AUTH that continues.
fn auth_bytes(data: &[u8]) -> Vec<u8> {
    let auth = tidewire_protocol::codec::Auth {
        reason: ContinueAuthentication,
        authentication_method: Some(METHOD),
        authentication_data: Some(data),
        reason_string: None,
        user_properties: tidewire_protocol::codec::UserProperties::default(),
    };
    let mut bytes = Vec::new();
    tidewire_protocol::codec::encode(&Packet::Auth(auth), ProtocolVersion::V5, &mut bytes).unwrap();
    bytes
}
