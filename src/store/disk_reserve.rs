//! Blocks behind the end of the data file that belong to it already: deletes can go on when others
//! have filled the disk.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

/// The file, and up to where it has blocks.
#[derive(Debug, Default)]
pub(super) struct DiskReserve {
    file: Option<File>,
    end_bytes: u64,
}

impl DiskReserve {
    /// Of this data file.
    pub(super) fn of(path: &Path) -> Self {
        Self {
            file: OpenOptions::new().write(true).open(path).ok(),
            end_bytes: 0,
        }
    }

    /// Up to where the file has blocks, as far as that is known.
    pub(super) fn end_bytes(&self) -> u64 {
        self.end_bytes
    }

    /// Keeps blocks behind the end, as far as the disk has any and its file system can.
    pub(super) fn keep(&mut self, file_bytes: u64) {
        if self.end_bytes >= file_bytes + AHEAD_BYTES_MIN {
            return;
        }
        let Some(file) = &self.file else {
            return;
        };
        match fallocate(file, FallocateFlags::KEEP_SIZE, file_bytes, AHEAD_BYTES) {
            Ok(()) => self.end_bytes = file_bytes + AHEAD_BYTES,
            Err(error) => tracing::debug!(%error, "no blocks are reserved for deletes"),
        }
    }
}

/// As many as the smallest reserve of the map.
const AHEAD_BYTES: u64 = 4 << 20;
const AHEAD_BYTES_MIN: u64 = 2 << 20;
