//! What operators configure, shown at shards driven by a virtual clock.
#![expect(clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aliases;
mod broker;
mod keep_alive;
mod listener;
mod mount_point;
mod rates;
mod reason_strings;
mod reconfigured;
mod sys;
