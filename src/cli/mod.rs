//! The commands of the `tidewire` binary.

pub mod arguments;
pub mod bench;
pub mod certs;
pub mod client;
pub mod import;
mod log;
pub mod passwd;
pub mod publish;
pub mod run;
pub mod store;
pub mod subscribe;
