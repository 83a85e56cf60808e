//! Tidewire, an MQTT 3.1, 3.1.1 and 5.0 broker.
//!
//! Whatever receives messages is a queue bound to the [`exchange`] by a topic filter. A client
//! lives on one [`shard`]: one thread that owns its sessions, queues and timers as plain data. A
//! [`bridge`] takes what waits for another broker from a queue at its home shard.

pub mod auth;
pub mod bridge;
pub mod cli;
pub mod clock;
pub mod config;
pub mod exchange;
pub mod log_limit;
pub mod message;
pub mod metrics;
pub mod net;
pub mod prefix_limits;
pub mod queue;
pub mod retained;
pub mod server;
pub mod shard;
pub mod store;
mod sys;
