//! From routes to receivers.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidewire_protocol::codec::{DeliveryHeader, QoS};

use super::outgoing::Outgoing;
use super::unconfirmed::Published;
use super::{Key, Shard, key_of, publisher_of, publisher_of_bridge};
use crate::exchange::{Destination, ReceiverId, Routes, Target};
use crate::message::{Header, Message};
use crate::queue::{Delivery, Stored};
use crate::store::{Few, MessageId, Operation, Receiver, Refusal};

impl Shard {
    /// Sends a message to everyone bound to its topic.
    pub(super) fn route(
        &mut self,
        topic: &str,
        outgoing: &mut Outgoing<'_>,
        publisher: Option<Key>,
        now_ms: u64,
    ) -> Routed {
        let routes = self.routes_of(topic, publisher);
        if routes.is_empty() {
            return Routed::Nowhere;
        }
        if outgoing.is_uniform() && routes.is_plain() {
            self.add_to_run(outgoing, &routes);
            return Routed::Taken;
        }
        self.close_run();
        if !self.store_for(&routes, outgoing) {
            return Routed::StoreFull;
        }
        let mut routed = Routed::Nowhere;
        for on_shard in routes.shards() {
            if !on_shard.takes(outgoing.header.client) {
                continue;
            }
            routed = Routed::Taken;
            if on_shard.shard == self.id {
                self.deliver_here(&routes, outgoing, now_ms);
            } else {
                let message = (outgoing.message(), outgoing.stored);
                self.outbox.deliver(on_shard.shard, message, &routes);
            }
        }
        routed
    }

    /// Keeps the message for its durable receivers; false if there is no room.
    fn store_for(&mut self, routes: &Routes, outgoing: &mut Outgoing<'_>) -> bool {
        let header = outgoing.header;
        if header.qos == QoS::AtMostOnce || !routes.has_stored() {
            return true;
        }
        let mut receivers = Few::default();
        for on_shard in routes.shards() {
            for target in &on_shard.targets {
                if let Some(receiver) = receiver_in(target, header) {
                    receivers.push(receiver);
                }
            }
        }
        if receivers.is_empty() {
            return true;
        }
        if !self.has_room_for(outgoing, 1) {
            return false;
        }
        let id = self.durable.next_id();
        outgoing.stored = Some(id);
        if let Some(origin) = outgoing.origin {
            self.durable.confirm(origin, Published::Message(id));
        }
        self.durable.record(Operation::PutMessage {
            id,
            message: outgoing.message(),
            receivers,
            refusal: match header.qos {
                // Receivers may have it before its commit: refused, it would be sent again.
                QoS::ExactlyOnce => outgoing.refusal.max(Refusal::Last),
                _ => outgoing.refusal,
            },
        });
        true
    }

    /// Whether a message may be given to the store so many times.
    pub(super) fn has_room_for(&self, outgoing: &Outgoing<'_>, times: usize) -> bool {
        let store = &self.shared.store;
        match (outgoing.refusal, outgoing.origin) {
            (Refusal::Last, _) => true,
            (_, Some(_)) => !store.is_full(),
            // From a bridge: published again and again, it should not be sent to anyone before.
            (refusal, None) => {
                let bytes = outgoing.bytes() * times;
                store.has_room_for(bytes, self.durable.open_bytes(), refusal)
            }
        }
    }

    /// Messages of another shard for this shard's part of the routes.
    pub(super) fn deliver_mail(
        &mut self,
        messages: &[(Message, Option<MessageId>)],
        routes: &Routes,
        now_ms: u64,
    ) {
        let is_doubtful = self.is_doubtful(routes);
        for (message, stored) in messages {
            let mut outgoing = Outgoing::of(message);
            outgoing.stored = *stored;
            for target in routes.for_shard(self.id) {
                if is_doubtful && !self.may_still_receive(target, routes.topic()) {
                    self.settle_stored(stored_of(target, *stored));
                } else {
                    self.deliver_to(target, &mut outgoing, now_ms);
                }
            }
        }
    }

    fn deliver_here(&mut self, routes: &Routes, outgoing: &mut Outgoing<'_>, now_ms: u64) {
        for target in routes.for_shard(self.id) {
            self.deliver_to(target, outgoing, now_ms);
        }
    }

    fn deliver_to(&mut self, target: &Target, outgoing: &mut Outgoing<'_>, now_ms: u64) {
        match target.destination {
            Destination::Session(receiver) => self.deliver(receiver, target, outgoing, now_ms),
            Destination::Group { group, .. } => {
                let message = outgoing.message();
                let stored = stored_of(target, outgoing.stored);
                self.push_to_group(group, message, stored, now_ms);
            }
            Destination::Bridge { bridge, .. } if target.takes(outgoing.header.client) => {
                let stored = stored_of(target, outgoing.stored);
                self.push_to_bridge(bridge, stored, outgoing, now_ms);
            }
            Destination::Bridge { .. } => {}
        }
    }

    /// Whether somebody would receive a message, at once or later.
    pub(super) fn is_received(&mut self, message: &Message) -> bool {
        let routes = self.routes_of(message.topic(), None);
        let mut shards = routes.shards().iter();
        shards.any(|on_shard| on_shard.takes(message.client()))
    }

    fn routes_of(&mut self, topic: &str, publisher: Option<Key>) -> Arc<Routes> {
        let connection = publisher.and_then(|key| self.connections.lookup_mut(key));
        let Some(connection) = connection else {
            return self.shared.exchange.route(topic, &mut self.routes);
        };
        if let Some((last, routes)) = &connection.last_routes
            && &**last == topic
            && self.shared.exchange.is_current(routes)
        {
            return Arc::clone(routes);
        }
        let routes = self.shared.exchange.route(topic, &mut self.routes);
        match &mut connection.last_routes {
            Some((last, kept)) if &**last == topic => *kept = Arc::clone(&routes),
            other => *other = Some((topic.into(), Arc::clone(&routes))),
        }
        routes
    }

    fn deliver(
        &mut self,
        receiver: ReceiverId,
        target: &Target,
        outgoing: &mut Outgoing<'_>,
        now_ms: u64,
    ) {
        let is_own = outgoing.header.publisher == publisher_of(receiver);
        let (granted, ids) = if is_own {
            (target.qos_to_self, &target.subscription_ids_to_self)
        } else {
            (Some(target.qos), &target.subscription_ids)
        };
        let Some(granted) = granted else { return };
        let qos = granted.min(outgoing.header.qos);
        let retain = outgoing.header.retain && target.retain_as_published;
        let key = key_of(receiver);
        if outgoing.header.retain
            && let Some(session) = self.sessions.lookup_mut(key)
        {
            let lookups = session.retained.iter_mut();
            lookups.for_each(|it| it.overtake(outgoing.topic));
        }
        if qos == QoS::AtMostOnce {
            self.deliver_at_most_once(key, outgoing, retain, ids.as_deref(), now_ms);
            return;
        }
        let delivery = Delivery {
            message: outgoing.message(),
            qos,
            retain,
            subscription_ids: ids.clone(),
            group: None,
            stored: stored_of(target, outgoing.stored),
        };
        self.send_or_queue(key, delivery, now_ms);
    }

    /// QoS 0: straight into the receiver's buffer, or nowhere; nothing is allocated.
    fn deliver_at_most_once(
        &mut self,
        key: Key,
        outgoing: &Outgoing<'_>,
        retain: bool,
        subscription_ids: Option<&[NonZeroU32]>,
        now_ms: u64,
    ) {
        let bytes_max = self.shared.config.limits.write_buffer_bytes_max;
        let connection = self
            .sessions
            .lookup(key)
            .and_then(|session| session.connection)
            .and_then(|key| self.connections.writable(key));
        let Some(connection) = connection else {
            self.metrics.messages_dropped.add(1);
            return;
        };
        let header = DeliveryHeader {
            retain,
            message_expiry_seconds: outgoing.expiry_seconds_left(now_ms),
            subscription_ids: subscription_ids.unwrap_or(&[]),
            ..DeliveryHeader::default()
        };
        let Outgoing {
            topic,
            forwarded,
            payload,
            ..
        } = *outgoing;
        let start = connection.out.tail().len();
        if connection.is_closing
            || connection.out.len() >= bytes_max
            || !connection.write_publish(&header, topic, forwarded, payload)
        {
            self.metrics.messages_dropped.add(1);
            return;
        }
        if connection.awaits_connack.is_some() {
            connection.hold_behind_connack(start);
        }
        self.metrics.publishes_sent.add(1);
        self.metrics.publish_bytes_sent.add(payload.len() as u64);
        self.metrics.messages_sent.add(1);
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routed {
    /// Nobody is bound to its topic.
    Nowhere,
    Taken,
    /// It was not sent to anybody, because it cannot be kept for a durable receiver.
    StoreFull,
}

/// How a durable target receives a message, if it does.
fn receiver_in(target: &Target, header: Header) -> Option<Receiver> {
    let queue = target.store.filter(|_| target.takes(header.client))?;
    let is_own = match target.destination {
        Destination::Session(receiver) => header.publisher == publisher_of(receiver),
        Destination::Bridge { bridge, .. } => header.publisher == publisher_of_bridge(bridge),
        Destination::Group { .. } => false,
    };
    let (granted, ids) = if is_own {
        (target.qos_to_self?, &target.subscription_ids_to_self)
    } else {
        (target.qos, &target.subscription_ids)
    };
    let qos = granted.min(header.qos);
    (qos != QoS::AtMostOnce).then(|| Receiver {
        queue,
        qos,
        retain: header.retain && target.retain_as_published,
        subscription_ids: ids.clone(),
    })
}

fn stored_of(target: &Target, id: Option<MessageId>) -> Option<Stored> {
    let (queue, id) = (target.store?, id?);
    Some(Stored {
        queue,
        id,
        order: id,
    })
}
