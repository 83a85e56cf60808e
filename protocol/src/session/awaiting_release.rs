//! QoS 2 packet identifiers received and not yet released by PUBREL.

use crate::codec::PacketId;

/// A set of packet identifiers, small while few are in use.
///
/// # Shape
/// Pages of 256 identifiers as bitmaps, unordered; a page is freed when it is empty.
#[derive(Debug, Default)]
pub struct AwaitingRelease {
    pages: Vec<Page>,
    count: u32,
}

#[derive(Debug)]
struct Page {
    number: u8,
    bits: [u64; 4],
}

impl AwaitingRelease {
    /// Notes an identifier; false if it was there already: the PUBLISH is a duplicate.
    pub fn insert(&mut self, id: PacketId) -> bool {
        let [number, low] = id.0.get().to_be_bytes();
        let index = match self.pages.iter().position(|page| page.number == number) {
            Some(index) => index,
            None => {
                self.pages.push(Page {
                    number,
                    bits: [0; 4],
                });
                self.pages.len() - 1
            }
        };
        let mask = 1u64 << (low & 63);
        let word = &mut self.pages[index].bits[usize::from(low >> 6)];
        let is_new = *word & mask == 0;
        *word |= mask;
        self.count += u32::from(is_new);
        is_new
    }

    /// Forgets an identifier; false if it was not there.
    pub fn remove(&mut self, id: PacketId) -> bool {
        let [number, low] = id.0.get().to_be_bytes();
        let Some(index) = self.pages.iter().position(|page| page.number == number) else {
            return false;
        };
        let mask = 1u64 << (low & 63);
        let bits = &mut self.pages[index].bits;
        let word = &mut bits[usize::from(low >> 6)];
        let existed = *word & mask != 0;
        *word &= !mask;
        self.count -= u32::from(existed);
        if bits.iter().all(|word| *word == 0) && self.pages.len() > 1 {
            self.pages.swap_remove(index);
        }
        existed
    }

    /// How many identifiers wait.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId(NonZeroU16::new(value).unwrap())
    }

    #[test]
    fn every_identifier_is_kept_once_and_released_once() {
        let mut awaiting = AwaitingRelease::default();
        for value in 1..=u16::MAX {
            assert!(awaiting.insert(id(value)));
            assert!(!awaiting.insert(id(value)));
        }
        assert_eq!(awaiting.len(), 65_535);
        for value in (1..=u16::MAX).rev() {
            assert!(awaiting.remove(id(value)));
            assert!(!awaiting.remove(id(value)));
        }
        assert!(awaiting.is_empty());
    }
}
