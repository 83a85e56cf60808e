//! What is known by ascending numbers and leaves in nearly the same order.

use std::collections::VecDeque;

/// Things by their sequences.
///
/// # Shape
/// Ascending; `None` has left behind one that has not.
#[derive(Debug)]
pub(crate) struct BySequence<T> {
    slots: VecDeque<(u64, Option<T>)>,
    count: usize,
}

impl<T> Default for BySequence<T> {
    fn default() -> Self {
        Self {
            slots: VecDeque::new(),
            count: 0,
        }
    }
}

impl<T> BySequence<T> {
    /// How many are here.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends one; its sequence is above all others.
    pub(crate) fn push(&mut self, sequence: u64, it: T) {
        let last = self.slots.back();
        debug_assert!(last.is_none_or(|it| it.0 < sequence), "sequences ascend");
        self.slots.push_back((sequence, Some(it)));
        self.count += 1;
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&T> {
        self.slots.get(self.place_of(sequence)?)?.1.as_ref()
    }

    pub(crate) fn lookup_mut(&mut self, sequence: u64) -> Option<&mut T> {
        let place = self.place_of(sequence)?;
        self.slots.get_mut(place)?.1.as_mut()
    }

    /// Takes one out.
    pub(crate) fn take(&mut self, sequence: u64) -> Option<T> {
        let place = self.place_of(sequence)?;
        let taken = self.slots.get_mut(place)?.1.take()?;
        self.count -= 1;
        while let Some((_, None)) = self.slots.front() {
            self.slots.pop_front();
        }
        Some(taken)
    }

    /// All that are here, in order.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = u64> {
        let here = self.slots.iter().filter(|it| it.1.is_some());
        here.map(|it| it.0)
    }

    /// Nearly always as far from the first as the sequences are apart.
    fn place_of(&self, sequence: u64) -> Option<usize> {
        let first = self.slots.front()?.0;
        let guess = usize::try_from(sequence.checked_sub(first)?).ok()?;
        match self.slots.get(guess) {
            Some((found, _)) if *found == sequence => Some(guess),
            _ => self.slots.binary_search_by_key(&sequence, |it| it.0).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_left_is_gone_and_the_rest_stays_in_order() {
        let mut it = BySequence::default();
        // Not without gaps.
        for sequence in [3, 4, 7, 9] {
            it.push(sequence, sequence * 10);
        }
        assert_eq!(it.take(7), Some(70));
        assert_eq!((it.take(7), it.take(1), it.take(8)), (None, None, None));
        assert_eq!((it.len(), it.get(4), it.get(7)), (3, Some(&40), None));
        assert_eq!(it.take(3), Some(30));
        assert_eq!(it.sequences().collect::<Vec<_>>(), [4, 9]);
        assert_eq!((it.take(9), it.take(4)), (Some(90), Some(40)));
        assert!(it.is_empty() && it.slots.is_empty());
    }
}
