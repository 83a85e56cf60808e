//! The LMDB environment of a store and its tables.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};

use super::bytes::Damaged;
use super::directory::{DATA_FILE, Lock, Past, make_private, mark, past_of, remove_begun};
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
    _lock: Lock,
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
        let path = directory.join(DATA_FILE);
        if presence == Presence::Expect && !path.exists() {
            return Err(match past_of(directory) {
                Past::None => StoreError::Absent {
                    path: directory.to_owned(),
                },
                Past::Begun | Past::Store => StoreError::Missing { path },
            });
        }
        make_private(directory)?;
        let lock = Lock::of(directory)?;
        let tables = survey(&path, past_of(directory))?;
        let env = match open_environment(&path, directory, map_bytes, flushes) {
            Ok(env) => env,
            Err(error) => {
                if tables.is_none() {
                    remove_begun(directory);
                }
                return Err(error);
            }
        };
        let result = match tables {
            Some(tables) if !tables.is_empty() => {
                check_schema(&env, &path, &tables).and_then(|()| find_tables(&env, &path))
            }
            _ => create_tables(&env, &path),
        };
        let tables = match result {
            Ok(tables) => tables,
            Err(error) => {
                env.prepare_for_closing().wait();
                return Err(error);
            }
        };
        mark(directory)?;
        Ok(Self {
            env,
            tables,
            path,
            map_bytes,
            _lock: lock,
        })
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
    pub(super) fn close(self) -> Lock {
        let Self { env, _lock, .. } = self;
        env.prepare_for_closing().wait();
        _lock
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

/// The names of the tables, or nothing for a store that is to be made.
fn survey(path: &Path, past: Past) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => {
            return Err(StoreError::Io {
                path: path.to_owned(),
                what: "the data file cannot be opened",
                source,
            });
        }
    };
    let is_empty = |file: &File| file.metadata().is_ok_and(|it| it.len() == 0);
    let Some(file) = file.filter(|it| !is_empty(it)) else {
        return match past {
            Past::None => Ok(None),
            Past::Begun | Past::Store => Err(StoreError::Missing {
                path: path.to_owned(),
            }),
        };
    };
    let survey = pages::survey(path, &file)?;
    if survey.tables.is_empty() && past == Past::Store {
        return Err(StoreError::Foreign {
            path: path.to_owned(),
            problem: "it has no tables".into(),
        });
    }
    tracing::debug!(pages = survey.pages, "pages of the store surveyed");
    Ok(Some(survey.tables))
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
