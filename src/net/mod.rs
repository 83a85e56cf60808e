//! Listeners, transports and the task of one connection.
//!
//! Everything below a stream of MQTT bytes lives here: sockets that move between shards, TLS,
//! WebSocket framing and the proxy header. Nothing here knows what the bytes mean.

pub(crate) mod connection;
pub mod door;
pub(crate) mod driver;
pub(crate) mod handshake;
pub mod listener;
mod login;
pub(crate) mod login_guard;
pub(crate) mod mailbox;
mod peer_limits;
pub(crate) mod permit;
pub mod proxy_protocol;
mod recheck;
pub(crate) mod room;
pub mod socket;
pub mod tls;
pub mod transport;
pub(crate) mod waiting_room;
pub mod websocket;
