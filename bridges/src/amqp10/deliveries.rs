//! What was sent over a session and is not settled yet.

use std::collections::VecDeque;

/// Deliveries by their number, which rises by one.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// The number of the first of the window.
    first: u32,
    window: VecDeque<Option<Sent>>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// What the caller calls the record.
    pub(super) sequence: u64,
    /// The link that it was sent over.
    pub(super) handle: u32,
}

impl Deliveries {
    /// The number of the next delivery.
    pub(super) fn next_id(&self) -> u32 {
        // No window is larger than the numbers.
        let length = u32::try_from(self.window.len()).unwrap_or(u32::MAX);
        self.first.wrapping_add(length)
    }

    /// How many numbers there are from the first that is not settled.
    pub(super) fn span(&self) -> usize {
        self.window.len()
    }

    pub(super) fn push(&mut self, sent: Sent) {
        self.window.push_back(Some(sent));
    }

    /// Takes deliveries from the first number to the last; those that are not there were settled
    /// before, or never sent.
    pub(super) fn take(&mut self, first: u32, last: u32, mut settle: impl FnMut(Sent)) {
        // Numbers of an earlier time are far ahead, as far as a round of numbers goes.
        let place = |id: u32| usize::try_from(id.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        let (begin, end) = (place(first), place(last));
        let length = self.window.len();
        let begin = if begin >= length && end < length {
            0
        } else {
            begin
        };
        let reached = end.saturating_add(1).min(length).saturating_sub(begin);
        for delivery in self.window.iter_mut().skip(begin).take(reached) {
            if let Some(sent) = delivery.take() {
                settle(sent);
            }
        }
        while let Some(None) = self.window.front() {
            self.window.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(all: &mut Deliveries, first: u32, last: u32) -> Vec<u64> {
        let mut sequences = Vec::new();
        all.take(first, last, |it| sequences.push(it.sequence));
        sequences
    }

    #[test]
    fn deliveries_are_taken_once_and_in_any_order() {
        let start = u32::MAX - 1;
        let mut all = Deliveries {
            first: start,
            ..Deliveries::default()
        };
        for sequence in 1..=5 {
            all.push(Sent {
                sequence,
                handle: 0,
            });
        }
        assert_eq!(all.next_id(), start.wrapping_add(5));
        assert_eq!(taken(&mut all, start.wrapping_add(1), 0), [2, 3]);
        assert_eq!(taken(&mut all, start, 0), [1]);
        assert!(taken(&mut all, start, start).is_empty());
        // From before the window into it.
        assert_eq!(taken(&mut all, start, 1), [4]);
        assert!(taken(&mut all, 77, 99).is_empty());
        assert_eq!(taken(&mut all, 2, 99), [5]);
        assert_eq!(all.next_id(), start.wrapping_add(5));
        assert!(taken(&mut all, 0, u32::MAX).is_empty());
    }
}
