//! Packets from a client, one after the other.

use std::sync::Arc;

use tidewire_protocol::codec::{
    Ack, Disconnect, Packet, PacketId, ProtocolVersion, ReasonCode, Receiver, decode,
};
use tidewire_protocol::session::SettleError;

use super::explain::encode_explained;
use super::send::Gone;
use super::{Key, Shard};
use crate::queue::Delivery;

impl Shard {
    /// Takes bytes of a connection and answers how many were used up; the rest is the beginning of
    /// a packet, or comes too fast (see [`Output::held_until_ms`](super::Output)), and has to come
    /// again with what follows it.
    pub fn receive(&mut self, key: Key, bytes: &[u8], now_ms: u64) -> usize {
        let packet_bytes_max = self.shared.config.limits.packet_bytes_max;
        let mut used = 0;
        while let Some(connection) = self.connections.lookup_mut(key) {
            if connection.is_closing || connection.session.is_none() {
                used = bytes.len();
                break;
            }
            if connection.pace.is_held(now_ms) {
                break;
            }
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match decode(rest, connection.version, Receiver::Server, packet_bytes_max) {
                Ok(Some((packet, length))) => {
                    connection.last_received_ms = now_ms;
                    let limits = &self.shared.config.limits;
                    connection.pace.count(&packet, length, limits, now_ms);
                    self.metrics.messages_received.add(1);
                    used += length;
                    self.durable.begin_packet();
                    self.handle(key, packet, now_ms);
                }
                Ok(None) => break,
                Err(error) => {
                    self.close_run();
                    self.disconnect(key, error.reason(), &error.to_string(), now_ms);
                    return bytes.len();
                }
            }
        }
        self.close_run();
        used
    }

    fn handle(&mut self, key: Key, packet: Packet<'_>, now_ms: u64) {
        if let Packet::Publish(publish) = packet {
            self.receive_publish(key, &publish, now_ms);
            return;
        }
        self.close_run();
        match packet {
            Packet::Publish(_) => {}
            Packet::PubAck(ack) => self.receive_puback(key, &ack, now_ms),
            Packet::PubRec(ack) => self.receive_pubrec(key, &ack, now_ms),
            Packet::PubRel(ack) => self.receive_pubrel(key, &ack),
            Packet::PubComp(ack) => self.receive_pubcomp(key, &ack, now_ms),
            Packet::Subscribe(subscribe) => self.receive_subscribe(key, &subscribe, now_ms),
            Packet::Unsubscribe(unsubscribe) => self.receive_unsubscribe(key, &unsubscribe),
            Packet::PingReq => self.answer(key, &Packet::PingResp),
            Packet::Disconnect(disconnect) => self.receive_disconnect(key, &disconnect, now_ms),
            Packet::Connect(_) => {
                self.disconnect(key, ReasonCode::ProtocolError, "second CONNECT", now_ms);
            }
            Packet::Auth(auth) => self.receive_auth(key, &auth, now_ms),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                self.disconnect(key, ReasonCode::ProtocolError, "packet for clients", now_ms);
            }
        }
    }

    /// Writes one packet to a connection, or ends it if the packet is larger than the client
    /// takes [MQTT-3.1.2-24].
    pub(super) fn answer(&mut self, key: Key, packet: &Packet<'_>) {
        let Some(connection) = self.connections.writable(key) else {
            return;
        };
        let bytes_max = connection.packet_bytes_max;
        let before = connection.out.tail().len();
        if let Err(error) = encode_explained(packet, connection) {
            tracing::error!(%error, "answer not sent");
            return;
        }
        let out = connection.out.tail();
        if out.len() - before > bytes_max {
            out.truncate(before);
            // What is answered has just been received.
            let now_ms = connection.last_received_ms;
            let why = "an answer exceeds the client's maximum packet size";
            self.disconnect(key, ReasonCode::PacketTooLarge, why, now_ms);
            return;
        }
        self.metrics.messages_sent.add(1);
        // Acknowledged means stored; and answers keep their order.
        if self.durable.has_recorded() || !connection.held.is_empty() {
            self.durable.hold(key, connection, before);
        }
    }

    pub(super) fn session_of(&self, connection: Key) -> Option<Key> {
        self.connections.lookup(connection)?.session
    }

    fn receive_puback(&mut self, key: Key, ack: &Ack<'_>, now_ms: u64) {
        let Some(session_key) = self.session_of(key) else {
            return;
        };
        let Some(session) = self.sessions.lookup_mut(session_key) else {
            return;
        };
        let settled = session.outbound.acknowledge(ack.packet_id);
        self.settle(key, ack.packet_id, settled, now_ms);
    }

    fn receive_pubrec(&mut self, key: Key, ack: &Ack<'_>, now_ms: u64) {
        let Some(session_key) = self.session_of(key) else {
            return;
        };
        let Some(session) = self.sessions.lookup_mut(session_key) else {
            return;
        };
        if ack.reason.is_error() {
            let settled = session.outbound.refuse(ack.packet_id);
            self.settle(key, ack.packet_id, settled, now_ms);
            return;
        }
        let reason = match session.outbound.receive(ack.packet_id) {
            Ok(delivery) => {
                if let Some(delivery) = delivery {
                    self.keep_released(session_key, ack.packet_id, &delivery);
                    self.let_go(session_key, Gone::of(&delivery));
                }
                ReasonCode::Success
            }
            Err(SettleError::NotInFlight(_)) => ReasonCode::PacketIdentifierNotFound,
            Err(error @ SettleError::WrongState(_)) => {
                self.disconnect(key, ReasonCode::ProtocolError, &error.to_string(), now_ms);
                return;
            }
        };
        self.answer(key, &Packet::PubRel(Ack::plain(ack.packet_id, reason)));
    }

    fn receive_pubrel(&mut self, key: Key, ack: &Ack<'_>) {
        let Some(session_key) = self.session_of(key) else {
            return;
        };
        let Some(session) = self.sessions.lookup_mut(session_key) else {
            return;
        };
        let existed = session.awaiting_release.remove(ack.packet_id);
        if existed {
            self.forget_received(session_key, ack.packet_id);
        }
        if let Some(connection) = self.connections.lookup_mut(key) {
            connection.receive_quota_used = connection
                .receive_quota_used
                .saturating_sub(u16::from(existed));
        }
        let reason = if existed {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        self.answer(key, &Packet::PubComp(Ack::plain(ack.packet_id, reason)));
    }

    fn receive_pubcomp(&mut self, key: Key, ack: &Ack<'_>, now_ms: u64) {
        let Some(session_key) = self.session_of(key) else {
            return;
        };
        let Some(session) = self.sessions.lookup_mut(session_key) else {
            return;
        };
        match session.outbound.complete(ack.packet_id) {
            Ok(()) => {
                self.free_kept(session_key, ack.packet_id);
                self.send_waiting(session_key, now_ms);
            }
            Err(error) => self.unsettled(key, &error, now_ms),
        }
    }

    fn settle(
        &mut self,
        key: Key,
        packet_id: PacketId,
        settled: Result<Delivery, SettleError>,
        now_ms: u64,
    ) {
        let Some(session) = self.session_of(key) else {
            return;
        };
        match settled {
            Ok(delivery) => {
                self.free_of(session, packet_id, &delivery);
                self.let_go(session, Gone::of(&delivery));
                self.send_waiting(session, now_ms);
            }
            Err(error) => self.unsettled(key, &error, now_ms),
        }
    }

    /// An unknown identifier frees no quota; an answer of another QoS or out of turn is a protocol
    /// error.
    fn unsettled(&mut self, key: Key, error: &SettleError, now_ms: u64) {
        if matches!(error, SettleError::WrongState(_)) {
            self.disconnect(key, ReasonCode::ProtocolError, &error.to_string(), now_ms);
        }
    }

    fn receive_disconnect(&mut self, key: Key, disconnect: &Disconnect<'_>, now_ms: u64) {
        let Some(session_key) = self.session_of(key) else {
            return;
        };
        let expiry_max = self.shared.config.limits.session_expiry_seconds_max;
        let Some(session) = self.sessions.lookup_mut(session_key) else {
            return;
        };
        if let Some(seconds) = disconnect.session_expiry_seconds {
            if session.expiry_seconds == 0 && seconds > 0 {
                let why = "DISCONNECT extends a session that had no expiry";
                self.disconnect(key, ReasonCode::ProtocolError, why, now_ms);
                return;
            }
            session.expiry_seconds = seconds.min(expiry_max);
            self.keep_session(session_key);
        }
        // [MQTT-3.14.4-3]: any other reason publishes the will.
        if disconnect.reason == ReasonCode::Success
            && let Some(session) = self.sessions.lookup_mut(session_key)
            && session.will.take().is_some()
        {
            self.keep_will(session_key);
        }
        self.detach_session(key, now_ms);
        if let Some(connection) = self.connections.lookup_mut(key) {
            connection.is_closing = true;
        }
        self.touch(key);
    }

    pub(super) fn client_id_of(&self, connection: Key) -> Arc<str> {
        self.session_of(connection)
            .and_then(|key| self.sessions.lookup(key))
            .map_or_else(|| Arc::from(""), |session| Arc::clone(&session.client_id))
    }

    pub(super) fn is_v5(&self, connection: Key) -> bool {
        self.connections
            .lookup(connection)
            .is_some_and(|it| it.version == ProtocolVersion::V5)
    }
}
