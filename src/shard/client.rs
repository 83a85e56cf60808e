//! The state of a client: its session, which may outlive connections, and one connection.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use tidewire_protocol::codec::{ProtocolVersion, SubscriptionOptions};
use tidewire_protocol::session::{AwaitingRelease, InboundAliases, Outbound, OutboundAliases};

use super::census::Place;
use super::pace::Pace;
use super::retained::RetainedDelivery;
use super::slots::Key;
use super::subscriptions::Subscriptions;
use crate::auth::EnhancedAuthentication;
use crate::auth::acl::Rights;
use crate::exchange::{GroupId, Routes, ShardId};
use crate::message::{ClientNumber, Message};
use crate::queue::{Delivery, Queue};
use crate::shard::OutBuffer;
use crate::store::{QueueId, Ticket};

/// The session of one client id.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client_id: Arc<str>,
    /// The key of the directory: the client id within its mount point.
    pub(crate) name: Arc<str>,
    /// Of the name.
    pub(crate) client: ClientNumber,
    /// Put before the topics of the client.
    pub(crate) mount_point: Option<Arc<str>>,
    /// It counts among those of its mount point and its user.
    pub(super) _places: Box<[Place]>,
    /// Who had the session last; `None` if that client proved nothing.
    pub(crate) user_name: Option<Arc<str>>,
    /// What it may do, and is asked again after it is gone.
    pub(crate) rights: Arc<Rights>,
    /// Its name in the store, if it outlives the process.
    pub(crate) store: Option<QueueId>,
    /// Recovered, and what was in flight is still to be read back.
    pub(crate) is_restoring: bool,
    pub(crate) connection: Option<Key>,
    pub(crate) version: ProtocolVersion,
    /// `u32::MAX` never expires.
    pub(crate) expiry_seconds: u32,
    /// When the session ends; set while there is no connection.
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) outbound: Outbound<Delivery>,
    pub(crate) queue: Queue,
    /// Subscriptions whose retained messages are still to be sent, in order.
    pub(crate) retained: Vec<RetainedDelivery>,
    pub(crate) awaiting_release: AwaitingRelease,
    pub(crate) will: Option<Box<WillMessage>>,
    pub(crate) will_due_ms: Option<u64>,
}

impl Session {
    /// Without a connection, subscriptions or messages, and not kept in the store.
    pub(crate) fn new(name: Arc<str>, rights: Arc<Rights>, version: ProtocolVersion) -> Self {
        Self {
            client_id: Arc::clone(&rights.subject().client_id),
            client: ClientNumber::of(&name),
            name,
            mount_point: None,
            _places: Box::default(),
            user_name: None,
            rights,
            store: None,
            is_restoring: false,
            connection: None,
            version,
            expiry_seconds: 0,
            expires_at_ms: None,
            subscriptions: Subscriptions::default(),
            outbound: Outbound::default(),
            queue: Queue::default(),
            retained: Vec::new(),
            awaiting_release: AwaitingRelease::default(),
            will: None,
            will_due_ms: None,
        }
    }
}

/// One subscription of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscribed {
    pub(crate) options: SubscriptionOptions,
    pub(crate) subscription_id: Option<NonZeroU32>,
    /// For a shared subscription: where its group lives.
    pub(crate) group: Option<(GroupId, ShardId)>,
}

/// A will, ready to be published.
#[derive(Debug)]
pub(crate) struct WillMessage {
    pub(crate) delay_seconds: u32,
    pub(crate) expiry_seconds: Option<u32>,
    pub(crate) message: Message,
}

/// One network connection after its CONNECT.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The session, until it is taken over or the connection ends.
    pub(crate) session: Option<Key>,
    /// That of the session.
    pub(crate) client: ClientNumber,
    pub(crate) version: ProtocolVersion,
    /// A 3.x client that says it is a bridge.
    pub(crate) is_bridge: bool,
    pub(crate) keep_alive_seconds: u16,
    pub(crate) last_received_ms: u64,
    /// When what the client has proved does not hold any more.
    pub(crate) proof_expires_at_ms: Option<u64>,
    pub(crate) pace: Pace,
    pub(crate) aliases: InboundAliases,
    /// For a client that takes topic aliases.
    pub(crate) outbound_aliases: Option<Box<OutboundAliases>>,
    /// Put before the topics of the client.
    pub(crate) mount_point: Option<Arc<str>>,
    /// QoS 2 messages of this connection that await PUBREL.
    pub(crate) receive_quota_used: u16,
    /// The client's Receive Maximum, within our own limit.
    pub(crate) send_quota: u16,
    pub(crate) packet_bytes_max: usize,
    /// Whether acknowledgements may carry reason strings.
    pub(crate) wants_problem_information: bool,
    /// Encoded packets that are not yet written.
    pub(crate) out: OutBuffer,
    /// Encoded packets that wait for the commit of a batch, in order.
    pub(crate) held: VecDeque<(Ticket, Vec<u8>)>,
    /// Among them is a PUBLISH of QoS 2, which one of QoS 1 does not overtake.
    pub(crate) holds_publish: bool,
    /// CONNACK waits for this batch, and everything else for CONNACK.
    pub(crate) awaits_connack: Option<Ticket>,
    pub(crate) is_touched: bool,
    /// Close once `out` is written.
    pub(crate) is_closing: bool,
    /// Close without writing: the peer does not take its last packet.
    pub(crate) is_abandoned: bool,
    /// The routes of the last topic: most clients publish to one.
    pub(crate) last_routes: Option<(Box<str>, Arc<Routes>)>,
    pub(crate) peer: Arc<str>,
    /// For a client that named an authentication method.
    pub(crate) authentication: Option<Box<EnhancedAuthentication>>,
}
