//! Values under small numbers that are reused, with a generation that is not.

/// Where a value lives; stale once the value is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Position, reused.
    pub slot: u32,
    /// Counts the values that lived there.
    pub generation: u32,
}

/// An arena with stable keys.
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    /// Stores a value.
    pub(super) fn insert(&mut self, value: T) -> Key {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.entries[slot as usize];
            entry.generation = entry.generation.wrapping_add(1);
            entry.value = Some(value);
            return Key {
                slot,
                generation: entry.generation,
            };
        }
        let slot =
            u32::try_from(self.entries.len()).expect("memory ends before four billion slots");
        self.entries.push(Entry {
            generation: 0,
            value: Some(value),
        });
        Key {
            slot,
            generation: 0,
        }
    }

    /// The value, if the key is not stale.
    pub(super) fn lookup(&self, key: Key) -> Option<&T> {
        let entry = self.entries.get(key.slot as usize)?;
        entry
            .value
            .as_ref()
            .filter(|_| entry.generation == key.generation)
    }

    /// The value, if the key is not stale.
    pub(super) fn lookup_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        entry
            .value
            .as_mut()
            .filter(|_| entry.generation == key.generation)
    }

    /// Takes the value out; its key is stale from now on.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        self.free.push(key.slot);
        Some(value)
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// The keys of all values.
    pub(super) fn keys(&self) -> Vec<Key> {
        (0u32..)
            .zip(&self.entries)
            .filter(|(_, entry)| entry.value.is_some())
            .map(|(slot, entry)| Key {
                slot,
                generation: entry.generation,
            })
            .collect()
    }
}
