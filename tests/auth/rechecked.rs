//! Negative test 27: clients whose login does not hold after a reload are disconnected.

use serde_json::json;
use tidewire::config::{Http, Jwt, JwtAlgorithm};
use tidewire_protocol::codec::{Connect, ProtocolVersion, ReasonCode, Will, WillProperties};

use super::broker::{Broker, connect, login, users};
use super::http_server::HttpServer;
use super::token_login::subscribe;
use super::token_signer::{SECRET, TempFile, alice, signed, signed_with};

const OTHER: &[u8; 32] = b"another secret of 32 bytes here.";

fn key(id: &str, secret: &[u8]) -> serde_json::Value {
    use base64ct::{Base64UrlUnpadded, Encoding};
    json!({"kty": "oct", "alg": "HS256", "kid": id, "k": Base64UrlUnpadded::encode_string(secret)})
}

#[test]
fn a_removed_key_of_a_key_set_disconnects_its_clients_and_no_others() {
    let both = json!({"keys": [key("1", SECRET), key("2", OTHER)]});
    let file = TempFile::new(both.to_string().as_bytes());
    let mut broker = Broker::with("", |config| {
        config.auth.jwt.jwks_file = Some(file.0.clone());
    });
    let by = |secret, id| signed_with(secret, &json!({"alg": "HS256", "kid": id}), &alice(600));
    let (mut first, code) = broker.connect(&login("first", "alice", &by(SECRET, "1")));
    assert_eq!(code, 0);
    let (mut second, code) = broker.connect(&login("second", "alice", &by(OTHER, "2")));
    assert_eq!(code, 0);
    broker.reload_with(|_| {});
    first.ping();
    second.ping();
    // The other key is the same under another name.
    let one = json!({"keys": [key("3", OTHER)]});
    std::fs::write(&file.0, one.to_string()).unwrap();
    broker.reload_with(|_| {});
    second.ping();
    first.ends_with(ReasonCode::NotAuthorized);
    broker.reload_with(|config| {
        config.auth.jwt = Jwt::default();
    });
    second.ends_with(ReasonCode::NotAuthorized);
}

#[test]
fn a_changed_key_file_disconnects_clients_of_every_version_and_leaves_no_will() {
    let file = TempFile::new(SECRET);
    let mut broker = Broker::with(&users(), |config| {
        config.auth.jwt = file.jwt(JwtAlgorithm::Hs256);
    });
    let (mut watcher, code) = broker.connect(&login("watcher", "bob", "secret"));
    assert_eq!(code, 0);
    assert_eq!(subscribe(&mut watcher, "gone"), 0);
    let token = signed(&alice(600));
    let with_will = Connect {
        will: Some(Will {
            qos: tidewire_protocol::codec::QoS::AtMostOnce,
            retain: false,
            topic: "gone",
            payload: b"",
            properties: WillProperties::default(),
        }),
        ..login("new", "alice", &token)
    };
    let (mut new, code) = broker.connect(&with_will);
    assert_eq!(code, 0);
    let (mut old, code) = broker.connect(&Connect {
        version: ProtocolVersion::V3_1_1,
        ..login("old", "alice", &token)
    });
    assert_eq!(code, 0);
    std::fs::write(&file.0, OTHER).unwrap();
    broker.reload_with(|_| {});
    new.ends_with(ReasonCode::NotAuthorized);
    old.is_closed();
    watcher.ping();
    assert_eq!(broker.connect(&login("new", "alice", &token)).1, 0x86);
}

#[test]
fn newly_forbidden_anonymous_access_disconnects_the_anonymous_and_nobody_else() {
    let mut broker = Broker::with(&users(), |config| config.allow_anonymous = Some(true));
    let (mut nobody, code) = broker.connect(&connect("nobody"));
    assert_eq!(code, 0);
    let (mut bob, code) = broker.connect(&login("bob", "bob", "secret"));
    assert_eq!(code, 0);
    broker.reload_with(|config| config.listeners[0].allow_anonymous = Some(false));
    nobody.ends_with(ReasonCode::NotAuthorized);
    bob.ping();
}

#[test]
fn a_login_of_a_way_that_is_gone_ends() {
    let server = HttpServer::start();
    let url = server.url;
    let mut broker = Broker::with(&users(), |config| config.auth.http.url = Some(url));
    let (mut anna, code) = broker.connect(&login("anna", "anna", "secret"));
    assert_eq!(code, 0);
    let (mut bob, code) = broker.connect(&login("bob", "bob", "secret"));
    assert_eq!(code, 0);
    broker.reload_with(|config| config.auth.http = Http::default());
    anna.ends_with(ReasonCode::NotAuthorized);
    bob.ping();
    broker.reload_with(|config| config.listeners[0].auth = Some(Vec::new()));
    bob.ends_with(ReasonCode::NotAuthorized);
}
