//! The one thread that writes: takes what waits, commits it, and tells who waited.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use heed::MdbError;
use parking_lot::Mutex;
use rustix::io::Errno;

use super::batch::{Batch, Prepared};
use super::changes::NewRetained;
use super::commit::{Commit, Committed, RetainedLimits, RetainedMax, Room, Totals, is_full};
use super::disk_reserve::DiskReserve;
use super::environment::{Environment, Table};
use super::error::StoreError;
use super::inbox::{Gauges, Overlay};
use super::index::Index;
use super::key::message_key;
use super::operation::Refusal;
use super::pending::{Pending, Submitted};
use super::prefixes::count_retained;
use super::report::{Report, Reports};
use super::waiters::{Waiters, answer};
use crate::clock::Clock;
use crate::config::StoreConfig;
use crate::exchange::ShardId;
use crate::prefix_limits::PrefixLimits;

/// Everything the writing thread owns.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) disk_reserve: DiskReserve,
    pub(super) environment: Arc<Environment>,
    pub(super) pending: Arc<Pending>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) overlay: Arc<Mutex<Overlay>>,
    pub(super) reports: Reports,
    pub(super) config: StoreConfig,
    pub(super) retained_max: RetainedMax,
    pub(super) prefixes: PrefixLimits,
    /// To be counted and used from now on.
    pub(super) new_limits: Arc<Mutex<Option<RetainedLimits>>>,
    pub(super) clock: Clock,
    pub(super) index: Index,
    pub(super) totals: Totals,
    pub(super) scratch: Vec<u8>,
    pub(super) last_start_us: Option<u64>,
    /// Urgent operations that were committed or waited when the last commit ended.
    pub(super) expected: usize,
    /// Retained messages that expired before this time are being removed.
    pub(super) sweep_unix_ms: Option<u64>,
}

/// What the system says of the disk at one time.
#[derive(Debug)]
struct Disk {
    /// Of the data file.
    file_bytes: u64,
    /// `None` if the file system does not say.
    free_bytes: Option<u64>,
}

impl Disk {
    fn of(environment: &Environment) -> Self {
        Self {
            file_bytes: environment.file_bytes(),
            free_bytes: environment.disk_free_bytes(),
        }
    }

    fn has_less_than(&self, bytes: u64) -> bool {
        self.free_bytes.is_some_and(|free| free < bytes)
    }
}

impl Writer {
    /// Runs until the inbox is closed and empty, or a commit fails.
    pub(super) fn run(mut self) {
        self.gauges
            .set_retained(self.totals.retained_count, self.totals.retained_bytes);
        loop {
            let goes_on = self.index.has_ended() || self.sweep_unix_ms.is_some();
            let has_batches = goes_on || self.wait();
            if !has_batches {
                break;
            }
            self.pause();
            let (operations_max, bytes_max) = (
                self.config.batch_operations_max,
                self.config.batch_bytes_max,
            );
            let submitted = self.pending.take(operations_max, bytes_max);
            answer(self.pending.settled(), &self.gauges, &self.reports);
            let mut waiters = Waiters::default();
            let committed = self.take_limits();
            if let Err(error) = committed.and_then(|()| self.commit(submitted, &mut waiters)) {
                self.fail(error, &waiters);
                return;
            }
            self.expected = waiters.urgent + self.pending.urgent();
            waiters.answer(&self.gauges, &self.reports);
            answer(self.pending.answered(), &self.gauges, &self.reports);
        }
    }

    /// Waits for a batch; meanwhile others may have filled the disk, or made room on it.
    fn wait(&mut self) -> bool {
        loop {
            if let Some(has_batches) = self.pending.wait_within(ROOM_MEASURED_EVERY) {
                return has_batches;
            }
            self.measure_room(self.gauges.used_bytes.load(Ordering::Relaxed));
        }
    }

    /// Lets others join, at most until the interval has passed since the last commit began.
    ///
    /// Whoever was answered by the last commit is likely to come back with the next message: once
    /// as much waits as then, nobody else is to be expected, and the commit begins. So a client
    /// that waits for each answer never waits for the interval.
    fn pause(&self) {
        let interval_us = u64::from(self.config.commit_interval_milliseconds) * 1_000;
        let Some(last_us) = self.last_start_us else {
            return;
        };
        let wait_us = (last_us + interval_us).saturating_sub(self.clock.now_us());
        if wait_us > 0 {
            let expected = self.expected.clamp(1, self.config.batch_operations_max);
            self.pending
                .wait_for(expected, Duration::from_micros(wait_us));
        }
    }

    /// Begins to keep the limits that were given meanwhile.
    fn take_limits(&mut self) -> Result<(), StoreError> {
        let Some(limits) = self.new_limits.lock().take() else {
            return Ok(());
        };
        self.retained_max = limits.all;
        if !limits.prefixes.has_limits_of(&self.prefixes) {
            self.prefixes = count_retained(&self.environment, &limits.prefixes)?;
        }
        Ok(())
    }

    fn commit(
        &mut self,
        submitted: Vec<Submitted>,
        waiters: &mut Waiters,
    ) -> Result<(), StoreError> {
        let start_us = self.clock.now_us();
        self.last_start_us = Some(start_us);
        let mut batch = Batch::new(&mut self.index, self.clock.epoch());
        for submitted in submitted {
            waiters.add(&submitted);
            for operation in submitted.operations {
                batch.add(operation, submitted.shard)?;
            }
        }
        batch.release_ended(ENDED_PER_COMMIT);
        let mut prepared = batch.finish();
        let asked = prepared.changes.sweep_unix_ms;
        prepared.changes.sweep_unix_ms = asked.or(self.sweep_unix_ms);
        if prepared.is_empty() {
            return Ok(());
        }
        let committed = match self.write(&prepared) {
            Ok(committed) => committed,
            Err(error) if self.has_no_room(&error) => {
                tracing::debug!(%error, "new messages are refused");
                self.write_refusing(&mut prepared, waiters)
                    .map_err(|it| self.fatal(it))?
            }
            Err(error) => return Err(self.fatal(error)),
        };
        self.note(&committed, &prepared, waiters, start_us);
        Ok(())
    }

    fn write(&mut self, prepared: &Prepared) -> Result<Committed, heed::Error> {
        let room = self.room(&Disk::of(&self.environment));
        let commit = Commit {
            environment: &self.environment,
            epoch: self.clock.epoch(),
            retained_max: self.retained_max,
            prefixes: self.prefixes.clone(),
            scratch: &mut self.scratch,
            totals: self.totals,
            room,
        };
        commit.write(prepared)
    }

    /// What is refused last may use half of the reserves; the rest is for deletes.
    fn room(&self, disk: &Disk) -> Room {
        let map_bytes = self.environment.map_bytes();
        // One commit could take all that the disk has left, and no delete would find a page.
        let growth_bytes_max = self.growth_bytes_max(disk);
        let kept_bytes = (growth_bytes_max / 8).min(DISK_KEPT_MAX);
        // A file that may not grow keeps a part of itself.
        let (bytes_max, kept_for_deletes) = match self.is_below_watermark(disk) {
            true => (disk.file_bytes, disk.file_bytes / 8),
            false => (growth_bytes_max, kept_bytes),
        };
        Room {
            used_bytes_full: (bytes_max - kept_for_deletes) - kept_for_deletes.min(DISK_KEPT_MAX),
            used_bytes_max: map_bytes.min(bytes_max - kept_for_deletes),
            used_bytes_max_last: (map_bytes + self.environment.reserve_bytes() / 2)
                .min(growth_bytes_max - kept_bytes / 2),
        }
    }

    /// What the file and the disk have room for.
    fn growth_bytes_max(&self, disk: &Disk) -> u64 {
        let end_bytes = disk.file_bytes.max(self.disk_reserve.end_bytes());
        end_bytes.saturating_add(disk.free_bytes.unwrap_or(u64::MAX))
    }

    fn is_below_watermark(&self, disk: &Disk) -> bool {
        disk.has_less_than(self.config.disk_free_bytes_min)
    }

    /// Writes without what may be refused.
    fn write_refusing(
        &mut self,
        prepared: &mut Prepared,
        waiters: &mut Waiters,
    ) -> Result<Committed, heed::Error> {
        for refusal in [Refusal::First, Refusal::Last] {
            if !prepared.has(refusal) {
                continue;
            }
            self.refuse(refusal, prepared, waiters);
            match self.write(prepared) {
                Err(error) if self.has_no_room(&error) => {}
                other => return other,
            }
        }
        self.write_in_pieces(prepared)
    }

    /// Messages that nobody waits for go last and some at a time: until then nobody misses them.
    fn write_in_pieces(&mut self, prepared: &mut Prepared) -> Result<Committed, heed::Error> {
        tracing::warn!("the store makes room in small commits");
        prepared.changes.sweep_unix_ms = None;
        let removed = std::mem::take(&mut prepared.changes.removed_messages);
        let mut committed = self.write_patiently(prepared)?;
        let refused_retained = std::mem::take(&mut committed.refused_retained);
        let (mut rest, mut count) = (&*removed, REMOVED_PER_PIECE);
        while !rest.is_empty() {
            self.totals = committed.totals;
            self.prefixes = committed.prefixes.clone();
            let (piece, others) = rest.split_at(count.min(rest.len()));
            let piece = Prepared::of_removed(piece);
            committed = match self.write(&piece) {
                Ok(committed) => committed,
                Err(error) if !self.has_no_room(&error) => return Err(error),
                Err(_) if count > 1 => {
                    count /= 4;
                    continue;
                }
                Err(_) => self.write_patiently(&piece)?,
            };
            rest = others;
        }
        committed.refused_retained = refused_retained;
        Ok(committed)
    }

    /// Tries again while readers, whose transactions are short, may keep pages from being used.
    fn write_patiently(&mut self, prepared: &Prepared) -> Result<Committed, heed::Error> {
        for _ in 0..PATIENT_ATTEMPTS {
            match self.write(prepared) {
                Err(error) if self.has_no_room(&error) => thread::sleep(PATIENCE),
                other => return other,
            }
        }
        self.write(prepared)
    }

    /// Takes messages out of what is to be written; deletes and settlements stay.
    fn refuse(&mut self, refusal: Refusal, prepared: &mut Prepared, waiters: &mut Waiters) {
        let messages = std::mem::take(&mut prepared.changes.messages);
        for (id, new) in messages {
            if new.refusal == refusal {
                self.index.forget(id, new.receivers.as_slice());
                waiters.refuse(new.shard).messages.push(id);
            } else {
                prepared.changes.messages.insert(id, new);
            }
        }
        prepared.changes.retained.retain(|topic, change| {
            let refused = change.take_if(|new| new.refusal == refusal);
            let shards = refused.iter().flat_map(NewRetained::shards);
            shards.for_each(|shard| waiters.refuse(shard).retained.push(topic.clone()));
            refused.is_none_or(|it| it.follows_clear)
        });
        if refusal == Refusal::First {
            refuse_delayed(prepared, waiters);
        }
        prepared.forget_received(&waiters.refused_set());
    }

    fn note(
        &mut self,
        committed: &Committed,
        prepared: &Prepared,
        waiters: &mut Waiters,
        start_us: u64,
    ) {
        let retained = &prepared.changes.retained;
        for topic in &committed.refused_retained {
            if let Some(Some(new)) = retained.get(topic) {
                for shard in new.shards() {
                    waiters.refuse(shard).retained.push(topic.clone());
                }
            }
        }
        self.totals = committed.totals;
        self.prefixes = committed.prefixes.clone();
        let swept = prepared.changes.sweep_unix_ms;
        self.sweep_unix_ms = swept.filter(|_| committed.has_more_expired);
        self.gauges
            .set_retained(self.totals.retained_count, self.totals.retained_bytes);
        let topics = retained.keys().chain(waiters.refused_topics());
        if !retained.is_empty() || waiters.has_refused() {
            let mut overlay = self.overlay.lock();
            overlay.committed(topics, waiters.version, committed.transaction);
        }
        let took_us = self.clock.now_us() - start_us;
        let relaxed = Ordering::Relaxed;
        self.gauges.commits.fetch_add(1, relaxed);
        self.gauges.commit_us_total.fetch_add(took_us, relaxed);
        self.gauges.commit_us_max.fetch_max(took_us, relaxed);
        self.gauges.used_bytes.store(committed.used_bytes, relaxed);
        self.measure_room(committed.used_bytes);
    }

    /// Before the first publish is taken.
    pub(super) fn measure_room_at_start(&mut self) {
        let transaction = self.environment.read().ok();
        let used_bytes = transaction.and_then(|it| self.environment.used_bytes(&it).ok());
        if let Some(used_bytes) = used_bytes {
            self.gauges.used_bytes.store(used_bytes, Ordering::Relaxed);
            self.measure_room(used_bytes);
        }
    }

    /// Whether durable publishes are still welcome.
    fn measure_room(&mut self, used_bytes: u64) {
        let map_bytes = self.environment.map_bytes();
        self.disk_reserve.keep(self.environment.file_bytes());
        let disk = Disk::of(&self.environment);
        let room = self.room(&disk);
        let is_map_full = used_bytes >= map_bytes / 10 * 9;
        let unused_bytes = disk.file_bytes.saturating_sub(used_bytes);
        let is_below_watermark = self.is_below_watermark(&disk);
        let may_not_grow = unused_bytes < FILE_UNUSED_ENOUGH && is_below_watermark;
        let is_disk_full = may_not_grow || used_bytes > room.used_bytes_full;
        let is_exhausted = used_bytes > room.used_bytes_max_last
            || may_not_grow && disk.has_less_than(self.config.disk_free_bytes_min / EXHAUSTED_PART);
        let room_bytes = room.used_bytes_max.saturating_sub(used_bytes);
        let relaxed = Ordering::Relaxed;
        let growth_bytes = self.growth_bytes_max(&disk) - disk.file_bytes;
        self.gauges.room_bytes.store(room_bytes, relaxed);
        self.gauges.growth_bytes.store(growth_bytes, relaxed);
        self.gauges.is_exhausted.store(is_exhausted, relaxed);
        let is_full = is_map_full || is_disk_full;
        if self.gauges.is_full.swap(is_full, relaxed) == is_full {
            return;
        }
        if is_full {
            let path = self.environment.path().display();
            tracing::error!(
                %path, used_bytes, map_bytes, is_map_full, is_disk_full,
                "the store is nearly full: durable publishes are refused until messages are \
                 delivered, or store.map_bytes_max or the disk grows"
            );
        } else {
            tracing::info!(used_bytes, map_bytes, "the store has room again");
        }
    }

    /// Whether a transaction was undone for want of room. A write of several pages for which the
    /// disk had room in part fails with EIO.
    fn has_no_room(&self, error: &heed::Error) -> bool {
        let is_cut_short = match error {
            heed::Error::Io(error) => error.raw_os_error() == Some(Errno::IO.raw_os_error()),
            _ => false,
        };
        is_full(error) || is_cut_short && Disk::of(&self.environment).has_less_than(DISK_KEPT)
    }

    fn fatal(&self, source: heed::Error) -> StoreError {
        let path = self.environment.path().to_owned();
        match source {
            heed::Error::Mdb(MdbError::MapFull) => StoreError::Exhausted {
                path,
                map_bytes: self.environment.map_bytes(),
            },
            source => StoreError::Commit { path, source },
        }
    }

    fn fail(&self, error: StoreError, waiters: &Waiters) {
        tracing::error!(%error, "the store has failed");
        self.gauges.is_full.store(true, Ordering::Relaxed);
        let error = Arc::new(error);
        let first = waiters.first_shard().unwrap_or(ShardId(0));
        self.reports.send(first, Report::Failed { error });
    }
}

fn refuse_delayed(prepared: &mut Prepared, waiters: &mut Waiters) {
    for (id, shard) in std::mem::take(&mut prepared.delayed) {
        let place = (Table::Delayed, message_key(id));
        if prepared.rows.remove(&place).is_some_and(|it| it.is_some()) {
            waiters.refuse(shard).delayed.push(id);
        }
    }
}

/// Messages of ended queues counted down by one commit: nobody waits long for them.
const ENDED_PER_COMMIT: usize = 4_096;
/// A file with so much room inside needs no disk for a while.
const FILE_UNUSED_ENOUGH: u64 = 16 << 20;
/// Rows of messages removed by one commit when room is short.
const REMOVED_PER_PIECE: usize = 64;
const ROOM_MEASURED_EVERY: Duration = Duration::from_secs(1);
/// Of the disk, whatever the configuration says: a commit of deletes needs some pages.
const DISK_KEPT: u64 = 1 << 20;
/// For deletes, of what the file can grow to.
const DISK_KEPT_MAX: u64 = 16 << 20;
/// For two seconds.
const PATIENT_ATTEMPTS: u32 = 100;
const PATIENCE: Duration = Duration::from_millis(20);
/// Of the disk's watermark, what is left when nothing that grows may begin.
const EXHAUSTED_PART: u64 = 4;
