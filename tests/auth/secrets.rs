//! Negative test 45: what holds a secret does not show it.

use std::sync::Arc;

use tidewire::auth::{Credentials, HttpBackEnd, Tokens};
use tidewire::clock::Clock;
use tidewire::config::{Config, Http, JwtAlgorithm, Secret};

use super::token_signer::TempFile;

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-";

#[test]
fn nothing_that_holds_a_secret_shows_it_for_debugging() {
    let file = TempFile::new(SECRET.as_bytes());
    let mut config = Config::default();
    config.auth.jwt = file.jwt(JwtAlgorithm::Hs256);
    config.auth.http = Http {
        url: Some("http://localhost/".into()),
        authorization: Some(Secret(SECRET.into())),
        ..Http::default()
    };
    let credentials = Arc::new(Credentials {
        client_id: "c".into(),
        user_name: Some("alice".into()),
        password: Some(SECRET.as_bytes().to_vec().into()),
        ..Credentials::default()
    });
    let tokens = Tokens::load(&config.auth.jwt).unwrap();
    let http = HttpBackEnd::new(&config.auth.http, Clock::start()).unwrap();
    let shown = format!("{config:#?} {config:?} {credentials:?} {tokens:?} {http:?}");
    assert!(shown.contains("Secret(..)"));
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        !shown.contains(&format!("{:?}", SECRET.as_bytes())),
        "{shown}"
    );
}
