//! Everything before the session: listeners, handshakes, limits and the log, against a real broker.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod broker;
mod certificates;
mod client;
mod identity;
mod limits;
mod listeners;
mod logs;
mod process;
mod proxy;
#[path = "../wire/read.rs"]
mod read;
mod rechecked;
mod slow;
mod tls;
mod warnings;
mod websocket;
#[path = "../wire/mod.rs"]
mod wire;
