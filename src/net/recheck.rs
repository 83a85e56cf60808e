//! Whether clients that are connected would still be let in, asked after each change.
//!
//! Owns the list of those that are still to be asked about; a turn of the shard asks about a few.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_rustls::rustls;

use super::connection::Link;
use super::driver::Driver;
use super::handshake::{Door, mount_point_of};
use crate::auth::Ground;
use crate::shard::{Key, Recheck};

/// Connections that were there when the doors changed.
#[derive(Default)]
pub(super) struct Rechecks {
    keys: VecDeque<Key>,
    /// To be told at the end.
    of: Option<Arc<Recheck>>,
}

/// Why a client is not let in any more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("anonymous clients are not allowed any more")]
    Anonymous,
    #[error("its certificate is not accepted any more: {0}")]
    Certificate(#[from] rustls::Error),
    #[error("certificates are not accepted any more")]
    Certificates,
    #[error("the user of a process is not accepted any more")]
    Process,
    #[error("it belongs to another namespace")]
    Namespace,
    #[error("its listener has another mount point")]
    MountPoint,
    #[error("what it logged in with is not accepted any more")]
    Proof,
}

impl Driver {
    /// Begins to ask about every connection. A recheck that has not ended is part of the new one.
    pub(super) fn begin_recheck(&self, recheck: &Arc<Recheck>) {
        let keys = self.links.borrow().keys().copied().collect();
        let of = Some(Arc::clone(recheck));
        self.rechecks.replace(Rechecks { keys, of });
    }

    pub(super) fn is_rechecking(&self) -> bool {
        self.rechecks.borrow().of.is_some()
    }

    /// Asks about as many connections as one turn may take.
    pub(super) fn recheck_some(&self, now_ms: u64) {
        if !self.is_rechecking() {
            return;
        }
        let mut cost = 0;
        while cost < COST_PER_TURN {
            let next = self.rechecks.borrow_mut().keys.pop_front();
            let Some(key) = next else {
                if let Some(recheck) = self.rechecks.borrow_mut().of.take() {
                    recheck.done.fetch_add(1, Ordering::Release);
                }
                return;
            };
            cost += self.ask_again(key, now_ms);
        }
    }

    /// Ends a connection that would not be let in now; answers what it took to find out.
    pub(super) fn ask_again(&self, key: Key, now_ms: u64) -> u32 {
        let Some(link) = self.links.borrow().get(&key).cloned() else {
            return 1;
        };
        let has_certificate = link.ground == Ground::Certificate;
        let door = Arc::clone(&link.door.read());
        let unix_ms = self.clock.calendar_unix_ms();
        let admitted = still_admits(&door, &link, unix_ms);
        if let Err(lost) = admitted.and_then(|()| self.is_in_its_namespace(key, &door, &link)) {
            let why = lost.to_string();
            self.shard.borrow_mut().turn_out(key, &why, now_ms);
            self.schedule_flush();
        }
        if has_certificate { CERTIFICATE_COST } else { 1 }
    }

    fn is_in_its_namespace(&self, key: Key, door: &Door, link: &Link) -> Result<(), Lost> {
        let shard = self.shard.borrow();
        let Some(subject) = shard.subject_of(key) else {
            return Ok(());
        };
        let mount_point = mount_point_of(door, subject.namespace.as_deref());
        if mount_point.as_deref() != shard.mount_point_of(key).as_deref() {
            return Err(Lost::MountPoint);
        }
        let may_be_proved = matches!(link.ground, Ground::Token(_) | Ground::Server);
        if may_be_proved && subject.namespace.is_some() {
            return Ok(());
        }
        let namespace = door.authenticator.namespaces().find(
            subject.user_name.as_deref(),
            subject.certificate.as_deref(),
            link.transport.borrow().certificate(),
        );
        let is_missing = namespace.is_none() && door.listener.namespace_required;
        if namespace != subject.namespace || is_missing {
            return Err(Lost::Namespace);
        }
        Ok(())
    }
}

fn still_admits(door: &Door, link: &Link, unix_ms: u64) -> Result<(), Lost> {
    let transport = link.transport.borrow();
    let certificates = transport.tls_session().map(|it| it.peer_certificates());
    if let Some(tls) = &door.tls {
        tls.still_accepts(certificates.flatten(), unix_ms)?;
    }
    let is_in_order = |way| door.order.contains(&way);
    let is_proved = link.ground.way().is_none_or(is_in_order);
    match link.ground {
        Ground::Nothing if !door.allows_anonymous(transport.peer()) => Err(Lost::Anonymous),
        Ground::Certificate if !door.asks_for_certificates() => Err(Lost::Certificates),
        Ground::Process if !door.listener.unix_peer_as_user => Err(Lost::Process),
        _ if !is_proved || !door.authenticator.still_has(link.ground) => Err(Lost::Proof),
        _ => Ok(()),
    }
}

/// What one turn may take: some milliseconds.
const COST_PER_TURN: u32 = 1_024;
/// Signatures are computed.
const CERTIFICATE_COST: u32 = 64;
