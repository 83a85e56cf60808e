//! The commands of the `tidewire` binary.

pub mod acl;
pub mod arguments;
pub mod bench;
pub mod certs;
pub mod client;
pub mod control;
mod files;
pub mod import;
mod log;
pub mod passwd;
pub mod pid_file;
pub mod publish;
pub mod reload;
pub mod retained;
pub mod run;
pub mod store;
pub mod subscribe;
mod warnings;
mod watch;
