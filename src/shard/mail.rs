//! What shards say to each other.

use std::sync::Arc;
use std::sync::atomic::AtomicU16;

use tidewire_protocol::codec::QoS;

use crate::auth::acl::{Action, Rights};
use crate::exchange::{BridgeId, GroupId, ReceiverId, Routes, ShardId};
use crate::message::Message;
use crate::queue::{Delivery, Lent};
use crate::shard::bridge::{BridgeReport, BridgeRequest};
use crate::shard::{SentRun, Shared};
use crate::store::{MessageId, Report};

/// One piece of mail; a plain value.
#[derive(Debug)]
pub enum Mail {
    /// Deliver messages to the receiver's part of the routes.
    Deliver {
        /// The messages, all of one topic, in order; with their names in the store.
        messages: Vec<(Message, Option<MessageId>)>,
        /// Who gets them, on all shards.
        routes: Arc<Routes>,
    },
    /// What all shards share has been replaced.
    Reconfigure(Arc<Reconfiguration>),
    /// The doors have been replaced: who is connected is asked about again.
    Recheck(Arc<Recheck>),
    /// What the store says.
    Store(Report),
    /// Deliver encoded messages to the receiver's part of the routes.
    Run(Arc<SentRun>),
    /// A session joins a share group that lives on the receiver.
    GroupJoin {
        /// The group.
        group: GroupId,
        /// Who joins.
        member: Member,
    },
    /// A session leaves a share group.
    GroupLeave {
        /// The group.
        group: GroupId,
        /// Who leaves.
        session: ReceiverId,
    },
    /// A member of any group connected, or lost its connection.
    GroupPresence {
        /// The group.
        group: GroupId,
        /// Whose connection changed.
        session: ReceiverId,
        /// How many unsettled messages it takes; zero while it is away.
        credit: u32,
    },
    /// A group chose a member of the receiving shard for a delivery.
    GroupDeliver {
        /// The group.
        group: GroupId,
        /// The member.
        session: ReceiverId,
        /// The message.
        delivery: Delivery,
    },
    /// A member settled deliveries: it has room for more.
    GroupSettled {
        /// The group.
        group: GroupId,
        /// The member.
        session: ReceiverId,
        /// How many.
        count: u32,
    },
    /// A member is gone with these deliveries unsettled, in order.
    GroupReturn {
        /// The group.
        group: GroupId,
        /// Oldest first.
        deliveries: Vec<Delivery>,
    },
    /// A bridge asks its home shard for something.
    BridgeRequest {
        /// The bridge.
        bridge: BridgeId,
        /// What it asks for.
        request: BridgeRequest,
    },
    /// A home shard has something for a bridge.
    BridgeReport {
        /// The bridge.
        bridge: BridgeId,
        /// What it has.
        report: BridgeReport,
    },
}

/// A new configuration on its way to the shards.
#[derive(Debug)]
pub struct Reconfiguration {
    /// The tables are the same as before.
    pub shared: Arc<Shared>,
    /// How many shards have applied it.
    pub applied: AtomicU16,
}

/// A look at every connection after the doors changed.
#[derive(Debug, Default)]
pub struct Recheck {
    /// How many shards have looked at theirs.
    pub done: AtomicU16,
}

/// A member of a share group.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its session.
    pub session: ReceiverId,
    /// Granted QoS.
    pub qos: QoS,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Identifier of its subscription.
    pub subscription_ids: Option<Arc<[std::num::NonZeroU32]>>,
    /// How many unsettled messages it takes; zero while it is away.
    pub credit: u32,
    /// Asked for each topic, if it may not receive every one of the group.
    pub check: Option<Arc<Rights>>,
}

impl Member {
    pub(crate) fn may_receive(&self, topic: &str) -> bool {
        let check = self.check.as_ref();
        check.is_none_or(|rights| rights.allows(Action::Receive, topic))
    }
}

/// Mail to be sent, by receiving shard.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    by_shard: Vec<Vec<Mail>>,
}

impl Outbox {
    /// With a place for each shard, and one after them for the bridges.
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            by_shard: (0..=shards).map(|_| Vec::new()).collect(),
        }
    }

    pub(crate) fn push(&mut self, to: ShardId, mail: Mail) {
        if let Some(batch) = self.by_shard.get_mut(usize::from(to.0)) {
            batch.push(mail);
        }
    }

    /// Adds a message to the mail before, if that is for the same receivers.
    pub(crate) fn deliver(
        &mut self,
        to: ShardId,
        message: (Message, Option<MessageId>),
        routes: &Arc<Routes>,
    ) {
        let Some(batch) = self.by_shard.get_mut(usize::from(to.0)) else {
            return;
        };
        if let Some(Mail::Deliver {
            messages,
            routes: last,
        }) = batch.last_mut()
            && Arc::ptr_eq(last, routes)
        {
            messages.push(message);
            return;
        }
        batch.push(Mail::Deliver {
            messages: vec![message],
            routes: Arc::clone(routes),
        });
    }

    /// Adds messages to the mail before, if that lends to the same bridge.
    pub(crate) fn lend(
        &mut self,
        to: ShardId,
        bridge: BridgeId,
        lend: impl FnOnce(&mut Vec<Lent>),
    ) {
        let Some(batch) = self.by_shard.get_mut(usize::from(to.0)) else {
            return;
        };
        if let Some(Mail::BridgeReport {
            bridge: last,
            report: BridgeReport::Lent(before),
        }) = batch.last_mut()
            && *last == bridge
        {
            return lend(before);
        }
        let mut lent = Vec::new();
        lend(&mut lent);
        if !lent.is_empty() {
            let report = BridgeReport::Lent(lent);
            batch.push(Mail::BridgeReport { bridge, report });
        }
    }

    /// Everything for one shard, in order.
    pub(crate) fn take(&mut self, to: ShardId) -> Vec<Mail> {
        self.by_shard
            .get_mut(usize::from(to.0))
            .map(std::mem::take)
            .unwrap_or_default()
    }
}
