//! Fuzz targets: plain functions of bytes that panic when something is wrong.
//!
//! `fuzz/run` drives them with the engine in [`engine`], on the stable toolchain and without
//! anything installed; cargo-fuzz drives the same functions where it is installed.

pub use tidewire::exchange;

pub mod engine;
pub mod seeds;
pub mod targets;
