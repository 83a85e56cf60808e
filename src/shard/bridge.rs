//! Bridges: queues bound to the exchange, emptied by the bridges' own runtime.
//!
//! The home shard lends messages and is told when they are settled, and publishes for the bridge
//! what came from the other side.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tidewire_protocol::codec::{PacketId, ReasonCode};

use super::deliver::Routed;
use super::durable::Asker;
use super::outgoing::Outgoing;
use super::{Mail, Shard};
use crate::exchange::{BridgeId, ShardId};
use crate::log_limit::LogKind;
use crate::message::Message;
use crate::metrics::BridgeMetrics;
use crate::queue::{Bookmark, BridgeNote, BridgeQueueLimits, BridgeRemains, Lent, Stored, Wanted};
use crate::store::{Load, Loaded, MessageId, Operation, QueueId, Refusal, Ticket};

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
    /// Make the queue durable, with what an earlier process has left.
    Restore {
        /// The queue.
        queue: QueueId,
        /// What it holds.
        remains: BridgeRemains,
        /// Told when that is done.
        done: SyncSender<()>,
    },
    /// Drop so many of the messages that wait and are not lent.
    Purge(usize),
    /// The bridge is gone, and its queue with it.
    Close,
    /// The other side has these messages.
    Settled(Vec<u64>),
    /// Publish what came from the other side, and tell when it has found its place.
    Publish(Vec<Arrived>),
    /// Publish a message of the bridge's own.
    Notify(Message),
    /// Keep these changes of the bridge's session, and tell when they are kept.
    Keep(Vec<BridgeNote>),
}

/// A message from the other side.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The bridge's number for it.
    pub number: u64,
    /// The message.
    pub message: Message,
    /// To be kept with it, so that it is taken once: the other side's identifier, at QoS 2.
    pub packet_id: Option<PacketId>,
    /// Its place in a log that is read in order; how far that was read is kept with it.
    pub bookmark: Option<Bookmark>,
    /// It is refused while nobody would receive it.
    pub needs_subscriber: bool,
}

/// What a home shard has for a bridge.
#[derive(Debug)]
pub enum BridgeReport {
    /// Messages to pass on.
    Lent(Vec<Lent>),
    /// What became of messages to be published, by the bridge's numbers.
    Published(Vec<Placed>),
    /// So many more changes of the session are kept, in order.
    Kept(usize),
}

/// What became of a message from the other side.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// The bridge's number for it.
    pub number: u64,
    /// Success, or why it is to be published again.
    pub reason: ReasonCode,
    /// Its name in the store, which may refuse it after all.
    pub stored: Option<MessageId>,
}

/// The publisher's mark of a bridge, for No Local; no session has it.
pub(crate) fn publisher_of_bridge(bridge: BridgeId) -> u64 {
    (u64::from(u16::MAX) << 48) | u64::from(bridge.0)
}

impl Arrived {
    fn refused(&self) -> Placed {
        Placed {
            number: self.number,
            reason: ReasonCode::QuotaExceeded,
            stored: None,
        }
    }
}

impl Shard {
    /// The durable queue of a bridge, with what an earlier process has left.
    pub fn restore_bridge(
        &mut self,
        bridge: BridgeId,
        queue: QueueId,
        remains: &BridgeRemains,
        now_ms: u64,
    ) {
        let bridge = self.bridges.entry(bridge).or_default();
        bridge.restore(queue, remains, now_ms);
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
                self.publish_all_for_bridge(bridge, messages, now_ms);
            }
            BridgeRequest::Notify(message) => self.publish_message(&message, now_ms),
            BridgeRequest::Keep(notes) => self.keep_for_bridge(bridge, notes),
            BridgeRequest::Restore {
                queue,
                remains,
                done,
            } => {
                self.restore_bridge(bridge, queue, &remains, now_ms);
                // Nobody may wait any more.
                let _ = done.try_send(());
            }
            BridgeRequest::Purge(count) => self.purge_bridge(bridge, count, now_ms),
            BridgeRequest::Close => {
                let queue = self.bridges.entry(bridge).or_default();
                if let Some(queue) = queue.close() {
                    self.durable.record(Operation::RemoveNamedQueue { queue });
                }
            }
        }
    }

    /// A part now, the rest after what else there is to do.
    fn purge_bridge(&mut self, bridge: BridgeId, count: usize, now_ms: u64) {
        let Some(queue) = self.bridges.get_mut(&bridge) else {
            return;
        };
        let purged = queue.purge(count.min(PURGED_AT_ONCE));
        let left = count - purged;
        if purged == PURGED_AT_ONCE && left > 0 {
            let request = BridgeRequest::Purge(left);
            self.send_mail(self.id, Mail::BridgeRequest { bridge, request });
        }
        self.lend_to_bridge(bridge, now_ms);
    }

    /// What the other side is told next depends on these: they are answered once they are on disk.
    fn keep_for_bridge(&mut self, bridge: BridgeId, notes: Vec<BridgeNote>) {
        self.durable.begin_packet();
        let count = notes.len();
        for note in notes {
            let order = self.durable.next_id();
            let Some(queue) = self.bridges.get_mut(&bridge) else {
                break;
            };
            for operation in queue.note(note, order) {
                self.durable.record(operation);
            }
        }
        self.report_to_bridge(bridge, BridgeReport::Kept(count));
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
        let pushed = queue.push(message, id, self.durable.fence(), now_ms);
        self.note_pushed(pushed);
        self.lend_to_bridge(bridge, now_ms);
    }

    /// Gives a bridge what it may have now, and sees to what it needs for more.
    fn lend_to_bridge(&mut self, bridge: BridgeId, now_ms: u64) {
        let to = self.bridges_address();
        let committed = self.durable.committed_ticket();
        let Some(queue) = self.bridges.get_mut(&bridge) else {
            return;
        };
        self.outbox
            .lend(to, bridge, |lent| queue.lend(committed, now_ms, lent));
        let (done, wanted) = (queue.take_done(), queue.wanted(committed));
        let store = queue.store();
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

    /// What is recorded for these is one commit: the messages, and how far logs were read.
    fn publish_all_for_bridge(&mut self, bridge: BridgeId, messages: Vec<Arrived>, now_ms: u64) {
        self.durable.begin_packet();
        let mut all_placed = Vec::with_capacity(messages.len());
        let mut bookmarks: Vec<Bookmark> = Vec::new();
        for arrived in messages {
            let placed = self.publish_in_turn(bridge, &arrived, now_ms);
            all_placed.push(placed);
            let accepted = arrived.bookmark.filter(|_| !placed.reason.is_error());
            let Some(bookmark) = accepted else {
                continue;
            };
            // Records of a log come in runs.
            let known = bookmarks.iter_mut().rfind(|it| it.name == bookmark.name);
            match known {
                Some(known) => known.next = bookmark.next,
                None => bookmarks.push(bookmark),
            }
        }
        self.close_run();
        let queue = self.bridges.get(&bridge);
        let kept = bookmarks
            .into_iter()
            .filter_map(|it| queue?.keep_bookmark(it));
        kept.for_each(|it| self.durable.record(it));
        self.report_to_bridge(bridge, BridgeReport::Published(all_placed));
    }

    /// As [`Shard::publish_for_bridge`], but nothing passes what was refused before it in its log.
    fn publish_in_turn(&mut self, bridge: BridgeId, arrived: &Arrived, now_ms: u64) -> Placed {
        let Some(bookmark) = &arrived.bookmark else {
            return self.publish_for_bridge(bridge, arrived, now_ms);
        };
        let queue = self.bridges.entry(bridge).or_default();
        if !queue.is_next(bookmark, arrived.number) {
            queue.refuse(bookmark, arrived.number);
            return arrived.refused();
        }
        let placed = self.publish_for_bridge(bridge, arrived, now_ms);
        let queue = self.bridges.entry(bridge).or_default();
        match placed.reason.is_error() {
            true => queue.refuse(bookmark, arrived.number),
            false => queue.accept(bookmark, arrived.number),
        }
        placed
    }

    fn publish_for_bridge(&mut self, bridge: BridgeId, arrived: &Arrived, now_ms: u64) -> Placed {
        let message = &arrived.message;
        if arrived.needs_subscriber && !self.is_received(message) {
            return arrived.refused();
        }
        self.metrics.publishes_received.add(1);
        let mut outgoing = Outgoing::of(message);
        // A commit of the bookmark or of the identifier would stand for the message.
        if arrived.bookmark.is_some() || arrived.packet_id.is_some() {
            outgoing.refusal = Refusal::Never;
        }
        if let Err(error) = self.retain_if_asked(&mut outgoing) {
            if self.may_log(LogKind::NoRoom, now_ms) {
                tracing::warn!(topic = message.topic(), %error, "retained store is full");
            }
            return arrived.refused();
        }
        self.was_rejected = false;
        let routed = self.route(message.topic(), &mut outgoing, None, now_ms);
        if routed == Routed::StoreFull {
            self.log_no_room(message.topic(), now_ms);
        }
        if self.was_rejected || routed == Routed::StoreFull {
            return arrived.refused();
        }
        let stored = outgoing.stored;
        let queue = self.bridges.get_mut(&bridge);
        let receive = |packet_id| queue?.receive(packet_id);
        if let Some(operation) = arrived.packet_id.and_then(receive) {
            self.durable.record(operation);
        }
        Placed {
            number: arrived.number,
            reason: ReasonCode::Success,
            stored,
        }
    }

    fn log_no_room(&mut self, topic: &str, now_ms: u64) {
        if self.may_log(LogKind::NoRoom, now_ms) {
            tracing::warn!(topic, "the store has no room for a message from a bridge");
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

/// Messages that are dropped before others get a turn.
const PURGED_AT_ONCE: usize = 4_096;
