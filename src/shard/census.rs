//! How many sessions each mount point has: namespaces have a limit of their own.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The sessions of all shards, counted by mount point.
#[derive(Debug, Default)]
pub struct Census {
    counts: Mutex<HashMap<Arc<str>, usize>>,
}

/// A session that is counted; dropped with it.
#[derive(Debug)]
pub(super) struct Place {
    census: Arc<Census>,
    mount_point: Arc<str>,
}

impl Census {
    /// Counts one more session of the mount point; `None` if there are `sessions_max` already.
    pub(super) fn enter(
        self: &Arc<Self>,
        mount_point: &Arc<str>,
        sessions_max: usize,
    ) -> Option<Place> {
        let mut counts = self.counts.lock();
        let count = counts.entry(Arc::clone(mount_point)).or_default();
        if *count >= sessions_max {
            return None;
        }
        *count += 1;
        Some(Place {
            census: Arc::clone(self),
            mount_point: Arc::clone(mount_point),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.census.counts.lock();
        if let Some(count) = counts.get_mut(&self.mount_point) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.mount_point);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_has_as_many_sessions_as_it_may_and_nothing_is_left_of_it() {
        let census = Arc::new(Census::default());
        let [acme, beta] = ["acme/", "beta/"].map(Arc::<str>::from);
        let first = census.enter(&acme, 1);
        assert!(first.is_some());
        assert!(census.enter(&acme, 1).is_none());
        assert!(census.enter(&beta, 1).is_some());
        drop(first);
        assert!(census.counts.lock().is_empty());
        assert!(census.enter(&acme, 1).is_some());
    }
}
