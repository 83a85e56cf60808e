//! Which messages have come before, over all connections of a bridge.
//!
//! An acknowledgement that the server has lost, or never got, brings the message again with a
//! higher count of deliveries. What the caller has is then acknowledged by the new handle, without
//! being given twice. This ends with the process.

use std::collections::{HashMap, VecDeque};

/// What has come, by topic and message id.
#[derive(Debug, Default)]
pub(super) struct Seen {
    last_number: u64,
    /// What the caller has not accepted.
    pending: HashMap<u64, Key>,
    known: HashMap<Key, Known>,
    /// What is accepted, oldest first.
    accepted: VecDeque<Key>,
}

/// A topic and a message id.
pub(super) type Key = (String, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Pending(u64),
    Accepted,
}

/// What a message that has come is, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The caller is to get it.
    New(u64),
    /// The caller has it, and has not accepted it yet.
    Pending(u64),
    /// The caller has accepted it.
    Accepted(u64),
}

impl Seen {
    pub(super) fn arrive(&mut self, key: Key, is_again: bool) -> Arrival {
        let known = self.known.get(&key).filter(|_| is_again);
        if let Some(Known::Pending(number)) = known {
            return Arrival::Pending(*number);
        }
        self.last_number += 1;
        if known.is_some() {
            return Arrival::Accepted(self.last_number);
        }
        self.known
            .insert(key.clone(), Known::Pending(self.last_number));
        self.pending.insert(self.last_number, key);
        Arrival::New(self.last_number)
    }

    /// A number for a message that the caller is never to get.
    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The caller has no place for a message; should it come again, it is as good as new.
    pub(super) fn refuse(&mut self, number: u64) {
        let Some(key) = self.pending.remove(&number) else {
            return;
        };
        // Another message may have the same id.
        if self.known.get(&key) == Some(&Known::Pending(number)) {
            self.known.remove(&key);
        }
    }

    pub(super) fn accept(&mut self, number: u64) {
        let Some(key) = self.pending.remove(&number) else {
            return;
        };
        // Another message may have the same id.
        if self.known.get(&key) != Some(&Known::Pending(number)) {
            return;
        }
        self.known.insert(key.clone(), Known::Accepted);
        self.accepted.push_back(key);
        if self.accepted.len() > ACCEPTED_MAX
            && let Some(oldest) = self.accepted.pop_front()
            && self.known.get(&oldest) == Some(&Known::Accepted)
        {
            self.known.remove(&oldest);
        }
    }
}

/// Message ids that are remembered.
const ACCEPTED_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        ("t".to_owned(), id.to_owned())
    }

    #[test]
    fn what_comes_again_is_known_whether_it_was_accepted_or_not() {
        let mut seen = Seen::default();
        assert_eq!(seen.arrive(key("a"), false), Arrival::New(1));
        assert_eq!(seen.arrive(key("a"), true), Arrival::Pending(1));
        seen.accept(1);
        assert_eq!(seen.arrive(key("a"), true), Arrival::Accepted(2));
        assert_eq!(seen.arrive(key("b"), true), Arrival::New(3));
    }

    #[test]
    fn a_message_that_comes_for_the_first_time_is_new_even_if_its_id_is_not() {
        let mut seen = Seen::default();
        assert_eq!(seen.arrive(key("a"), false), Arrival::New(1));
        assert_eq!(seen.arrive(key("a"), false), Arrival::New(2));
        seen.accept(1);
        assert_eq!(seen.arrive(key("a"), true), Arrival::Pending(2));
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let mut seen = Seen::default();
        for number in 0..=ACCEPTED_MAX {
            let arrived = seen.arrive(key(&number.to_string()), false);
            let Arrival::New(number) = arrived else {
                unreachable!("{arrived:?}");
            };
            seen.accept(number);
        }
        assert_eq!((seen.known.len(), seen.pending.len()), (ACCEPTED_MAX, 0));
    }
}
