//! Where messages in flight are kept: by packet identifier, and in the order of sending.

use std::num::NonZeroU16;

use crate::codec::QoS;

/// What is in flight, by packet identifiers that it gives itself.
///
/// # Shape
/// A ring of a power of two slots; an identifier lives at `id & mask`. Occupied slots form a
/// doubly linked list in the order of sending. An identifier whose slot is taken is skipped, so
/// identifiers wrap past those still in flight.
#[derive(Debug)]
pub(super) struct Slots<D> {
    slots: Vec<Slot<D>>,
    oldest: u16,
    newest: u16,
    count: u16,
    last_id: u16,
}

#[derive(Debug)]
pub(super) struct Slot<D> {
    pub(super) id: u16,
    previous: u16,
    pub(super) next: u16,
    pub(super) is_unsent: bool,
    pub(super) state: State<D>,
}

#[derive(Debug)]
pub(super) enum State<D> {
    Free,
    Published(QoS, D),
    Released,
}

impl<D> Default for Slots<D> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            oldest: NONE,
            newest: NONE,
            count: 0,
            last_id: 0,
        }
    }
}

impl<D> Slots<D> {
    pub(super) fn len(&self) -> u16 {
        self.count
    }

    /// The identifier of what was sent first; [`NONE`] if nothing is in flight.
    pub(super) fn oldest(&self) -> u16 {
        self.oldest
    }

    pub(super) fn get(&self, id: u16) -> Option<&Slot<D>> {
        if id == NONE || self.slots.is_empty() {
            return None;
        }
        let slot = &self.slots[self.index(id)];
        (slot.id == id).then_some(slot)
    }

    pub(super) fn get_mut(&mut self, id: u16) -> Option<&mut Slot<D>> {
        if id == NONE || self.slots.is_empty() {
            return None;
        }
        let index = self.index(id);
        let slot = &mut self.slots[index];
        (slot.id == id).then_some(slot)
    }

    /// The occupied slots, in the order of sending.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot<D>> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let slot = self.get(at)?;
            at = slot.next;
            Some(slot)
        })
    }

    /// An identifier that is not in use, whose slot is free; at most 65,534 may be in use.
    pub(super) fn next_id(&mut self) -> NonZeroU16 {
        if usize::from(self.count) * 4 >= self.slots.len() * 3 && self.slots.len() < SLOTS_MAX {
            self.grow();
        }
        let mut id = self.last_id;
        loop {
            id = id.wrapping_add(1);
            let is_free = self.slots[self.index(id)].id == NONE;
            if let Some(id) = NonZeroU16::new(id)
                && is_free
            {
                return id;
            }
        }
    }

    /// Identifiers that are not in use, and first those that [`Slots::next_id`] comes to last.
    pub(super) fn spare_ids(&self) -> impl Iterator<Item = NonZeroU16> {
        let ids = (0..u16::MAX).map(|step| self.last_id.wrapping_sub(step));
        ids.filter(|id| self.get(*id).is_none())
            .filter_map(NonZeroU16::new)
    }

    /// Sees to it that the slot of an identifier is free; false if the identifier is in use.
    pub(super) fn make_room(&mut self, id: NonZeroU16) -> bool {
        while self.slots.is_empty() || self.slots[self.index(id.get())].id != NONE {
            if self.slots.len() == SLOTS_MAX {
                return false;
            }
            self.grow();
        }
        true
    }

    /// Occupies the free slot of an identifier, as what was sent last.
    pub(super) fn append(&mut self, id: NonZeroU16, state: State<D>) {
        let id = id.get();
        let previous = self.newest;
        let index = self.index(id);
        self.slots[index] = Slot {
            id,
            previous,
            next: NONE,
            is_unsent: false,
            state,
        };
        if previous == NONE {
            self.oldest = id;
        } else if let Some(slot) = self.get_mut(previous) {
            slot.next = id;
        }
        self.newest = id;
        self.last_id = id;
        self.count += 1;
    }

    /// Unlinks an occupied slot; an emptied ring gives its memory back.
    pub(super) fn remove(&mut self, id: u16) {
        let Some(slot) = self.get_mut(id) else {
            return;
        };
        let (previous, next) = (slot.previous, slot.next);
        *slot = Slot::free();
        match self.get_mut(previous) {
            Some(slot) => slot.next = next,
            None => self.oldest = next,
        }
        match self.get_mut(next) {
            Some(slot) => slot.previous = previous,
            None => self.newest = previous,
        }
        self.count -= 1;
        if self.count == 0 && self.slots.len() > SLOTS_KEPT {
            self.slots = Vec::new();
        }
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(SLOTS_MIN);
        let old = std::mem::take(&mut self.slots);
        self.slots.resize_with(size, Slot::free);
        for slot in old.into_iter().filter(|slot| slot.id != NONE) {
            let index = self.index(slot.id);
            self.slots[index] = slot;
        }
    }

    fn index(&self, id: u16) -> usize {
        usize::from(id) & (self.slots.len() - 1)
    }
}

impl<D> Slot<D> {
    fn free() -> Self {
        Self {
            id: NONE,
            previous: NONE,
            next: NONE,
            is_unsent: false,
            state: State::Free,
        }
    }
}

/// Zero is never a packet identifier [MQTT-2.2.1-4].
pub(super) const NONE: u16 = 0;
const SLOTS_MIN: usize = 8;
/// A ring this small stays allocated when it runs empty.
const SLOTS_KEPT: usize = 256;
const SLOTS_MAX: usize = 65_536;
