//! The LMDB environment of a store and its tables.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};

use super::bytes::Damaged;
use super::creation::{Creation, remove_begun};
use super::directory::{DATA_FILE, Lock, has_past, make_private, mark};
use super::error::StoreError;
use super::pages;
use crate::config::Flushes;

/// A table: rows in the order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Table {
    /// Message id → header, receivers, content.
    Messages,
    /// Queue, lane → the id up to which everything is settled.
    Cursors,
    /// Queue, message id → nothing: settled above the cursor.
    Settled,
    /// Queue, message id → receiver: taken over from another queue.
    Adopted,
    /// Queue → name of the share group or bridge.
    NamedQueues,
    /// Queue → session.
    Sessions,
    /// Queue, filter → options.
    Subscriptions,
    /// Queue, packet id → message in flight to the client.
    InFlight,
    /// Queue, packet id → nothing: received with QoS 2.
    Received,
    /// Queue, name → up to where a bridge has read the log of that name.
    Bookmarks,
    /// Queue → will.
    Wills,
    /// Id → message to be published later.
    Delayed,
    /// Topic → message.
    Retained,
    /// Expiry, topic → nothing.
    RetainedExpiry,
    /// Name → value.
    Meta,
}

impl Table {
    pub(super) const ALL: [Self; 15] = [
        Self::Messages,
        Self::Cursors,
        Self::Settled,
        Self::Adopted,
        Self::NamedQueues,
        Self::Sessions,
        Self::Subscriptions,
        Self::InFlight,
        Self::Received,
        Self::Bookmarks,
        Self::Wills,
        Self::Delayed,
        Self::Retained,
        Self::RetainedExpiry,
        Self::Meta,
    ];

    /// Tables whose keys begin with a queue, and which end with it.
    pub(super) const OF_A_QUEUE: [Self; 10] = [
        Self::Cursors,
        Self::Settled,
        Self::Adopted,
        Self::NamedQueues,
        Self::Sessions,
        Self::Subscriptions,
        Self::InFlight,
        Self::Received,
        Self::Bookmarks,
        Self::Wills,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Cursors => "cursors",
            Self::Settled => "settled",
            Self::Adopted => "adopted",
            Self::NamedQueues => "named_queues",
            Self::Sessions => "sessions",
            Self::Subscriptions => "subscriptions",
            Self::InFlight => "in_flight",
            Self::Received => "received",
            Self::Bookmarks => "bookmarks",
            Self::Wills => "wills",
            Self::Delayed => "delayed",
            Self::Retained => "retained",
            Self::RetainedExpiry => "retained_expiry",
            Self::Meta => "meta",
        }
    }
}

/// Rows as LMDB sees them.
pub(super) type Rows = Database<'static, Bytes, Bytes>;

/// An open store; the lock goes with it.
#[derive(Debug)]
pub(super) struct Environment {
    env: Env<WithoutTls>,
    tables: [Rows; Table::ALL.len()],
    path: PathBuf,
    /// What the configuration allows; the map is larger by the reserve.
    map_bytes: u64,
    /// A store that is being made has none: the directory around it is locked.
    lock: Option<Lock>,
}

/// Whether an empty store may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is made if there was none.
    Create,
    /// It has to be there.
    Expect,
}

impl Environment {
    /// Locks the directory, surveys the pages, opens the environment and checks the schema.
    pub(super) fn open(
        directory: &Path,
        map_bytes: u64,
        presence: Presence,
    ) -> Result<Self, StoreError> {
        Self::open_flushing(directory, map_bytes, presence, Flushes::EachCommit)
    }

    /// As [`Environment::open`], with another rule for flushes.
    pub(super) fn open_flushing(
        directory: &Path,
        map_bytes: u64,
        presence: Presence,
        flushes: Flushes,
    ) -> Result<Self, StoreError> {
        if presence == Presence::Expect && is_new(directory)? {
            return Err(StoreError::Absent {
                path: directory.to_owned(),
            });
        }
        let lock = Self::lock(directory)?;
        if is_new(directory)? {
            Creation::begin(directory, map_bytes)?.finish()?;
        }
        Self::open_locked(directory, lock, map_bytes, flushes)
    }

    /// Keeps others away from a directory, which is made if there is none.
    pub(super) fn lock(directory: &Path) -> Result<Lock, StoreError> {
        make_private(directory)?;
        Lock::of(directory)
    }

    /// As [`Environment::open`]; the store has to be there.
    pub(super) fn open_locked(
        directory: &Path,
        lock: Lock,
        map_bytes: u64,
        flushes: Flushes,
    ) -> Result<Self, StoreError> {
        remove_begun(directory)?;
        let path = directory.join(DATA_FILE);
        let tables = survey(&path)?;
        let env = open_environment(&path, directory, map_bytes, flushes)?;
        let found = check_schema(&env, &path, &tables).and_then(|()| find_tables(&env, &path));
        let environment = Self::with_tables(env, found, path, map_bytes, Some(lock))?;
        mark(directory)?;
        Ok(environment)
    }

    /// Makes a store in a directory that nobody else looks at.
    pub(super) fn create(directory: &Path, map_bytes: u64) -> Result<Self, StoreError> {
        let path = directory.join(DATA_FILE);
        let env = open_environment(&path, directory, map_bytes, Flushes::EachCommit)?;
        let made = create_tables(&env, &path);
        Self::with_tables(env, made, path, map_bytes, None)
    }

    fn with_tables(
        env: Env<WithoutTls>,
        tables: Result<[Rows; Table::ALL.len()], StoreError>,
        path: PathBuf,
        map_bytes: u64,
        lock: Option<Lock>,
    ) -> Result<Self, StoreError> {
        match tables {
            Ok(tables) => Ok(Self {
                env,
                tables,
                path,
                map_bytes,
                lock,
            }),
            Err(error) => {
                env.prepare_for_closing().wait();
                Err(error)
            }
        }
    }

    pub(super) fn table(&self, table: Table) -> &Rows {
        &self.tables[table as usize]
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self) -> Result<RoTxn<'_, WithoutTls>, StoreError> {
        self.env
            .read_txn()
            .map_err(|source| self.failed("a read cannot begin", source))
    }

    pub(super) fn write(&self) -> Result<RwTxn<'_>, heed::Error> {
        self.env.write_txn()
    }

    /// The latest commit that changed anything; a transaction without changes has no number.
    pub(super) fn last_transaction(&self) -> usize {
        self.env.info().last_txn_id
    }

    pub(super) fn map_bytes(&self) -> u64 {
        self.map_bytes
    }

    /// What the map has beyond, for deletes and the state of deliveries.
    pub(super) fn reserve_bytes(&self) -> u64 {
        reserve_bytes(self.map_bytes)
    }

    /// Bytes of the pages in use, free ones inside the file left out.
    pub(super) fn used_bytes(&self, transaction: &RoTxn<'_>) -> Result<u64, heed::Error> {
        let mut pages = 0;
        let mut page_bytes = 4_096;
        for rows in &self.tables {
            let stat = rows.stat(transaction)?;
            page_bytes = u64::from(stat.page_size);
            pages += stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
        }
        Ok(pages as u64 * page_bytes)
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.env.real_disk_size().unwrap_or(0)
    }

    /// Bytes that the file system has left for us; `None` if it does not say.
    pub(super) fn disk_free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.path).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Writes a copy without free pages to a new file.
    pub(super) fn copy_compacted(&self, to: &Path) -> Result<(), StoreError> {
        self.env
            .copy_to_path(to, heed::CompactionOption::Enabled)
            .map(|_| ())
            .map_err(|source| self.failed("it cannot be copied", source))
    }

    /// Unmaps the file; returns once it is closed.
    pub(super) fn close(self) -> Option<Lock> {
        let Self { env, lock, .. } = self;
        env.prepare_for_closing().wait();
        lock
    }

    pub(super) fn failed(&self, what: &'static str, source: heed::Error) -> StoreError {
        engine_error(&self.path, what, source)
    }

    pub(super) fn damaged(&self, table: Table, damage: Damaged) -> StoreError {
        StoreError::Row {
            path: self.path.clone(),
            table: table.name(),
            problem: damage.0,
        }
    }
}

/// Whether there is no store and never was one.
pub(super) fn is_new(directory: &Path) -> Result<bool, StoreError> {
    let path = directory.join(DATA_FILE);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() > 0 => Ok(false),
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Io {
            path,
            what: "the data file cannot be looked at",
            source,
        }),
        _ if has_past(directory) => Err(StoreError::Missing { path }),
        _ => Ok(true),
    }
}

/// The names of the tables.
fn survey(path: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
    let file = File::open(path).map_err(|source| StoreError::Io {
        path: path.to_owned(),
        what: "the data file cannot be opened",
        source,
    })?;
    let survey = pages::survey(path, &file)?;
    if survey.tables.is_empty() {
        return Err(StoreError::Foreign {
            path: path.to_owned(),
            problem: "it has no tables".into(),
        });
    }
    tracing::debug!(pages = survey.pages, "pages of the store surveyed");
    Ok(survey.tables)
}

#[expect(
    unsafe_code,
    reason = "opening the LMDB environment is unsafe by nature"
)]
fn open_environment(
    path: &Path,
    directory: &Path,
    map_bytes: u64,
    flushes: Flushes,
) -> Result<Env<WithoutTls>, StoreError> {
    // Measured from the end of the file: a start always has the whole reserve.
    let file_bytes = fs::metadata(path).map_or(0, |it| it.len());
    let map_bytes = map_bytes.max(file_bytes) + reserve_bytes(map_bytes);
    let map_bytes = usize::try_from(map_bytes).unwrap_or(MAP_BYTES_32_BIT);
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options
        .map_size(map_bytes.next_multiple_of(PAGE_BYTES_ANY))
        .max_readers(READERS_MAX)
        .max_dbs(TABLES_MAX);
    if flushes == Flushes::Never {
        // SAFETY: only what survives a power cut depends on it.
        unsafe { options.flags(EnvFlags::NO_SYNC) };
    }
    // SAFETY: the map is only valid while nobody else changes the file. The directory is private to
    // its owner, its lock file is ours, every page in use was found inside the file, and no flag
    // weakens LMDB's own locking. The map is never resized.
    let env = unsafe { options.open(directory) };
    let env = env.map_err(|source| engine_error(path, "it cannot be opened", source))?;
    env.clear_stale_readers()
        .map_err(|source| engine_error(path, "its reader table cannot be cleared", source))?;
    Ok(env)
}

/// A delete copies the pages it touches before it frees any: a full map could not be drained.
fn reserve_bytes(map_bytes: u64) -> u64 {
    (map_bytes / 8).clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX)
}

fn check_schema(env: &Env<WithoutTls>, path: &Path, tables: &[Vec<u8>]) -> Result<(), StoreError> {
    let foreign = |problem: &str| StoreError::Foreign {
        path: path.to_owned(),
        problem: problem.into(),
    };
    if !tables
        .iter()
        .any(|name| name == Table::Meta.name().as_bytes())
    {
        return Err(foreign("it is the LMDB file of another program"));
    }
    let failed = |source| engine_error(path, "its schema cannot be read", source);
    let transaction = env.read_txn().map_err(failed)?;
    let meta = env
        .open_databases_and_commit(transaction, |opener, transaction| {
            opener
                .open_database::<Bytes, Bytes>(transaction, Some(Table::Meta.name()))
                .map(CommitOrAbort::<_, ()>::Commit)
        })
        .map_err(failed)?
        .commit()
        .flatten()
        .ok_or_else(|| foreign("it is the LMDB file of another program"))?;
    let transaction = env.read_txn().map_err(failed)?;
    let version = meta.get(&transaction, SCHEMA_KEY).map_err(failed)?;
    let version = version.and_then(|bytes| bytes.try_into().ok());
    match version.map(u32::from_be_bytes) {
        None => Err(foreign("it has no schema version")),
        Some(SCHEMA_VERSION) => Ok(()),
        Some(found) if found > SCHEMA_VERSION => Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: SCHEMA_VERSION,
        }),
        Some(found) => Err(StoreError::Older {
            path: path.to_owned(),
            found,
        }),
    }
}

/// The tables of a store that has them; nothing is written.
fn find_tables(env: &Env<WithoutTls>, path: &Path) -> Result<[Rows; Table::ALL.len()], StoreError> {
    let failed = |source| engine_error(path, "its tables cannot be opened", source);
    let transaction = env.read_txn().map_err(failed)?;
    let tables = env
        .open_databases_and_commit(transaction, |opener, transaction| {
            let mut found = Vec::new();
            for table in Table::ALL {
                found
                    .extend(opener.open_database::<Bytes, Bytes>(transaction, Some(table.name()))?);
            }
            Ok(match found.try_into() {
                Ok(tables) => {
                    CommitOrAbort::Commit::<[Database<'_, _, _>; Table::ALL.len()], _>(tables)
                }
                Err(_) => CommitOrAbort::Abort(()),
            })
        })
        .map_err(failed)?;
    tables.commit().ok_or_else(|| StoreError::Foreign {
        path: path.to_owned(),
        problem: "one of its tables is missing".into(),
    })
}

fn create_tables(
    env: &Env<WithoutTls>,
    path: &Path,
) -> Result<[Rows; Table::ALL.len()], StoreError> {
    let failed = |source| engine_error(path, "its tables cannot be made", source);
    let transaction = env.write_txn().map_err(failed)?;
    let tables = env
        .create_databases_and_commit(transaction, |opener, transaction| {
            let mut made = Vec::new();
            for table in Table::ALL {
                made.push(opener.create_database::<Bytes, Bytes>(transaction, Some(table.name()))?);
            }
            if let Some(meta) = made.last() {
                meta.put(transaction, SCHEMA_KEY, &SCHEMA_VERSION.to_be_bytes())?;
            }
            Ok(match made.try_into() {
                Ok(tables) => {
                    CommitOrAbort::Commit::<[Database<'_, _, _>; Table::ALL.len()], _>(tables)
                }
                Err(_) => CommitOrAbort::Abort(()),
            })
        })
        .map_err(failed)?;
    tables
        .commit()
        .ok_or(StoreError::Misuse("a table is missing"))
}

fn engine_error(path: &Path, what: &'static str, source: heed::Error) -> StoreError {
    StoreError::Engine {
        path: path.to_owned(),
        what,
        source,
    }
}

pub(super) const SCHEMA_VERSION: u32 = 1;
pub(super) const SCHEMA_KEY: &[u8] = b"schema";
/// All sequences up to this one may be in use.
pub(super) const SEQUENCE_KEY: &[u8] = b"sequence";
/// All queue ids below this one may be in use.
pub(super) const QUEUE_KEY: &[u8] = b"queue";
/// Count and bytes of retained messages.
pub(super) const RETAINED_KEY: &[u8] = b"retained";
const READERS_MAX: u32 = 64;
/// A multiple of the page size of every machine.
const PAGE_BYTES_ANY: usize = 65_536;
const TABLES_MAX: u32 = 32;
/// Every page of the smallest map copied once.
const RESERVE_BYTES_MIN: u64 = 4 << 20;
const RESERVE_BYTES_MAX: u64 = 1 << 30;
const MAP_BYTES_32_BIT: usize = 1 << 30;
