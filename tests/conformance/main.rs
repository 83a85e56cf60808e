//! Normative statements of MQTT, each shown by a scripted client at a running broker.
#![expect(clippy::panic, reason = "a test fails by panicking")]

mod client;
mod connect;
mod delivery;
mod extensions;
mod resume;
mod retained;
mod shared;
mod subscribe;
mod will;
