//! What one subscriber has of each of its publishers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use crate::cli::client::ClientError;

/// Faults of all subscribers.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) duplicate: Cell<u64>,
    pub(super) out_of_order: Cell<u64>,
}

/// The messages of publisher `first` and those after it.
pub(super) struct Tracks {
    first: u32,
    tracks: RefCell<Vec<Track>>,
}

#[derive(Clone, Default)]
struct Track {
    next: u64,
    missing: BTreeSet<u64>,
}

impl Tracks {
    pub(super) fn new(first: u32, publishers: usize) -> Self {
        Self {
            first,
            tracks: RefCell::new(vec![Track::default(); publishers]),
        }
    }

    /// Messages that have not come, given the range that each publisher was measured with.
    pub(super) fn lost(&self, measured: impl Fn(u32) -> std::ops::Range<u64>) -> u64 {
        let tracks = self.tracks.borrow();
        (self.first..)
            .zip(tracks.iter())
            .map(|(publisher, track)| {
                let range = measured(publisher);
                let never = range.end.saturating_sub(track.next.max(range.start));
                never + track.missing.range(range).count() as u64
            })
            .sum()
    }

    /// Notes a message and whether it is new; faults count from sequence `measured_from`.
    pub(super) fn take(
        &self,
        publisher: u32,
        sequence: u64,
        measured_from: u64,
        faults: &Faults,
    ) -> Result<bool, ClientError> {
        let mut tracks = self.tracks.borrow_mut();
        let track = publisher
            .checked_sub(self.first)
            .and_then(|index| tracks.get_mut(index as usize))
            .ok_or(ClientError::Unexpected)?;
        if sequence >= track.next {
            track.missing.extend(track.next..sequence);
            track.next = sequence + 1;
            return Ok(true);
        }
        let is_late = track.missing.remove(&sequence);
        if sequence >= measured_from {
            let counter = match is_late {
                true => &faults.out_of_order,
                false => &faults.duplicate,
            };
            counter.set(counter.get() + 1);
        }
        Ok(is_late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_apart() {
        let tracks = Tracks::new(7, 1);
        let faults = Faults::default();
        for (sequence, is_new) in [(0, true), (3, true), (1, true), (1, false), (3, false)] {
            let taken = tracks
                .take(7, sequence, 0, &faults)
                .expect("known publisher");
            assert_eq!(taken, is_new, "{sequence}");
        }
        assert!(tracks.take(8, 0, 0, &faults).is_err());
        assert_eq!((faults.out_of_order.get(), faults.duplicate.get()), (1, 2));
        // 2 never came, and neither did 4 and 5.
        assert_eq!(tracks.lost(|_| 0..6), 3);
    }

    #[test]
    fn faults_of_the_warm_up_do_not_count() {
        let tracks = Tracks::new(0, 1);
        let faults = Faults::default();
        for sequence in [0, 3, 1, 1, 5] {
            tracks
                .take(0, sequence, 4, &faults)
                .expect("known publisher");
        }
        assert_eq!((faults.out_of_order.get(), faults.duplicate.get()), (0, 0));
        // 2 is missing and was sent before; 4 is missing.
        assert_eq!(tracks.lost(|_| 4..6), 1);
    }
}
