//! How many topics below some prefixes may have a retained message: namespaces have room of their
//! own.

use std::sync::Arc;

use hashbrown::HashMap;

/// Prefixes of topics with a limit, and what is below each; cheap to clone.
///
/// # Shape
/// Prefixes are whole levels and end with `/`; the longest that a topic begins with counts it.
#[derive(Clone, Debug, Default)]
pub struct PrefixLimits {
    /// Prefixes to their places in `rooms`.
    places: Arc<HashMap<Box<[u8]>, usize>>,
    rooms: Vec<Room>,
    levels_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Room {
    count: u64,
    count_max: u64,
}

impl PrefixLimits {
    /// Limits for prefixes below which nothing is counted yet.
    pub fn new(limits: impl IntoIterator<Item = (String, u64)>) -> Self {
        let (mut places, mut rooms) = (HashMap::new(), Vec::new());
        for (prefix, count_max) in limits {
            places.insert(prefix.into_bytes().into_boxed_slice(), rooms.len());
            rooms.push(Room {
                count: 0,
                count_max,
            });
        }
        let levels = places.keys().map(|prefix| cuts(prefix).count());
        Self {
            levels_max: levels.max().unwrap_or(0),
            places: Arc::new(places),
            rooms,
        }
    }

    /// Whether nothing has a limit.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether the limits are these, whatever is counted.
    pub fn has_limits_of(&self, other: &Self) -> bool {
        let max_of = |limits: &Self, prefix| {
            let room = limits.rooms.get(*limits.places.get(prefix)?);
            room.map(|it| it.count_max)
        };
        self.places.len() == other.places.len()
            && self
                .prefixes()
                .all(|it| max_of(self, it) == max_of(other, it))
    }

    /// What has a limit.
    pub fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        self.places.keys().map(|prefix| &**prefix)
    }

    /// Takes room for one more topic.
    ///
    /// # Errors
    /// There is none; the most that may be there.
    pub fn take(&mut self, topic: &[u8]) -> Result<(), u64> {
        match self.room_of(topic) {
            Some(room) if room.count >= room.count_max => Err(room.count_max),
            Some(room) => {
                room.count += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Counts a topic that is there, whatever the limit.
    pub fn count(&mut self, topic: &[u8]) {
        if let Some(room) = self.room_of(topic) {
            room.count += 1;
        }
    }

    /// A topic has no retained message any more.
    pub fn give_back(&mut self, topic: &[u8]) {
        if let Some(room) = self.room_of(topic) {
            room.count = room.count.saturating_sub(1);
        }
    }

    /// The prefix that counts a topic.
    pub fn prefix_of<'t>(&self, topic: &'t [u8]) -> Option<&'t [u8]> {
        let prefixes = cuts(topic).take(self.levels_max).map(|end| &topic[..end]);
        prefixes.filter(|it| self.places.contains_key(*it)).last()
    }

    fn room_of(&mut self, topic: &[u8]) -> Option<&mut Room> {
        let prefix = self.prefix_of(topic)?;
        let place = *self.places.get(prefix)?;
        self.rooms.get_mut(place)
    }
}

/// Where levels end, each after its `/`.
fn cuts(topic: &[u8]) -> impl Iterator<Item = usize> {
    let ends = topic.iter().enumerate();
    ends.filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(of: &[(&str, u64)]) -> PrefixLimits {
        PrefixLimits::new(of.iter().map(|(prefix, max)| ((*prefix).to_owned(), *max)))
    }

    #[test]
    fn the_longest_prefix_of_whole_levels_counts_a_topic() {
        let mut limits = limits(&[("a/", 1), ("a/b/c/", 2)]);
        assert_eq!(limits.take(b"a/b/x"), Ok(()));
        assert_eq!(limits.take(b"a/y"), Err(1));
        for topic in [b"a/b/c/1", b"a/b/c/2"] {
            assert_eq!(limits.take(topic), Ok(()));
        }
        assert_eq!(limits.take(b"a/b/c/3"), Err(2));
        for topic in ["a", "ab/c", "b/a/", ""] {
            assert_eq!(
                limits.take(topic.as_bytes()),
                Ok(()),
                "{topic} is elsewhere"
            );
        }
        limits.give_back(b"a/b/c/1");
        assert_eq!(limits.take(b"a/b/c/3"), Ok(()));
    }

    #[test]
    fn limits_are_the_same_whatever_was_counted() {
        let mut first = limits(&[("a/", 1)]);
        first.count(b"a/x");
        assert!(first.has_limits_of(&limits(&[("a/", 1)])));
        assert!(!first.has_limits_of(&limits(&[("a/", 2)])));
        assert!(!first.has_limits_of(&limits(&[("b/", 1)])));
        assert!(!first.has_limits_of(&limits(&[])));
    }
}
