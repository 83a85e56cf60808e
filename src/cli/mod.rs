//! The commands of the `tidewire` binary.

pub mod certs;
