//! Looks at the files of the configuration now and then.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::config::Config;

/// The files of a configuration, and what they looked like.
#[derive(Debug)]
pub(super) struct Watch {
    config: Option<PathBuf>,
    files: Vec<PathBuf>,
    interval: Duration,
    /// As they were when they were last read.
    applied: Vec<Stamp>,
    /// As they were at the last look.
    seen: Vec<Stamp>,
}

/// What tells a file from its earlier self; `None` if it cannot be looked at.
type Stamp = Option<(SystemTime, u64)>;

impl Watch {
    pub(super) fn new(path: Option<PathBuf>, config: &Config) -> Self {
        let mut this = Self {
            config: path,
            files: Vec::new(),
            interval: Duration::from_secs(config.watch_files_seconds.into()),
            applied: Vec::new(),
            seen: Vec::new(),
        };
        this.follow(config);
        this
    }

    /// From now on, changes after this moment count.
    pub(super) fn follow(&mut self, config: &Config) {
        let named = config.files().into_iter().map(Path::to_owned);
        self.files = self.config.iter().cloned().chain(named).collect();
        self.applied = self.stamps();
        self.seen.clone_from(&self.applied);
    }

    /// Waits until files are other than they were read, and the same at two looks. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.interval.is_zero() {
            return pending().await;
        }
        loop {
            tokio::time::sleep(self.interval).await;
            let now = self.stamps();
            let is_still = now == self.seen;
            self.seen = now;
            if is_still && self.seen != self.applied {
                self.applied.clone_from(&self.seen);
                return;
            }
        }
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        self.files.iter().map(stamp).collect()
    }
}
