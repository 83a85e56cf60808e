//! What an earlier process has left: sessions, groups and delayed messages.

use std::collections::HashSet;
use std::sync::Arc;

use tidewire_protocol::codec::{PacketId, QoS, Subscription};
use tidewire_protocol::session::InFlight;

use super::census::Counted;
use super::client::{Session, WillMessage};
use super::durable::Asker;
use super::loading::loaded_delivery;
use super::mount::{NAME_SEPARATOR, client_id_of};
use super::rights::may_leave;
use super::timers::Timer;
use super::{Key, Shard, publisher_of};
use crate::auth::acl::{Rights, Subject};
use crate::config::Listener;
use crate::exchange::GroupId;
use crate::message::Message;
use crate::queue::{Delivery, Stored};
use crate::store::{
    InFlightRecord, Load, Loaded, MessageId, Operation, QueueId, RecoveredDelayed,
    RecoveredMessage, RecoveredQueue, RecoveredSession, Ticket, WillRecord,
};

impl Shard {
    /// A session as it was, without a connection.
    pub fn restore_session(&mut self, recovered: RecoveredSession, now_ms: u64) {
        let RecoveredSession {
            queue,
            session: record,
            subscriptions,
            waiting,
            expiring,
            in_flight,
            received,
            will,
        } = recovered;
        let name = record.client_id;
        let mount_point: Option<Arc<str>> =
            name.split_once(NAME_SEPARATOR).map(|(it, _)| it.into());
        let user_name: Option<Arc<str>> = record.user_name.as_deref().map(Into::into);
        let limits = &self.shared.config.limits;
        let places = self.shared.census.count(&Counted {
            mount_point: mount_point.as_ref(),
            user_name: user_name.as_deref(),
            // What is there stays.
            namespace_max: usize::MAX,
            user_max: if limits.sessions_per_user_max > 0 {
                usize::MAX
            } else {
                0
            },
        });
        let subject = Subject {
            has_password: self.shared.users.is_some() && !self.has_other_proof(),
            user_name: user_name.clone(),
            client_id: client_id_of(&name).into(),
            ..Subject::default()
        };
        let rights = Arc::new(Rights::provisional(subject));
        let key = self.sessions.insert(Session {
            mount_point,
            _places: places.unwrap_or_default(),
            user_name,
            store: Some(queue),
            expiry_seconds: record.expiry_seconds,
            expires_at_ms: record.expires_at_ms,
            ..Session::new(Arc::clone(&name), rights, record.version)
        });
        self.metrics.sessions.add(1);
        self.directory.insert(name, key);
        for (filter, it) in subscriptions {
            let subscription = Subscription {
                filter: &filter,
                options: it.options,
            };
            if let Err(reason) = self.subscribe(key, &subscription, it.subscription_id) {
                tracing::warn!(?filter, ?reason, "subscription not restored");
            }
        }
        self.restore_in_flight_records(key, queue, &in_flight, &received);
        self.restore_waiting(key, queue, waiting, &expiring, &in_flight, now_ms);
        self.restore_will(key, will, now_ms);
        self.restore_expiry(key, now_ms);
    }

    fn restore_waiting(
        &mut self,
        key: Key,
        queue: QueueId,
        mut waiting: Vec<RecoveredMessage>,
        expiring: &[(MessageId, u64)],
        in_flight: &[(PacketId, InFlightRecord)],
        now_ms: u64,
    ) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        let sent: HashSet<MessageId> = in_flight.iter().filter_map(|it| it.1.message).collect();
        waiting.retain(|it| !sent.contains(&it.id));
        let expiring: Vec<_> = expiring
            .iter()
            .copied()
            .filter(|it| !sent.contains(&it.0))
            .collect();
        session.queue.restore(queue, waiting.into_iter(), &expiring);
        self.watch_expiry(key, now_ms);
    }

    fn restore_in_flight_records(
        &mut self,
        key: Key,
        queue: QueueId,
        in_flight: &[(PacketId, InFlightRecord)],
        received: &[PacketId],
    ) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        for id in received {
            session.awaiting_release.insert(*id);
        }
        for (packet_id, record) in in_flight.iter().copied() {
            let delivery = record.message.map(|id| {
                let delivery = Delivery {
                    message: Message::absent(),
                    qos: record.qos,
                    retain: false,
                    subscription_ids: None,
                    group: None,
                    stored: Some(Stored {
                        queue,
                        id,
                        order: record.order,
                    }),
                };
                (record.qos, delivery)
            });
            session.is_restoring |= delivery.is_some();
            session.outbound.restore(packet_id, delivery);
        }
    }

    /// Whether a user name may have been proved by something else than the password file.
    fn has_other_proof(&self) -> bool {
        let listeners = &self.shared.config.listeners;
        let proves = |it: &Listener| it.certificate_as.is_user_name() || it.unix_peer_as_user;
        self.shared.config.auth.has_more_than_passwords() || listeners.iter().any(proves)
    }

    /// The connection was lost when the process ended.
    fn restore_will(&mut self, key: Key, will: Option<WillRecord>, now_ms: u64) {
        let (Some(session), Some(will)) = (self.sessions.lookup(key), will) else {
            return;
        };
        let subject = session.rights.subject();
        let (topic, retain) = (will.message.topic(), will.message.retain());
        let rights = self.shared.acl.rights(subject.clone());
        if !self.is_known(subject) || !may_leave(&rights, topic, retain) {
            tracing::info!(client_id = ?subject.client_id, ?topic, "will not authorized");
            self.metrics.messages_dropped.add(1);
            self.keep_will(key);
            return;
        }
        let publisher = publisher_of(self.receiver(key));
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        let delay_ms = u64::from(will.delay_seconds) * 1_000;
        let due_ms = will.due_at_ms.unwrap_or(now_ms + delay_ms);
        session.will_due_ms = Some(due_ms);
        session.will = Some(Box::new(WillMessage {
            delay_seconds: will.delay_seconds,
            expiry_seconds: will.expiry_seconds,
            message: will.message.by(publisher, session.client),
        }));
        self.timers.add(due_ms, Timer::Will(key));
    }

    fn restore_expiry(&mut self, key: Key, now_ms: u64) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        if session.expiry_seconds == u32::MAX {
            return;
        }
        let from_now_ms = now_ms + u64::from(session.expiry_seconds) * 1_000;
        let expires_at_ms = session.expires_at_ms.unwrap_or(from_now_ms);
        let is_new = session.expires_at_ms.is_none();
        session.expires_at_ms = Some(expires_at_ms);
        self.timers.add(expires_at_ms, Timer::SessionExpiry(key));
        if is_new {
            self.keep_session(key);
        }
    }

    /// What waits in a share group.
    pub fn restore_group(&mut self, id: GroupId, recovered: RecoveredQueue, now_ms: u64) {
        let RecoveredQueue {
            queue,
            waiting,
            expiring,
            ..
        } = recovered;
        let group = self.groups.entry(id).or_default();
        group.waiting.restore(queue, waiting.into_iter(), &expiring);
        self.watch_expiry_of_group(id, now_ms);
    }

    /// Nobody has joined a group of an earlier process.
    pub fn drop_group(&mut self, id: GroupId, queue: QueueId) {
        self.groups.remove(&id);
        self.durable.record(Operation::RemoveNamedQueue { queue });
    }

    /// A message to be published later.
    pub fn restore_delayed(&mut self, delayed: &RecoveredDelayed) {
        let message = delayed.message.kept();
        self.delay_until(message, Some(delayed.id), delayed.due_at_ms);
    }

    /// Asks for the content of what was in flight, before anything is sent to the session; false
    /// if there is nothing to ask for.
    pub(super) fn restore_in_flight(&mut self, key: Key) -> bool {
        let Some(session) = self.sessions.lookup(key) else {
            return false;
        };
        let (true, Some(queue)) = (session.is_restoring, session.store) else {
            return false;
        };
        let load = Load::Messages {
            queue,
            ids: absent(session).into_iter().map(|(_, id)| id).collect(),
        };
        self.durable
            .ask(Asker::InFlight(key), Ticket::default(), load)
            .is_some()
    }

    pub(super) fn in_flight_loaded(&mut self, key: Key, messages: Vec<Loaded>, now_ms: u64) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        if !session.is_restoring {
            // Asked for again by a later connection, and answered already.
            return;
        }
        let is_end = messages.is_empty();
        let missing = absent(session);
        for loaded in messages {
            let packet_id = missing.iter().find(|(_, id)| *id == loaded.id);
            let Some(delivery) = packet_id.and_then(|it| session.outbound.published_mut(it.0))
            else {
                continue;
            };
            let order = delivery.stored.map_or(loaded.id, |stored| stored.order);
            *delivery = loaded_delivery(loaded, None);
            if let Some(stored) = &mut delivery.stored {
                stored.order = order;
            }
        }
        let missing = absent(session);
        if !missing.is_empty() && !is_end {
            self.restore_in_flight(key);
            return;
        }
        session.is_restoring = false;
        for (packet_id, _) in missing {
            self.release_missing(key, packet_id);
        }
        self.resend_in_flight(key, now_ms);
        self.send_waiting(key, now_ms);
    }
}

impl Shard {
    /// A message in flight has expired while the broker was down. The client may have seen a QoS 2
    /// message: PUBREL tells it that the identifier is free again.
    fn release_missing(&mut self, key: Key, packet_id: PacketId) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        match session.outbound.release(packet_id) {
            Some(delivery) if delivery.qos == QoS::ExactlyOnce => {
                self.keep_released(key, packet_id, &delivery);
            }
            _ => self.free_kept(key, packet_id),
        }
    }
}

/// Messages in flight whose content is still to be read back, in order.
fn absent(session: &Session) -> Vec<(PacketId, MessageId)> {
    session
        .outbound
        .iter()
        .filter_map(|(packet_id, in_flight)| match in_flight {
            InFlight::Published(_, delivery) if delivery.message.is_absent() => {
                delivery.stored.map(|stored| (packet_id, stored.id))
            }
            _ => None,
        })
        .collect()
}
