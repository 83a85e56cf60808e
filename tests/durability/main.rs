//! The promise of the store on the whole program: what was acknowledged survives kill -9.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod backlog;
mod client;
mod commands;
mod disk;
mod filling;
mod full;
mod groups;
mod identity;
mod in_flight;
mod kill;
mod order;
mod parse;
mod party;
mod power_cut;
mod program;
#[path = "../store/record.rs"]
mod record;
mod retained;
mod sessions;
mod small_map;
mod start;
mod sys;
#[path = "../wire/mod.rs"]
mod wire;
