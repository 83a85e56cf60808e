//! What MQTT *is*: packets ([`codec`]), topics ([`topic`]) and the state of one party
//! ([`session`]), for 3.1, 3.1.1 and 5.0.
//!
//! No sockets, no clock, no runtime: bytes in, packets and effects out, time as an argument.

pub mod codec;
pub mod session;
pub mod topic;
