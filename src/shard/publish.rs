//! PUBLISH from a client.

use std::sync::Arc;

use tidewire_protocol::codec::{
    Ack, Packet, PacketId, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode,
};
use tidewire_protocol::session::AliasError;
use tidewire_protocol::topic::DelayedTopic;

use super::deliver::Routed;
use super::mount::mounted;
use super::outgoing::Outgoing;
use super::publisher::is_told;
use super::timers::Timer;
use super::unconfirmed::{Origin, Published};
use super::{Key, Shard, publisher_of};
use crate::auth::may_publish;
use crate::log_limit::LogKind;
use crate::message::{ClientNumber, Header, Message};
use crate::retained::RetainedFull;
use crate::store::{MessageId, Operation, Refusal};

impl Shard {
    pub(super) fn receive_publish(&mut self, key: Key, publish: &Publish<'_>, now_ms: u64) {
        let Some(alias) = publish.properties.topic_alias else {
            self.accept_publish(key, publish, publish.topic, now_ms);
            return;
        };
        let Some(connection) = self.connections.lookup_mut(key) else {
            return;
        };
        let mut aliases = std::mem::take(&mut connection.aliases);
        let alias_max = self.shared.config.mqtt.topic_alias_maximum;
        match aliases.resolve(publish.topic, alias, alias_max) {
            Ok(topic) => self.accept_publish(key, publish, topic, now_ms),
            Err(error) => {
                let reason = match error {
                    AliasError::AboveMaximum { .. } => ReasonCode::TopicAliasInvalid,
                    AliasError::Undefined { .. } => ReasonCode::ProtocolError,
                };
                self.disconnect(key, reason, &error.to_string(), now_ms);
            }
        }
        if let Some(connection) = self.connections.lookup_mut(key) {
            connection.aliases = aliases;
        }
    }

    /// The QoS state machine around [`Shard::publish`].
    fn accept_publish(&mut self, key: Key, publish: &Publish<'_>, topic: &str, now_ms: u64) {
        let Some(packet_id) = publish.packet_id else {
            let reason = self.publish(key, publish, topic, now_ms);
            if reason == ReasonCode::PayloadFormatInvalid {
                self.disconnect(key, reason, "payload is not UTF-8", now_ms);
            } else {
                self.end_if_unanswerable(key, reason, now_ms);
            }
            return;
        };
        if publish.qos == QoS::AtLeastOnce {
            let reason = self.publish(key, publish, topic, now_ms);
            if self.end_if_unanswerable(key, reason, now_ms) {
                return;
            }
            let ack = self.ack(key, packet_id, reason);
            self.answer(key, &Packet::PubAck(ack));
            return;
        }
        let Some(session) = self
            .session_of(key)
            .and_then(|it| self.sessions.lookup_mut(it))
        else {
            return;
        };
        if !session.awaiting_release.insert(packet_id) {
            self.answer(
                key,
                &Packet::PubRec(Ack::plain(packet_id, ReasonCode::Success)),
            );
            return;
        }
        let receive_maximum = self.shared.config.mqtt.receive_maximum;
        let Some(connection) = self.connections.lookup_mut(key) else {
            return;
        };
        if connection.version == ProtocolVersion::V5
            && connection.receive_quota_used >= receive_maximum
        {
            // Not accepted: sent again, it must not pass for one that was.
            session.awaiting_release.remove(packet_id);
            let why = "more QoS 2 messages than the receive maximum";
            self.disconnect(key, ReasonCode::ReceiveMaximumExceeded, why, now_ms);
            return;
        }
        connection.receive_quota_used = connection.receive_quota_used.saturating_add(1);
        let session = connection.session;
        let reason = self.publish(key, publish, topic, now_ms);
        if reason.is_error() {
            self.forget_receipt(key, packet_id);
        } else if let Some(session) = session {
            // In the batch of the message: both are kept, or neither.
            self.keep_received(session, packet_id);
        }
        if self.end_if_unanswerable(key, reason, now_ms) {
            return;
        }
        let ack = self.ack(key, packet_id, reason);
        self.answer(key, &Packet::PubRec(ack));
    }

    fn ack(&self, key: Key, packet_id: PacketId, reason: ReasonCode) -> Ack<'static> {
        let mut ack = Ack::plain(packet_id, reason);
        if reason.is_error() {
            ack.reason_string = self.explain(key, reason);
        }
        ack
    }

    /// Before 5.0 an acknowledgement cannot say no: the connection ends instead.
    fn end_if_unanswerable(&mut self, key: Key, reason: ReasonCode, now_ms: u64) -> bool {
        let is_unanswerable = reason.is_error() && !self.is_v5(key);
        if is_unanswerable {
            self.disconnect(key, reason, "a PUBLISH was not accepted", now_ms);
        }
        is_unanswerable
    }

    /// A PUBREC with an error ends the exchange [MQTT-4.3.3-9].
    fn forget_receipt(&mut self, key: Key, packet_id: PacketId) {
        let session = self
            .session_of(key)
            .and_then(|it| self.sessions.lookup_mut(it));
        if let Some(session) = session {
            session.awaiting_release.remove(packet_id);
        }
        if let Some(connection) = self.connections.lookup_mut(key) {
            connection.receive_quota_used = connection.receive_quota_used.saturating_sub(1);
        }
    }

    /// Retains and routes; answers with the reason for PUBACK or PUBREC.
    fn publish(&mut self, key: Key, publish: &Publish<'_>, topic: &str, now_ms: u64) -> ReasonCode {
        self.metrics.publishes_received.add(1);
        let payload_bytes = publish.payload.len() as u64;
        self.metrics.publish_bytes_received.add(payload_bytes);
        if self.shared.config.mqtt.check_payload_format
            && publish.properties.payload_is_utf8 == Some(true)
            && std::str::from_utf8(publish.payload).is_err()
        {
            return ReasonCode::PayloadFormatInvalid;
        }
        let (topic, delay_seconds) = match self.check_topic(key, topic, publish.retain, now_ms) {
            Ok(checked) => checked,
            Err(reason) => return reason,
        };
        let mount_point = self.mount_point_of(key);
        let topic = match mounted(mount_point.as_deref(), topic) {
            Ok(topic) => topic,
            Err(ReasonCode::NotAuthorized) => return self.refuse_publish(key, topic, now_ms),
            Err(reason) => return reason,
        };
        let topic = &*topic;
        let mut forwarded = std::mem::take(&mut self.scratch);
        forwarded.clear();
        let connection = self.connections.lookup(key);
        let session = connection.and_then(|it| it.session);
        let client = connection.map_or_else(ClientNumber::default, |it| it.client);
        if is_told(&self.shared.config.mqtt) {
            let own = &publish.properties;
            self.with_publisher(session, &own.user_properties, |user_properties| {
                let all = PublishProperties {
                    user_properties,
                    ..own.clone()
                };
                all.encode_forwarded(&mut forwarded);
            });
        } else if publish.properties.has_forwarded() {
            publish.properties.encode_forwarded(&mut forwarded);
        }
        let header = Header {
            qos: publish.qos,
            retain: publish.retain,
            expires_at_ms: publish
                .properties
                .message_expiry_seconds
                .map(|seconds| now_ms + u64::from(seconds) * 1_000),
            publisher: session.map_or(0, |session| publisher_of(self.receiver(session))),
            client,
        };
        let mut outgoing = Outgoing::borrowed(topic, &forwarded, publish.payload, header);
        outgoing.origin = Some(Origin {
            connection: key,
            session,
            packet_id: publish.packet_id,
        });
        let reason = match delay_seconds {
            Some(seconds) => self.delay(&mut outgoing, seconds, now_ms),
            None => self.retain_and_route(key, topic, &mut outgoing, now_ms),
        };
        self.scratch = forwarded;
        reason
    }

    /// The topic to publish to, and the delay that it asks for.
    fn check_topic<'a>(
        &mut self,
        key: Key,
        topic: &'a str,
        retain: bool,
        now_ms: u64,
    ) -> Result<(&'a str, Option<u32>), ReasonCode> {
        // The last topic has passed all of this; new rights make it forgotten.
        if !retain
            && self
                .connections
                .lookup(key)
                .filter(|connection| connection.mount_point.is_none())
                .and_then(|connection| connection.last_routes.as_ref())
                .is_some_and(|(last, _)| **last == *topic)
        {
            return Ok((topic, None));
        }
        let limits = &self.shared.config.limits;
        let (topic, delay_seconds) = match DelayedTopic::parse(topic, limits.topic_levels_max) {
            None => (topic, None),
            Some(Ok(delayed)) => (delayed.topic.as_str(), Some(delayed.seconds)),
            Some(Err(_)) => return Err(ReasonCode::TopicNameInvalid),
        };
        let is_too_long = topic.len() > limits.topic_bytes_max
            || topic.bytes().filter(|byte| *byte == b'/').count() >= limits.topic_levels_max;
        if is_too_long {
            return Err(ReasonCode::TopicNameInvalid);
        }
        if !may_publish(topic) || !self.may_send(key, topic, retain) {
            return Err(self.refuse_publish(key, topic, now_ms));
        }
        Ok((topic, delay_seconds))
    }

    /// What is put before the topics of a connection.
    pub(crate) fn mount_point_of(&self, key: Key) -> Option<Arc<str>> {
        self.connections.lookup(key)?.mount_point.clone()
    }

    fn retain_and_route(
        &mut self,
        key: Key,
        topic: &str,
        outgoing: &mut Outgoing<'_>,
        now_ms: u64,
    ) -> ReasonCode {
        if let Err(error) = self.retain_if_asked(outgoing) {
            if self.may_log(LogKind::NoRoom, now_ms) {
                let client_id = self.client_id_of(key);
                let peer = self.peer_of(key);
                tracing::warn!(?client_id, %peer, %error, "retained store is full");
            }
            return ReasonCode::QuotaExceeded;
        }
        self.was_rejected = false;
        let routed = self.route(topic, outgoing, Some(key), now_ms);
        let is_v5 = self.is_v5(key);
        match routed {
            Routed::StoreFull => ReasonCode::QuotaExceeded,
            _ if self.was_rejected && is_v5 => ReasonCode::QuotaExceeded,
            Routed::Nowhere if is_v5 => ReasonCode::NoMatchingSubscribers,
            Routed::Nowhere | Routed::Taken => ReasonCode::Success,
        }
    }

    /// Keeps the message if RETAIN is set.
    pub(super) fn retain_if_asked(
        &mut self,
        outgoing: &mut Outgoing<'_>,
    ) -> Result<(), RetainedFull> {
        if !outgoing.header.retain {
            return Ok(());
        }
        if outgoing.payload.len() > self.shared.config.limits.retained_payload_bytes_max {
            let bytes_max = self.shared.config.limits.retained_payload_bytes_max;
            return Err(RetainedFull::Bytes { bytes_max });
        }
        let message = outgoing.message();
        if !self.durable.is_on() || outgoing.topic.starts_with(b"$SYS/") {
            return self.shared.retained.set(message);
        }
        if message.payload().is_empty() {
            let topic = message.topic().into();
            self.durable.record(Operation::ClearRetained { topic });
            return Ok(());
        }
        // It will wait for receivers too.
        if !self.has_room_for(outgoing, 2) {
            let bytes_max = self.shared.config.limits.retained_bytes_max;
            return Err(RetainedFull::Bytes { bytes_max });
        }
        // Only the writer knows whether the topic is a new one: it keeps the limits.
        if let Some(origin) = outgoing.origin {
            self.durable
                .confirm(origin, Published::Retained(message.clone()));
        }
        let refusal = match (outgoing.refusal, outgoing.origin) {
            // The bridge would not be told.
            (Refusal::First, None) => Refusal::Never,
            // As its message for durable receivers: all of it is taken, or nothing.
            (refusal, _) if outgoing.header.qos == QoS::ExactlyOnce => refusal.max(Refusal::Last),
            (refusal, _) => refusal,
        };
        self.durable
            .record(Operation::SetRetained { message, refusal });
        Ok(())
    }

    /// `$delayed/seconds/topic`: kept until it is due.
    fn delay(&mut self, outgoing: &mut Outgoing<'_>, seconds: u32, now_ms: u64) -> ReasonCode {
        let limits = &self.shared.config.limits;
        if self.delayed.len() >= limits.delayed_messages_max || seconds > limits.delayed_seconds_max
        {
            return ReasonCode::QuotaExceeded;
        }
        let delay_ms = u64::from(seconds) * 1_000;
        let expires_at_ms = &mut outgoing.header.expires_at_ms;
        *expires_at_ms = expires_at_ms.map(|at_ms| at_ms + delay_ms);
        let due_at_ms = now_ms + delay_ms;
        let stored = self.durable.is_on().then(|| self.durable.next_id());
        if let Some(id) = stored {
            if self.shared.store.is_full() {
                return ReasonCode::QuotaExceeded;
            }
            if let Some(origin) = outgoing.origin {
                self.durable.confirm(origin, Published::Message(id));
            }
            self.durable.record(Operation::PutDelayed {
                id,
                due_at_ms,
                message: outgoing.message().to_keep(),
            });
        }
        self.delay_until(outgoing.message(), stored, due_at_ms);
        ReasonCode::Success
    }

    pub(super) fn delay_until(
        &mut self,
        message: Message,
        stored: Option<MessageId>,
        due_at_ms: u64,
    ) {
        let delayed = self.delayed.insert((message, stored));
        self.timers.add(due_at_ms, Timer::Delayed(delayed));
    }

    /// 3.x has no way to say no: the message is dropped and acknowledged [MQTT-3.3.5-2].
    fn refuse_publish(&mut self, key: Key, topic: &str, now_ms: u64) -> ReasonCode {
        if self.may_log(LogKind::NotAuthorized, now_ms) {
            let client_id = self.client_id_of(key);
            let peer = self.peer_of(key);
            tracing::info!(?client_id, %peer, ?topic, "publish not authorized");
        }
        self.metrics.messages_dropped.add(1);
        if self.is_v5(key) {
            ReasonCode::NotAuthorized
        } else {
            ReasonCode::Success
        }
    }
}
