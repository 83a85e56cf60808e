//! Normative statements of MQTT, each shown by a scripted client at a running broker.
#![expect(clippy::panic, reason = "a test fails by panicking")]

mod acknowledgements;
mod client;
mod connack;
mod connect;
mod delivery;
mod disconnect;
mod documented;
mod extensions;
mod flow;
mod got;
mod malformed;
mod order;
mod overflow;
#[path = "../../protocol/tests/packet_table/mod.rs"]
mod packet_table;
mod packets;
mod properties;
mod resume;
mod retained;
mod sessions;
mod shared;
mod subscribe;
mod topics;
mod unsubscribe;
mod v3;
mod will;
