//! What a shard asks the store to keep: plain values, in the order in which they happened.
//!
//! Times in here are milliseconds of the broker's [`Clock`](crate::clock::Clock); on disk they are
//! calendar time.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidewire_protocol::codec::{PacketId, ProtocolVersion, QoS, SubscriptionOptions};

use super::few::Few;
use super::id::{MessageId, QueueId};
use crate::message::Message;

/// One change.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Was settled before it was written.
    Nothing,
    /// A session begins, or its state changed.
    PutSession {
        /// Its queue.
        queue: QueueId,
        /// All of it.
        session: SessionRecord,
    },
    /// A session ends, and its queue with it.
    RemoveSession {
        /// Its queue.
        queue: QueueId,
    },
    /// A subscription begins or changes.
    PutSubscription {
        /// The subscriber.
        queue: QueueId,
        /// As subscribed, `$share/group/` included.
        filter: Box<str>,
        /// How.
        subscription: SubscriptionRecord,
    },
    /// A subscription ends.
    RemoveSubscription {
        /// The subscriber.
        queue: QueueId,
        /// As subscribed.
        filter: Box<str>,
    },
    /// A message waits for durable receivers.
    PutMessage {
        /// Greater than all earlier of its lane.
        id: MessageId,
        /// What was published.
        message: Message,
        /// Who has to settle it; at least one.
        receivers: Few<Receiver>,
        /// Should there be no room.
        refusal: Refusal,
    },
    /// A receiver is done with messages: acknowledged, refused, expired or dropped.
    Settle {
        /// The receiver.
        queue: QueueId,
        /// The messages.
        ids: Few<MessageId>,
    },
    /// A message goes from one receiver to another, such as from a share group to the member that
    /// has it in flight.
    Move {
        /// The message.
        id: MessageId,
        /// Who had to settle it.
        from: QueueId,
        /// Who has to now.
        to: Receiver,
    },
    /// All messages of a queue are settled; the queue remains.
    Purge {
        /// The queue.
        queue: QueueId,
    },
    /// A share group or bridge has a durable queue.
    PutNamedQueue {
        /// Its queue.
        queue: QueueId,
        /// What it is known by.
        name: Box<str>,
    },
    /// A share group or bridge ends, and its queue with it.
    RemoveNamedQueue {
        /// Its queue.
        queue: QueueId,
    },
    /// A packet identifier is in use towards a client.
    PutInFlight {
        /// The session.
        queue: QueueId,
        /// The identifier.
        packet_id: PacketId,
        /// For what.
        in_flight: InFlightRecord,
    },
    /// A packet identifier towards a client is free again.
    RemoveInFlight {
        /// The session.
        queue: QueueId,
        /// The identifier.
        packet_id: PacketId,
    },
    /// A QoS 2 message was received and waits for PUBREL.
    PutReceived {
        /// The session.
        queue: QueueId,
        /// The client's identifier.
        packet_id: PacketId,
        /// What it published.
        with: Refusable,
    },
    /// PUBREL came.
    RemoveReceived {
        /// The session.
        queue: QueueId,
        /// The client's identifier.
        packet_id: PacketId,
    },
    /// A bridge has read a log over there so far.
    PutBookmark {
        /// The bridge's queue.
        queue: QueueId,
        /// Names the log; of its own in the queue.
        name: Arc<str>,
        /// What is read next.
        next: u64,
    },
    /// The will of a session.
    PutWill {
        /// The session.
        queue: QueueId,
        /// The will.
        will: WillRecord,
    },
    /// A session has no will any more.
    RemoveWill {
        /// The session.
        queue: QueueId,
    },
    /// A message to be published later.
    PutDelayed {
        /// Names it.
        id: MessageId,
        /// When.
        due_at_ms: u64,
        /// What.
        message: Message,
    },
    /// A delayed message was published or dropped.
    RemoveDelayed {
        /// Names it.
        id: MessageId,
    },
    /// The latest message of its topic.
    SetRetained {
        /// With a payload.
        message: Message,
        /// Should there be no room.
        refusal: Refusal,
    },
    /// A topic has no retained message any more.
    ClearRetained {
        /// The topic.
        topic: Box<str>,
    },
    /// Removes some of the retained messages whose time is over.
    SweepRetained {
        /// The time.
        now_ms: u64,
    },
}

/// When a message is refused for want of room, in the order of refusing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It is new: nobody has been told anything.
    First,
    /// It was accepted earlier, such as a will: it may use the reserve of a full store.
    Last,
    /// What says that it was taken from elsewhere is in the same commit: that fails before it.
    Never,
}

/// What a packet published in the batch of its identifier. If any of it is refused, the identifier
/// is not kept: sent again, the message must not pass for one that was accepted.
#[derive(Clone, Debug, Default)]
pub struct Refusable {
    /// For durable receivers, or delayed.
    pub message: Option<MessageId>,
    /// The latest of its topic.
    pub retained: Option<Message>,
}

/// Someone who has to settle a message, and how it is delivered to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Their queue.
    pub queue: QueueId,
    /// The lower of the publisher's and the subscription's QoS.
    pub qos: QoS,
    /// The RETAIN flag to send.
    pub retain: bool,
    /// Identifiers of all subscriptions that matched.
    pub subscription_ids: Option<Arc<[NonZeroU32]>>,
}

/// A session with an expiry above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Whose it is.
    pub client_id: Arc<str>,
    /// The protocol it speaks.
    pub version: ProtocolVersion,
    /// `u32::MAX` never expires.
    pub expiry_seconds: u32,
    /// When the session ends; `None` while there is a connection, or if it never ends.
    pub expires_at_ms: Option<u64>,
    /// Who authenticated.
    pub user_name: Option<Box<str>>,
}

/// One subscription of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// As in SUBSCRIBE.
    pub options: SubscriptionOptions,
    /// As in SUBSCRIBE.
    pub subscription_id: Option<NonZeroU32>,
}

/// What a packet identifier is in use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightRecord {
    /// Place in the order of sending, which is the order of redelivery [MQTT-4.6.0-1].
    pub order: MessageId,
    /// QoS it was sent with.
    pub qos: QoS,
    /// The message sent; `None` once PUBREC came and PUBREL was sent.
    pub message: Option<MessageId>,
}

/// A will of a session that may outlive the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillRecord {
    /// What is published; its own expiry is not set.
    pub message: Message,
    /// Will Delay Interval.
    pub delay_seconds: u32,
    /// Message Expiry Interval, which begins when it is published.
    pub expiry_seconds: Option<u32>,
    /// When it is due; `None` while there is a connection.
    pub due_at_ms: Option<u64>,
}

impl Refusable {
    pub(super) fn is_something(&self) -> bool {
        self.message.is_some() || self.retained.is_some()
    }
}

impl Operation {
    /// Says of one more message that a receiver is done with it; false if it says something else.
    pub fn settles_too(&mut self, receiver: QueueId, id: MessageId) -> bool {
        match self {
            Self::Settle { queue, ids }
                if *queue == receiver && ids.len() < SETTLED_AT_ONCE_MAX =>
            {
                ids.push(id);
                true
            }
            _ => false,
        }
    }

    /// How many changes it is.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Settle { ids, .. } => ids.len(),
            _ => 1,
        }
    }

    /// About how many bytes it takes, in memory and on disk.
    pub(super) fn bytes(&self) -> usize {
        let content = match self {
            Self::PutMessage {
                message, receivers, ..
            } => message.bytes() + receivers.len() * RECEIVER_BYTES,
            Self::PutDelayed { message, .. } | Self::SetRetained { message, .. } => message.bytes(),
            Self::PutWill { will, .. } => will.message.bytes(),
            Self::PutSubscription { filter, .. } | Self::RemoveSubscription { filter, .. } => {
                filter.len()
            }
            Self::PutSession { session, .. } => session.client_id.len(),
            Self::PutNamedQueue { name, .. } => name.len(),
            Self::PutBookmark { name, .. } => name.len(),
            Self::Settle { ids, .. } => size_of_val(ids.as_slice()),
            Self::ClearRetained { topic } => topic.len(),
            _ => 0,
        };
        size_of::<Self>() + content
    }

    pub(super) fn changes_retained(&self) -> bool {
        matches!(self, Self::SetRetained { .. } | Self::ClearRetained { .. })
    }
}

/// Messages of one operation that settles: so much is sent to a client in one turn.
const SETTLED_AT_ONCE_MAX: usize = 256;
const RECEIVER_BYTES: usize = size_of::<Receiver>();
