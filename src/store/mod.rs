//! Everything durable: an acknowledgement never leaves before the commit that makes it true.
//!
//! Owns the files, one thread that writes and one that reads back. A shard hands in [`Operation`]s
//! and is told by a [`Report`] when they are on disk; it never touches a page. Connections, packets
//! and routes are unknown here. `docs/architecture.md` says what the rows are and why.

mod batch;
mod bytes;
mod changes;
mod commit;
mod creation;
mod directory;
mod disk_reserve;
mod environment;
mod error;
mod few;
mod id;
mod inbox;
mod index;
mod key;
mod operation;
mod operations;
mod pages;
mod pending;
mod places;
mod prefixes;
mod prompt;
mod reader;
mod recovery;
mod report;
mod row;
mod seek;
pub mod tools;
mod waiters;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

pub use error::StoreError;
pub use few::Few;
pub use id::{Lane, MessageId, MessageIds, QueueId};
pub use operation::{
    InFlightRecord, Operation, Receiver, Refusable, Refusal, SessionRecord, SubscriptionRecord,
    WillRecord,
};
pub use operations::Operations;
pub use pending::patience_us;
pub use recovery::{
    Recovered, RecoveredDelayed, RecoveredMessage, RecoveredQueue, RecoveredSession,
};
pub use report::{Awaited, Load, Loaded, Report, Reports, RequestId, RetainedPlace, Ticket};

use commit::{RetainedLimits, RetainedMax};
use disk_reserve::DiskReserve;
use environment::{Environment, Presence};
use id::IdCounters;
use inbox::{Asked, Gauges, Inbox, Overlay};
use pending::{Pending, Submitted};
use reader::Reader;
use recovery::{Recovery, recover};
use waiters::answer;
use writer::Writer;

use crate::clock::Clock;
use crate::config::{StoreConfig, StoreEngine};
use crate::exchange::ShardId;
use crate::prefix_limits::PrefixLimits;

/// The store of a broker, shared by all shards.
#[derive(Debug)]
pub struct Store {
    reports: Reports,
    ids: Arc<IdCounters>,
    durable: Option<Durable>,
}

/// What there is besides with the engine `lmdb`.
#[derive(Debug)]
struct Durable {
    pending: Arc<Pending>,
    questions: Arc<Inbox>,
    overlay: Arc<Mutex<Overlay>>,
    gauges: Arc<Gauges>,
    new_limits: Arc<Mutex<Option<RetainedLimits>>>,
    pending_bytes_max: usize,
    reserve_bytes: u64,
    environment: Mutex<Option<Arc<Environment>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The state of a store, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether durable publishes are refused.
    pub is_full: bool,
    /// Whether what is left is for deletes.
    pub is_exhausted: bool,
    /// Transactions committed since the start.
    pub commits: u64,
    /// Operations taken since the start.
    pub operations: u64,
    /// Bytes that wait for a commit.
    pub pending_bytes: usize,
    /// Time spent in commits, in microseconds.
    pub commit_us_total: u64,
    /// The longest commit, in microseconds.
    pub commit_us_max: u64,
    /// Bytes of the pages in use.
    pub used_bytes: u64,
    /// Retained messages on disk.
    pub retained_count: u64,
    /// Their bytes on disk.
    pub retained_bytes: u64,
}

impl Store {
    /// A store that keeps nothing.
    pub fn memory() -> Self {
        Self::volatile(Reports::new(|_, _| {}))
    }

    fn volatile(reports: Reports) -> Self {
        Self {
            reports,
            ids: Arc::new(IdCounters::new(0, 0)),
            durable: None,
        }
    }

    /// Opens the store that the configuration names and reads what it holds. What is retained has
    /// no limits until [`Store::limit_retained`] sets them.
    ///
    /// # Errors
    /// Anything that keeps it from being sure of what it holds; nothing is changed then.
    pub fn open(
        config: &StoreConfig,
        clock: Clock,
        reports: Reports,
    ) -> Result<(Self, Recovered), StoreError> {
        if config.engine == StoreEngine::Memory {
            return Ok((Self::volatile(reports), Recovered::default()));
        }
        let map_bytes = config.map_bytes_max;
        let environment = Environment::open_flushing(
            &config.directory,
            map_bytes,
            Presence::Create,
            config.flushes,
        )?;
        let recovery = match recover(&environment, clock) {
            Ok(recovery) => recovery,
            Err(error) => {
                drop(environment.close());
                return Err(error);
            }
        };
        tell(&recovery.recovered, &config.directory, clock);
        Self::start(config, clock, reports, environment, recovery)
    }

    /// Starts the threads on what was read.
    fn start(
        config: &StoreConfig,
        clock: Clock,
        reports: Reports,
        environment: Environment,
        recovery: Recovery,
    ) -> Result<(Self, Recovered), StoreError> {
        let Recovery {
            recovered,
            index,
            totals,
            ..
        } = recovery;
        let ids = Arc::new(IdCounters::new(totals.sequence, totals.queue));
        let environment = Arc::new(environment);
        let durable = Durable::new(config, clock, Arc::clone(&environment));
        let mut writer = Writer {
            disk_reserve: DiskReserve::of(environment.path()),
            environment: Arc::clone(&environment),
            pending: Arc::clone(&durable.pending),
            gauges: Arc::clone(&durable.gauges),
            overlay: Arc::clone(&durable.overlay),
            reports: reports.clone(),
            config: config.clone(),
            retained_max: RetainedMax::UNLIMITED,
            prefixes: PrefixLimits::default(),
            new_limits: Arc::clone(&durable.new_limits),
            clock,
            index,
            totals,
            scratch: Vec::new(),
            last_start_us: None,
            expected: 0,
            sweep_unix_ms: None,
        };
        let reader = Reader {
            environment,
            inbox: Arc::clone(&durable.questions),
            overlay: Arc::clone(&durable.overlay),
            reports: reports.clone(),
            epoch: clock.epoch(),
        };
        writer.measure_room_at_start();
        durable.start("store-writer", move || writer.run())?;
        durable.start("store-reader", move || reader.run())?;
        let store = Self {
            reports,
            ids,
            durable: Some(durable),
        };
        Ok((store, recovered))
    }

    /// Whether anything survives the process. If not, there is no need to submit.
    pub fn is_durable(&self) -> bool {
        self.durable.is_some()
    }

    /// The identifiers of one lane; each lane has one owner.
    pub fn message_ids(&self, lane: Lane) -> MessageIds {
        self.ids.lane(lane)
    }

    /// A name for a new queue.
    pub fn next_queue(&self) -> QueueId {
        self.ids.next_queue()
    }

    /// Hands in what a shard did, in order. A report says when it is on disk; in memory, at once.
    ///
    /// Mail that a shard sends about these operations must be sent after this call.
    pub fn submit(
        &self,
        shard: ShardId,
        ticket: Ticket,
        operations: impl Into<Operations>,
        awaited: Awaited,
    ) {
        let Some(durable) = &self.durable else {
            let is_awaited = true;
            self.reports
                .send(shard, Report::Committed { ticket, is_awaited });
            return;
        };
        let operations = operations.into();
        let bytes = operations.bytes();
        durable
            .gauges
            .pending_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        // Held over `put`: the overlay sees changes in the order in which they are committed.
        let overlay = operations.changes_retained().then(|| {
            let mut overlay = durable.overlay.lock();
            overlay.add(operations.as_slice());
            overlay
        });
        let answers = durable.pending.put(Submitted {
            shard,
            ticket,
            operations,
            bytes,
            version: overlay.as_ref().map_or(0, |it| it.version()),
            urgent: 0,
            awaited,
        });
        drop(overlay);
        if !answers.is_empty() {
            answer(answers, &durable.gauges, &self.reports);
        }
    }

    /// Asks for something to be read; a report answers. In memory there is nothing to read.
    pub fn load(&self, shard: ShardId, request: RequestId, load: Load) {
        if let Some(durable) = &self.durable {
            let asked = Asked {
                shard,
                request,
                load,
            };
            durable.questions.put(asked);
            return;
        }
        let report = match load {
            Load::Messages { .. } => Report::Loaded {
                request,
                messages: Vec::new(),
            },
            Load::Retained { .. } => Report::Retained {
                request,
                messages: Vec::new(),
                next: None,
            },
        };
        self.reports.send(shard, report);
    }

    /// Whether durable publishes have to be refused with 0x97; deletes and settlements go on.
    pub fn is_full(&self) -> bool {
        self.durable
            .as_ref()
            .is_some_and(|it| it.gauges.is_full.load(Ordering::Relaxed))
    }

    /// Whether a message finds a place behind others that are about to be submitted, as far as
    /// anybody knows before it is written.
    pub fn has_room_for(&self, bytes: usize, others_bytes: usize, refusal: Refusal) -> bool {
        self.durable.as_ref().is_none_or(|it| {
            let (gauges, relaxed) = (&it.gauges, Ordering::Relaxed);
            let all_bytes = (gauges.pending_bytes.load(relaxed) + others_bytes + bytes) as u64;
            // Pages side by side are only sure to be found where the file grows.
            let fits = refusal != Refusal::Never
                || bytes as u64 <= it.reserve_bytes
                    && all_bytes <= gauges.growth_bytes.load(relaxed);
            fits && !gauges.is_full.load(relaxed) && all_bytes <= gauges.room_bytes.load(relaxed)
        })
    }

    /// Whether what is left is for deletes: nothing that grows may begin.
    pub fn is_exhausted(&self) -> bool {
        self.durable
            .as_ref()
            .is_some_and(|it| it.gauges.is_exhausted.load(Ordering::Relaxed))
    }

    /// Whether so much waits that publishers have to wait too.
    pub fn is_congested(&self) -> bool {
        self.durable.as_ref().is_some_and(|it| {
            it.gauges.pending_bytes.load(Ordering::Relaxed) >= it.pending_bytes_max
        })
    }

    /// Limits what is retained, in all and below some prefixes of topics, from the next commit on.
    /// What is there stays.
    pub fn limit_retained(&self, count_max: usize, bytes_max: usize, prefixes: PrefixLimits) {
        if let Some(durable) = &self.durable {
            let all = RetainedMax {
                count: count_max as u64,
                bytes: bytes_max as u64,
            };
            *durable.new_limits.lock() = Some(RetainedLimits { all, prefixes });
        }
    }

    /// The state of the store.
    pub fn status(&self) -> Status {
        let Some(durable) = &self.durable else {
            return Status::default();
        };
        let relaxed = Ordering::Relaxed;
        let gauges = &durable.gauges;
        Status {
            is_full: gauges.is_full.load(relaxed),
            is_exhausted: gauges.is_exhausted.load(relaxed),
            commits: gauges.commits.load(relaxed),
            operations: gauges.operations.load(relaxed),
            pending_bytes: gauges.pending_bytes.load(relaxed),
            commit_us_total: gauges.commit_us_total.load(relaxed),
            commit_us_max: gauges.commit_us_max.load(relaxed),
            used_bytes: gauges.used_bytes.load(relaxed),
            retained_count: gauges.retained_count.load(relaxed),
            retained_bytes: gauges.retained_bytes.load(relaxed),
        }
    }

    /// Commits what was submitted, ends the threads and closes the files.
    pub fn close(&self) {
        if let Some(durable) = &self.durable {
            durable.close();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl Durable {
    fn new(config: &StoreConfig, clock: Clock, environment: Arc<Environment>) -> Self {
        let pending = Pending::new(clock, config.commit_interval_milliseconds);
        Self {
            pending: Arc::new(pending),
            questions: Arc::default(),
            overlay: Arc::default(),
            gauges: Arc::default(),
            new_limits: Arc::default(),
            pending_bytes_max: config.pending_bytes_max,
            reserve_bytes: environment.reserve_bytes(),
            environment: Mutex::new(Some(environment)),
            threads: Mutex::default(),
        }
    }

    fn start(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
        let thread = thread::Builder::new().name(name.into()).spawn(run);
        self.threads
            .lock()
            .push(thread.map_err(StoreError::Thread)?);
        Ok(())
    }

    fn close(&self) {
        self.questions.close();
        self.pending.close();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        let environment = self.environment.lock().take().and_then(Arc::into_inner);
        if let Some(environment) = environment {
            // The lock file is freed after the data file is closed.
            drop(environment.close());
        }
    }
}

fn tell(recovered: &Recovered, directory: &Path, clock: Clock) {
    let waiting: usize = recovered.sessions.iter().map(|it| it.waiting.len()).sum();
    let in_named: usize = recovered
        .named_queues
        .iter()
        .map(|it| it.waiting.len())
        .sum();
    tracing::info!(
        directory = %directory.display(),
        sessions = recovered.sessions.len(),
        named_queues = recovered.named_queues.len(),
        waiting = waiting + in_named,
        retained = recovered.retained_count,
        delayed = recovered.delayed.len(),
        milliseconds = clock.now_ms(),
        "store is open"
    );
}
