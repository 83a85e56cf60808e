//! The routing table: which queues are bound to a topic.
//!
//! The [`Exchange`] is shared by all shards. Filters without wildcards live in hash maps, the rest
//! in arena tries, each behind a lock of its own with an epoch that every change advances; a
//! [`RouteCache`] per shard answers for a topic while the epochs it read are current. Beside them
//! stand the directories of share groups and of exclusive topics.
//!
//! Sessions, queues and connections are unknown here: only their ids.

mod binding;
mod cache;
mod directory;
mod exact;
mod part;
mod routes;
mod set;
mod table;
mod trie;

pub use binding::{Binding, BridgeId, Destination, GroupId, ReceiverId, ShardId};
pub use cache::RouteCache;
pub use part::Part;
pub use routes::{Routes, ShardTargets, Target};
pub use table::{Exchange, GroupJoin};

#[cfg(test)]
mod tests;
