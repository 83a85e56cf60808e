//! Bridges: queues bound to the exchange, emptied by the bridges' own runtime.
//!
//! The home shard lends messages and is told when they are settled, and publishes for the bridge
//! what came from the other side.

use std::sync::Arc;

use tidewire_protocol::codec::ReasonCode;

use super::deliver::Routed;
use super::durable::Asker;
use super::outgoing::Outgoing;
use super::{Mail, Shard};
use crate::exchange::{BridgeId, ShardId};
use crate::message::Message;
use crate::metrics::BridgeMetrics;
use crate::queue::{BridgeQueueLimits, Lent, Pushed, Stored, Wanted};
use crate::store::{Load, Loaded, MessageId, QueueId, Ticket};

/// What a bridge asks its home shard for.
#[derive(Debug)]
pub enum BridgeRequest {
    /// Begin to lend messages.
    Open {
        /// The bounds of the queue.
        limits: BridgeQueueLimits,
        /// Where the queue counts.
        metrics: Arc<BridgeMetrics>,
    },
    /// The other side has these messages.
    Settled(Vec<u64>),
    /// Publish what came from the other side, and tell when it has found its place.
    Publish(Vec<(u64, Message)>),
    /// Publish a message of the bridge's own.
    Notify(Message),
}

/// What a home shard has for a bridge.
#[derive(Debug)]
pub enum BridgeReport {
    /// Messages to pass on.
    Lent(Vec<Lent>),
    /// What became of messages to be published, by the bridge's numbers.
    Published(Vec<(u64, ReasonCode)>),
}

/// The publisher's mark of a bridge, for No Local; no session has it.
pub(crate) fn publisher_of_bridge(bridge: BridgeId) -> u64 {
    (u64::from(u16::MAX) << 48) | u64::from(bridge.0)
}

impl Shard {
    /// The durable queue of a bridge, with what an earlier process has left.
    pub fn restore_bridge(
        &mut self,
        bridge: BridgeId,
        queue: QueueId,
        waiting: Vec<MessageId>,
        now_ms: u64,
    ) {
        let bridge = self.bridges.entry(bridge).or_default();
        bridge.restore(queue, waiting, now_ms);
    }

    pub(super) fn take_bridge_request(
        &mut self,
        bridge: BridgeId,
        request: BridgeRequest,
        now_ms: u64,
    ) {
        match request {
            BridgeRequest::Open { limits, metrics } => {
                self.bridges
                    .entry(bridge)
                    .or_default()
                    .open(limits, metrics);
                self.lend_to_bridge(bridge, now_ms);
            }
            BridgeRequest::Settled(sequences) => {
                if let Some(queue) = self.bridges.get_mut(&bridge) {
                    queue.settle(&sequences);
                }
                self.lend_to_bridge(bridge, now_ms);
            }
            BridgeRequest::Publish(messages) => {
                self.durable.begin_packet();
                let reasons = messages
                    .into_iter()
                    .map(|(number, message)| (number, self.publish_for_bridge(&message, now_ms)))
                    .collect();
                self.close_run();
                let report = BridgeReport::Published(reasons);
                self.report_to_bridge(bridge, report);
            }
            BridgeRequest::Notify(message) => self.publish_message(&message, now_ms),
        }
    }

    /// A message for a bridge of this shard. The bridge may be newer here than in the routes.
    pub(super) fn push_to_bridge(
        &mut self,
        bridge: BridgeId,
        stored: Option<Stored>,
        outgoing: &mut Outgoing<'_>,
        now_ms: u64,
    ) {
        if outgoing.header.publisher == publisher_of_bridge(bridge) {
            return;
        }
        let message = outgoing.message();
        let queue = self.bridges.entry(bridge).or_default();
        let id = stored.map(|it| it.id);
        match queue.push(message, id, self.durable.fence(), now_ms) {
            Pushed::Queued => {}
            Pushed::DroppedOldest(count) => self.metrics.messages_dropped.add(count as u64),
            Pushed::Rejected => {
                self.was_rejected = true;
                self.metrics.messages_dropped.add(1);
            }
            Pushed::DroppedNewest | Pushed::Disconnect => self.metrics.messages_dropped.add(1),
        }
        self.lend_to_bridge(bridge, now_ms);
    }

    /// Gives a bridge what it may have now, and sees to what it needs for more.
    fn lend_to_bridge(&mut self, bridge: BridgeId, now_ms: u64) {
        let to = self.bridges_address();
        let committed = self.durable.committed_ticket();
        let Some(queue) = self.bridges.get_mut(&bridge) else {
            return;
        };
        let lent = queue.lend(committed, now_ms);
        let (done, wanted) = (queue.take_done(), queue.wanted(committed));
        let store = queue.store();
        if !lent.is_empty() {
            self.outbox.lend(to, bridge, lent);
        }
        done.into_iter().for_each(|it| self.settle_stored(Some(it)));
        let asker = Asker::Bridge(bridge);
        match (wanted, store) {
            (Some(Wanted::Commit(fence)), _) => self.durable.wake_after(asker, fence),
            (Some(Wanted::Messages(ids)), Some(queue)) => {
                let load = Load::Messages { queue, ids };
                self.durable.ask(asker, Ticket::default(), load);
            }
            (Some(Wanted::Messages(_)), None) => {
                debug_assert!(false, "only durable queues have something to be read back");
            }
            (None, _) => {}
        }
    }

    /// A batch was committed that a bridge has waited for.
    pub(super) fn bridge_committed(&mut self, bridge: BridgeId, now_ms: u64) {
        if let Some(queue) = self.bridges.get_mut(&bridge) {
            queue.end_commit();
        }
        self.lend_to_bridge(bridge, now_ms);
    }

    /// Messages that a bridge has waited for.
    pub(super) fn bridge_loaded(&mut self, bridge: BridgeId, messages: Vec<Loaded>, now_ms: u64) {
        if let Some(queue) = self.bridges.get_mut(&bridge) {
            queue.end_load(messages);
        }
        self.lend_to_bridge(bridge, now_ms);
    }

    fn publish_for_bridge(&mut self, message: &Message, now_ms: u64) -> ReasonCode {
        self.metrics.publishes_received.add(1);
        let mut outgoing = Outgoing::of(message);
        if let Err(error) = self.retain_if_asked(&mut outgoing) {
            tracing::warn!(topic = message.topic(), %error, "retained store is full");
            return ReasonCode::QuotaExceeded;
        }
        self.was_rejected = false;
        let routed = self.route(message.topic(), &mut outgoing, None, now_ms);
        if self.was_rejected || routed == Routed::StoreFull {
            ReasonCode::QuotaExceeded
        } else {
            ReasonCode::Success
        }
    }

    pub(super) fn send_to_bridges(&mut self, mail: Mail) {
        self.send_mail(self.bridges_address(), mail);
    }

    /// The bridges' place among the receivers of mail.
    fn bridges_address(&self) -> ShardId {
        ShardId(self.shared.shards)
    }
}
