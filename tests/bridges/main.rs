//! Bridges between real processes: two and three nodes of ours, and mosquitto.
#![expect(clippy::panic, reason = "a test fails by panicking")]

mod client;
mod durable;
mod faults;
mod federation;
mod mosquitto;
mod process;
mod proxy;
mod ring;
