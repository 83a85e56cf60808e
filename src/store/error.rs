//! Why a store cannot be used.

use std::io;
use std::path::PathBuf;

/// Why a store cannot be opened or written; the message is complete and fit for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or a file in it cannot be used.
    #[error("{}: {what}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the store.
    #[error(
        "{}: the store is in use by another process{}; stop it first, or use another \
         directory", path.display(), owner_text(.owner)
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The id of that process, if it wrote one.
        owner: Option<u32>,
    },
    /// The directory is used for other things, by others.
    #[error(
        "{}: others may enter this directory (mode {mode:04o}), and it holds `{name}`, which is no \
         part of a store; give the store a directory of its own, or run chmod 700 on this one",
        path.display()
    )]
    Shared {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Something in it.
        name: String,
    },
    /// There was a store, and its data is gone.
    #[error(
        "{}: this directory had a store, but its data file is missing or empty; restore it from a \
         copy, or remove the directory to begin with an empty store", path.display()
    )]
    Missing {
        /// The data file.
        path: PathBuf,
    },
    /// There is no store where one has to be.
    #[error("{}: there is no store", path.display())]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// The file is not a store, or of another kind of machine.
    #[error("{}: not a store of Tidewire: {problem}; it was left as it is", path.display())]
    Foreign {
        /// The data file.
        path: PathBuf,
        /// What it is, or is not.
        problem: String,
    },
    /// The file is shorter than its own contents.
    #[error(
        "{}: the file is truncated: it has {found_bytes} bytes, but page {page} in use lies \
         beyond; restore it from a copy. It was left as it is", path.display()
    )]
    Truncated {
        /// The data file.
        path: PathBuf,
        /// Its size.
        found_bytes: u64,
        /// A page that is not there.
        page: u64,
    },
    /// A page is damaged.
    #[error(
        "{}: page {page} is damaged: {problem}; restore the store from a copy. It was left as it \
         is", path.display()
    )]
    Page {
        /// The data file.
        path: PathBuf,
        /// The page.
        page: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A row is damaged.
    #[error(
        "{}: a row of `{table}` is damaged: {problem}; restore the store from a copy. It was left \
         as it is", path.display()
    )]
    Row {
        /// The data file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The store was written by a later version.
    #[error(
        "{}: the store has schema version {found}, this program knows versions up to {known}; use \
         the program that wrote it, or a later one", path.display()
    )]
    Newer {
        /// The data file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The store was written by a version too old to be migrated.
    #[error(
        "{}: the store has schema version {found}, which this program cannot read; export it with \
         the program that wrote it and import it here (tidewire store export, import)",
        path.display()
    )]
    Older {
        /// The data file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// LMDB failed.
    #[error("{}: {what}: {source}", path.display())]
    Engine {
        /// The data file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: heed::Error,
    },
    /// A commit failed: what is in memory and what is on disk are no longer the same.
    #[error(
        "{}: a commit failed ({source}); nothing was acknowledged that is not stored. The broker \
         stops: check the disk (free space, errors in the system log) and start it again",
        path.display()
    )]
    Commit {
        /// The data file.
        path: PathBuf,
        /// Why.
        source: heed::Error,
    },
    /// What cannot be refused found no room.
    #[error(
        "{}: a commit failed: sessions, subscriptions and messages in flight use up all of \
         store.map_bytes_max = {map_bytes} and its reserve; nothing was acknowledged that is not \
         stored. The broker stops: raise store.map_bytes_max and start it again", path.display()
    )]
    Exhausted {
        /// The data file.
        path: PathBuf,
        /// What the configuration allows.
        map_bytes: u64,
    },
    /// The broker broke a rule of the store.
    #[error("the store was used wrongly: {0}; this is a defect of the broker")]
    Misuse(&'static str),
    /// A thread cannot be started.
    #[error("the threads of the store cannot be started: {0}")]
    Thread(io::Error),
}

fn owner_text(owner: &Option<u32>) -> String {
    owner.map_or_else(String::new, |id| format!(" (process {id})"))
}
