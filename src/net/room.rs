//! How many connections there may be at the same time, by a limit that can change meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts places that are taken.
#[derive(Debug)]
pub(crate) struct Room {
    taken: AtomicUsize,
    places_max: AtomicUsize,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Room>);

/// As many places are taken as there are, or more since the limit was lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Room {
    pub(crate) fn new(places_max: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            places_max: AtomicUsize::new(places_max),
        }
    }

    /// From now on; who has a place keeps it.
    pub(crate) fn limit(&self, places_max: usize) {
        self.places_max.store(places_max, Ordering::Relaxed);
    }

    /// # Errors
    /// There is no place.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Place, Full> {
        let relaxed = Ordering::Relaxed;
        let places_max = self.places_max.load(relaxed);
        let one_more = |taken| (taken < places_max).then_some(taken + 1);
        let taken = self.taken.fetch_update(relaxed, relaxed, one_more);
        taken.map(|_| Place(Arc::clone(self))).map_err(|_| Full)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_limit_takes_no_place_away_and_counts_those_that_are_taken() {
        let room = Arc::new(Room::new(2));
        let (first, _second) = (room.take().unwrap(), room.take().unwrap());
        assert_eq!(room.take().err(), Some(Full));
        room.limit(1);
        drop(first);
        assert_eq!(room.take().err(), Some(Full));
        room.limit(3);
        let _more = (room.take().unwrap(), room.take().unwrap());
        assert_eq!(room.take().err(), Some(Full));
    }
}
