//! From a session's queue through its window into its connection's buffer.

use tidewire_protocol::codec::{Ack, DeliveryHeader, Packet, PacketId, QoS, ReasonCode, encode};
use tidewire_protocol::session::InFlight;

use super::client::{Connection, Session};
use super::{Key, Mail, Shard};
use crate::config::Limits;
use crate::exchange::{GroupId, ShardId};
use crate::queue::{Delivery, Pushed};

impl Shard {
    /// Sends to one session now, or lets the message wait in its queue.
    pub(super) fn send_or_queue(&mut self, key: Key, delivery: Delivery, now_ms: u64) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        if delivery.qos == QoS::AtMostOnce && session.connection.is_none() {
            self.metrics.messages_dropped.add(1);
            return;
        }
        let limits = &self.shared.config.limits;
        if session.queue.is_empty()
            && !session.outbound.has_unsent()
            && let Some(connection) = session
                .connection
                .and_then(|key| self.connections.writable(key))
            && has_room(session, connection, limits)
        {
            let sent = transmit(session, connection, delivery, now_ms);
            self.account(key, sent);
            return;
        }
        match session.queue.push(delivery, limits) {
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
        loop {
            let Some(session) = self.sessions.lookup_mut(key) else {
                return;
            };
            let is_drained = session.queue.is_empty() && !session.outbound.has_unsent();
            if is_drained && session.retained.is_empty() {
                return;
            }
            let connection = session
                .connection
                .and_then(|key| self.connections.writable(key));
            let Some(connection) = connection else {
                return;
            };
            if !has_room(session, connection, &self.shared.config.limits) {
                return;
            }
            if let Some(packet_id) = session.outbound.resend_next() {
                let sent = resend(session, connection, packet_id, now_ms);
                self.account(key, sent);
            } else if let Some(delivery) = session.queue.next(now_ms) {
                let sent = transmit(session, connection, delivery, now_ms);
                self.account(key, sent);
            } else if !self.queue_retained(key, now_ms) {
                return;
            }
        }
    }

    /// PUBREL instead of PUBLISH after PUBREC; what has no PUBREC is sent again with DUP as far as
    /// the receive maximum allows, in the order of sending [MQTT-4.4.0-1], [MQTT-4.6.0-1].
    pub(super) fn resend_in_flight(&mut self, key: Key, now_ms: u64) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        session.outbound.begin_resend();
        let in_flight: Vec<(PacketId, bool)> = session
            .outbound
            .iter()
            .map(|(packet_id, it)| (packet_id, matches!(it, InFlight::Released)))
            .collect();
        for (packet_id, is_released) in in_flight {
            let Some(session) = self.sessions.lookup_mut(key) else {
                return;
            };
            let connection = session
                .connection
                .and_then(|key| self.connections.writable(key));
            let Some(connection) = connection else {
                return;
            };
            if is_released {
                write_pubrel(connection, packet_id);
            } else if has_room(session, connection, &self.shared.config.limits)
                && let Some(packet_id) = session.outbound.resend_next()
            {
                let sent = resend(session, connection, packet_id, now_ms);
                self.account(key, sent);
            }
        }
    }

    fn count_sent(&self, payload_bytes: usize) {
        self.metrics.publishes_sent.add(1);
        self.metrics.messages_sent.add(1);
        self.metrics.publish_bytes_sent.add(payload_bytes as u64);
    }

    /// Counts what became of a delivery, and gives its group credit back if it is settled.
    fn account(&mut self, key: Key, transmitted: Transmitted) {
        let settled = match transmitted {
            Transmitted::InFlight { payload_bytes } => {
                self.count_sent(payload_bytes);
                return;
            }
            Transmitted::Settled {
                lender,
                payload_bytes,
            } => {
                self.count_sent(payload_bytes);
                lender
            }
            Transmitted::TooLarge(group) => {
                self.metrics.messages_dropped.add(1);
                group
            }
        };
        if let Some((group, home)) = settled {
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
}

type Lender = Option<(GroupId, ShardId)>;

/// What became of a delivery.
#[derive(Clone, Copy)]
enum Transmitted {
    /// It waits for its acknowledgement.
    InFlight { payload_bytes: usize },
    /// At most once: it is sent and gone.
    Settled {
        lender: Lender,
        payload_bytes: usize,
    },
    /// [MQTT-3.1.2-25]: dropped as if sent, and it takes no quota.
    TooLarge(Lender),
}

fn has_room(session: &Session, connection: &Connection, limits: &Limits) -> bool {
    session.outbound.quota_used() < usize::from(connection.send_quota)
        && session.outbound.len() < PACKET_IDS
        && connection.out.len() < limits.write_buffer_bytes_max
        && !connection.is_closing
}

/// Writes a delivery; the window has room for it.
fn transmit(
    session: &mut Session,
    connection: &mut Connection,
    delivery: Delivery,
    now_ms: u64,
) -> Transmitted {
    if !takes(connection, &delivery, now_ms) {
        return Transmitted::TooLarge(delivery.group);
    }
    let payload_bytes = delivery.message.payload().len();
    if delivery.qos == QoS::AtMostOnce {
        write_delivery(connection, &delivery, None, false, now_ms);
        return Transmitted::Settled {
            lender: delivery.group,
            payload_bytes,
        };
    }
    let packet_id = session
        .outbound
        .send(delivery.qos, delivery)
        .expect("the window is smaller than the number of packet identifiers");
    if let Some(delivery) = session.outbound.published(packet_id) {
        write_delivery(connection, delivery, Some(packet_id), false, now_ms);
    }
    Transmitted::InFlight { payload_bytes }
}

/// Writes again what was in flight when the connection ended.
fn resend(
    session: &mut Session,
    connection: &mut Connection,
    packet_id: PacketId,
    now_ms: u64,
) -> Transmitted {
    let Some(delivery) = session.outbound.published(packet_id) else {
        debug_assert!(false, "only messages without PUBREC are sent again");
        return Transmitted::InFlight { payload_bytes: 0 };
    };
    let payload_bytes = delivery.message.payload().len();
    if takes(connection, delivery, now_ms) {
        write_delivery(connection, delivery, Some(packet_id), true, now_ms);
        return Transmitted::InFlight { payload_bytes };
    }
    // The client has made its maximum smaller. It may have seen a QoS 2 message before: PUBREL
    // tells it that this identifier is free again.
    let delivery = session.outbound.release(packet_id);
    if delivery
        .as_ref()
        .is_some_and(|it| it.qos == QoS::ExactlyOnce)
    {
        write_pubrel(connection, packet_id);
    }
    Transmitted::TooLarge(delivery.and_then(|it| it.group))
}

fn write_pubrel(connection: &mut Connection, packet_id: PacketId) {
    let packet = Packet::PubRel(Ack::plain(packet_id, ReasonCode::Success));
    let out = connection.out.tail();
    encode(&packet, connection.version, out).expect("a PUBREL is small");
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
    let topic = message.topic_bytes();
    let is_written =
        connection.write_publish(&header, topic, message.forwarded(), message.payload());
    debug_assert!(is_written, "the caller has asked");
}

fn takes(connection: &Connection, delivery: &Delivery, now_ms: u64) -> bool {
    let message = &delivery.message;
    let packet_id =
        (delivery.qos != QoS::AtMostOnce).then_some(PacketId(std::num::NonZeroU16::MIN));
    let header = header_of(delivery, packet_id, false, now_ms);
    let topic = message.topic_bytes();
    connection.takes(&header, topic, message.forwarded(), message.payload())
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

/// All packet identifiers.
const PACKET_IDS: usize = 65_535;
