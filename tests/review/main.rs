//! The commands as an operator meets them: what they print and how they end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod check;
mod clients;
mod program;
mod start;
