//! Logins at a real listener: passwords, SCRAM-SHA-256, and who may have whose session.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod broker;
mod command;
mod enhanced;
mod http;
mod http_server;
mod key_server;
mod password;
mod rechecked;
mod scram_client;
mod secrets;
mod takeover;
mod token;
mod token_login;
mod token_signer;
mod web_server;
