//! The durable queues of bridges: which bridge has which, from one process to the next.

use std::collections::HashMap;

use super::home_of;
use crate::exchange::BridgeId;
use crate::shard::{Shard, Shared};
use crate::store::{Operation, QueueId, Recovered, RecoveredQueue, Ticket};

/// The queues in the store, by the bridges' places in the configuration.
#[derive(Debug, Default)]
pub(crate) struct BridgeQueues(HashMap<BridgeId, QueueId>);

impl BridgeQueues {
    /// The queue of a bridge; `None` keeps it in memory.
    pub(crate) fn of(&self, bridge: BridgeId) -> Option<QueueId> {
        self.0.get(&bridge).copied()
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
    for (number, bridge) in (0u16..).zip(&shared.config.bridges) {
        let id = BridgeId(number);
        let found = left.remove(&*bridge.name);
        if !bridge.enabled {
            if let Some(RecoveredQueue { waiting, .. }) = found {
                let (bridge, waiting) = (&*bridge.name, waiting.len());
                tracing::info!(bridge, waiting, "bridge is off: its queue is kept");
            }
            continue;
        }
        let (queue, waiting) = match found {
            Some(found) => (found.queue, found.waiting),
            None => {
                let queue = shared.store.next_queue();
                let name = format!("{PREFIX}{}", bridge.name).into();
                operations.push(Operation::PutNamedQueue { queue, name });
                (queue, Vec::new())
            }
        };
        if let Some(shard) = shards.get_mut(usize::from(home_of(id, shared).0)) {
            shard.restore_bridge(id, queue, waiting, now_ms);
            queues.0.insert(id, queue);
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
        shared.store.submit(first.id(), ticket, operations);
    }
    queues
}

/// Takes the queues of bridges from what the store held, by the bridges' names.
fn take_queues(recovered: &mut Recovered) -> HashMap<String, RecoveredQueue> {
    let named = std::mem::take(&mut recovered.named_queues);
    let mut queues = HashMap::new();
    for queue in named {
        match queue.name.strip_prefix(PREFIX).map(str::to_owned) {
            Some(bridge) => drop(queues.insert(bridge, queue)),
            None => recovered.named_queues.push(queue),
        }
    }
    queues
}

/// Begins with what no share group's name can: a name without a group.
const PREFIX: &str = "/bridge/";
