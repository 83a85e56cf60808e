//! The bindings of one filter.

use hashbrown::HashMap;

use super::{Binding, Destination};

/// The bindings of one filter, at most one per destination; never empty.
///
/// # Shape
/// Most filters have one binding, held in place; a second moves all to a map.
#[derive(Debug)]
pub(super) enum BindingSet {
    /// The usual case.
    One(Binding),
    /// Two or more.
    Many(Box<HashMap<Destination, Binding>>),
}

/// What removing a binding did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// There was no such binding.
    Missing,
    /// Others remain.
    Removed,
    /// It was the last: the owner drops the set.
    Emptied,
}

impl BindingSet {
    /// Adds or replaces a binding; true if its destination is new.
    pub(super) fn insert(&mut self, binding: Binding) -> bool {
        match self {
            Self::One(present) if present.destination == binding.destination => {
                *present = binding;
                false
            }
            Self::One(present) => {
                let both = [*present, binding].map(|one| (one.destination, one));
                *self = Self::Many(Box::new(both.into_iter().collect()));
                true
            }
            Self::Many(map) => map.insert(binding.destination, binding).is_none(),
        }
    }

    /// Removes the binding of a destination; a last one is left for the owner to drop.
    pub(super) fn remove(&mut self, destination: Destination) -> Removal {
        match self {
            Self::One(present) if present.destination == destination => Removal::Emptied,
            Self::One(_) => Removal::Missing,
            Self::Many(map) => {
                if map.remove(&destination).is_none() {
                    return Removal::Missing;
                }
                if map.len() == 1
                    && let Some(last) = map.values().next().copied()
                {
                    *self = Self::One(last);
                }
                Removal::Removed
            }
        }
    }

    /// Appends all bindings, in no particular order.
    pub(super) fn collect(&self, out: &mut Vec<Binding>) {
        match self {
            Self::One(binding) => out.push(*binding),
            Self::Many(map) => out.extend(map.values()),
        }
    }
}
