//! What a topic resolves to: targets by shard, overlapping subscriptions merged.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidewire_protocol::codec::{ProtocolVersion, QoS};

use super::{Binding, Destination, ShardId};
use crate::message::ClientNumber;
use crate::store::QueueId;

/// Everything that receives the messages of one topic.
///
/// # Shape
/// Ordered by shard, within a shard by destination.
#[derive(Debug)]
pub struct Routes {
    topic: Box<str>,
    targets: Box<[ShardTargets]>,
    is_plain: bool,
    has_v3: bool,
    has_v5: bool,
    has_stored: bool,
    pub(super) epochs: [Epoch; 3],
}

/// The targets on one shard, never empty.
#[derive(Debug)]
pub struct ShardTargets {
    /// The shard that owns the queues.
    pub shard: ShardId,
    /// At most one target per destination.
    pub targets: Box<[Target]>,
    /// Whether each of them takes the messages of some clients only.
    is_divided: bool,
}

/// One queue, with what its overlapping subscriptions add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The queue.
    pub destination: Destination,
    /// The protocol of the receiver.
    pub version: ProtocolVersion,
    /// The highest of all subscriptions ([MQTT-3.3.4-2]).
    pub qos: QoS,
    /// The highest for the receiver's own messages; `None` if it wants none ([MQTT-3.8.3-3]).
    pub qos_to_self: Option<QoS>,
    /// Whether any subscription keeps the retain flag.
    pub retain_as_published: bool,
    /// The identifiers of all subscriptions ([MQTT-3.3.4-3]).
    pub subscription_ids: Option<Arc<[NonZeroU32]>>,
    /// The identifiers for the receiver's own messages.
    pub subscription_ids_to_self: Option<Arc<[NonZeroU32]>>,
    /// Whether it is a session without identifiers: all such receive the same bytes.
    pub is_plain: bool,
    /// The queue in the store, if messages are to be kept for it.
    pub store: Option<QueueId>,
}

/// The epoch of a part of the table at the time it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    pub(super) part: u32,
    pub(super) value: u64,
}

impl Routes {
    /// Merges and groups the bindings that match a topic.
    pub(super) fn new(topic: &str, mut bindings: Vec<Binding>, epochs: [Epoch; 3]) -> Self {
        bindings.retain(|binding| binding.destination.takes_topic(topic));
        bindings.sort_unstable_by_key(|binding| {
            (
                binding.destination.shard(),
                binding.destination,
                binding.subscription_id,
            )
        });
        let targets = bindings
            .chunk_by(|a, b| a.destination.shard() == b.destination.shard())
            .map(ShardTargets::new)
            .collect::<Box<[ShardTargets]>>();
        let all = || targets.iter().flat_map(|on_shard| &on_shard.targets);
        Self {
            is_plain: all().all(|target| target.is_plain),
            has_v3: all().any(|target| target.version != ProtocolVersion::V5),
            has_v5: all().any(|target| target.version == ProtocolVersion::V5),
            topic: topic.into(),
            has_stored: all().any(|target| target.store.is_some()),
            targets,
            epochs,
        }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The targets on one shard.
    pub fn for_shard(&self, shard: ShardId) -> &[Target] {
        match self
            .targets
            .binary_search_by_key(&shard, |on_shard| on_shard.shard)
        {
            Ok(index) => &self.targets[index].targets,
            Err(_) => &[],
        }
    }

    /// All shards that have targets, in ascending order.
    pub fn shards(&self) -> &[ShardTargets] {
        &self.targets
    }

    /// Whether all receivers of one protocol version get the same bytes at QoS 0.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether a receiver speaks MQTT 3.1 or 3.1.1.
    pub fn has_v3(&self) -> bool {
        self.has_v3
    }

    /// Whether a receiver speaks MQTT 5.0.
    pub fn has_v5(&self) -> bool {
        self.has_v5
    }

    /// Whether messages are kept for a receiver.
    pub fn has_stored(&self) -> bool {
        self.has_stored
    }

    /// Whether nothing receives the topic.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The number of targets on all shards.
    pub fn len(&self) -> usize {
        self.targets
            .iter()
            .map(|on_shard| on_shard.targets.len())
            .sum()
    }
}

impl ShardTargets {
    /// Merges the bindings of one shard, which are in order; there is at least one.
    fn new(bindings: &[Binding]) -> Self {
        let is_divided = |it: &Binding| match it.destination {
            Destination::Bridge { part, .. } => part.divides_clients(),
            Destination::Session(_) | Destination::Group { .. } => false,
        };
        Self {
            shard: bindings[0].destination.shard(),
            targets: bindings
                .chunk_by(|a, b| a.destination == b.destination)
                .map(Target::merge)
                .collect(),
            is_divided: bindings.iter().all(is_divided),
        }
    }

    /// Whether a target takes what the client has published.
    pub fn takes(&self, client: ClientNumber) -> bool {
        !self.is_divided || self.targets.iter().any(|target| target.takes(client))
    }
}

impl Target {
    /// Whether it takes what the client has published: to be asked wherever receivers of a message
    /// are chosen.
    pub fn takes(&self, client: ClientNumber) -> bool {
        self.destination.takes_client(client)
    }

    /// Merges the bindings of one destination; there is at least one.
    fn merge(bindings: &[Binding]) -> Self {
        let first = &bindings[0];
        let to_self = || bindings.iter().filter(|binding| !binding.no_local);
        let subscription_ids = ids(bindings.iter());
        let subscription_ids_to_self = if to_self().count() == bindings.len() {
            subscription_ids.clone()
        } else {
            ids(to_self())
        };
        let is_session = matches!(first.destination, Destination::Session(_));
        Self {
            destination: first.destination,
            version: first.version,
            qos: bindings
                .iter()
                .map(|binding| binding.qos)
                .max()
                .unwrap_or_default(),
            qos_to_self: to_self().map(|binding| binding.qos).max(),
            retain_as_published: bindings.iter().any(|binding| binding.retain_as_published),
            is_plain: is_session && subscription_ids.is_none(),
            store: first.store,
            subscription_ids,
            subscription_ids_to_self,
        }
    }
}

fn ids<'a>(bindings: impl Iterator<Item = &'a Binding>) -> Option<Arc<[NonZeroU32]>> {
    let mut present = bindings
        .filter_map(|binding| binding.subscription_id)
        .peekable();
    present.peek()?;
    Some(present.collect())
}
