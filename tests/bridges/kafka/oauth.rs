//! Tokens of SASL OAUTHBEARER, shown to a real Kafka, which takes those that nobody has signed.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use tidewire::clock::Clock;

use super::party::{Reader, Writer};
use super::server::Kafka;
use super::{STATE, bridge};
use crate::client::{Client, Q1};
use crate::federation::wait_until_up;
use crate::process::{Broker, directory, free_port};

fn token(subject: &str, seconds: i64) -> String {
    let now = i64::try_from(Clock::start().calendar_unix_ms() / 1_000).expect("a time");
    let claims = format!(
        r#"{{"sub":"{subject}","iat":{},"exp":{}}}"#,
        now - 1,
        now + seconds
    );
    let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))
}

fn config(kafka: &Kafka, file: &Path, lines: &str) -> String {
    let lines = format!(
        "password_file = \"{}\"\n[bridges.kafka]\nsasl_mechanism = \"oauthbearer\"\n\
         statistics_interval_ms = 300\nstart = \"earliest\"\n{lines}",
        file.display()
    );
    bridge(kafka.oauth_port, &lines)
}

pub(super) fn a_token_in_a_file_is_read_anew_before_it_ends(kafka: &Kafka) {
    kafka.create_topic("tokens", 1, &[]);
    let file = directory().join("token");
    std::fs::write(&file, token("mighty", 8)).expect("written");
    let out = "[[bridges.out]]\nfilters = [\"t\"]\ntopic = \"tokens\"";
    let ours = Broker::tidewire(free_port(), &config(kafka, &file, out));
    wait_until_up(&ours);
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let mut there = Reader::new(kafka, "tokens", 1);
    let mut sender = Client::connect(&ours, "sender");
    sender.publish("t", "by the first", Q1);
    assert_eq!(there.payload(), "by the first");
    std::fs::write(&file, token("mighty", 15)).expect("written");
    // The server ends connections whose token has ended, and lets them show another before.
    std::thread::sleep(Duration::from_secs(10));
    sender.publish("t", "by the second", Q1);
    assert_eq!(there.payload(), "by the second");
    let (_, state) = ours.order("up", "state");
    assert!(state.contains("\"connects\":1,"), "{state}");
    assert!(state.contains("\"last_error\":null"), "{state}");
    let over = token("mighty", -100);
    std::fs::write(&file, &over).expect("written");
    let said = watcher.wait_for(STATE, "\"state\":\"degraded\"").payload;
    assert!(
        said.contains("the token cannot be renewed: the token has ended"),
        "{said}"
    );
    assert!(!said.contains(&over), "{said}");
    std::fs::write(&file, token("mighty", 1_000)).expect("written");
    watcher.wait_for(STATE, "\"state\":\"up\"");
    sender.publish("t", "by the third", Q1);
    assert_eq!(there.payload(), "by the third");
}

pub(super) fn a_bridge_without_a_token_that_kafka_takes_is_down(kafka: &Kafka) {
    kafka.create_topic("guarded", 1, &[]);
    let writer = Writer::new(kafka);
    writer.send("guarded", "k", Some("read"), &[]);
    writer.flush();
    // One way alone, each.
    let out = "[[bridges.out]]\nfilters = [\"t\"]\ntopic = \"guarded\"";
    let inward = "[[bridges.in]]\nfilters = [\"guarded\"]\ntopic = \"back\"\n\
                  require_subscriber = true";
    let file = directory().join("token");
    let refusals = [
        (inward, token("mighty", -100), "the token has ended"),
        (inward, "no-token".to_owned(), "Authentication"),
        (out, "two words".to_owned(), "no token"),
        (out, token("scram", 600), "29 TopicAuthorizationFailed"),
        (inward, token("scram", 600), "AuthorizationFailed"),
    ];
    for (lines, text, words) in refusals {
        std::fs::write(&file, &text).expect("written");
        let ours = Broker::tidewire(free_port(), &config(kafka, &file, lines));
        let mut watcher = Client::connect(&ours, "watcher");
        watcher.subscribe(STATE);
        let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
        assert!(said.contains(words), "{said}\nnot: {words}");
        assert!(!said.contains(&text), "{said}");
    }
    std::fs::write(&file, token("mighty", 600)).expect("written");
    let ours = Broker::tidewire(free_port(), &config(kafka, &file, inward));
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("back");
    receiver.wait_for("back", "read");
}

pub(super) fn tokens_are_fetched_by_client_credentials_also_for_transactions(kafka: &Kafka) {
    kafka.create_topic("fetched", 1, &[]);
    kafka.create_topic("up-cursor", 1, &[("cleanup.policy", "compact")]);
    let good = format!(
        r#"{{"access_token":"{}","expires_in":600}}"#,
        token("mighty", 600)
    );
    let refusal = r#"{"error":"invalid_client","error_description":"unknown"}"#;
    let server = TokenServer::start(("401 Unauthorized", refusal.to_owned()));
    let lines = format!(
        "user_name = \"plant 7\"\npassword = \"hush%hush\"\n[bridges.kafka]\n\
         sasl_mechanism = \"oauthbearer\"\ntoken_url = \"http://127.0.0.1:{}/token\"\n\
         token_scope = \"kafka\"\ntoken_parameters = [\"audience=plant\"]\n\
         guarantee = \"exactly_once\"\ntransactional_id = \"fetched\"\n[[bridges.out]]\n\
         filters = [\"t\"]\ntopic = \"fetched\"",
        server.port
    );
    let ours = Broker::tidewire(free_port(), &bridge(kafka.oauth_port, &lines));
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
    assert!(
        said.contains("/token: 401 invalid_client: unknown"),
        "{said}"
    );
    let asked = server.asked.lock().expect("a question").clone();
    // plant%207:hush%25hush
    assert!(
        asked.contains("Basic cGxhbnQlMjA3Omh1c2glMjVodXNo"),
        "{asked}"
    );
    let form = "grant_type=client_credentials&scope=kafka&audience=plant";
    assert!(asked.ends_with(form), "{asked}");
    *server.answer.lock().expect("an answer") = ("200 OK", good);
    watcher.wait_for(STATE, "\"state\":\"up\"");
    Client::connect(&ours, "sender").publish("t", "fetched", Q1);
    assert_eq!(Reader::new(kafka, "fetched", 1).payload(), "fetched");
    let log = ours.log();
    assert!(!log.contains("hush") && !log.contains("eyJ"), "{log}");
}

/// Gives tokens over HTTP.
struct TokenServer {
    port: u16,
    answer: Arc<Mutex<(&'static str, String)>>,
    asked: Arc<Mutex<String>>,
}

impl TokenServer {
    fn start(first: (&'static str, String)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let this = Self {
            port: listener.local_addr().expect("an address").port(),
            answer: Arc::new(Mutex::new(first)),
            asked: Arc::default(),
        };
        let (answer, asked) = (Arc::clone(&this.answer), Arc::clone(&this.asked));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut question = Vec::new();
                let mut part = [0; 4_096];
                // All that the test sends ends so.
                while !question.ends_with(b"audience=plant") {
                    let count = stream.read(&mut part).expect("a question");
                    question.extend_from_slice(&part[..count]);
                }
                *asked.lock().expect("asked") = String::from_utf8_lossy(&question).into_owned();
                let (status, body) = answer.lock().expect("an answer").clone();
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length:");
                let _ = stream.write_all(format!("{head} {length}\r\n\r\n{body}").as_bytes());
            }
        });
        this
    }
}
