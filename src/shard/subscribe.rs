//! SUBSCRIBE and UNSUBSCRIBE.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidewire_protocol::codec::{
    Packet, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, Subscription,
    UnsubAck, Unsubscribe, UserProperties,
};
use tidewire_protocol::topic::{Subscribable, TopicFilter};

use super::client::{Session, Subscribed};
use super::mount::Mounted;
use super::rights::may_subscribe;
use super::subscriptions::has_wildcards;
use super::{Key, Mail, Member, Shard};
use crate::config::Limits;
use crate::exchange::{Binding, Destination, GroupId, ShardId};
use crate::store::{Operation, SubscriptionRecord};

impl Shard {
    pub(super) fn receive_subscribe(&mut self, key: Key, packet: &Subscribe<'_>, now_ms: u64) {
        let Some(session) = self.session_of(key) else {
            return;
        };
        let mut reasons = Vec::with_capacity(packet.subscriptions.len());
        let mut wants_retained = Vec::new();
        let connection = self.connections.lookup(key);
        let is_bridge = connection.is_some_and(|connection| connection.is_bridge);
        for subscription in &packet.subscriptions {
            let mut subscription = *subscription;
            // What 3.x cannot say: nothing comes back to a bridge, and RETAIN stays as it is.
            subscription.options.no_local |= is_bridge;
            subscription.options.retain_as_published |= is_bridge;
            let subscribed = match self.may_keep(session, subscription.filter) {
                true => self.subscribe(session, &subscription, packet.subscription_id),
                false => Err(ReasonCode::QuotaExceeded),
            };
            match subscribed {
                Ok(is_new) => {
                    self.keep_subscription(session, &subscription, packet.subscription_id);
                    reasons.push(granted(subscription.options.qos));
                    match subscription.options.retain_handling {
                        RetainHandling::Send => wants_retained.push(subscription),
                        RetainHandling::SendIfNew if is_new => wants_retained.push(subscription),
                        RetainHandling::SendIfNew | RetainHandling::DoNotSend => {}
                    }
                }
                Err(reason) => reasons.push(reason),
            }
        }
        let acknowledgement = SubAck {
            packet_id: packet.packet_id,
            reason_string: self.explain_first(key, &reasons),
            user_properties: UserProperties::default(),
            reasons,
        };
        self.answer(key, &Packet::SubAck(acknowledgement));
        for subscription in wants_retained {
            self.send_retained(session, &subscription, packet.subscription_id, now_ms);
        }
    }

    pub(super) fn receive_unsubscribe(&mut self, key: Key, packet: &Unsubscribe<'_>) {
        let Some(session) = self.session_of(key) else {
            return;
        };
        let levels_max = self.shared.config.limits.topic_levels_max;
        let reason_of = |shard: &mut Self, filter: &str| {
            if Subscribable::parse(filter, levels_max).is_err() {
                ReasonCode::TopicFilterInvalid
            } else if shard.remove_subscription(session, filter) {
                ReasonCode::Success
            } else {
                ReasonCode::NoSubscriptionExisted
            }
        };
        let reasons: Vec<ReasonCode> = packet
            .filters
            .iter()
            .map(|filter| reason_of(self, filter))
            .collect();
        let acknowledgement = UnsubAck {
            packet_id: packet.packet_id,
            reason_string: self.explain_first(key, &reasons),
            user_properties: UserProperties::default(),
            reasons,
        };
        self.answer(key, &Packet::UnsubAck(acknowledgement));
    }

    /// Takes a subscription out of the session and the exchange; false if there was none.
    pub(super) fn remove_subscription(&mut self, key: Key, filter: &str) -> bool {
        let receiver = self.receiver(key);
        let Some(session) = self.sessions.lookup_mut(key) else {
            return false;
        };
        let Some(subscribed) = session.subscriptions.remove(filter) else {
            return false;
        };
        let is_connected = session.connection.is_some();
        if let Some(queue) = session.store {
            self.durable.record(Operation::RemoveSubscription {
                queue,
                filter: filter.into(),
            });
        }
        session.retained.retain(|it| !it.is_for(filter));
        match subscribed.group {
            Some(_) => self.metrics.shared_subscriptions.subtract(1),
            None => self.metrics.subscriptions.subtract(1),
        }
        let mount_point = session.mount_point.clone();
        let exchange = &self.shared.exchange;
        let mounted = mounted_of(mount_point.as_deref(), filter, ANY_LEVELS);
        match mounted
            .as_ref()
            .map_err(|it| *it)
            .and_then(Mounted::subscribable)
        {
            Ok(Subscribable::Plain(filter)) => {
                exchange.unbind(filter, Destination::Session(receiver));
            }
            Ok(Subscribable::Exclusive(filter)) => {
                exchange.unbind(filter, Destination::Session(receiver));
                exchange.release_exclusive(filter.as_str(), receiver);
            }
            Ok(Subscribable::Shared { group, filter }) => {
                if let Some(queue) = exchange.leave_group(group, filter) {
                    self.durable.record(Operation::RemoveNamedQueue { queue });
                }
                if let Some((group, home)) = subscribed.group {
                    if is_connected {
                        self.give_back_waiting(key, group, home);
                    } else {
                        self.give_back(key, group, home);
                    }
                    self.send_mail(
                        home,
                        Mail::GroupLeave {
                            group,
                            session: receiver,
                        },
                    );
                }
            }
            Err(reason) => debug_assert!(false, "a subscription of a bad filter: {reason:?}"),
        }
        true
    }

    /// A session resumed with another version receives other bytes from now on.
    pub(super) fn rebind_if_version_changed(&mut self, key: Key, version: ProtocolVersion) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        if session.version == version {
            return;
        }
        session.version = version;
        self.keep_session(key);
        let Some(session) = self.sessions.lookup(key) else {
            return;
        };
        let mount_point = session.mount_point.clone();
        let subscriptions: Vec<(Box<str>, Subscribed)> = session
            .subscriptions
            .iter()
            .map(|(filter, it)| (filter.into(), *it))
            .collect();
        for (filter, subscribed) in subscriptions {
            let mounted = mounted_of(mount_point.as_deref(), &filter, ANY_LEVELS);
            if let Ok(Subscribable::Plain(filter) | Subscribable::Exclusive(filter)) = mounted
                .as_ref()
                .map_err(|it| *it)
                .and_then(Mounted::subscribable)
            {
                self.bind(key, filter, &subscribed, version);
            }
        }
    }

    /// Ok(true) if the subscription is new.
    pub(super) fn subscribe(
        &mut self,
        key: Key,
        subscription: &Subscription<'_>,
        subscription_id: Option<NonZeroU32>,
    ) -> Result<bool, ReasonCode> {
        let limits = &self.shared.config.limits;
        let filter = subscription.filter;
        check_filter(limits, filter)?;
        let session = self
            .sessions
            .lookup(key)
            .ok_or(ReasonCode::UnspecifiedError)?;
        let mount_point = session.mount_point.as_deref();
        let mounted = mounted_of(mount_point, subscription.filter, limits.topic_levels_max)?;
        let version = session.version;
        if !may_subscribe(&session.rights, mounted.subscribable()?) {
            return Err(refused(session, subscription.filter));
        }
        let before = session.subscriptions.get(filter).copied();
        if before.is_none() {
            check_count(limits, session, filter)?;
        }
        let mut subscribed = Subscribed {
            options: subscription.options,
            subscription_id,
            group: None,
        };
        match mounted.subscribable()? {
            Subscribable::Plain(filter) => self.bind(key, filter, &subscribed, version),
            Subscribable::Exclusive(filter) => {
                let receiver = self.receiver(key);
                if !self
                    .shared
                    .exchange
                    .claim_exclusive(filter.as_str(), receiver)
                {
                    return Err(ReasonCode::QuotaExceeded);
                }
                self.bind(key, filter, &subscribed, version);
            }
            Subscribable::Shared { group, filter } => {
                let known = before.and_then(|it| it.group);
                let joined = known.unwrap_or_else(|| self.enter(key, group, filter));
                subscribed.group = Some(joined);
                self.join(key, filter, &subscribed);
            }
        }
        if before.is_none() {
            match subscribed.group {
                Some(_) => self.metrics.shared_subscriptions.add(1),
                None => self.metrics.subscriptions.add(1),
            }
        }
        if let Some(session) = self.sessions.lookup_mut(key) {
            session
                .subscriptions
                .insert(subscription.filter, subscribed);
        }
        Ok(before.is_none())
    }

    /// Whether the store has room for a subscription of a durable session.
    fn may_keep(&self, key: Key, filter: &str) -> bool {
        let session = self.sessions.lookup(key);
        let is_new_row =
            session.is_some_and(|it| it.store.is_some() && it.subscriptions.get(filter).is_none());
        !(is_new_row && self.shared.store.is_exhausted())
    }

    fn keep_subscription(
        &mut self,
        key: Key,
        subscription: &Subscription<'_>,
        subscription_id: Option<NonZeroU32>,
    ) {
        let Some(queue) = self.sessions.lookup(key).and_then(|it| it.store) else {
            return;
        };
        self.durable.record(Operation::PutSubscription {
            queue,
            filter: subscription.filter.into(),
            subscription: SubscriptionRecord {
                options: subscription.options,
                subscription_id,
            },
        });
    }

    /// Becomes a member of a share group, which is durable once a member is.
    fn enter(&mut self, key: Key, group: &str, filter: TopicFilter<'_>) -> (GroupId, ShardId) {
        let is_durable = self
            .sessions
            .lookup(key)
            .is_some_and(|it| it.store.is_some());
        let shared = &self.shared;
        let queue = is_durable.then(|| shared.store.next_queue());
        let joined = shared
            .exchange
            .join_group(group, filter, shared.shards, queue);
        if let Some((queue, name)) = joined.new_store {
            self.durable
                .record(Operation::PutNamedQueue { queue, name });
        }
        (joined.group, joined.home)
    }

    pub(super) fn bind(
        &mut self,
        key: Key,
        filter: TopicFilter<'_>,
        subscribed: &Subscribed,
        version: ProtocolVersion,
    ) {
        let Some(session) = self.sessions.lookup(key) else {
            return;
        };
        let session_store = session.store;
        let receiver = self.receiver(key);
        let is_checked = !session.rights.receives_all(filter.as_str());
        if is_checked {
            self.shared.exchange.set_rights(receiver, &session.rights);
        }
        let binding = Binding {
            destination: Destination::Session(receiver),
            qos: subscribed.options.qos,
            no_local: subscribed.options.no_local,
            retain_as_published: subscribed.options.retain_as_published,
            subscription_id: subscribed.subscription_id,
            version,
            is_checked,
            store: session_store,
        };
        self.shared.exchange.bind(filter, binding);
    }

    pub(super) fn join(&mut self, key: Key, filter: TopicFilter<'_>, subscribed: &Subscribed) {
        let (Some((group, home)), Some(session)) = (subscribed.group, self.sessions.lookup(key))
        else {
            return;
        };
        let rights = &session.rights;
        let member = Member {
            session: self.receiver(key),
            qos: subscribed.options.qos,
            retain_as_published: subscribed.options.retain_as_published,
            subscription_ids: subscribed.subscription_id.map(|id| Arc::from([id])),
            credit: self.group_credit(key),
            check: (!rights.receives_all(filter.as_str())).then(|| Arc::clone(rights)),
        };
        self.send_mail(home, Mail::GroupJoin { group, member });
    }
}

fn check_filter(limits: &Limits, filter: &str) -> Result<(), ReasonCode> {
    let wildcards = filter.bytes().filter(|it| matches!(it, b'+' | b'#'));
    let wildcards = wildcards.count();
    let levels = 1 + filter.bytes().filter(|it| *it == b'/').count();
    let is_within = filter.len() <= limits.topic_bytes_max
        && wildcards <= limits.filter_wildcards_max
        && (wildcards == 0 || levels <= limits.wildcard_levels_max);
    is_within
        .then_some(())
        .ok_or(ReasonCode::TopicFilterInvalid)
}

/// Whether a session may have one subscription more.
fn check_count(limits: &Limits, session: &Session, filter: &str) -> Result<(), ReasonCode> {
    let present = &session.subscriptions;
    let is_within = present.len() < limits.subscriptions_per_client_max
        && (!has_wildcards(filter)
            || present.wildcards() < limits.wildcard_subscriptions_per_client_max);
    is_within.then_some(()).ok_or(ReasonCode::QuotaExceeded)
}

/// The subscription that the text of a client asks for, in the broker's tree.
pub(super) fn mounted_of<'f>(
    mount_point: Option<&str>,
    text: &'f str,
    levels_max: usize,
) -> Result<Mounted<'f>, ReasonCode> {
    let asked =
        Subscribable::parse(text, levels_max).map_err(|_| ReasonCode::TopicFilterInvalid)?;
    Mounted::new(mount_point, asked)
}

/// A filter that is subscribed keeps its levels, whatever the limit is by now.
pub(super) const ANY_LEVELS: usize = usize::MAX;

fn refused(session: &Session, filter: &str) -> ReasonCode {
    let client_id = &session.client_id;
    tracing::debug!(?client_id, ?filter, "subscription not authorized");
    ReasonCode::NotAuthorized
}

fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}
