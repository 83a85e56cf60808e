//! Fuzz targets: plain functions of bytes that panic when something is wrong.
//!
//! `fuzz/run` drives them with the engine in [`engine`], on the stable toolchain and without
//! anything installed; cargo-fuzz drives the same functions where it is installed.

// By path, so that the broker with its network stack need not be built to fuzz its routing table.
#[path = "../../src/exchange/mod.rs"]
pub mod exchange;

pub mod engine;
pub mod seeds;
pub mod targets;
