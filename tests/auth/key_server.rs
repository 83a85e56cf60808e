//! Keys of tokens that a server publishes, and servers behind TLS.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tidewire::config::Config;
use tidewire_protocol::codec::ReasonCode;

use super::broker::{Broker, connect, login, users};
use super::token_signer::{SECRET, TempFile, alice, signed_with};
use super::web_server::{Answer, Certificates, WebServer};

/// A signer of the name in `kid`.
struct Signer {
    id: &'static str,
    pair: Ed25519KeyPair,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(bytes.as_ref()).unwrap();
        Self { id, pair }
    }

    fn key(&self) -> Value {
        let x = Base64UrlUnpadded::encode_string(self.pair.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x})
    }

    fn token(&self) -> String {
        let part = |json: Value| Base64UrlUnpadded::encode_string(json.to_string().as_bytes());
        let head = part(json!({"alg": "EdDSA", "kid": self.id}));
        let message = format!("{head}.{}", part(alice(600)));
        let signature = self.pair.sign(message.as_bytes());
        let signature = Base64UrlUnpadded::encode_string(signature.as_ref());
        format!("{message}.{signature}")
    }
}

fn set(signers: &[&Signer]) -> Answer {
    let keys: Vec<Value> = signers.iter().map(|it| it.key()).collect();
    Answer::ok(json!({ "keys": keys }).to_string())
}

fn broker(server: &WebServer, change: impl FnOnce(&mut Config)) -> Broker {
    let url = server.url.clone();
    Broker::with(&users(), |config| {
        config.auth.jwt.jwks_url = Some(url);
        config.auth.jwt.jwks_retry_seconds = 1;
        change(config);
    })
}

fn code(broker: &Broker, token: &str) -> u8 {
    broker.connect(&login("c", "alice", token)).1
}

#[test]
fn a_key_that_the_server_publishes_later_is_found_by_the_token_that_names_it() {
    let certificates = Certificates::new();
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let server = WebServer::secure(&certificates, set(&[&old]));
    let authority = certificates.authority();
    let broker = broker(&server, |config| {
        config.auth.jwt.jwks_ca_file = Some(authority);
    });
    assert_eq!(server.count(), 1);
    for _ in 0..5 {
        assert_eq!(code(&broker, &old.token()), 0);
    }
    assert_eq!(server.count(), 1, "remembered");
    server.answer(set(&[&new]));
    sleep(Duration::from_millis(1_100));
    assert_eq!(code(&broker, &new.token()), 0);
    assert_eq!(server.count(), 2);
    assert_eq!(code(&broker, &old.token()), 0x86, "taken back");
}

#[test]
fn tokens_of_unknown_keys_make_the_broker_ask_no_more_often_than_it_may() {
    let (known, unknown) = (Signer::new("known"), Signer::new("unknown"));
    let server = WebServer::plain(set(&[&known]));
    let broker = broker(&server, |config| config.auth.jwt.jwks_retry_seconds = 3_600);
    for _ in 0..10 {
        assert_eq!(code(&broker, &unknown.token()), 0x86);
    }
    assert_eq!(code(&broker, &known.token()), 0);
    assert_eq!(server.count(), 1);
}

#[test]
fn keys_are_asked_for_again_when_they_are_old_and_end_when_they_are_too_old() {
    let signer = Signer::new("1");
    let server = WebServer::plain(set(&[&signer]));
    let broker = broker(&server, |config| {
        config.auth.jwt.jwks_refresh_seconds = 1;
        config.auth.jwt.jwks_keep_seconds = 4;
    });
    sleep(Duration::from_millis(1_100));
    assert_eq!(code(&broker, &signer.token()), 0);
    assert_eq!(server.count(), 2);
    server.answer(Answer {
        status: 500,
        ..Answer::default()
    });
    sleep(Duration::from_millis(1_100));
    assert_eq!(code(&broker, &signer.token()), 0, "kept");
    assert_eq!(server.count(), 3);
    sleep(Duration::from_millis(3_500));
    assert_eq!(code(&broker, &signer.token()), 0x88, "too old");
    server.answer(set(&[&signer]));
    sleep(Duration::from_millis(1_100));
    assert_eq!(code(&broker, &signer.token()), 0);
}

#[test]
fn a_key_server_that_is_down_slow_or_talks_nonsense_lets_nobody_in_by_token() {
    let signer = Signer::new("1");
    let secret = json!({"keys": [{"kty": "oct", "alg": "HS256",
        "k": Base64UrlUnpadded::encode_string(SECRET)}]});
    let published = signed_with(SECRET, &json!({"alg": "HS256"}), &alice(60));
    let slow = Answer {
        after: Duration::from_millis(600),
        ..set(&[&signer])
    };
    for answer in [
        Answer::default(),
        Answer::ok(""),
        Answer::ok("{\"keys\": []}"),
        Answer::ok("x".repeat(2 << 20)),
        Answer::ok(secret.to_string()),
        slow,
    ] {
        let server = WebServer::plain(answer);
        let broker = broker(&server, |config| {
            config.allow_anonymous = Some(true);
            config.auth.jwt.jwks_timeout_milliseconds = 300;
        });
        assert_eq!(code(&broker, &signer.token()), 0x88);
        assert_eq!(code(&broker, &published), 0x88);
        // Others are not concerned.
        assert_eq!(broker.connect(&login("bob", "bob", "secret")).1, 0);
        broker.connect(&connect("nobody")).0.ping();
    }
}

#[test]
fn a_reload_asks_for_the_keys_and_disconnects_who_came_by_one_that_is_gone() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let server = WebServer::plain(set(&[&old, &new]));
    let mut broker = broker(&server, |_| {});
    let (mut first, found) = broker.connect(&login("first", "alice", &old.token()));
    assert_eq!(found, 0);
    let (mut second, found) = broker.connect(&login("second", "alice", &new.token()));
    assert_eq!(found, 0);
    // Down: what was fetched counts on.
    server.answer(Answer::default());
    broker.reload_with(|_| {});
    first.ping();
    server.answer(set(&[&new]));
    broker.reload_with(|_| {});
    second.ping();
    first.ends_with(ReasonCode::NotAuthorized);
}

#[test]
fn servers_behind_tls_are_asked_if_the_authority_of_the_configuration_signed_them() {
    let (ours, other) = (Certificates::new(), Certificates::new());
    let server = WebServer::secure(&ours, Answer::ok(r#"{"result": "allow"}"#));
    for (authority, expected) in [(ours.authority(), 0), (other.authority(), 0x88)] {
        let url = server.url.clone();
        let broker = Broker::with("", |config| {
            config.auth.http.url = Some(url);
            config.auth.http.ca_file = Some(authority);
        });
        assert_eq!(broker.connect(&login("c", "anna", "secret")).1, expected);
    }
    assert_eq!(server.count(), 1);
}

/// What `tidewire check` says about a configuration.
fn check(toml: &str) -> (bool, String) {
    let file = TempFile::new(toml.as_bytes());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidewire"))
        .args([PathBuf::from("check"), "-c".into(), file.0.clone()])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn check_reads_the_authorities_of_servers_and_refuses_keys_over_plain_http() {
    let certificates = Certificates::new();
    let good = certificates.authority();
    let bad = TempFile::new(b"no certificate");
    let http = |file: &PathBuf| {
        let file = file.display();
        check(&format!(
            "[auth.http]\nurl = \"https://a/\"\nca_file = \"{file}\"\n"
        ))
    };
    let jwt = |url: &str, file: &PathBuf| {
        let file = file.display();
        check(&format!(
            "[auth.jwt]\njwks_url = \"{url}\"\njwks_ca_file = \"{file}\"\n"
        ))
    };
    assert!(http(&good).0);
    let (valid, said) = http(&bad.0);
    assert!(!valid && said.contains("auth.http.ca_file"), "{said}");
    assert!(jwt("https://a/", &good).0);
    let (valid, said) = jwt("https://a/", &bad.0);
    assert!(!valid && said.contains("auth.jwt.jwks_ca_file"), "{said}");
    for url in ["http://a/", "http://localhost@a/", "http://localhost:1@a/"] {
        let (valid, said) = jwt(url, &good);
        assert!(!valid && said.contains("auth.jwt.jwks_url"), "{said}");
    }
    assert!(jwt("http://localhost:1/", &good).0);
}
