//! Who may do what, at a real listener. Each file names the negative tests that it is about.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod abuse;
mod broker;
mod client;
mod command;
mod delivery;
mod documented;
mod files;
mod guards;
mod names;
mod namespaces;
mod publish;
mod reload;
mod revoked;
mod shares;
mod wills;
