//! One party's protocol state, for either end of a connection.
//!
//! Owns the exact state machines of QoS 1 and 2 ([`Outbound`], [`AwaitingRelease`]), topic aliases
//! and the keep-alive arithmetic. It refuses to know sockets, clocks and where messages are kept:
//! what is in flight is a value of the caller's choice.

mod alias;
mod awaiting_release;
mod keep_alive;
mod outbound;
mod outbound_alias;
mod slots;

pub use alias::{AliasError, InboundAliases};
pub use awaiting_release::AwaitingRelease;
pub use keep_alive::keep_alive_deadline_ms;
pub use outbound::{InFlight, Outbound, SettleError};
pub use outbound_alias::{OutboundAliases, TopicForm};
