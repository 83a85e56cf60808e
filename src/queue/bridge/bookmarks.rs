//! How far a bridge has read the logs of the other side, and whose turn it is in each.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A record's place in a log over there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    /// Names the log.
    pub name: Arc<str>,
    /// What is read next, once the record has found its place here.
    pub next: u64,
}

/// Records that were refused, by their logs: those behind them wait until they are accepted, since
/// a bookmark means all before it.
#[derive(Debug, Default)]
pub(super) struct Turns {
    refused: HashMap<Arc<str>, BTreeSet<u64>>,
}

impl Turns {
    /// Whether nothing before this record waits; numbers ascend in the order of reading.
    pub(super) fn is_next(&self, bookmark: &Bookmark, number: u64) -> bool {
        let refused = self.refused.get(&bookmark.name);
        let first = refused.and_then(BTreeSet::first);
        first.is_none_or(|first| number <= *first)
    }

    pub(super) fn refuse(&mut self, bookmark: &Bookmark, number: u64) {
        let name = Arc::clone(&bookmark.name);
        self.refused.entry(name).or_default().insert(number);
    }

    pub(super) fn accept(&mut self, bookmark: &Bookmark, number: u64) {
        let Some(refused) = self.refused.get_mut(&bookmark.name) else {
            return;
        };
        refused.remove(&number);
        if refused.is_empty() {
            self.refused.remove(&bookmark.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, next: u64) -> Bookmark {
        Bookmark {
            name: name.into(),
            next,
        }
    }

    #[test]
    fn nothing_of_a_log_passes_what_was_refused_before_it() {
        let mut turns = Turns::default();
        let (a, b) = (at("a", 5), at("b", 9));
        turns.refuse(&a, 1);
        turns.refuse(&a, 3);
        assert!(!turns.is_next(&a, 3) && turns.is_next(&b, 3));
        assert!(turns.is_next(&a, 1));
        turns.accept(&a, 1);
        // What came meanwhile still waits for the second.
        assert!(turns.is_next(&a, 3) && !turns.is_next(&a, 4));
        turns.accept(&a, 3);
        assert!(turns.is_next(&a, 4) && turns.refused.is_empty());
    }
}
