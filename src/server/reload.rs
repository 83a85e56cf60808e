//! Another configuration for a running broker: all of it, or nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use super::{Doors, Server, StartError, authenticator, limit_retained};
use crate::auth::acl::Acl;
use crate::bridge::{BridgeError, BridgeOrder};
use crate::config::{Config, ConfigError};
use crate::net::door::{PlannedDoor, plan_doors};
use crate::shard::{Mail, Recheck, Reconfiguration, Shared};

/// Why a running broker keeps its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or a listener is wrong.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A shard does not answer.
    #[error("the new configuration is given to all shards, but not all have applied it in time")]
    Late,
}

impl Server {
    /// Goes on with another configuration: certificates, users, rules, limits, listeners
    /// and bridges. Answers the keys that wait for the next start.
    ///
    /// # Errors
    /// Nothing has changed, except for [`ReloadError::Late`].
    pub fn reload(&mut self, mut config: Config) -> Result<Vec<&'static str>, ReloadError> {
        let waiting = keep_fixed(&self.shared.config, &mut config);
        // What can fail comes first.
        let before = &self.shared;
        let authenticator = authenticator(&config, self.clock, Some(&self.authenticator))?;
        let acl = Acl::load(&config.acl).map_err(StartError::from)?;
        let open = self.doors.borrow().clone();
        let planned = plan_doors(&config, &authenticator, self.clock, &open);
        let planned = planned.map_err(StartError::from)?;
        let shared = Arc::new(Shared {
            acl: if acl.is_same(&before.acl) {
                Arc::clone(&before.acl)
            } else {
                Arc::new(acl)
            },
            users: authenticator.users().cloned(),
            exchange: Arc::clone(&before.exchange),
            retained: Arc::clone(&before.retained),
            store: Arc::clone(&before.store),
            census: Arc::clone(&before.census),
            shards: before.shards,
            config,
        });
        let plan = self.bridges.plan(&shared).map_err(StartError::from)?;
        self.shared = Arc::clone(&shared);
        limit_retained(&shared);
        self.connections.limit(shared.config.limits.connections_max);
        self.authenticator = authenticator;
        let news = Arc::new(Reconfiguration {
            shared: Arc::clone(&shared),
            applied: AtomicU16::new(0),
        });
        for mailbox in self.mailboxes.iter() {
            mailbox.put(vec![Mail::Reconfigure(Arc::clone(&news))]);
        }
        // Before somebody comes by what is new, shards know it.
        let applied = self.await_shards(&news.applied);
        let doors: Doors = planned.into_iter().map(PlannedDoor::open).collect();
        self.addresses = doors.iter().map(|it| it.url()).collect();
        self.doors.send_replace(doors);
        let recheck = Arc::new(Recheck::default());
        for mailbox in self.mailboxes.iter().take(usize::from(self.shared.shards)) {
            mailbox.put(vec![Mail::Recheck(Arc::clone(&recheck))]);
        }
        applied?;
        self.await_shards(&recheck.done)?;
        let applied = self.bridges.apply(plan, &shared);
        applied.map_err(StartError::from)?;
        Ok(waiting)
    }

    /// Carries out what an operator asks of a bridge; answers its state as JSON.
    ///
    /// # Errors
    /// There is no such bridge, or it is off.
    pub fn order_bridge(&mut self, name: &str, order: BridgeOrder) -> Result<String, BridgeError> {
        self.bridges.order(name, order, &self.shared)
    }

    fn await_shards(&self, count: &AtomicU16) -> Result<(), ReloadError> {
        for _ in 0..APPLY_STEPS {
            if count.load(Ordering::Acquire) == self.shared.shards {
                return Ok(());
            }
            thread::sleep(APPLY_STEP);
        }
        Err(ReloadError::Late)
    }
}

/// Puts back what a running broker cannot change, and answers which keys those are.
fn keep_fixed(old: &Config, new: &mut Config) -> Vec<&'static str> {
    let mut waiting = Vec::new();
    // A name made at the start stays.
    if new.node.is_none() {
        new.node.clone_from(&old.node);
    }
    macro_rules! fixed {
        ($($key:literal $($field:ident).+;)*) => {$(
            if new.$($field).+ != old.$($field).+ {
                new.$($field).+.clone_from(&old.$($field).+);
                waiting.push($key);
            }
        )*};
    }
    fixed! {
        "node" node;
        "shards" shards;
        "pid_file" pid_file;
        "control_socket" control_socket;
        "watch_files_seconds" watch_files_seconds;
        "sys_interval_seconds" sys_interval_seconds;
        "store" store;
        "log" log;
        "auth.hashing_threads" auth.hashing_threads;
        "auth.http.requests_max" auth.http.requests_max;
        "limits.logins_waiting_max" limits.logins_waiting_max;
        "limits.mailbox_bytes_max" limits.mailbox_bytes_max;
    }
    waiting
}

const APPLY_STEP: Duration = Duration::from_millis(1);
const APPLY_STEPS: u32 = 120_000;
