//! Share groups: queues with competing consumers, each at its own home shard.
//!
//! The home lends a message to a member with credit; the member's shard reports when it is settled
//! and gives back what a lost member had not settled. QoS 2 messages in flight stay with their
//! session [MQTT-4.8.2-4].

use std::hash::{DefaultHasher, Hash, Hasher};

use tidewire_protocol::codec::{PublishProperties, QoS};
use tidewire_protocol::session::InFlight;

use super::client::Session;
use super::timers::Timer;
use super::{Key, Mail, Member, Shard, key_of};
use crate::auth::acl::Action;
use crate::config::{Mqtt, ShareStrategy};
use crate::exchange::{GroupId, ReceiverId, ShardId};
use crate::message::Message;
use crate::queue::{Delivery, Queue, Stored};

/// One share group at its home.
#[derive(Debug, Default)]
pub(crate) struct Group {
    members: Vec<Lent>,
    /// The member that is asked first.
    next: usize,
    pub(super) waiting: Queue,
}

/// A member and how many unsettled messages it has.
#[derive(Debug)]
struct Lent {
    member: Member,
    count: u32,
}

impl Group {
    /// The index of the member that gets the next message; `None`: the message waits.
    fn choose(&self, message: &Message, sharing: &Mqtt) -> Option<usize> {
        let topic = message.topic();
        let count = self.members.len();
        let has_credit = |index: usize| {
            self.members.get(index).is_some_and(|lent| {
                lent.count < lent.member.credit && lent.member.may_receive(topic)
            })
        };
        match sharing.share_strategy {
            ShareStrategy::Balanced | ShareStrategy::Sticky => (0..count)
                .map(|step| (self.next + step) % count)
                .find(|index| has_credit(*index)),
            ShareStrategy::HashTopic | ShareStrategy::HashProperty => {
                let connected: Vec<usize> = (0..count)
                    .filter(|index| {
                        self.members
                            .get(*index)
                            .is_some_and(|it| it.member.credit > 0 && it.member.may_receive(topic))
                    })
                    .collect();
                let hash = hash_of(key_of_share(message, sharing)) as usize;
                let chosen = *connected.get(hash.checked_rem(connected.len())?)?;
                has_credit(chosen).then_some(chosen)
            }
        }
    }

    fn is_reachable(&self) -> bool {
        self.members.iter().any(|lent| lent.member.credit > 0)
    }

    /// Whether any member may ever receive the topic; one that nobody joined yet waits.
    fn has_reader(&self, topic: &str) -> bool {
        let may_receive = |lent: &Lent| lent.member.may_receive(topic);
        self.members.is_empty() || self.members.iter().any(may_receive)
    }

    /// The next message that a member takes, and the index of that member. Where rights differ, a
    /// message that waits for one member does not hold back the others.
    fn take_next(&mut self, sharing: &Mqtt, now_ms: u64) -> Option<(Delivery, usize)> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let are_equal = self.members.iter().all(|lent| lent.member.check.is_none());
        let looked_at_max = if are_equal { 1 } else { LOOKED_AT_MAX };
        let choose = |delivery: &Delivery| self.choose(&delivery.message, sharing);
        let found = waiting.take_first(now_ms, looked_at_max, choose);
        self.waiting = waiting;
        found
    }

    /// Takes a member out; the turn stays with the member that has it.
    fn remove(&mut self, session: ReceiverId) {
        let is_it = |lent: &Lent| lent.member.session == session;
        if let Some(index) = self.members.iter().position(is_it) {
            self.members.remove(index);
            self.next -= usize::from(index < self.next);
        }
    }

    fn find(&mut self, session: ReceiverId) -> Option<&mut Lent> {
        self.members
            .iter_mut()
            .find(|lent| lent.member.session == session)
    }
}

impl Shard {
    /// How many unsettled messages a group may lend to a session.
    pub(super) fn group_credit(&self, session: Key) -> u32 {
        self.sessions
            .lookup(session)
            .and_then(|session| session.connection)
            .and_then(|connection| self.connections.lookup(connection))
            .map_or(0, |connection| {
                u32::from(connection.send_quota).min(CREDIT_MAX)
            })
    }

    pub(super) fn join_group(&mut self, id: GroupId, member: Member, now_ms: u64) {
        let group = self.groups.entry(id).or_default();
        match group.find(member.session) {
            Some(lent) => lent.member = member,
            None => group.members.push(Lent { member, count: 0 }),
        }
        self.purge_group(id);
        self.lend(id, now_ms);
    }

    /// Drops what no member may receive.
    pub(super) fn purge_group(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if group.members.iter().any(|it| it.member.check.is_none()) {
            return;
        }
        let mut waiting = std::mem::take(&mut group.waiting);
        let dropped = waiting.retain(|it| group.has_reader(it.message.topic()));
        group.waiting = waiting;
        self.metrics.messages_dropped.add(dropped);
    }

    pub(super) fn leave_group(&mut self, id: GroupId, session: ReceiverId) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.remove(session);
        if group.members.is_empty() {
            self.groups.remove(&id);
        }
    }

    fn lent_to(&mut self, id: GroupId, session: ReceiverId) -> Option<&mut Lent> {
        self.groups
            .get_mut(&id)
            .and_then(|group| group.find(session))
    }

    pub(super) fn set_group_credit(
        &mut self,
        id: GroupId,
        session: ReceiverId,
        credit: u32,
        now_ms: u64,
    ) {
        if let Some(lent) = self.lent_to(id, session) {
            lent.member.credit = credit;
            lent.count = 0;
        }
        self.lend(id, now_ms);
    }

    pub(super) fn settle_in_group(
        &mut self,
        id: GroupId,
        session: ReceiverId,
        count: u32,
        now_ms: u64,
    ) {
        if let Some(lent) = self.lent_to(id, session) {
            lent.count = lent.count.saturating_sub(count);
        }
        self.lend(id, now_ms);
    }

    pub(super) fn return_to_group(&mut self, id: GroupId, deliveries: Vec<Delivery>, now_ms: u64) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.waiting.push_front(deliveries);
        }
        self.lend(id, now_ms);
        self.watch_expiry_of_group(id, now_ms);
    }

    /// A message for a group of this shard. The group may be newer here than in the routes.
    pub(super) fn push_to_group(
        &mut self,
        id: GroupId,
        message: Message,
        stored: Option<Stored>,
        now_ms: u64,
    ) {
        let group = self.groups.entry(id).or_default();
        let has_none = !group.members.is_empty() && !group.is_reachable();
        if message.qos() == QoS::AtMostOnce && has_none || !group.has_reader(message.topic()) {
            self.metrics.messages_dropped.add(1);
            self.settle_stored(stored);
            return;
        }
        let delivery = Delivery {
            qos: message.qos(),
            retain: message.retain(),
            message,
            subscription_ids: None,
            group: Some((id, self.id)),
            stored,
        };
        let (limits, fence) = (&self.shared.config.limits, self.durable.fence());
        // A share has no one consumer that is slow and could be disconnected.
        let pushed = group.waiting.push(delivery, limits, fence);
        let due_ms = group.waiting.arm_expiry(now_ms);
        self.note_pushed(pushed);
        self.watch(due_ms, Timer::GroupExpiry(id));
        self.lend(id, now_ms);
    }

    /// A message that a group lends to a session of this shard.
    pub(super) fn deliver_for_group(
        &mut self,
        id: GroupId,
        session: ReceiverId,
        delivery: Delivery,
        now_ms: u64,
    ) {
        let key = key_of(session);
        let is_member = self.sessions.lookup(key).is_some_and(|session| {
            let topic = delivery.message.topic();
            session.connection.is_some()
                && session.rights.allows(Action::Receive, topic)
                && session
                    .subscriptions
                    .values()
                    .any(|it| it.group.is_some_and(|(it, _)| it == id))
        });
        if is_member {
            self.send_or_queue(key, delivery, now_ms);
        } else if let Some((_, home)) = delivery.group {
            self.send_mail(
                home,
                Mail::GroupReturn {
                    group: id,
                    deliveries: vec![delivery],
                },
            );
        }
    }

    /// Returns what a session has not settled to the group that lent it.
    pub(super) fn give_back(&mut self, session: Key, group: GroupId, home: ShardId) {
        let Some(session) = self.sessions.lookup_mut(session) else {
            return;
        };
        let is_lent = |it: &Delivery| it.group.is_some_and(|(lender, _)| lender == group);
        let mut deliveries = session.outbound.take_at_least_once(is_lent);
        deliveries.extend(session.queue.take_lent_by(group));
        if !deliveries.is_empty() {
            self.send_mail(home, Mail::GroupReturn { group, deliveries });
        }
    }

    /// Returns what has not been sent to a session that unsubscribes; the delivery of the rest is
    /// completed [MQTT-3.10.4-3].
    pub(super) fn give_back_waiting(&mut self, session: Key, group: GroupId, home: ShardId) {
        let Some(session) = self.sessions.lookup_mut(session) else {
            return;
        };
        let deliveries = session.queue.take_lent_by(group);
        if !deliveries.is_empty() {
            self.send_mail(home, Mail::GroupReturn { group, deliveries });
        }
    }

    /// A session ends with messages in flight that groups have lent: QoS 2 messages go to nobody
    /// else [MQTT-4.8.2-5].
    pub(super) fn end_lent(&mut self, session: &mut Session) {
        for (_, in_flight) in session.outbound.iter() {
            if let InFlight::Published(QoS::ExactlyOnce, delivery) = in_flight
                && delivery.group.is_some()
            {
                self.settle_stored(delivery.stored);
            }
        }
        let mut returned: Vec<((GroupId, ShardId), Vec<Delivery>)> = Vec::new();
        for delivery in session.outbound.take_at_least_once(|it| it.group.is_some()) {
            let Some(lender) = delivery.group else {
                continue;
            };
            match returned.iter_mut().find(|(it, _)| *it == lender) {
                Some((_, deliveries)) => deliveries.push(delivery),
                None => returned.push((lender, vec![delivery])),
            }
        }
        for ((group, home), deliveries) in returned {
            self.send_mail(home, Mail::GroupReturn { group, deliveries });
        }
    }

    /// Gives waiting messages to members with credit.
    pub(super) fn lend(&mut self, id: GroupId, now_ms: u64) {
        let sharing = &self.shared.config.mqtt;
        let takes_turns = sharing.share_strategy == ShareStrategy::Balanced;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let mut lent = Vec::new();
        while let Some((mut delivery, index)) = group.take_next(sharing, now_ms) {
            let Some(chosen) = group.members.get_mut(index) else {
                break;
            };
            group.next = index + usize::from(takes_turns);
            chosen.count += 1;
            let member = &chosen.member;
            delivery.qos = member.qos.min(delivery.message.qos());
            delivery.retain = delivery.message.retain() && member.retain_as_published;
            delivery
                .subscription_ids
                .clone_from(&member.subscription_ids);
            lent.push((member.session, delivery));
        }
        let dropped = group.waiting.take_dropped();
        let to_load = match group.is_reachable() {
            true => group.waiting.to_load(self.durable.committed_ticket()),
            false => None,
        };
        dropped
            .into_iter()
            .for_each(|it| self.settle_stored(Some(it)));
        if let Some((ids, fence)) = to_load {
            self.load_for_group(id, ids, fence);
        }
        for (session, delivery) in lent {
            self.send_mail(
                session.shard,
                Mail::GroupDeliver {
                    group: id,
                    session,
                    delivery,
                },
            );
        }
    }
}

/// What messages have in common that go to the same member.
fn key_of_share<'a>(message: &'a Message, sharing: &Mqtt) -> &'a str {
    let name = sharing.share_property.as_deref();
    let by_property = sharing.share_strategy == ShareStrategy::HashProperty;
    let value = name.filter(|_| by_property).and_then(|name| {
        let properties = PublishProperties::decode_forwarded(message.forwarded());
        let mut pairs = properties.user_properties.iter();
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    });
    value.unwrap_or_else(|| message.topic())
}

fn hash_of(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// How many unsettled messages one member holds at the most, whatever its window.
const CREDIT_MAX: u32 = 64;
/// How far a group whose members have different rights looks for a message that one may have.
const LOOKED_AT_MAX: usize = 256;
