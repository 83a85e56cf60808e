//! Up to where partitions were handed on, over all connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The next offset of each partition by its name; what is below was handed to the caller, in this
/// process or, as far as the caller keeps it, in an earlier one.
#[derive(Debug, Default)]
pub(super) struct Bookmarks(Mutex<HashMap<Arc<str>, i64>>);

impl Bookmarks {
    /// What an earlier process has kept.
    pub(super) fn restore<'a>(&self, kept: impl Iterator<Item = (&'a str, u64)>) {
        let offset = |next: u64| i64::try_from(next).ok();
        let kept = kept.filter_map(|(name, next)| Some((Arc::from(name), offset(next)?)));
        self.lock().extend(kept);
    }

    pub(super) fn next(&self, name: &str) -> Option<i64> {
        self.lock().get(name).copied()
    }

    pub(super) fn set(&self, name: &Arc<str>, next: i64) {
        let mut all = self.lock();
        match all.get_mut(name) {
            Some(known) => *known = next,
            None => drop(all.insert(Arc::clone(name), next)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, i64>> {
        // Nothing that holds the lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a partition is called as a log; another group begins anew.
pub(super) fn name_of(group: &str, topic: &str, partition: i32) -> Arc<str> {
    format!("{group}/{topic}/{partition}").into()
}
