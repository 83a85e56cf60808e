//! Another configuration, applied to the sessions of a shard a slice at a time: clients are served
//! between two slices, and the reload answers after the last one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidewire_protocol::codec::ReasonCode;

use super::{Key, Reconfiguration, Shard};
use crate::auth::acl::{Rights, Subject};

/// What is still to be done for the last configuration.
#[derive(Debug, Default)]
pub(super) struct Pending {
    of: Option<Arc<Reconfiguration>>,
    is_new_acl: bool,
    /// Sessions to look at.
    sessions: Vec<Key>,
    /// The session at hand, and those of its filters that are not bound by its new rights.
    rebinding: Option<(Key, Vec<Box<str>>)>,
}

impl Shard {
    /// Goes on with another configuration. Clients stay unless their user is gone.
    pub(super) fn reconfigure(&mut self, new: &Arc<Reconfiguration>, now_ms: u64) {
        self.close_run();
        let pending = &mut self.pending;
        // One that is not applied to all yet goes on as part of this one.
        pending.is_new_acl &= pending.of.is_some();
        pending.is_new_acl |= !Arc::ptr_eq(&self.shared.acl, &new.shared.acl);
        pending.of = Some(Arc::clone(new));
        pending.sessions = self.sessions.keys();
        self.shared = Arc::clone(&new.shared);
        self.go_on_reconfiguring(now_ms);
    }

    pub(super) fn is_reconfiguring(&self) -> bool {
        self.pending.of.is_some()
    }

    /// Applies the configuration to as many sessions and subscriptions as one turn may take.
    pub(super) fn go_on_reconfiguring(&mut self, now_ms: u64) {
        if !self.is_reconfiguring() {
            return;
        }
        for _ in 0..STEPS_PER_TURN {
            if let Some((key, mut filters)) = self.pending.rebinding.take() {
                match filters.pop() {
                    Some(filter) => {
                        self.bind_anew(key, &filter);
                        self.pending.rebinding = Some((key, filters));
                    }
                    None => self.rights_are_bound(key, now_ms),
                }
            } else if let Some(key) = self.pending.sessions.pop() {
                self.reconfigure_session(key, now_ms);
            } else {
                if let Some(done) = self.pending.of.take() {
                    done.applied.fetch_add(1, Ordering::Release);
                }
                return;
            }
        }
    }

    fn reconfigure_session(&mut self, key: Key, now_ms: u64) {
        let Some(session) = self.sessions.lookup(key) else {
            return;
        };
        let subject = session.rights.subject().clone();
        let is_other = !self.is_known(&subject);
        let is_provisional = session.rights.is_provisional();
        let why = if self.is_gone(&subject) {
            self.begin_rights(key, Rights::nothing(subject));
            "the user is gone"
        } else {
            if self.pending.is_new_acl && !is_provisional {
                let rights = self.shared.acl.rights(subject);
                self.begin_rights(key, rights);
            }
            "the user has another password"
        };
        let connection = self.sessions.lookup(key).and_then(|it| it.connection);
        if let Some(connection) = connection.filter(|_| is_other) {
            self.disconnect(connection, ReasonCode::NotAuthorized, why, now_ms);
        }
    }

    /// Gives a session other rights, by which the next steps bind its subscriptions.
    fn begin_rights(&mut self, key: Key, rights: Rights) {
        let filters = self.replace_rights(key, Arc::new(rights));
        self.pending.rebinding = filters.map(|filters| (key, filters));
    }

    /// Whether the password file that proved a user name has it no longer.
    fn is_gone(&self, subject: &Subject) -> bool {
        let users = self.shared.users.as_ref();
        self.proved_user(subject)
            .is_some_and(|it| !users.is_some_and(|users| users.knows(it)))
    }
}

/// Sessions looked at and subscriptions bound in one turn: some milliseconds.
const STEPS_PER_TURN: usize = 512;
