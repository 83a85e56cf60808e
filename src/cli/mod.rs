//! The commands of the `tidewire` binary.

pub mod arguments;
pub mod certs;
mod log;
pub mod run;
