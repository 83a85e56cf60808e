//! What clients may do: asked where something is done, and applied anew when rules change.

use std::sync::Arc;

use tidewire_protocol::codec::{ReasonCode, Will};
use tidewire_protocol::topic::Subscribable;

use super::mount::mounted;
use super::subscribe::{ANY_LEVELS, mounted_of};
use super::timers::Timer;
use super::{Key, Shard, key_of};
use crate::auth::acl::{Action, Rights, Subject};
use crate::exchange::{Destination, Routes, Target};

/// Whether a will may be left: it is asked with CONNECT, and again when it is sent.
pub(super) fn may_leave(rights: &Rights, topic: &str, retain: bool) -> bool {
    rights.allows(Action::Will, topic) && (!retain || rights.allows(Action::Retain, topic))
}

/// The reason to refuse a CONNECT for its will.
pub(super) fn check_will(
    will: Option<&Will<'_>>,
    mount_point: Option<&str>,
    rights: &Rights,
) -> Result<(), ReasonCode> {
    let Some(will) = will else {
        return Ok(());
    };
    let topic = mounted(mount_point, will.topic)?;
    if may_leave(rights, &topic, will.retain) {
        Ok(())
    } else {
        Err(ReasonCode::NotAuthorized)
    }
}

/// Whether a subscription may be made; for a shared one its inner filter counts.
pub(super) fn may_subscribe(rights: &Rights, subscribable: Subscribable<'_>) -> bool {
    let filter = subscribable.filter().as_str();
    let is_shared = matches!(subscribable, Subscribable::Shared { .. });
    // What the broker says of itself is about all namespaces: only a rule opens it to one.
    let is_inside = rights.subject().namespace.is_some();
    if is_inside && rights.is_everything() && filter.starts_with("$SYS") {
        return false;
    }
    rights.allows_filter(Action::Subscribe, filter)
        && (!is_shared || rights.allows_filter(Action::Share, filter))
}

impl Shard {
    /// Whether the password file that proved a user name still has it, with the same password.
    pub(super) fn is_known(&self, subject: &Subject) -> bool {
        self.proved_user(subject).is_none_or(|user_name| {
            let users = self.shared.users.as_ref();
            users.is_some_and(|users| match subject.password_mark {
                Some(mark) => users.mark(user_name) == Some(mark),
                None => users.knows(user_name),
            })
        })
    }

    pub(super) fn proved_user<'s>(&self, subject: &'s Subject) -> Option<&'s str> {
        let user_name = subject.user_name.as_deref();
        user_name.filter(|_| subject.has_password)
    }

    /// Ends a connection that would not be let in any more. Its will is not sent; its session stays
    /// for who proves to be the same client.
    pub(crate) fn turn_out(&mut self, connection: Key, why: &str, now_ms: u64) {
        if let Some(key) = self.session_of(connection)
            && let Some(session) = self.sessions.lookup_mut(key)
            && session.will.take().is_some()
        {
            self.keep_will(key);
        }
        self.disconnect(connection, ReasonCode::NotAuthorized, why, now_ms);
    }

    /// Whom a connection belongs to.
    pub(crate) fn subject_of(&self, connection: Key) -> Option<&Subject> {
        let session = self.sessions.lookup(self.session_of(connection)?)?;
        Some(session.rights.subject())
    }

    /// Ends a connection whose proof has expired. Looks again within minutes, so that the timers of
    /// connections that are long gone do not pile up.
    pub(super) fn check_proof(&mut self, key: Key, now_ms: u64) {
        let connection = self.connections.lookup(key);
        let Some(expires_at_ms) = connection.and_then(|it| it.proof_expires_at_ms) else {
            return;
        };
        if expires_at_ms <= now_ms {
            let why = "the proof of the identity has expired";
            self.disconnect(key, ReasonCode::MaximumConnectTime, why, now_ms);
        } else {
            let due_ms = expires_at_ms.min(now_ms + PROOF_CHECK_MS);
            self.timers.add(due_ms, Timer::ProofExpiry(key));
        }
    }

    /// Whether the client of a connection may publish to the topic.
    pub(super) fn may_send(&self, key: Key, topic: &str, retain: bool) -> bool {
        let session = self.session_of(key).and_then(|it| self.sessions.lookup(it));
        session.is_some_and(|session| {
            let rights = &session.rights;
            // A topic that does not exist under the mount point is refused for that.
            mounted(session.mount_point.as_deref(), topic).map_or(true, |topic| {
                rights.allows(Action::Publish, &topic)
                    && (!retain || rights.allows(Action::Retain, &topic))
            })
        })
    }

    /// Gives a session other rights: subscriptions without a right end, the rest is bound anew.
    /// What waits is asked for when its turn comes.
    pub(super) fn set_rights(&mut self, key: Key, rights: Arc<Rights>, now_ms: u64) {
        if let Some(filters) = self.replace_rights(key, rights) {
            for filter in filters {
                self.bind_anew(key, &filter);
            }
            self.rights_are_bound(key, now_ms);
        }
    }

    /// Replaces the rights, and answers the filters that are to be bound by them; `None` if there
    /// is nothing to do.
    pub(super) fn replace_rights(
        &mut self,
        key: Key,
        rights: Arc<Rights>,
    ) -> Option<Vec<Box<str>>> {
        let session = self.sessions.lookup_mut(key)?;
        let before = std::mem::replace(&mut session.rights, rights);
        if before.are_same(&session.rights) {
            return None;
        }
        let filters = session.subscriptions.keys().map(Box::from).collect();
        let connection = session.connection;
        if let Some(connection) = connection.and_then(|key| self.connections.lookup_mut(key)) {
            connection.last_routes = None;
        }
        Some(filters)
    }

    /// All subscriptions of a session are bound by its rights.
    pub(super) fn rights_are_bound(&mut self, key: Key, now_ms: u64) {
        let Some(session) = self.sessions.lookup(key) else {
            return;
        };
        if session.rights.is_everything() {
            self.shared.exchange.forget_rights(self.receiver(key));
        }
        self.send_waiting(key, now_ms);
    }

    /// Binds a subscription by the rights of its session, or ends it.
    pub(super) fn bind_anew(&mut self, key: Key, filter: &str) {
        let Some(session) = self.sessions.lookup(key) else {
            return;
        };
        let Some(subscribed) = session.subscriptions.get(filter).copied() else {
            return;
        };
        let mount_point = session.mount_point.as_deref();
        let Ok(mounted) = mounted_of(mount_point, filter, ANY_LEVELS) else {
            return;
        };
        let Ok(parsed) = mounted.subscribable() else {
            return;
        };
        let version = session.version;
        if !may_subscribe(&session.rights, parsed) {
            tracing::info!(client_id = ?session.client_id, ?filter, "subscription revoked");
            self.remove_subscription(key, filter);
            return;
        }
        match parsed {
            Subscribable::Plain(filter) | Subscribable::Exclusive(filter) => {
                self.bind(key, filter, &subscribed, version);
            }
            Subscribable::Shared { filter, .. } => self.join(key, filter, &subscribed),
        }
    }

    /// Whether rights may have changed since these routes of another shard were looked up.
    pub(super) fn is_doubtful(&self, routes: &Routes) -> bool {
        (self.shared.acl.has_rules() || self.shared.config.auth.gives_rules())
            && !self.shared.exchange.is_current(routes)
    }

    /// Whether a receiver of routes from before may receive the topic now.
    pub(super) fn may_still_receive(&self, target: &Target, topic: &str) -> bool {
        match target.destination {
            Destination::Session(receiver) => self
                .sessions
                .lookup(key_of(receiver))
                .is_some_and(|session| session.rights.allows(Action::Receive, topic)),
            Destination::Group { .. } | Destination::Bridge { .. } => true,
        }
    }
}

/// Between two looks at a proof that holds.
const PROOF_CHECK_MS: u64 = 300_000;
