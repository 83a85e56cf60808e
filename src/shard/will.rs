//! Wills, keep-alive and the end of sessions.

use std::sync::Arc;

use tidewire_protocol::codec::{ReasonCode, Will, WillProperties};
use tidewire_protocol::session::keep_alive_deadline_ms;

use super::client::WillMessage;
use super::mount::mounted;
use super::publisher::is_told;
use super::rights::may_leave;
use super::timers::Timer;
use super::{Key, Mail, Shard, publisher_of};
use crate::message::{Header, Message};
use crate::store::Operation;

impl WillMessage {
    /// `topic` is that of the will, in the broker's tree, `forwarded` its properties; `sender` says
    /// whose it is.
    fn new(will: &Will<'_>, topic: &str, forwarded: &[u8], sender: Header) -> Self {
        let message = Message::new(
            topic,
            forwarded,
            will.payload,
            Header {
                qos: will.qos,
                retain: will.retain,
                ..sender
            },
        );
        Self {
            delay_seconds: will.properties.delay_seconds.unwrap_or(0),
            expiry_seconds: will.properties.message_expiry_seconds,
            message,
        }
    }

    /// The message as sent now: its expiry begins when it is published.
    fn publish_at(self, now_ms: u64) -> Message {
        let Some(seconds) = self.expiry_seconds else {
            return self.message;
        };
        let message = &self.message;
        Message::new(
            message.topic(),
            message.forwarded(),
            message.payload(),
            Header {
                expires_at_ms: Some(now_ms + u64::from(seconds) * 1_000),
                ..message.header()
            },
        )
    }
}

impl Shard {
    /// The connection is gone, or is about to: its session goes on without it or ends.
    pub(super) fn detach_session(&mut self, connection: Key, now_ms: u64) {
        let Some(key) = self
            .connections
            .lookup_mut(connection)
            .and_then(|it| it.session.take())
        else {
            return;
        };
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        session.connection = None;
        for delivery in &mut session.retained {
            delivery.pause();
        }
        let expiry_seconds = session.expiry_seconds;
        self.announce_presence(key, false);
        if expiry_seconds == 0 {
            self.end_session(key, now_ms);
            return;
        }
        self.schedule_will(key, now_ms);
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        if expiry_seconds != u32::MAX {
            let expires_at_ms = now_ms + u64::from(expiry_seconds) * 1_000;
            session.expires_at_ms = Some(expires_at_ms);
            self.timers.add(expires_at_ms, Timer::SessionExpiry(key));
            self.keep_session(key);
        }
    }

    /// Ends a session; its will is due at once [MQTT-3.1.2-8].
    pub(super) fn end_session(&mut self, key: Key, now_ms: u64) {
        self.publish_will(key, now_ms);
        let filters: Vec<Box<str>> = self
            .sessions
            .lookup(key)
            .map(|session| session.subscriptions.keys().map(Box::from).collect())
            .unwrap_or_default();
        let session = self.sessions.lookup_mut(key);
        let store = session.and_then(|session| session.store.take());
        for filter in filters {
            self.remove_subscription(key, &filter);
        }
        let Some(mut session) = self.sessions.remove(key) else {
            return;
        };
        self.end_lent(&mut session);
        if let Some(queue) = store {
            self.durable.record(Operation::RemoveSession { queue });
        }
        self.metrics.sessions.subtract(1);
        if !session.rights.is_everything() {
            self.shared.exchange.forget_rights(self.receiver(key));
        }
        if self.directory.get(&session.name) == Some(&key) {
            self.directory.remove(&session.name);
        }
    }

    pub(super) fn check_keep_alive(&mut self, key: Key, now_ms: u64) {
        let Some(connection) = self.connections.lookup(key) else {
            return;
        };
        // While nothing is read from a client that publishes too fast, its silence is ours.
        let heard_ms = connection.pace.heard_ms(connection.last_received_ms);
        let Some(deadline_ms) = keep_alive_deadline_ms(heard_ms, connection.keep_alive_seconds)
        else {
            return;
        };
        if deadline_ms > now_ms {
            self.timers.add(deadline_ms, Timer::KeepAlive(key));
        } else {
            self.disconnect(
                key,
                ReasonCode::KeepAliveTimeout,
                "keep-alive exceeded",
                now_ms,
            );
        }
    }

    pub(super) fn check_session_expiry(&mut self, key: Key, now_ms: u64) {
        let is_due = self
            .sessions
            .lookup(key)
            .and_then(|session| session.expires_at_ms)
            .is_some_and(|expires_at_ms| expires_at_ms <= now_ms);
        if is_due {
            self.metrics.sessions_expired.add(1);
            self.end_session(key, now_ms);
        }
    }

    pub(super) fn check_will(&mut self, key: Key, now_ms: u64) {
        let is_due = self
            .sessions
            .lookup(key)
            .and_then(|session| session.will_due_ms)
            .is_some_and(|due_ms| due_ms <= now_ms);
        if is_due {
            self.publish_will(key, now_ms);
        }
    }

    pub(super) fn announce_presence(&mut self, key: Key, is_connected: bool) {
        let receiver = self.receiver(key);
        let credit = self.group_credit(key);
        let Some(session) = self.sessions.lookup(key) else {
            return;
        };
        let groups: Vec<_> = session
            .subscriptions
            .values()
            .filter_map(|it| it.group)
            .collect();
        for (group, home) in groups {
            self.send_mail(
                home,
                Mail::GroupPresence {
                    group,
                    session: receiver,
                    credit,
                },
            );
            if !is_connected {
                self.give_back(key, group, home);
            }
        }
    }

    fn schedule_will(&mut self, key: Key, now_ms: u64) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        let Some(delay_seconds) = session.will.as_ref().map(|will| will.delay_seconds) else {
            return;
        };
        if delay_seconds == 0 {
            self.publish_will(key, now_ms);
            return;
        }
        let due_ms = now_ms + u64::from(delay_seconds) * 1_000;
        session.will_due_ms = Some(due_ms);
        self.timers.add(due_ms, Timer::Will(key));
        self.keep_will(key);
    }

    fn publish_will(&mut self, key: Key, now_ms: u64) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        session.will_due_ms = None;
        let Some(will) = session.will.take() else {
            return;
        };
        let (topic, retain) = (will.message.topic(), will.message.retain());
        if may_leave(&session.rights, topic, retain) {
            self.publish_message(&will.publish_at(now_ms), now_ms);
        } else {
            tracing::info!(client_id = ?session.client_id, ?topic, "will not authorized");
            self.metrics.messages_dropped.add(1);
        }
        self.keep_will(key);
    }

    /// The will of a CONNECT whose topic was found to exist.
    pub(super) fn will_of(&self, key: Key, will: Option<&Will<'_>>) -> Option<Box<WillMessage>> {
        let will = will?;
        let session = self.sessions.lookup(key)?;
        let topic = mounted(session.mount_point.as_deref(), will.topic).ok()?;
        let sender = Header {
            publisher: publisher_of(self.receiver(key)),
            client: session.client,
            ..Header::default()
        };
        let mut forwarded = Vec::new();
        let own = &will.properties;
        if is_told(&self.shared.config.mqtt) {
            self.with_publisher(Some(key), &own.user_properties, |user_properties| {
                let all = WillProperties {
                    user_properties,
                    ..own.clone()
                };
                all.encode_forwarded(&mut forwarded);
            });
        } else {
            own.encode_forwarded(&mut forwarded);
        }
        Some(Box::new(WillMessage::new(will, &topic, &forwarded, sender)))
    }

    /// The number of connections that are not closing.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Tells every client that the broker stops, for the driver to flush and close.
    pub fn shut_down(&mut self, now_ms: u64) {
        let reference = self.shared.config.mqtt.server_reference.is_some();
        let reason = if reference {
            ReasonCode::UseAnotherServer
        } else {
            ReasonCode::ServerShuttingDown
        };
        for key in self.connections.keys() {
            self.disconnect(key, reason, "server shutting down", now_ms);
        }
    }

    pub(super) fn peer_of(&self, key: Key) -> Arc<str> {
        self.connections
            .lookup(key)
            .map_or_else(|| Arc::from(""), |it| Arc::clone(&it.peer))
    }
}
