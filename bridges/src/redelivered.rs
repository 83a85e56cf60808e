//! What was delivered to us and not accepted by the caller, and what was accepted lately.
//!
//! An acknowledgement that did not reach the server brings the delivery again over the next
//! connection, marked as redelivered by most servers. One that has a message id is then known here,
//! and is acknowledged without being taken twice. This ends with the process.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Receipt;
use crate::ports::Orders;

/// Stands for a delivery that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Delivery {
    /// Numbers mean something within one connection only.
    pub(crate) connection: u64,
    pub(crate) number: u64,
}

/// The deliveries of all connections of a bridge.
#[derive(Debug, Default)]
pub(crate) struct Redelivered(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The message ids of what the caller has not accepted.
    pending: HashMap<Delivery, Box<str>>,
    ids: HashMap<Box<str>, Entry>,
    /// Those of them that are accepted, oldest first.
    accepted: VecDeque<Box<str>>,
    /// Counts the links that messages came over.
    link: u64,
}

/// A message id.
#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    /// The link of its latest copy.
    link: u64,
    content: Option<u64>,
}

/// What is known of a message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The caller has the first copy; in the end the latest is acknowledged.
    Pending {
        first: Delivery,
        latest: Delivery,
    },
    Accepted,
}

/// What says that a message was sent to us before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// The server does.
    Marked,
    /// The server says that it was not. Senders may use ids again.
    New,
    /// The server may not know: it is the same if it came over an earlier link with this content.
    Content(u64),
}

impl Evidence {
    /// What is known by its content alone.
    #[cfg_attr(
        not(any(feature = "amqp10", test)),
        expect(dead_code, reason = "for AMQP 1.0")
    )]
    pub(crate) fn of_content(topic: &str, payload: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        let start = payload.get(..CONTENT_BYTES).unwrap_or(payload);
        (topic, payload.len(), start).hash(&mut hasher);
        Self::Content(hasher.finish())
    }

    fn is_of(self, entry: &Entry, link: u64) -> bool {
        match self {
            Self::Marked => true,
            Self::New => false,
            Self::Content(content) => entry.link < link && entry.content == Some(content),
        }
    }
}

/// What to do with a delivery that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The caller is to take it.
    New,
    /// The caller has a copy of it; this one is acknowledged once that is accepted, in place of
    /// the latest before it.
    Waits(Delivery),
    /// The caller has accepted a copy of it.
    Accepted,
}

impl Redelivered {
    /// What comes from now on comes over another link: over it comes again what was on its way.
    #[cfg_attr(
        not(any(feature = "amqp10", test)),
        expect(dead_code, reason = "for AMQP 1.0")
    )]
    pub(crate) fn begin_link(&self) {
        self.lock().link += 1;
    }

    /// A delivery has come.
    pub(crate) fn arrive(&self, latest: Delivery, id: &str, evidence: Evidence) -> Arrival {
        let mut known = self.lock();
        let link = known.link;
        let entry = known.ids.get_mut(id);
        if let Some(entry) = entry.filter(|it| evidence.is_of(it, link)) {
            entry.link = link;
            return match &mut entry.state {
                State::Accepted => Arrival::Accepted,
                State::Pending { latest: it, .. } => Arrival::Waits(std::mem::replace(it, latest)),
            };
        }
        let first = latest;
        let entry = Entry {
            state: State::Pending { first, latest },
            link,
            content: match evidence {
                Evidence::Content(content) => Some(content),
                Evidence::Marked | Evidence::New => None,
            },
        };
        known.ids.insert(id.into(), entry);
        known.pending.insert(latest, id.into());
        Arrival::New
    }

    /// The caller has accepted a delivery; answers which one the server is to be told of.
    pub(crate) fn accept(&self, delivery: Delivery) -> Delivery {
        let mut known = self.lock();
        let Some((id, latest)) = known.end(delivery) else {
            return delivery;
        };
        if let Some(entry) = known.ids.get_mut(&id) {
            entry.state = State::Accepted;
        }
        known.accepted.push_back(id);
        if known.accepted.len() > ACCEPTED_MAX
            && let Some(oldest) = known.accepted.pop_front()
            && known.ids.get(&oldest).map(|it| it.state) == Some(State::Accepted)
        {
            known.ids.remove(&oldest);
        }
        latest
    }

    /// The caller has refused a delivery: should it come again, it is refused again. Answers which
    /// one the server is to be told of.
    pub(crate) fn refuse(&self, delivery: Delivery) -> Delivery {
        let mut known = self.lock();
        let Some((id, latest)) = known.end(delivery) else {
            return delivery;
        };
        known.ids.remove(&id);
        latest
    }

    /// A connection has ended before it could tell the server of these.
    pub(crate) fn conclude(&self, left: Option<Orders>) {
        let Some(Orders {
            accepted, refused, ..
        }) = left
        else {
            return;
        };
        let deliveries =
            |receipts: Vec<Receipt>| receipts.into_iter().filter_map(Receipt::delivery);
        for delivery in deliveries(accepted) {
            self.accept(delivery);
        }
        for delivery in deliveries(refused) {
            self.refuse(delivery);
        }
    }

    /// All that is known is of another queue.
    pub(crate) fn forget(&self) {
        *self.lock() = Known::default();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing that holds the lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The id of a delivery that is decided on, and the latest of its copies.
    fn end(&mut self, delivery: Delivery) -> Option<(Box<str>, Delivery)> {
        let id = self.pending.remove(&delivery)?;
        match self.ids.get(&id).map(|it| it.state) {
            Some(State::Pending { first, latest }) if first == delivery => Some((id, latest)),
            // Another message has the same id.
            _ => None,
        }
    }
}

/// What a server leaves unacknowledged at the most (the prefetch): all that may come again.
const ACCEPTED_MAX: usize = 65_536;
/// So much of a payload is looked at.
const CONTENT_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(connection: u64, number: u64) -> Delivery {
        Delivery { connection, number }
    }

    #[test]
    fn a_redelivery_of_what_was_accepted_is_not_taken_again() {
        let all = Redelivered::default();
        let first = delivery(1, 1);
        assert_eq!(all.arrive(first, "a", Evidence::New), Arrival::New);
        assert_eq!(all.accept(first), first);
        let again = all.arrive(delivery(2, 1), "a", Evidence::Marked);
        assert_eq!(again, Arrival::Accepted);
        let unknown = all.arrive(delivery(2, 2), "b", Evidence::Marked);
        assert_eq!(unknown, Arrival::New);
    }

    #[test]
    fn where_the_server_does_not_say_it_link_and_content_do() {
        let all = Redelivered::default();
        let first = delivery(1, 1);
        let content = |text: &str| Evidence::of_content("t", text.as_bytes());
        assert_eq!(all.arrive(first, "a", content("x")), Arrival::New);
        all.accept(first);
        let same = all.arrive(delivery(1, 2), "a", content("x"));
        assert_eq!(same, Arrival::New);
        all.accept(delivery(1, 2));
        all.begin_link();
        let other = all.arrive(delivery(2, 1), "a", content("y"));
        assert_eq!(other, Arrival::New);
        all.accept(delivery(2, 1));
        all.begin_link();
        let again = all.arrive(delivery(3, 1), "a", content("y"));
        assert_eq!(again, Arrival::Accepted);
    }

    #[test]
    fn a_redelivery_of_what_was_refused_is_refused_again() {
        let all = Redelivered::default();
        let first = delivery(1, 1);
        assert_eq!(all.arrive(first, "a", Evidence::New), Arrival::New);
        assert_eq!(all.refuse(first), first);
        assert_eq!(
            all.arrive(delivery(2, 1), "a", Evidence::Marked),
            Arrival::New
        );
    }

    #[test]
    fn a_redelivery_of_what_is_being_taken_is_acknowledged_in_its_place() {
        let all = Redelivered::default();
        let (first, latest) = (delivery(1, 7), delivery(3, 1));
        assert_eq!(all.arrive(first, "a", Evidence::New), Arrival::New);
        let second = delivery(2, 1);
        let came = all.arrive(second, "a", Evidence::Marked);
        assert_eq!(came, Arrival::Waits(first));
        let came = all.arrive(latest, "a", Evidence::Marked);
        assert_eq!(came, Arrival::Waits(second));
        assert_eq!(all.accept(first), latest);
    }

    #[test]
    fn other_messages_of_the_same_id_are_taken_and_acknowledged_each() {
        let all = Redelivered::default();
        let (first, second) = (delivery(1, 1), delivery(1, 2));
        assert_eq!(all.arrive(first, "a", Evidence::New), Arrival::New);
        assert_eq!(all.arrive(second, "a", Evidence::New), Arrival::New);
        assert_eq!(all.accept(first), first);
        assert_eq!(all.accept(second), second);
    }
}
