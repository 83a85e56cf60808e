//! What one of several connections of a bridge passes on.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::config::ConnectionsBy;
use crate::message::ClientNumber;

/// Some of all messages: those whose client, or topic, falls to this one of equal parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// From zero.
    pub index: u16,
    /// How many parts there are, at least one.
    pub of: u16,
    /// What is divided.
    pub by: ConnectionsBy,
}

impl Part {
    /// All messages.
    pub const WHOLE: Self = Self {
        index: 0,
        of: 1,
        by: ConnectionsBy::Client,
    };

    /// Whether messages of a topic belong to it, if those of any client do.
    pub fn has_topic(self, topic: &str) -> bool {
        if self.of <= 1 || self.by != ConnectionsBy::Topic {
            return true;
        }
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        hasher.finish() % u64::from(self.of) == u64::from(self.index)
    }

    /// Whether messages of a client belong to it, if those of any topic do.
    pub fn has_client(self, client: ClientNumber) -> bool {
        !self.divides_clients() || client.0 % self.of == self.index
    }

    /// Whether it has the messages of some clients only.
    pub fn divides_clients(self) -> bool {
        self.of > 1 && self.by == ConnectionsBy::Client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(of: u16, by: ConnectionsBy) -> Vec<Part> {
        (0..of).map(|index| Part { index, of, by }).collect()
    }

    /// How many of a thousand names each part has; every name has to belong to one part alone.
    fn shares(of: u16, by: ConnectionsBy, has: impl Fn(Part, &str) -> bool) -> Vec<usize> {
        let parts = parts(of, by);
        let mut shares = vec![0; parts.len()];
        for number in 0..1_000 {
            let name = format!("site/device-{number}");
            let owners: Vec<usize> = (0..parts.len())
                .filter(|index| has(parts[*index], &name))
                .collect();
            assert_eq!(owners.len(), 1, "{name}");
            shares[owners[0]] += 1;
        }
        shares
    }

    #[test]
    fn each_client_or_topic_belongs_to_one_part_and_the_parts_are_about_equal() {
        for of in [2, 3, 7, 64] {
            let clients = shares(of, ConnectionsBy::Client, |part, name| {
                assert!(part.has_topic(name));
                part.has_client(ClientNumber::of(name))
            });
            let topics = shares(of, ConnectionsBy::Topic, |part, name| {
                assert!(part.has_client(ClientNumber::of(name)));
                part.has_topic(name)
            });
            let fair = 1_000 / usize::from(of);
            for share in clients.into_iter().chain(topics) {
                assert!((fair / 3..=fair * 2).contains(&share), "{share} of {of}");
            }
        }
    }

    #[test]
    fn the_only_part_has_everything() {
        assert!(Part::WHOLE.has_topic("t") && Part::WHOLE.has_client(ClientNumber(7)));
        assert!(!Part::WHOLE.divides_clients());
    }
}
