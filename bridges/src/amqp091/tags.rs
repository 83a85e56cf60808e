//! The delivery tags of a channel that are not acknowledged: neighbours are acknowledged together.

use std::collections::VecDeque;

/// What has come over one channel, in the order of the tags.
#[derive(Debug, Default)]
pub(super) struct Tags {
    first: u64,
    /// From `first` on, without gaps.
    open: VecDeque<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Accepted,
    /// The server has been told.
    Told,
}

/// An acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    pub(super) tag: u64,
    /// Also of all before that have had none.
    pub(super) is_multiple: bool,
}

impl Tags {
    /// A delivery has come; tags count up by one on each channel.
    pub(super) fn arrived(&mut self, tag: u64) {
        if self.open.is_empty() {
            self.first = tag;
        }
        self.open.push_back(State::Open);
    }

    /// The server hears of this one by itself.
    pub(super) fn told(&mut self, tag: u64) {
        self.set(tag, State::Told);
    }

    /// What to tell the server of these.
    pub(super) fn accept(&mut self, tags: &[u64]) -> Vec<Acknowledgement> {
        for tag in tags {
            self.set(*tag, State::Accepted);
        }
        let mut told: Vec<Acknowledgement> = self.oldest().into_iter().collect();
        for tag in tags {
            if self.get(*tag) == Some(State::Accepted) {
                self.set(*tag, State::Told);
                let (tag, is_multiple) = (*tag, false);
                told.push(Acknowledgement { tag, is_multiple });
            }
        }
        told
    }

    /// Takes out what is decided on before the first that is not.
    fn oldest(&mut self) -> Option<Acknowledgement> {
        let mut last: Option<Acknowledgement> = None;
        while let Some(state) = self.open.front()
            && *state != State::Open
        {
            if *state == State::Accepted {
                last = Some(Acknowledgement {
                    tag: self.first,
                    is_multiple: last.is_some(),
                });
            }
            self.open.pop_front();
            self.first += 1;
        }
        last
    }

    fn index(&self, tag: u64) -> Option<usize> {
        usize::try_from(tag.checked_sub(self.first)?).ok()
    }

    fn get(&self, tag: u64) -> Option<State> {
        self.open.get(self.index(tag)?).copied()
    }

    fn set(&mut self, tag: u64, state: State) {
        if let Some(index) = self.index(tag)
            && let Some(known) = self.open.get_mut(index)
        {
            *known = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(tags: &mut Tags, these: &[u64]) -> Vec<(u64, bool)> {
        let told = tags.accept(these).into_iter();
        told.map(|it| (it.tag, it.is_multiple)).collect()
    }

    #[test]
    fn neighbours_are_acknowledged_together_and_others_alone() {
        let mut tags = Tags::default();
        (1..=9).for_each(|tag| tags.arrived(tag));
        assert_eq!(accepted(&mut tags, &[1]), [(1, false)]);
        assert_eq!(accepted(&mut tags, &[4, 2, 3, 6]), [(4, true), (6, false)]);
        tags.told(7);
        assert_eq!(accepted(&mut tags, &[5, 8]), [(8, true)]);
        assert_eq!(accepted(&mut tags, &[9]), [(9, false)]);
        tags.arrived(10);
        assert_eq!(accepted(&mut tags, &[10, 4, 77]), [(10, false)]);
    }
}
