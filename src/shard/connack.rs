//! CONNACK: what a client is told of its session, or why it has none.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use tidewire_bridges::mqtt::NODE_PROPERTY;
use tidewire_protocol::codec::{
    ConnAck, ConnAckProperties, Connect, Packet, ProtocolVersion, ReasonCode, UserProperties,
    encode,
};
use tidewire_protocol::session::keep_alive_deadline_ms;
use tidewire_protocol::topic::Topic;

use super::connect::Handshake;
use super::explain::text_of;
use super::timers::Timer;
use super::{Key, Shard};
use crate::auth::METHOD;
use crate::config::Mqtt;
use crate::log_limit::LogKind;

impl Shard {
    /// Writes CONNACK; false if the client does not take packets of its size.
    pub(super) fn acknowledge_connect(
        &mut self,
        key: Key,
        handshake: &Handshake<'_>,
        is_present: bool,
    ) -> bool {
        let Handshake {
            connect,
            client_id,
            identity,
            ..
        } = *handshake;
        let shared = Arc::clone(&self.shared);
        let (mqtt, limits) = (&shared.config.mqtt, &shared.config.limits);
        let expiry_seconds = self.expiry_of(connect);
        let keep_alive_seconds = self.keep_alive_of(connect);
        let response_information = response_information_of(mqtt, connect, client_id);
        let Some(connection) = self.connections.lookup_mut(key) else {
            return false;
        };
        let enhanced = identity.enhanced.as_ref();
        // Bridges of our kind learn whom they talk to, for the mark that ends loops.
        let node = shared.config.node.as_deref().unwrap_or_default();
        let node = [(NODE_PROPERTY, node)];
        let mut names = connect.properties.user_properties.iter();
        let is_node = names.any(|(name, _)| name == NODE_PROPERTY);
        let asked_expiry = connect.properties.session_expiry_seconds.unwrap_or(0);
        let packet = Packet::ConnAck(Box::new(ConnAck {
            session_present: is_present && connect.version != ProtocolVersion::V3_1,
            reason: ReasonCode::Success,
            properties: ConnAckProperties {
                session_expiry_seconds: (expiry_seconds != asked_expiry).then_some(expiry_seconds),
                receive_maximum: NonZeroU16::new(mqtt.receive_maximum),
                maximum_packet_size: u32::try_from(limits.packet_bytes_max)
                    .ok()
                    .and_then(NonZeroU32::new),
                assigned_client_id: connect.client_id.is_empty().then_some(client_id),
                topic_alias_maximum: Some(mqtt.topic_alias_maximum),
                server_keep_alive_seconds: (keep_alive_seconds != connect.keep_alive_seconds)
                    .then_some(keep_alive_seconds),
                response_information: response_information.as_deref(),
                // [MQTT-4.12.0-5]
                authentication_method: enhanced.map(|_| METHOD),
                authentication_data: enhanced.map(|it| it.last_data.as_slice()),
                user_properties: UserProperties::from_pairs(if is_node { &node } else { &[] }),
                ..ConnAckProperties::default()
            },
        }));
        let out = connection.out.tail();
        encode(&packet, connect.version, out).expect("a CONNACK of ours is small");
        if out.len() > connection.packet_bytes_max {
            out.clear();
            return false;
        }
        if self.durable.has_recorded() {
            connection.awaits_connack = Some(self.durable.fence_of_change());
            self.durable.hold(key, connection, 0);
        }
        self.metrics.messages_sent.add(1);
        if let Some(due_ms) =
            keep_alive_deadline_ms(connection.last_received_ms, connection.keep_alive_seconds)
        {
            self.timers.add(due_ms, Timer::KeepAlive(key));
        }
        self.touch(key);
        true
    }

    /// The client takes no CONNACK, so that it may not be sent anything [MQTT-3.2.0-1].
    pub(super) fn abandon_unacknowledged(&mut self, key: Key, session: Key, now_ms: u64) {
        tracing::warn!(peer = %self.peer_of(key), "CONNACK exceeds the maximum packet size");
        if let Some(session) = self.sessions.lookup_mut(session) {
            session.will = None;
        }
        self.detach_session(key, now_ms);
        if let Some(connection) = self.connections.lookup_mut(key) {
            connection.is_closing = true;
        }
        self.touch(key);
    }

    /// CONNACK with an error, then the end.
    pub(super) fn refuse(
        &mut self,
        key: Key,
        handshake: &Handshake<'_>,
        (reason, why): (ReasonCode, &str),
        now_ms: u64,
    ) {
        let packet = Packet::ConnAck(Box::new(ConnAck {
            session_present: false,
            reason,
            properties: ConnAckProperties {
                reason_string: text_of(reason).and_then(|why| self.explain_end(reason, why)),
                ..ConnAckProperties::default()
            },
        }));
        self.answer(key, &packet);
        if let Some(connection) = self.connections.lookup_mut(key) {
            connection.is_closing = true;
        }
        if self.may_log(LogKind::Refused, now_ms) {
            let (client_id, peer) = (handshake.client_id, handshake.peer);
            let user_name = handshake.identity.user_name.as_deref();
            tracing::warn!(?client_id, %peer, user_name, ?reason, why, "connection refused");
        }
    }
}

/// Where a client that asks for it may receive responses: `%c` is its client id. Nothing if that
/// makes no topic.
///
/// # Source
/// MQTT 5.0 section 3.2.2.3.14.
fn response_information_of(mqtt: &Mqtt, connect: &Connect<'_>, client_id: &str) -> Option<String> {
    connect
        .properties
        .request_response_information
        .filter(|is_asked| *is_asked)?;
    let text = mqtt.response_information.as_ref()?.replace("%c", client_id);
    Topic::parse(&text, usize::MAX).is_ok().then_some(text)
}
