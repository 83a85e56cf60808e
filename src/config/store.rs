//! Where and how messages are kept.

use std::path::PathBuf;

/// What survives the process, and at what cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Whether anything survives.
    pub engine: StoreEngine,
    /// Directory of the store, private to its owner.
    pub directory: PathBuf,
    /// The most the store may grow to.
    pub map_bytes_max: u64,
    /// How long after the start of a commit the next waits for others to join; 0 commits at once.
    pub commit_interval_milliseconds: u32,
    /// Operations of one commit.
    pub batch_operations_max: usize,
    /// Bytes of one commit.
    pub batch_bytes_max: usize,
    /// Bytes waiting for a commit before publishers are slowed down.
    pub pending_bytes_max: usize,
    /// Bytes the disk keeps free: below, durable publishes are refused.
    pub disk_free_bytes_min: u64,
    /// No key of the file: tests prove with it that they would find a store that does not flush.
    #[doc(hidden)]
    pub flushes: Flushes,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            engine: StoreEngine::Memory,
            directory: "tidewire-data".into(),
            map_bytes_max: 64 << 30,
            commit_interval_milliseconds: 1,
            batch_operations_max: 8_192,
            batch_bytes_max: 4 << 20,
            pending_bytes_max: 64 << 20,
            disk_free_bytes_min: 256 << 20,
            flushes: Flushes::EachCommit,
        }
    }
}

/// When what was written is made to survive a power cut.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flushes {
    /// Before its commit ends.
    #[default]
    EachCommit,
    /// When the system likes to: the promise is void.
    Never,
}

/// What keeps messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreEngine {
    /// Nothing survives the process.
    #[default]
    Memory,
    /// An acknowledgement never leaves before the commit that makes it true.
    Lmdb,
}
