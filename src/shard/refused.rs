//! What a full store refuses after it was published: its acknowledgement has not left yet.

use std::num::NonZeroU16;

use hashbrown::HashSet;
use tidewire_protocol::codec::{PacketId, ProtocolVersion, ReasonCode, split_packet};

use super::unconfirmed::Origin;
use super::{Key, Shard};
use crate::log_limit::LogKind;
use crate::store::{MessageId, Ticket};

impl Shard {
    /// [`Store::is_full`](crate::store::Store::is_full) has come too late for these.
    pub(super) fn refused_by_store(
        &mut self,
        ticket: Ticket,
        messages: &[MessageId],
        retained: &[Box<str>],
        now_ms: u64,
    ) {
        let unconfirmed = &self.durable.unconfirmed;
        for origin in unconfirmed.publishers_of(ticket, messages, retained) {
            self.refuse_published(origin, now_ms);
        }
        self.durable.reports.refuse(messages);
        if let Some(topic) = self.durable.unconfirmed.first_unknown(ticket, retained)
            && self.may_log(LogKind::NoRoom, now_ms)
        {
            tracing::warn!(
                topic,
                "no room to retain a message of a bridge or of the broker"
            );
        }
    }

    /// What was refused is not published when it would have been due.
    pub(super) fn drop_refused_delayed(&mut self, refused: &[MessageId]) {
        if refused.is_empty() {
            return;
        }
        let refused: HashSet<MessageId> = refused.iter().copied().collect();
        for key in self.delayed.keys() {
            let stored = self.delayed.lookup(key).and_then(|it| it.1);
            if stored.is_some_and(|id| refused.contains(&id)) {
                self.delayed.remove(key);
            }
        }
    }

    fn refuse_published(&mut self, origin: Origin, now_ms: u64) {
        let Origin {
            connection: key,
            session,
            packet_id,
        } = origin;
        if self.may_log(LogKind::NoRoom, now_ms) {
            let client_id = self.client_id_of(key);
            let peer = self.peer_of(key);
            tracing::warn!(?client_id, %peer, "the store has no room for a message");
        }
        let Some(packet_id) = packet_id else {
            self.metrics.messages_dropped.add(1);
            return;
        };
        let was_received = self.forget_refused(key, session, packet_id);
        if !self.refuse_held(key, packet_id, now_ms) {
            self.end_refused(key, now_ms);
        }
        // The client may be back, and have sent it again before it heard of this.
        let session = session.filter(|_| was_received);
        let session = session.and_then(|it| self.sessions.lookup(it));
        let connection = session.and_then(|it| it.connection);
        if let Some(other) = connection.filter(|it| *it != key) {
            self.refuse_held(other, packet_id, now_ms);
        }
    }

    /// Makes a refusal of the acknowledgement that a connection holds; false if it holds none.
    fn refuse_held(&mut self, key: Key, packet_id: PacketId, now_ms: u64) -> bool {
        let Some(connection) = self.connections.lookup_mut(key) else {
            return true;
        };
        let mut held = connection.held.iter_mut().map(|(_, bytes)| bytes);
        let Some(told) = held.position(|bytes| refuse_in(bytes, packet_id)) else {
            return false;
        };
        if connection.version != ProtocolVersion::V5 {
            self.end_refused(key, now_ms);
            return true;
        }
        // Not before it is kept that the identifier is free, and nothing ahead of it.
        let fence = self.durable.fence_of_change();
        if told == 0 {
            // CONNACK, if it has not left yet, is among them [MQTT-3.2.0-1].
            connection.awaits_connack = connection.awaits_connack.map(|_| fence);
        }
        let later = connection.held.iter_mut().skip(told);
        later.for_each(|(ticket, _)| *ticket = fence);
        self.durable.release_after(fence, key);
        true
    }

    /// Before 5.0 an acknowledgement cannot say no.
    fn end_refused(&mut self, key: Key, now_ms: u64) {
        if let Some(connection) = self.connections.lookup_mut(key) {
            connection.held.clear();
            let reason = ReasonCode::QuotaExceeded;
            self.disconnect(key, reason, "the store is full", now_ms);
        }
    }

    /// A QoS 2 message sent again must not pass for one that was accepted; false if it is not one.
    fn forget_refused(&mut self, key: Key, session: Option<Key>, packet_id: PacketId) -> bool {
        let Some(session_key) = session else {
            return false;
        };
        let Some(session) = self.sessions.lookup_mut(session_key) else {
            return false;
        };
        if !session.awaiting_release.remove(packet_id) {
            return false;
        }
        self.forget_received(session_key, packet_id);
        if let Some(connection) = self.connections.lookup_mut(key) {
            connection.receive_quota_used = connection.receive_quota_used.saturating_sub(1);
        }
        true
    }
}

/// Turns the PUBACK or PUBREC of a packet into one that says so; false if it is not there.
fn refuse_in(held: &mut Vec<u8>, packet_id: PacketId) -> bool {
    let mut at = 0;
    while let Some((packet, rest)) = split_packet(held.get(at..).unwrap_or_default()) {
        let length = packet.len();
        let is_it = match packet {
            [PUBACK | PUBREC, _, high, low, ..] => {
                NonZeroU16::new(u16::from_be_bytes([*high, *low])) == Some(packet_id.0)
            }
            _ => false,
        };
        if is_it {
            let [high, low] = packet_id.0.get().to_be_bytes();
            let first = packet.first().copied().unwrap_or(PUBACK);
            let refused = [first, 3, high, low, ReasonCode::QuotaExceeded as u8];
            held.splice(at..at + length, refused);
            return true;
        }
        if rest.is_empty() {
            break;
        }
        at += length;
    }
    false
}

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_acknowledgement_of_one_packet_becomes_a_refusal_and_others_stay() {
        let ping = [0xD0, 0];
        let acks = [[0x40, 2, 0, 7], [0x50, 2, 0, 8], [0x40, 2, 0, 9]];
        let mut held = [&ping[..], acks.as_flattened()].concat();
        let id = |number| PacketId(NonZeroU16::new(number).expect("not zero"));
        assert!(refuse_in(&mut held, id(8)));
        assert!(!refuse_in(&mut held, id(10)));
        let expected: [&[u8]; 4] = [&ping, &acks[0], &[0x50, 3, 0, 8, 0x97], &acks[2]];
        assert_eq!(held, expected.concat());
    }
}
