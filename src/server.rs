//! Ordered start and stop of everything.

mod accept;
mod reload;

use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle as Task, spawn_local};

use crate::auth::acl::{Acl, AclError};
use crate::auth::{
    Authenticator, HttpBackEnd, HttpBackEndError, KeyError, Known, PasswordFile, PasswordFileError,
    Tokens,
};
use crate::bridge;
use crate::bridge::{BridgeError, BridgeQueues, Bridges};
use crate::clock::Clock;
use crate::config::Config;
use crate::exchange::{Exchange, ShardId};
use crate::metrics::ShardMetrics;
use crate::net::connection;
use crate::net::door::{OpenDoor, OpenError, PlannedDoor, plan_doors};
use crate::net::driver::Driver;
use crate::net::handshake::Arrival;
use crate::net::mailbox::Mailbox;
use crate::net::room::Room;
use crate::prefix_limits::PrefixLimits;
use crate::retained::Retained;
use crate::shard::{Mail, Shard, Shared, client_id_of, home_of};
use crate::store::{Recovered, Report, Reports, Store, StoreError};
use crate::sys;
use accept::accept;
pub use reload::ReloadError;

/// A running broker.
#[derive(Debug)]
pub struct Server {
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    addresses: Vec<String>,
    metrics: Arc<[Arc<ShardMetrics>]>,
    bridges: Bridges,
    /// Closed after the shards have ended.
    store: Arc<Store>,
    /// The last owner: its threads end after the shards.
    authenticator: Arc<Authenticator>,
    clock: Clock,
    shared: Arc<Shared>,
    mailboxes: Arc<[Mailbox]>,
    doors: watch::Sender<Doors>,
    connections: Arc<Room>,
}

/// All open listeners.
type Doors = Arc<[Arc<OpenDoor>]>;

/// Where all shards are between start and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody accepts: a client may live on a shard that does not run yet.
    Starting,
    Serving,
    Stopping,
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be opened.
    #[error(transparent)]
    Listener(#[from] OpenError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The users cannot be read.
    #[error(transparent)]
    Users(#[from] PasswordFileError),
    /// The keys of tokens cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The authentication server cannot be asked.
    #[error(transparent)]
    Http(#[from] HttpBackEndError),
    /// A bridge is configured in a way that cannot work.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The rules cannot be used.
    #[error(transparent)]
    Acl(#[from] AclError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl Server {
    /// Opens all listeners and starts all shards.
    pub fn start(mut config: Config) -> Result<Self, StartError> {
        config.node.get_or_insert_with(bridge::node_name);
        let shard_count = shard_count(&config);
        let shards = usize::from(shard_count);
        let clock = Clock::start();
        let authenticator = authenticator(&config, clock, None)?;
        let acl = Acl::load(&config.acl)?;
        let planned = plan_doors(&config, &authenticator, clock, &[])?;
        let open: Doors = planned.into_iter().map(PlannedDoor::open).collect();
        let addresses = open.iter().map(|it| it.url()).collect();
        let (doors, doors_of_shards) = watch::channel(open);
        let limits = config.limits.clone();
        // One for each shard, and one after them for the bridges.
        let mailboxes: Arc<[Mailbox]> = (0..=shards)
            .map(|_| Mailbox::new(limits.mailbox_bytes_max))
            .collect();
        let reports = reports_into(&mailboxes);
        let (store, recovered) = Store::open(&config.store, clock, reports)?;
        let store = Arc::new(store);
        let users = authenticator.users().cloned();
        let shared = share(config, acl, users, &store);
        let metrics: Arc<[Arc<ShardMetrics>]> = (0..shards).map(|_| Arc::default()).collect();
        let mut restored = make_shards(&shared, &metrics);
        let queues = restore(&mut restored, &shared, recovered, clock.now_ms());
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..shards).map(|_| mpsc::channel(ARRIVALS_MAX)).unzip();
        let (phase, phases) = watch::channel(Phase::Starting);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let connections = Arc::new(Room::new(limits.connections_max));
        let bridges = Bridges::start(&shared, &mailboxes, clock, queues)?;
        let mut threads = Vec::new();
        for (shard, arrivals) in restored.into_iter().zip(receivers) {
            let number = shard.id().0;
            let thread = ShardThread {
                shard,
                clock,
                mailboxes: Arc::clone(&mailboxes),
                metrics: Arc::clone(&metrics),
                shared: Arc::clone(&shared),
                doors: doors_of_shards.clone(),
                homes: senders.clone(),
                arrivals,
                connections: Arc::clone(&connections),
                ready: ready.clone(),
                phases: phases.clone(),
            };
            let builder = thread::Builder::new().name(format!("shard-{number}"));
            threads.push(builder.spawn(move || thread.run())?);
        }
        drop(ready);
        for _ in &threads {
            is_ready.recv().map_err(io::Error::other)??;
        }
        phase.send_replace(Phase::Serving);
        Ok(Self {
            phase,
            threads,
            addresses,
            metrics,
            bridges,
            store,
            authenticator,
            clock,
            shared,
            mailboxes,
            doors,
            connections,
        })
    }

    /// Where the broker listens, as URLs.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// What each shard has counted.
    pub fn metrics(&self) -> &[Arc<ShardMetrics>] {
        &self.metrics
    }

    /// Says goodbye to all clients and waits until everything has ended.
    pub fn stop(self) -> io::Result<()> {
        // First: what they acknowledge still finds its shard.
        drop(self.bridges);
        self.phase.send_replace(Phase::Stopping);
        // Nobody waits for a broker that stops; the files of unix sockets go last.
        let open = self.doors.send_replace(Arc::default());
        let files: Vec<_> = open.iter().map(|it| it.take_socket_file()).collect();
        drop(open);
        for thread in self.threads {
            thread
                .join()
                .map_err(|_| io::Error::other("a shard panicked"))??;
        }
        self.store.close();
        drop(self.authenticator);
        drop(files);
        Ok(())
    }
}

fn share(
    config: Config,
    acl: Acl,
    users: Option<Arc<PasswordFile>>,
    store: &Arc<Store>,
) -> Arc<Shared> {
    let shards = shard_count(&config);
    let shared = Arc::new(Shared {
        acl: Arc::new(acl),
        users,
        exchange: Arc::new(Exchange::new()),
        retained: Arc::new(Retained::new()),
        store: Arc::clone(store),
        census: Arc::default(),
        shards,
        config,
    });
    limit_retained(&shared);
    shared
}

/// How much may be retained, in all and in the namespaces of the configuration.
fn limit_retained(shared: &Shared) {
    let all = &shared.config.limits;
    let listeners = &shared.config.listeners;
    let mount_points = listeners.iter().filter_map(|it| it.mount_point.as_deref());
    let mount_points: BTreeSet<&str> = mount_points.chain([""]).collect();
    let limits = shared.config.auth.namespaces.iter().flat_map(|namespace| {
        let limit_below = |mount_point: &&str| {
            let count_max = namespace.retained_messages_max?;
            Some((
                format!("{mount_point}{}/", namespace.name),
                count_max.into(),
            ))
        };
        mount_points.iter().filter_map(limit_below)
    });
    let limits = PrefixLimits::new(limits);
    let (count_max, bytes_max) = (all.retained_messages_max, all.retained_bytes_max);
    shared.retained.limit(count_max, bytes_max, limits.clone());
    shared.store.limit_retained(count_max, bytes_max, limits);
}

/// What the store says goes into the mailbox of the shard that it concerns.
fn reports_into(mailboxes: &Arc<[Mailbox]>) -> Reports {
    let mailboxes = Arc::clone(mailboxes);
    Reports::new(move |shard, report| {
        if let Report::Failed { error } = &report {
            // Memory and disk may not part.
            tracing::error!(%error, "the store has failed; start again after mending the cause");
            std::process::exit(STORE_FAILED_STATUS);
        }
        if let Some(mailbox) = mailboxes.get(usize::from(shard.0)) {
            match report {
                Report::Committed {
                    is_awaited: false, ..
                }
                | Report::Spent(_) => mailbox.put_quietly(Mail::Store(report)),
                report => {
                    mailbox.put(vec![Mail::Store(report)]);
                }
            }
        }
    })
}

fn make_shards(shared: &Arc<Shared>, metrics: &[Arc<ShardMetrics>]) -> Vec<Shard> {
    (0..shared.shards)
        .zip(metrics)
        .map(|(number, own)| Shard::new(ShardId(number), Arc::clone(shared), Arc::clone(own)))
        .collect()
}

/// Gives the shards what an earlier process has left, before anybody can connect.
fn restore(
    shards: &mut [Shard],
    shared: &Shared,
    mut recovered: Recovered,
    now_ms: u64,
) -> BridgeQueues {
    let bridges = bridge::restore_queues(shards, shared, &mut recovered, now_ms);
    let mut names = Vec::new();
    for group in recovered.named_queues {
        let exchange = &shared.exchange;
        let (id, home) = exchange.restore_group(&group.name, shared.shards, group.queue);
        names.push((group.name.clone(), id, group.queue, home));
        if let Some(shard) = shards.get_mut(usize::from(home.0)) {
            shard.restore_group(id, group, now_ms);
        }
    }
    let count = shards.len();
    for session in recovered.sessions {
        let home = home_of(client_id_of(&session.session.client_id), count);
        if let Some(shard) = shards.get_mut(home) {
            shard.restore_session(session, now_ms);
        }
    }
    for (name, id, queue, home) in names {
        if shared.exchange.end_empty_group(&name)
            && let Some(shard) = shards.get_mut(usize::from(home.0))
        {
            shard.drop_group(id, queue);
        }
    }
    for delayed in recovered.delayed {
        if let Some(shard) = shards.first_mut() {
            shard.restore_delayed(&delayed);
        }
    }
    bridges
}

fn authenticator(
    config: &Config,
    clock: Clock,
    before: Option<&Authenticator>,
) -> Result<Arc<Authenticator>, StartError> {
    let users = config.auth.password_file.as_deref();
    let tokens_before = before.and_then(Authenticator::tokens);
    let known = Known {
        users: users.map(PasswordFile::read).transpose()?.map(Arc::new),
        tokens: Tokens::open(&config.auth.jwt, clock, tokens_before)?.map(Arc::new),
        http: HttpBackEnd::new(&config.auth.http, clock)?.map(Arc::new),
    };
    let authenticator = Authenticator::start(known, &config.auth, &config.limits, clock, before)?;
    Ok(Arc::new(authenticator))
}

/// Everything one shard's thread begins with.
struct ShardThread {
    shard: Shard,
    clock: Clock,
    mailboxes: Arc<[Mailbox]>,
    metrics: Arc<[Arc<ShardMetrics>]>,
    shared: Arc<Shared>,
    doors: watch::Receiver<Doors>,
    homes: Vec<mpsc::Sender<Arrival>>,
    arrivals: mpsc::Receiver<Arrival>,
    connections: Arc<Room>,
    /// Told once whether the thread can serve.
    ready: std::sync::mpsc::Sender<io::Result<()>>,
    phases: watch::Receiver<Phase>,
}

impl ShardThread {
    fn run(self) -> io::Result<()> {
        let built = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => {
                // Whoever starts the broker reports it.
                let _ = self.ready.send(Err(error));
                return Ok(());
            }
        };
        // Should the start fail elsewhere, `serve` ends at once.
        let _ = self.ready.send(Ok(()));
        runtime.block_on(self.serve())
    }

    async fn serve(mut self) -> io::Result<()> {
        let is_started = |phase: &Phase| *phase != Phase::Starting;
        if self.phases.wait_for(is_started).await.is_err() {
            return Ok(());
        }
        let is_first = self.shard.id() == ShardId(0);
        let store = Arc::clone(&self.shared.store);
        let driver = Rc::new(Driver::new(self.shard, self.clock, self.mailboxes, store));
        // What has expired over the downtime ends before anybody connects.
        driver.flush();
        let flushing = spawn_local({
            let driver = Rc::clone(&driver);
            async move { driver.run().await }
        });
        let mut accepting = Accepting {
            driver: Rc::clone(&driver),
            homes: self.homes,
            connections: self.connections,
            tasks: Vec::new(),
        };
        accepting.update(&self.doors.borrow_and_update().clone());
        let is_publishing = is_first && self.shared.config.sys_interval_seconds > 0;
        let publishing = is_publishing
            .then(|| spawn_local(sys::run(Rc::clone(&driver), self.shared, self.metrics)));
        loop {
            // Cancel safe: all keep what they did not hand out.
            tokio::select! {
                arrival = self.arrivals.recv() => {
                    let Some(arrival) = arrival else { break };
                    connection::start(&driver, arrival);
                }
                Ok(()) = self.doors.changed() => {
                    accepting.update(&self.doors.borrow_and_update().clone());
                }
                _ = self.phases.wait_for(|phase| *phase == Phase::Stopping) => break,
            }
        }
        accepting.update(&[]);
        if let Some(publishing) = publishing {
            publishing.abort();
        }
        stop_clients(&driver).await;
        flushing.abort();
        Ok(())
    }
}

/// The tasks of one shard that accept, one for each listener.
struct Accepting {
    driver: Rc<Driver>,
    homes: Vec<mpsc::Sender<Arrival>>,
    connections: Arc<Room>,
    tasks: Vec<(Arc<OpenDoor>, Task<()>)>,
}

impl Accepting {
    /// Ends the tasks of listeners that are gone, and begins those of new ones.
    fn update(&mut self, doors: &[Arc<OpenDoor>]) {
        self.tasks.retain(|(open, task)| {
            let stays = doors.iter().any(|it| Arc::ptr_eq(it, open));
            if !stays {
                task.abort();
            }
            stays
        });
        for door in doors {
            if self.tasks.iter().any(|(open, _)| Arc::ptr_eq(open, door)) {
                continue;
            }
            let homes = self.homes.clone();
            let connections = Arc::clone(&self.connections);
            let driver = Rc::clone(&self.driver);
            let task = spawn_local(accept(driver, Arc::clone(door), homes, connections));
            self.tasks.push((Arc::clone(door), task));
        }
    }
}

fn shard_count(config: &Config) -> u16 {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    match config.shards {
        0 => u16::try_from(cores().min(SHARDS_BY_CORES_MAX)).unwrap_or(1),
        shards => shards,
    }
}

/// DISCONNECT to everyone, then time to write it.
async fn stop_clients(driver: &Driver) {
    driver.shard.borrow_mut().shut_down(driver.clock.now_ms());
    driver.flush();
    let seconds = driver.shutdown_seconds();
    let step = Duration::from_millis(10);
    for _ in 0..u64::from(seconds) * 100 {
        if driver.shard.borrow().connection_count() == 0 {
            break;
        }
        tokio::time::sleep(step).await;
    }
    // What the last connections have left is to be kept.
    driver.shard.borrow_mut().keep_all_in_flight();
    driver.flush();
}

/// The process ends with this when the store fails.
const STORE_FAILED_STATUS: i32 = 3;
/// Shards when the number of cores decides.
const SHARDS_BY_CORES_MAX: usize = 256;
/// Connections between accepting and home shard.
const ARRIVALS_MAX: usize = 1_024;
