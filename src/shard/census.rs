//! How many sessions each mount point and each user has: there are limits for both.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The sessions of all shards.
///
/// # Shape
/// Counted by mount point, which ends with `/`, and by U+0000 and a user name. Users are counted
/// only while they have a limit.
#[derive(Debug, Default)]
pub struct Census {
    counts: Mutex<HashMap<Arc<str>, usize>>,
}

/// What a session counts as.
pub(super) struct Counted<'a> {
    pub(super) mount_point: Option<&'a Arc<str>>,
    pub(super) user_name: Option<&'a str>,
    /// Most sessions of the mount point.
    pub(super) namespace_max: usize,
    /// Most sessions of the user, 0 = unlimited.
    pub(super) user_max: usize,
}

/// A session that is counted; dropped with it.
#[derive(Debug)]
pub(super) struct Place {
    census: Arc<Census>,
    key: Arc<str>,
}

impl Census {
    /// Counts one more session.
    ///
    /// # Errors
    /// Who has as many as allowed already, in words.
    pub(super) fn count(
        self: &Arc<Self>,
        session: &Counted<'_>,
    ) -> Result<Box<[Place]>, &'static str> {
        let mut places = Vec::new();
        if let Some(mount_point) = session.mount_point {
            let place = self.enter(mount_point, session.namespace_max);
            places.push(place.ok_or("the namespace has too many sessions")?);
        }
        if let Some(user_name) = session.user_name.filter(|_| session.user_max > 0) {
            let place = self.enter(&format!("\0{user_name}").into(), session.user_max);
            places.push(place.ok_or("the user has too many sessions")?);
        }
        Ok(places.into())
    }

    fn enter(self: &Arc<Self>, key: &Arc<str>, sessions_max: usize) -> Option<Place> {
        let mut counts = self.counts.lock();
        let count = counts.entry(Arc::clone(key)).or_default();
        if *count >= sessions_max {
            return None;
        }
        *count += 1;
        Some(Place {
            census: Arc::clone(self),
            key: Arc::clone(key),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.census.counts.lock();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
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

    #[test]
    fn a_session_that_is_refused_is_counted_nowhere() {
        let census = Arc::new(Census::default());
        let acme: Arc<str> = "acme/".into();
        let count = |user_name, user_max| {
            census.count(&Counted {
                mount_point: Some(&acme),
                user_name,
                namespace_max: 2,
                user_max,
            })
        };
        let first = count(Some("anna"), 1).expect("room");
        assert_eq!(first.len(), 2);
        let refused = count(Some("anna"), 1).expect_err("too many");
        assert_eq!(refused, "the user has too many sessions");
        let second = count(Some("anna"), 0).expect("room");
        assert_eq!(second.len(), 1);
        let refused = count(None, 1).expect_err("too many");
        assert_eq!(refused, "the namespace has too many sessions");
        drop((first, second));
        assert!(census.counts.lock().is_empty());
    }
}
