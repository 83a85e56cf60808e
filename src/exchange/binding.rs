//! The ids that messages are routed to, and what ties one to a filter.

use std::num::NonZeroU32;

use tidewire_protocol::codec::{ProtocolVersion, QoS};

use super::Part;
use crate::message::ClientNumber;
use crate::store::QueueId;

/// A shard: one thread with its sessions, queues and timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A session on its shard. The generation tells it from earlier users of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverId {
    /// Where the session lives.
    pub shard: ShardId,
    /// Its place in the shard's table.
    pub slot: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

/// A share group; never used again once the group ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// A bridge to another broker: its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BridgeId(pub u16);

/// Where a matching message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// The queue of one session.
    Session(ReceiverId),
    /// The queue that the members of a share group take from.
    Group {
        /// The home shard of the group.
        shard: ShardId,
        /// The group.
        group: GroupId,
    },
    /// The queue of a bridge.
    Bridge {
        /// The home shard of the bridge.
        shard: ShardId,
        /// The bridge.
        bridge: BridgeId,
        /// Which of the messages.
        part: Part,
    },
}

impl Destination {
    /// Whether it wants any message of a topic that its filter matches.
    pub fn takes_topic(self, topic: &str) -> bool {
        match self {
            Self::Bridge { part, .. } => part.has_topic(topic),
            Self::Session(_) | Self::Group { .. } => true,
        }
    }

    /// Whether it wants what a client publishes to a topic that it wants.
    pub fn takes_client(self, client: ClientNumber) -> bool {
        match self {
            Self::Bridge { part, .. } => part.has_client(client),
            Self::Session(_) | Self::Group { .. } => true,
        }
    }

    /// The shard that owns the queue.
    pub fn shard(self) -> ShardId {
        match self {
            Self::Session(receiver) => receiver.shard,
            Self::Group { shard, .. } | Self::Bridge { shard, .. } => shard,
        }
    }
}

/// One destination bound to one filter, with the options of the subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Where matching messages go.
    pub destination: Destination,
    /// The most the subscriber accepts.
    pub qos: QoS,
    /// Whether the subscriber's own messages are left out.
    pub no_local: bool,
    /// Whether the retain flag is forwarded as published.
    pub retain_as_published: bool,
    /// Sent with every message that matches.
    pub subscription_id: Option<NonZeroU32>,
    /// The protocol that the subscriber speaks.
    pub version: ProtocolVersion,
    /// Whether the subscriber may not receive every topic that matches: its rights are asked.
    pub is_checked: bool,
    /// The queue in the store, if messages are to be kept for the subscriber.
    pub store: Option<QueueId>,
}
