//! From routes to receivers' buffers and queues.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidewire_protocol::codec::delivery::{DeliveryHeader, delivery_bytes, encode_delivery};
use tidewire_protocol::codec::{Ack, Packet, PacketId, QoS, ReasonCode, UserProperties, encode};
use tidewire_protocol::session::InFlight;

use super::client::Connection;
use super::{Key, Mail, Shard, key_of, publisher_of};
use crate::exchange::{Destination, ReceiverId, Routes, Target};
use crate::message::Message;
use crate::queue::{Delivery, Pushed};

/// A message on its way through the shard. It becomes a [`Message`] only if it outlives the read.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) forwarded: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) publisher: u64,
    shared: Option<Arc<Message>>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn borrowed(topic: &'a str, forwarded: &'a [u8], payload: &'a [u8]) -> Self {
        Self {
            topic,
            forwarded,
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            expires_at_ms: None,
            publisher: 0,
            shared: None,
        }
    }

    pub(super) fn of(message: &'a Arc<Message>) -> Self {
        Self {
            topic: message.topic(),
            forwarded: message.forwarded(),
            payload: message.payload(),
            qos: message.qos(),
            retain: message.retain(),
            expires_at_ms: message.expires_at_ms(),
            publisher: message.publisher(),
            shared: Some(Arc::clone(message)),
        }
    }

    /// The message as a value to keep: copied once, exactly, however many keep it.
    pub(super) fn message(&mut self) -> Arc<Message> {
        let Self {
            topic,
            forwarded,
            payload,
            qos,
            retain,
            expires_at_ms,
            publisher,
            ..
        } = *self;
        Arc::clone(self.shared.get_or_insert_with(|| {
            Arc::new(Message::new(
                topic,
                forwarded,
                payload,
                qos,
                retain,
                expires_at_ms,
                publisher,
            ))
        }))
    }

    fn expiry_seconds_left(&self, now_ms: u64) -> Option<u32> {
        let left_ms = self.expires_at_ms?.saturating_sub(now_ms);
        Some(
            u32::try_from(left_ms.div_ceil(1_000))
                .unwrap_or(u32::MAX)
                .max(1),
        )
    }
}

impl Shard {
    /// Sends a message to everyone bound to its topic; false if nobody is.
    pub(super) fn route(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        publisher: Option<Key>,
        now_ms: u64,
    ) -> bool {
        let routes = self.routes_of(outgoing.topic, publisher);
        for shard in routes.shards() {
            if shard.shard == self.id {
                self.deliver_here(&routes, outgoing, now_ms);
            } else {
                let mail = Mail::Deliver {
                    message: outgoing.message(),
                    routes: Arc::clone(&routes),
                };
                self.send_mail(shard.shard, mail);
            }
        }
        !routes.is_empty()
    }

    /// Hands a message to this shard's part of the routes.
    pub(super) fn deliver_here(
        &mut self,
        routes: &Routes,
        outgoing: &mut Outgoing<'_>,
        now_ms: u64,
    ) {
        for target in routes.for_shard(self.id) {
            match target.destination {
                Destination::Session(receiver) => self.deliver(receiver, target, outgoing, now_ms),
                Destination::Group { group, .. } => {
                    let message = outgoing.message();
                    self.push_to_group(group, message, now_ms);
                }
            }
        }
    }

    /// Sends to one session now, or lets the message wait in its queue.
    pub(super) fn send_or_queue(&mut self, key: Key, delivery: Delivery, now_ms: u64) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        if delivery.qos == QoS::AtMostOnce && session.connection.is_none() {
            self.metrics.messages_dropped.add(1);
            return;
        }
        match session.queue.push(delivery, &self.shared.config.limits) {
            Pushed::Queued => {}
            Pushed::DroppedOldest(count) => self.metrics.messages_dropped.add(count as u64),
            Pushed::DroppedNewest => self.metrics.messages_dropped.add(1),
            Pushed::Rejected => {
                self.metrics.messages_dropped.add(1);
                self.was_rejected = true;
            }
            Pushed::Disconnect => {
                self.metrics.messages_dropped.add(1);
                if let Some(connection) = session.connection {
                    self.disconnect(connection, ReasonCode::QuotaExceeded, "queue full", now_ms);
                }
            }
        }
        self.send_waiting(key, now_ms);
    }

    /// Moves waiting messages into the window while there is room.
    pub(super) fn send_waiting(&mut self, key: Key, now_ms: u64) {
        let bytes_max = self.shared.config.limits.write_buffer_bytes_max;
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        let Some(connection_key) = session.connection else {
            return;
        };
        let Some(connection) = self.connections.lookup_mut(connection_key) else {
            return;
        };
        let out_before = connection.out.len();
        let mut unlent = Vec::new();
        while !session.queue.is_empty()
            && session.outbound.len() < usize::from(connection.send_quota)
            && connection.out.len() < bytes_max
            && !connection.is_closing
        {
            let Some(delivery) = session.queue.next(now_ms) else {
                break;
            };
            if wire_bytes(connection, &delivery, now_ms) > connection.packet_bytes_max {
                // [MQTT-3.1.2-25]: dropped as if sent, and it takes no quota.
                self.metrics.messages_dropped.add(1);
                unlent.extend(delivery.group);
                continue;
            }
            if delivery.qos == QoS::AtMostOnce {
                write_delivery(connection, &delivery, None, false, now_ms);
                unlent.extend(delivery.group);
            } else {
                let sent = delivery.clone();
                let Ok(packet_id) = session.outbound.send(delivery.qos, delivery) else {
                    break;
                };
                write_delivery(connection, &sent, Some(packet_id), false, now_ms);
            }
            self.metrics.publishes_sent.add(1);
        }
        if connection.out.len() > out_before {
            self.touch(connection_key);
        }
        for (group, home) in unlent {
            let session = self.receiver(key);
            self.send_mail(
                home,
                Mail::GroupSettled {
                    group,
                    session,
                    count: 1,
                },
            );
        }
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
        let is_self = outgoing.publisher == publisher_of(receiver);
        let (granted, ids) = if is_self {
            (target.qos_to_self, &target.subscription_ids_to_self)
        } else {
            (Some(target.qos), &target.subscription_ids)
        };
        let Some(granted) = granted else { return };
        let qos = granted.min(outgoing.qos);
        let retain = outgoing.retain && target.retain_as_published;
        let key = key_of(receiver);
        if qos == QoS::AtMostOnce {
            self.deliver_at_most_once(key, outgoing, retain, ids.as_deref(), now_ms);
            return;
        }
        let subscription_ids = ids.clone();
        let delivery = Delivery {
            message: outgoing.message(),
            qos,
            retain,
            subscription_ids,
            group: None,
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
        let Some(session) = self.sessions.lookup(key) else {
            return;
        };
        let connection = session.connection.and_then(|key| {
            let connection = self.connections.lookup_mut(key)?;
            (!connection.is_closing).then_some((key, connection))
        });
        let Some((connection_key, connection)) = connection else {
            self.metrics.messages_dropped.add(1);
            return;
        };
        let header = DeliveryHeader {
            dup: false,
            qos: QoS::AtMostOnce,
            retain,
            packet_id: None,
            topic_alias: None,
            message_expiry_seconds: outgoing.expiry_seconds_left(now_ms),
            subscription_ids: subscription_ids.unwrap_or(&[]),
        };
        let Outgoing {
            topic,
            forwarded,
            payload,
            ..
        } = *outgoing;
        let is_too_large = connection.packet_bytes_max < PACKET_BYTES_ANY
            && delivery_bytes(connection.version, &header, topic, forwarded, payload)
                > connection.packet_bytes_max;
        if is_too_large || connection.out.len() >= bytes_max {
            self.metrics.messages_dropped.add(1);
            return;
        }
        encode_delivery(
            &mut connection.out,
            connection.version,
            &header,
            topic,
            forwarded,
            payload,
        );
        self.metrics.publishes_sent.add(1);
        if !connection.is_touched {
            connection.is_touched = true;
            self.touched.push(connection_key);
        }
    }
}

/// Writes again what was in flight when the connection ended.
pub(super) fn resend(
    connection: &mut Connection,
    packet_id: PacketId,
    in_flight: &InFlight<'_, Delivery>,
    now_ms: u64,
) {
    match in_flight {
        InFlight::Published(_, delivery) => {
            if wire_bytes(connection, delivery, now_ms) <= connection.packet_bytes_max {
                write_delivery(connection, delivery, Some(packet_id), true, now_ms);
            }
        }
        InFlight::Released => {
            let packet = Packet::PubRel(Ack {
                packet_id,
                reason: ReasonCode::Success,
                reason_string: None,
                user_properties: UserProperties::default(),
            });
            encode(&packet, connection.version, &mut connection.out).expect("a PUBREL is small");
        }
    }
}

fn write_delivery(
    connection: &mut Connection,
    delivery: &Delivery,
    packet_id: Option<PacketId>,
    dup: bool,
    now_ms: u64,
) {
    let header = header_of(delivery, packet_id, dup, now_ms);
    let message = &delivery.message;
    encode_delivery(
        &mut connection.out,
        connection.version,
        &header,
        message.topic(),
        message.forwarded(),
        message.payload(),
    );
}

fn wire_bytes(connection: &Connection, delivery: &Delivery, now_ms: u64) -> usize {
    if connection.packet_bytes_max >= PACKET_BYTES_ANY {
        return 0;
    }
    let message = &delivery.message;
    let packet_id =
        (delivery.qos != QoS::AtMostOnce).then_some(PacketId(std::num::NonZeroU16::MIN));
    let header = header_of(delivery, packet_id, false, now_ms);
    let (topic, forwarded, payload) = (message.topic(), message.forwarded(), message.payload());
    delivery_bytes(connection.version, &header, topic, forwarded, payload)
}

fn header_of(
    delivery: &Delivery,
    packet_id: Option<PacketId>,
    dup: bool,
    now_ms: u64,
) -> DeliveryHeader<'_> {
    DeliveryHeader {
        dup,
        qos: delivery.qos,
        retain: delivery.retain,
        packet_id,
        topic_alias: None,
        message_expiry_seconds: delivery.message.expiry_seconds_left(now_ms),
        subscription_ids: delivery.subscription_ids.as_deref().unwrap_or(&[]),
    }
}

/// No MQTT packet is larger: a client with this maximum or none needs no check.
const PACKET_BYTES_ANY: usize = 268_435_460;
