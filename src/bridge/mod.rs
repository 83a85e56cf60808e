//! Bridges: our side of the connectors.
//!
//! Owns a thread with a runtime of its own, on which each bridge is one task: it maps topics,
//! passes messages on, acknowledges and reports. Where messages wait is the home shard's affair;
//! what the other broker speaks is the connector's. Both are reached by plain values: mail here,
//! records there.

#[cfg(feature = "amqp091")]
mod amqp091;
#[cfg(feature = "amqp10")]
mod amqp10;
mod arrivals;
mod backoff;
mod command;
mod conduct;
mod desk;
mod dial;
mod encrypted;
mod headers;
mod kinds;
mod letter;
mod loan;
mod map;
mod naming;
mod order;
mod parts;
mod place;
mod post;
mod prepare;
mod queues;
mod report;
#[cfg(feature = "rocketmq")]
mod rocketmq;
mod runner;
mod running;
mod settings;
#[cfg(feature = "kafka")]
mod tokens;
mod warnings;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::Bridge;
use crate::exchange::{BridgeId, ShardId};
use crate::net::handshake::random_bytes;
use crate::net::mailbox::Mailbox;
use crate::shard::{BridgeRequest, Mail, Shared};
use crate::store::{Awaited, Ticket};

use command::{Change, Command, Wish};
use desk::Desk;
pub use order::BridgeOrder;
use prepare::{Surroundings, bind, open, prepare, unbind};
use queues::Kept;
pub(crate) use queues::{BridgeQueues, restore_queues};
use running::Running;
pub(crate) use warnings::of as warnings_of;

/// The bridges of a broker.
#[derive(Debug)]
pub struct Bridges {
    surroundings: Surroundings,
    running: Vec<Running>,
    /// What the store has for bridges that are off.
    queues: BridgeQueues,
    next: u16,
    stop: watch::Sender<bool>,
    desk: Arc<Desk>,
    /// Begins with the first bridge.
    thread: Option<JoinHandle<()>>,
}

/// What another configuration asks for; nothing in it can fail any more.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    gone: Vec<String>,
    changed: Vec<(usize, Option<Change>)>,
    new: Vec<(BridgeId, Change)>,
}

/// Why a bridge cannot work as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bridge {bridge:?}: {problem}")]
pub struct BridgeError {
    /// Its name.
    pub bridge: String,
    /// What is wrong.
    pub problem: String,
}

/// Checks that a bridge is of a kind that is built, and the files that it needs: certificates and
/// keys.
///
/// # Errors
/// The first file that cannot be used.
pub fn check(bridge: &Bridge) -> Result<(), BridgeError> {
    kinds::check(bridge)?;
    dial::dial(bridge)?;
    #[cfg(feature = "kafka")]
    tokens::source(bridge)?;
    dial::credentials(bridge)
        .map(drop)
        .map_err(|failure| BridgeError {
            bridge: bridge.name.clone(),
            problem: failure.to_string(),
        })
}

/// A name for a node that was given none, or for a process.
pub fn node_name() -> String {
    let random: [u8; 8] = random_bytes();
    random
        .iter()
        .fold(String::new(), |name, byte| format!("{name}{byte:02x}"))
}

impl Bridges {
    /// Binds the queues and starts the bridges. To be called before the shards start, so that no
    /// message is missed.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        mailboxes: &Arc<[Mailbox]>,
        clock: Clock,
        queues: BridgeQueues,
    ) -> Result<Self, BridgeError> {
        let (stop, stopped) = watch::channel(false);
        let mut this = Self {
            surroundings: Surroundings {
                mailboxes: Arc::clone(mailboxes),
                clock,
                epoch: node_name(),
                stopped,
            },
            running: Vec::new(),
            queues,
            next: 0,
            stop,
            desk: Arc::default(),
            thread: None,
        };
        let left_over = this.queues.take_left_over();
        let configured = parts::all(&shared.config);
        for bridge in configured.iter().chain(&left_over).filter(|it| it.enabled) {
            let id = this.next_id(bridge)?;
            let kept = this.queues.take(&bridge.name);
            let change = prepare::change(id, bridge, shared, kept.is_some())?;
            this.run(id, change, kept.as_ref(), shared)?;
        }
        let first = this.running.len() - left_over.len();
        let drained = this.running.iter_mut().skip(first);
        drained.for_each(|it| it.be(Wish::Drain, shared));
        Ok(this)
    }

    /// What has to change for another configuration.
    ///
    /// # Errors
    /// The first bridge that cannot work; nothing has changed.
    pub(crate) fn plan(&mut self, shared: &Shared) -> Result<Plan, BridgeError> {
        let wanted = parts::all(&shared.config);
        let is_gone = |it: &&Running| {
            let name = &it.bridge.name;
            let is_wanted = wanted.iter().any(|new| new.name == *name);
            let is_left_over = parts::left_over(&shared.config, name).is_some();
            let stays = is_left_over && it.has_something_left();
            !is_wanted && !stays
        };
        let gone = self.running.iter().filter(is_gone);
        let mut plan = Plan {
            gone: gone.map(|it| it.bridge.name.clone()).collect(),
            ..Plan::default()
        };
        for bridge in &wanted {
            let at = self
                .running
                .iter()
                .position(|it| it.bridge.name == bridge.name);
            match at.and_then(|at| Some((at, self.running.get(at)?))) {
                Some((_, running)) if running.bridge == *bridge => {}
                Some((at, _)) if !bridge.enabled => plan.changed.push((at, None)),
                Some((at, running)) => {
                    running.check_connections(bridge)?;
                    let is_durable = running.store.is_some();
                    let change = prepare::change(running.id, bridge, shared, is_durable)?;
                    plan.changed.push((at, Some(change)));
                }
                None if bridge.enabled => {
                    let id = self.next_id(bridge)?;
                    let is_durable = shared.store.is_durable();
                    let change = prepare::change(id, bridge, shared, is_durable)?;
                    plan.new.push((id, change));
                }
                None => {}
            }
        }
        Ok(plan)
    }

    /// Carries out a plan; bridges that are not in it notice nothing.
    pub(crate) fn apply(&mut self, plan: Plan, shared: &Shared) -> Result<(), BridgeError> {
        for (at, change) in plan.changed {
            if let Some(running) = self.running.get_mut(at) {
                running.change(change, shared, &self.surroundings);
            }
        }
        for name in plan.gone {
            if let Some(at) = self.running.iter().position(|it| it.bridge.name == name) {
                let running = self.running.swap_remove(at);
                unbind(running.id, running.part(), &running.filters, shared);
                running.inbox.tell(Command::Remove);
            }
        }
        for (id, change) in plan.new {
            let kept = self.open_store(id, &change.bridge, shared)?;
            self.run(id, change, kept.as_ref(), shared)?;
        }
        Ok(())
    }

    fn next_id(&mut self, bridge: &Bridge) -> Result<BridgeId, BridgeError> {
        let id = BridgeId(self.next);
        self.next = self.next.checked_add(1).ok_or_else(|| BridgeError {
            bridge: bridge.name.clone(),
            problem: "is one too many since the start of the broker".to_owned(),
        })?;
        Ok(id)
    }

    /// Starts the task of a bridge whose queue is there, and binds it.
    fn run(
        &mut self,
        id: BridgeId,
        change: Change,
        kept: Option<&Kept>,
        shared: &Shared,
    ) -> Result<(), BridgeError> {
        let (bridge, filters) = (change.bridge.clone(), filters_of(&change));
        self.start_thread(shared)?;
        let (prepared, status) = prepare(id, change, shared, &self.surroundings, kept);
        let inbox = Arc::clone(&prepared.inbox);
        // Until its home shard counts: nobody is to believe that nothing waits.
        let waiting = kept.map_or(0, |it| it.waiting);
        status.metrics.queue_messages.set(waiting);
        // Before its home shard hears of it, which may have something for it at once.
        self.desk.put(prepared);
        self.surroundings
            .mail(id, shared, open(id, &bridge, &status));
        let store = kept.map(|it| it.queue);
        bind(id, parts::share_of(&bridge), &filters, shared, store);
        self.running.push(Running {
            id,
            bridge,
            filters,
            store,
            wish: Wish::Run,
            inbox,
            status,
        });
        Ok(())
    }

    fn start_thread(&mut self, shared: &Shared) -> Result<(), BridgeError> {
        if self.thread.is_some() {
            return Ok(());
        }
        let mailboxes = Arc::clone(&self.surroundings.mailboxes);
        let address = usize::from(shared.shards);
        let desk = Arc::clone(&self.desk);
        let thread = thread::Builder::new()
            .name("bridges".to_owned())
            .spawn(move || desk::run(&desk, &mailboxes, address));
        self.thread = Some(thread.map_err(|error| BridgeError {
            bridge: "all".to_owned(),
            problem: format!("cannot start a thread: {error}"),
        })?);
        Ok(())
    }

    /// The durable queue of a bridge that comes while shards run: theirs before anything is bound
    /// to it.
    fn open_store(
        &mut self,
        id: BridgeId,
        bridge: &Bridge,
        shared: &Shared,
    ) -> Result<Option<Kept>, BridgeError> {
        if !shared.store.is_durable() {
            return Ok(None);
        }
        let kept = self.queues.take(&bridge.name);
        let mut kept = kept.unwrap_or_else(|| {
            let (kept, put) = Kept::fresh(bridge, shared);
            let home = home_of(id, shared);
            // Before all that names the queue; nobody waits for this ticket.
            shared
                .store
                .submit(home, Ticket::default(), vec![put], Awaited::No);
            kept
        });
        let (done, is_done) = sync_channel(1);
        let request = BridgeRequest::Restore {
            queue: kept.queue,
            remains: std::mem::take(&mut kept.remains),
            done,
        };
        let mail = Mail::BridgeRequest {
            bridge: id,
            request,
        };
        self.surroundings.mail(id, shared, mail);
        match is_done.recv_timeout(SHARD_PATIENCE) {
            Ok(()) => Ok(Some(kept)),
            Err(_) => Err(BridgeError {
                bridge: bridge.name.clone(),
                problem: "cannot begin: its shard does not answer".to_owned(),
            }),
        }
    }
}

impl Surroundings {
    /// To the home shard of a bridge.
    fn mail(&self, id: BridgeId, shared: &Shared, mail: Mail) {
        let home = home_of(id, shared);
        if let Some(mailbox) = self.mailboxes.get(usize::from(home.0)) {
            mailbox.put(vec![mail]);
        }
    }
}

fn filters_of(change: &Change) -> Vec<String> {
    change.map.local_filters().map(str::to_owned).collect()
}

/// Says goodbye to the other brokers and waits until all bridges have ended.
impl Drop for Bridges {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.desk.close();
        let ended = self.thread.take().map(JoinHandle::join);
        if ended.is_some_and(|ended| ended.is_err()) {
            tracing::error!("the thread of the bridges panicked");
        }
    }
}

/// The shard where the queue of a bridge lives.
fn home_of(id: BridgeId, shared: &Shared) -> ShardId {
    ShardId(id.0 % shared.shards.max(1))
}

/// How long a shard has to take over a queue.
const SHARD_PATIENCE: Duration = Duration::from_secs(30);
