//! From a session's queue through its window into its connection's buffer.

use tidewire_protocol::codec::{Ack, DeliveryHeader, Packet, PacketId, QoS, ReasonCode, encode};
use tidewire_protocol::session::InFlight;

use super::client::{Connection, Session};
use super::durable::Durable;
use super::in_flight::put_in_flight;
use super::timers::Timer;
use super::{Key, Mail, Shard, Shared};
use crate::auth::acl::Action;
use crate::exchange::{GroupId, ShardId};
use crate::queue::{Delivery, Pushed, Stored};
use crate::store::{Operation, Receiver};

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
            && has_room(session, connection, &self.shared)
        {
            let sent = transmit(session, connection, &mut self.durable, delivery, now_ms);
            self.account(key, sent);
            return;
        }
        let fence = self.durable.fence();
        let connection = session.connection;
        let pushed = session.queue.push(delivery, limits, fence);
        let dropped = session.queue.take_dropped();
        let due_ms = session.queue.arm_expiry(now_ms);
        for stored in dropped {
            self.settle_stored(Some(stored));
        }
        self.watch(due_ms, Timer::QueueExpiry(key));
        self.note_pushed(pushed);
        if pushed == Pushed::Disconnect
            && let Some(connection) = connection
        {
            self.disconnect(connection, ReasonCode::QuotaExceeded, "queue full", now_ms);
        }
        self.send_waiting(key, now_ms);
    }

    /// Counts what a full queue has dropped; its publisher is told of what was rejected.
    pub(super) fn note_pushed(&mut self, pushed: Pushed) {
        let dropped = match pushed {
            Pushed::Queued => 0,
            Pushed::DroppedOldest(count) => count as u64,
            Pushed::DroppedNewest | Pushed::Rejected | Pushed::Disconnect => 1,
        };
        self.metrics.messages_dropped.add(dropped);
        self.was_rejected |= pushed == Pushed::Rejected;
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
            if !has_room(session, connection, &self.shared) {
                return;
            }
            if let Some(packet_id) = session.outbound.resend_next() {
                let sent = resend(session, connection, packet_id, now_ms);
                self.account(key, sent);
            } else if let Some(delivery) = session.queue.next(now_ms) {
                let sent = transmit(session, connection, &mut self.durable, delivery, now_ms);
                self.settle_dropped(key);
                self.account(key, sent);
            } else if !session.queue.is_empty() {
                self.load_waiting(key);
                return;
            } else if !self.queue_retained(key, now_ms) {
                self.settle_dropped(key);
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
            } else if has_room(session, connection, &self.shared)
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
                gone,
                payload_bytes,
            } => {
                self.count_sent(payload_bytes);
                gone
            }
            Transmitted::TooLarge(gone) => {
                self.metrics.messages_dropped.add(1);
                gone
            }
        };
        self.let_go(key, settled);
    }

    /// A delivery has left the session: a share group gets its credit back.
    pub(super) fn let_go(&mut self, session: Key, gone: Gone) {
        self.settle_stored(gone.stored);
        if let Some((group, home)) = gone.lender {
            let session = self.receiver(session);
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

/// A delivery that has left the session.
#[derive(Clone, Copy, Default)]
pub(super) struct Gone {
    lender: Option<(GroupId, ShardId)>,
    stored: Option<Stored>,
}

impl Gone {
    pub(super) fn of(delivery: &Delivery) -> Self {
        Self {
            lender: delivery.group,
            stored: delivery.stored,
        }
    }
}

/// What became of a delivery.
#[derive(Clone, Copy)]
enum Transmitted {
    /// It waits for its acknowledgement.
    InFlight { payload_bytes: usize },
    /// At most once: it is sent and gone.
    Settled { gone: Gone, payload_bytes: usize },
    /// [MQTT-3.1.2-25]: dropped as if sent, and it takes no quota.
    TooLarge(Gone),
}

fn has_room(session: &Session, connection: &Connection, shared: &Shared) -> bool {
    // Each message in flight of a durable session is a row.
    let is_narrow = session.store.is_some() && shared.store.is_exhausted();
    let window = match is_narrow {
        true => connection.send_quota.min(WINDOW_EXHAUSTED),
        false => connection.send_quota,
    };
    session.outbound.quota_used() < usize::from(window)
        && session.outbound.len() < PACKET_IDS
        && connection.out.len() < shared.config.limits.write_buffer_bytes_max
        && !connection.is_closing
        && connection.awaits_connack.is_none()
        && !session.is_restoring
}

/// Writes a delivery; the window has room for it.
fn transmit(
    session: &mut Session,
    connection: &mut Connection,
    durable: &mut Durable,
    mut delivery: Delivery,
    now_ms: u64,
) -> Transmitted {
    if !may_have(session, &delivery) || !takes(connection, &delivery, now_ms) {
        return Transmitted::TooLarge(Gone::of(&delivery));
    }
    let payload_bytes = delivery.message.payload().len();
    if delivery.qos == QoS::AtMostOnce {
        write_delivery(connection, &delivery, Written::Unnumbered, now_ms);
        return Transmitted::Settled {
            gone: Gone::of(&delivery),
            payload_bytes,
        };
    }
    adopt(session, durable, &mut delivery);
    let packet_id = session
        .outbound
        .send(delivery.qos, delivery)
        .expect("the window is smaller than the number of packet identifiers");
    if let Some(delivery) = session.outbound.published(packet_id) {
        let waits = keep_identifier(session, connection, durable, packet_id, now_ms);
        if (waits || connection.holds_publish)
            && let Some(key) = session.connection
        {
            connection.holds_publish = true;
            let start = connection.out.tail().len();
            write_delivery(connection, delivery, Written::Overtaken(packet_id), now_ms);
            durable.hold(key, connection, start);
        } else {
            write_delivery(connection, delivery, Written::First(packet_id), now_ms);
        }
    }
    Transmitted::InFlight { payload_bytes }
}

/// A QoS 2 message that a group has lent stays with its member from now on [MQTT-4.8.2-4].
fn adopt(session: &Session, durable: &mut Durable, delivery: &mut Delivery) {
    let (Some(stored), Some(queue)) = (&mut delivery.stored, session.store) else {
        return;
    };
    if stored.queue != queue && delivery.qos == QoS::ExactlyOnce {
        durable.record(Operation::Move {
            id: stored.id,
            from: stored.queue,
            to: Receiver {
                queue,
                qos: delivery.qos,
                retain: delivery.retain,
                subscription_ids: delivery.subscription_ids.clone(),
            },
        });
        stored.queue = queue;
    }
    if stored.queue == queue {
        stored.order = durable.next_id();
    }
}

/// Keeps the packet identifier of a message in flight, if the session has the message: now, or
/// with QoS 1 if it is in use for long. Answers whether the message waits for that.
fn keep_identifier(
    session: &Session,
    connection: &Connection,
    durable: &mut Durable,
    packet_id: PacketId,
    now_ms: u64,
) -> bool {
    let delivery = session.outbound.published(packet_id);
    let Some((delivery, stored)) = delivery.and_then(|it| Some((it, it.stored?))) else {
        return false;
    };
    if session.store != Some(stored.queue) {
        return false;
    }
    if delivery.qos == QoS::AtLeastOnce
        && let Some(key) = connection.session
    {
        durable.unkept.add(key, packet_id, stored.order, now_ms);
        return false;
    }
    durable.record(put_in_flight(packet_id, delivery.qos, stored));
    // Sent before its identifier is kept, it could be sent again under another one.
    delivery.qos == QoS::ExactlyOnce
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
    if may_have(session, delivery) && takes(connection, delivery, now_ms) {
        write_delivery(connection, delivery, Written::Again(packet_id), now_ms);
        return Transmitted::InFlight { payload_bytes };
    }
    // The client has made its maximum smaller, or may not receive the topic any more. It may have
    // seen a QoS 2 message before: PUBREL tells it that this identifier is free again.
    let delivery = session.outbound.release(packet_id);
    if delivery
        .as_ref()
        .is_some_and(|it| it.qos == QoS::ExactlyOnce)
    {
        write_pubrel(connection, packet_id);
    }
    Transmitted::TooLarge(delivery.as_ref().map(Gone::of).unwrap_or_default())
}

/// Rights may have changed since the message was queued.
fn may_have(session: &Session, delivery: &Delivery) -> bool {
    let topic = delivery.message.topic();
    session.rights.allows(Action::Receive, topic)
}

fn write_pubrel(connection: &mut Connection, packet_id: PacketId) {
    let packet = Packet::PubRel(Ack::plain(packet_id, ReasonCode::Success));
    let out = connection.out.tail();
    encode(&packet, connection.version, out).expect("a PUBREL is small");
}

/// How a PUBLISH leaves.
#[derive(Clone, Copy)]
enum Written {
    /// With QoS 0.
    Unnumbered,
    First(PacketId),
    /// It waits for a commit, while others go ahead of it.
    Overtaken(PacketId),
    Again(PacketId),
}

impl Written {
    fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::Unnumbered => None,
            Self::First(id) | Self::Overtaken(id) | Self::Again(id) => Some(id),
        }
    }
}

fn write_delivery(connection: &mut Connection, delivery: &Delivery, how: Written, now_ms: u64) {
    let dup = matches!(how, Written::Again(_));
    let header = header_of(delivery, how.packet_id(), dup, now_ms);
    let message = &delivery.message;
    let (topic, forwarded) = (message.topic_bytes(), message.forwarded());
    let is_written = match how {
        Written::Overtaken(_) => {
            connection.write_overtaken_publish(&header, topic, forwarded, message.payload())
        }
        _ => connection.write_publish(&header, topic, forwarded, message.payload()),
    };
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

/// Messages in flight to a durable session while the store has no room for more of them.
const WINDOW_EXHAUSTED: u16 = 16;
/// All packet identifiers.
const PACKET_IDS: usize = 65_535;
