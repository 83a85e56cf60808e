//! Filters without wildcards.

use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;

use super::set::{BindingSet, Removal};
use super::{Binding, Destination};

/// Bindings by filter, for filters that match only the topic of the same text.
#[derive(Debug, Default)]
pub(super) struct ExactFilters {
    filters: HashMap<Box<str>, BindingSet>,
}

impl ExactFilters {
    /// Adds or replaces a binding; true if its destination is new for the filter.
    pub(super) fn bind(&mut self, filter: &str, binding: Binding) -> bool {
        match self.filters.entry_ref(filter) {
            EntryRef::Occupied(mut entry) => entry.get_mut().insert(binding),
            EntryRef::Vacant(entry) => {
                entry.insert(BindingSet::One(binding));
                true
            }
        }
    }

    /// Removes a binding; true if it existed.
    pub(super) fn unbind(&mut self, filter: &str, destination: Destination) -> bool {
        let Some(set) = self.filters.get_mut(filter) else {
            return false;
        };
        let removal = set.remove(destination);
        if removal == Removal::Emptied {
            self.filters.remove(filter);
            if self.filters.is_empty() {
                self.filters.shrink_to_fit();
            }
        }
        removal != Removal::Missing
    }

    /// Appends the bindings of the filter equal to `topic`.
    pub(super) fn collect(&self, topic: &str, out: &mut Vec<Binding>) {
        if let Some(set) = self.filters.get(topic) {
            set.collect(out);
        }
    }

    /// The number of filters.
    pub(super) fn len(&self) -> usize {
        self.filters.len()
    }
}
