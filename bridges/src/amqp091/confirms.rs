//! The window of a channel: what was published and is not settled yet.

use std::collections::VecDeque;

use amq_protocol::types::ShortString;
use bytes::Bytes;

use crate::{Failure, Settled};

/// By what a message that comes back is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) key: ShortString,
    pub(super) message_id: Option<ShortString>,
    pub(super) payload: Bytes,
}

/// Records in the order of publishing.
#[derive(Debug)]
pub(super) struct Confirms {
    window: VecDeque<InFlight>,
    /// The delivery tag of the first of the window.
    first: u64,
}

#[derive(Debug)]
struct InFlight {
    sequence: u64,
    known: Known,
    confirmed: Option<Verdict>,
    /// The words with which it came back, if it did.
    returned: Option<String>,
}

/// What the server says of what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ack,
    Nack,
}

impl Default for Confirms {
    fn default() -> Self {
        Self {
            window: VecDeque::new(),
            // Tags of a channel count from one.
            first: 1,
        }
    }
}

impl Confirms {
    pub(super) fn len(&self) -> usize {
        self.window.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// A record is published.
    pub(super) fn push(&mut self, sequence: u64, known: Known) {
        self.window.push_back(InFlight {
            sequence,
            known,
            confirmed: None,
            returned: None,
        });
    }

    /// The server has decided on a record, or on all up to it.
    pub(super) fn confirm(&mut self, tag: u64, is_multiple: bool, verdict: Verdict) {
        let last = tag.checked_sub(self.first);
        let last = last.and_then(|it| usize::try_from(it).ok());
        // Tag 0 is everything that is outstanding.
        let end = match (tag, last) {
            (0, _) => self.window.len(),
            (_, Some(last)) => last + 1,
            // It was settled before.
            (_, None) => return,
        };
        let begin = if is_multiple {
            0
        } else {
            end.saturating_sub(1)
        };
        let decided = self.window.iter_mut().take(end).skip(begin);
        decided.for_each(|it| {
            it.confirmed.get_or_insert(verdict);
        });
    }

    /// A message came back, which servers say before they confirm it. Of records with equal content
    /// it does not matter which one is taken.
    ///
    /// # Errors
    /// It is nobody's.
    pub(super) fn give_back(&mut self, known: &Known, words: String) -> Result<(), Failure> {
        let mut waiting = self.window.iter_mut();
        let record = waiting
            .find(|it| it.confirmed.is_none() && it.returned.is_none() && it.known == *known);
        let Some(record) = record else {
            return Err(Failure::retry(format!("not known to us: {words}")));
        };
        record.returned = Some(words);
        Ok(())
    }

    /// Settles the oldest records; the server confirms in any order, we settle in ours.
    pub(super) fn take_settled(&mut self) -> Vec<Settled> {
        let mut settled = Vec::new();
        while let Some(InFlight {
            confirmed: Some(verdict),
            ..
        }) = self.window.front()
        {
            let verdict = *verdict;
            let Some(oldest) = self.window.pop_front() else {
                break;
            };
            self.first += 1;
            let result = match (verdict, oldest.returned) {
                (Verdict::Nack, _) => Err(Failure::retry("the server could not keep it")),
                (Verdict::Ack, Some(words)) => Err(Failure::poison(words)),
                (Verdict::Ack, None) => Ok(()),
            };
            let sequence = oldest.sequence;
            settled.push(Settled { sequence, result });
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    fn known(name: &str) -> Known {
        Known {
            key: name.into(),
            message_id: None,
            payload: Bytes::from(name.to_owned()),
        }
    }

    fn published(names: &[&str]) -> Confirms {
        let mut confirms = Confirms::default();
        for (sequence, name) in (0..).zip(names) {
            confirms.push(sequence, known(name));
        }
        confirms
    }

    /// Which records were settled now, and what became of them.
    fn settled(confirms: &mut Confirms) -> Vec<(u64, Option<Class>)> {
        let settled = confirms.take_settled().into_iter();
        let class = |it: Settled| (it.sequence, it.result.err().map(|it| it.class));
        settled.map(class).collect()
    }

    #[test]
    fn records_are_settled_in_order_however_they_are_confirmed() {
        let mut confirms = published(&["a", "b", "c", "d", "e"]);
        confirms.confirm(2, false, Verdict::Ack);
        assert_eq!(settled(&mut confirms), []);
        confirms.confirm(1, false, Verdict::Ack);
        assert_eq!(settled(&mut confirms), [(0, None), (1, None)]);
        confirms.confirm(4, true, Verdict::Ack);
        assert_eq!(settled(&mut confirms), [(2, None), (3, None)]);
        confirms.push(5, known("f"));
        confirms.confirm(0, true, Verdict::Ack);
        assert_eq!(settled(&mut confirms), [(4, None), (5, None)]);
        assert!(confirms.is_empty());
    }

    #[test]
    fn what_the_server_cannot_keep_is_sent_again() {
        let mut confirms = published(&["a", "b"]);
        confirms.confirm(1, false, Verdict::Nack);
        // The first word counts.
        confirms.confirm(2, true, Verdict::Ack);
        assert_eq!(settled(&mut confirms), [(0, Some(Class::Retry)), (1, None)]);
    }

    #[test]
    fn a_returned_message_is_told_from_its_neighbours() {
        let mut confirms = published(&["kept", "lost", "kept too"]);
        confirms.give_back(&known("lost"), "gone".into()).unwrap();
        confirms.confirm(3, true, Verdict::Ack);
        let expected = [(0, None), (1, Some(Class::Poison)), (2, None)];
        assert_eq!(settled(&mut confirms), expected);
    }

    #[test]
    fn of_equal_messages_as_many_are_refused_as_came_back() {
        let mut confirms = published(&["same", "same", "same"]);
        for _ in 0..2 {
            confirms.give_back(&known("same"), "gone".into()).unwrap();
        }
        confirms.confirm(3, true, Verdict::Ack);
        let refused = Some(Class::Poison);
        let expected = [(0, refused), (1, refused), (2, None)];
        assert_eq!(settled(&mut confirms), expected);
    }

    #[test]
    fn a_returned_message_of_nobody_ends_the_connection_and_a_strange_confirm_does_nothing() {
        let mut confirms = published(&["kept"]);
        let failure = confirms.give_back(&known("x"), "strange".into());
        assert!(failure.unwrap_err().reason.contains("strange"));
        confirms.confirm(77, false, Verdict::Ack);
        assert_eq!(settled(&mut confirms), []);
        confirms.confirm(77, true, Verdict::Ack);
        assert_eq!(settled(&mut confirms), [(0, None)]);
        confirms.confirm(1, true, Verdict::Nack);
        assert_eq!(settled(&mut confirms), []);
    }
}
