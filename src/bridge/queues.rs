//! The durable queues of bridges: which bridge has which, from one process to the next.
//!
//! # Shape
//! A queue is known by the bridge's name and, behind a slash, by the session at the other broker
//! that the packet identifiers kept with it belong to.

use std::collections::HashMap;

use tidewire_bridges::mqtt::Remembered;

use super::{home_of, parts};
use crate::config::Bridge;
use crate::exchange::BridgeId;
use crate::queue::BridgeRemains;
use crate::shard::{Shard, Shared};
use crate::store::{Awaited, Operation, QueueId, Recovered, RecoveredQueue, Ticket};

/// The queues in the store, by the names of the bridges.
#[derive(Debug, Default)]
pub(crate) struct BridgeQueues {
    kept: HashMap<String, Kept>,
    /// Parts that the configuration has no more, with something left to send.
    left_over: Vec<Bridge>,
}

/// What the store has for a bridge.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) queue: QueueId,
    /// The session of an earlier process.
    pub(super) remembered: Option<Remembered>,
    /// Up to where logs over there were read.
    #[cfg_attr(
        not(feature = "kafka"),
        expect(dead_code, reason = "only Kafka has logs")
    )]
    pub(super) bookmarks: Vec<(Box<str>, u64)>,
    /// What the home shard has not got yet.
    pub(super) remains: BridgeRemains,
    /// How many messages an earlier process has left.
    pub(super) waiting: u64,
}

impl Kept {
    /// A new queue, and what makes it known to the store.
    pub(super) fn fresh(bridge: &Bridge, shared: &Shared) -> (Self, Operation) {
        let queue = shared.store.next_queue();
        let name = queue_name(&bridge.name, None);
        let fresh = Self {
            queue,
            remembered: None,
            bookmarks: Vec::new(),
            remains: BridgeRemains::default(),
            waiting: 0,
        };
        (fresh, Operation::PutNamedQueue { queue, name })
    }
}

impl BridgeQueues {
    /// Takes the queue of a bridge; without a store there is none.
    pub(super) fn take(&mut self, bridge: &str) -> Option<Kept> {
        self.kept.remove(bridge)
    }

    pub(super) fn take_left_over(&mut self) -> Vec<Bridge> {
        std::mem::take(&mut self.left_over)
    }
}

/// What the queue of a bridge is called while this is its session.
pub(super) fn queue_name(bridge: &str, session: Option<&str>) -> Box<str> {
    match session {
        Some(session) => format!("{PREFIX}{bridge}/{session}").into(),
        None => format!("{PREFIX}{bridge}").into(),
    }
}

/// Gives the bridges their queues of before, makes those that are missing and ends those of bridges
/// that are gone. To be called before the shards start: what it hands to the store comes first.
pub(crate) fn restore_queues(
    shards: &mut [Shard],
    shared: &Shared,
    recovered: &mut Recovered,
    now_ms: u64,
) -> BridgeQueues {
    let mut queues = BridgeQueues::default();
    if !shared.store.is_durable() {
        return queues;
    }
    let mut left = take_queues(recovered);
    let mut operations = Vec::new();
    // As `Bridges::start` counts them.
    let mut ids = (0u16..).map(BridgeId);
    let is_left = |it: &&RecoveredQueue| !it.waiting.is_empty() || !it.in_flight.is_empty();
    let names = left.iter().filter(|(_, it)| is_left(it));
    queues.left_over = names
        .filter_map(|(name, _)| parts::left_over(&shared.config, name))
        .collect();
    for bridge in &[parts::all(&shared.config), queues.left_over.clone()].concat() {
        let found = left.remove(&*bridge.name).map(kept);
        if !bridge.enabled {
            if let Some(kept) = found {
                let (name, waiting) = (&*bridge.name, kept.remains.waiting.len());
                tracing::info!(bridge = name, waiting, "bridge is off: its queue is kept");
                queues.kept.insert(bridge.name.clone(), kept);
            }
            continue;
        }
        let mut kept = found.unwrap_or_else(|| {
            let (kept, put) = Kept::fresh(bridge, shared);
            operations.push(put);
            kept
        });
        if let Some(id) = ids.next()
            && let Some(shard) = shards.get_mut(usize::from(home_of(id, shared).0))
        {
            let remains = std::mem::take(&mut kept.remains);
            shard.restore_bridge(id, kept.queue, &remains, now_ms);
            queues.kept.insert(bridge.name.clone(), kept);
        }
    }
    for (bridge, RecoveredQueue { queue, waiting, .. }) in left {
        let messages = waiting.len();
        tracing::warn!(bridge, messages, "bridge is gone: its queue ends");
        operations.push(Operation::RemoveNamedQueue { queue });
    }
    if let (Some(first), false) = (shards.first(), operations.is_empty()) {
        // Below every ticket of the shard: nobody waits for it.
        let ticket = Ticket::default();
        shared
            .store
            .submit(first.id(), ticket, operations, Awaited::No);
    }
    queues
}

fn kept(found: RecoveredQueue) -> Kept {
    let waiting = found.waiting.len() as u64;
    Kept {
        waiting,
        queue: found.queue,
        remembered: remembered(&found),
        bookmarks: found.bookmarks,
        remains: BridgeRemains {
            waiting: found.waiting,
            in_flight: found.in_flight,
            received: found.received,
        },
    }
}

/// Takes the queues of bridges from what the store held, by the bridges' names.
fn take_queues(recovered: &mut Recovered) -> HashMap<String, RecoveredQueue> {
    let named = std::mem::take(&mut recovered.named_queues);
    let mut queues = HashMap::new();
    for queue in named {
        let name = queue.name.strip_prefix(PREFIX);
        match name.map(|it| it.split_once('/').map_or(it, |(bridge, _)| bridge)) {
            Some(bridge) => drop(queues.insert(bridge.to_owned(), queue)),
            None => recovered.named_queues.push(queue),
        }
    }
    queues
}

/// The session that the packet identifiers of a queue belong to.
fn remembered(found: &RecoveredQueue) -> Option<Remembered> {
    let (_, session) = found.name.strip_prefix(PREFIX)?.split_once('/')?;
    let in_flight = found.in_flight.iter();
    Some(Remembered {
        session: session.to_owned(),
        sent: in_flight
            .clone()
            .filter(|(_, it)| it.message.is_some())
            .map(|it| it.0)
            .collect(),
        released: in_flight
            .filter(|(_, it)| it.message.is_none())
            .map(|it| it.0)
            .collect(),
        received: found.received.clone(),
    })
}

/// Begins with what no share group's name can: a name without a group.
const PREFIX: &str = "/bridge/";
