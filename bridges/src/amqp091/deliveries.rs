//! What was delivered to us and not accepted by the caller, and what was accepted lately.
//!
//! An acknowledgement that did not reach the server brings the delivery again over the next
//! connection, marked as redelivered. One that has a message id is then known here, and is
//! acknowledged without being taken twice. This ends with the process.

use std::collections::{HashMap, VecDeque};

use lapin::types::{AMQPValue, ShortString};

/// Stands for a delivery that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    pub(super) connection: u64,
    pub(super) tag: u64,
}

/// The deliveries of all connections of a bridge.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// The message ids of what the caller has not accepted.
    pending: HashMap<Delivery, ShortString>,
    known: HashMap<ShortString, Known>,
    /// Those of them that are accepted, oldest first.
    accepted: VecDeque<ShortString>,
    /// Behind all of a stream that has come.
    next_offset: Option<i64>,
}

/// What is known of a message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// The caller has the first copy; in the end the latest is acknowledged.
    Pending {
        first: Delivery,
        latest: Delivery,
    },
    Accepted,
}

/// What to do with a delivery that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The caller is to take it.
    New,
    /// The caller has a copy of it; this one is acknowledged once that is accepted.
    Waits,
    /// The caller has accepted a copy of it.
    Accepted,
}

impl Deliveries {
    pub(super) fn arrive(
        &mut self,
        delivery: Delivery,
        from: &lapin::message::Delivery,
    ) -> Arrival {
        let headers = from.properties.headers().as_ref();
        let offset = headers.and_then(|it| it.inner().get(OFFSET));
        if let Some(AMQPValue::LongLongInt(offset)) = offset {
            self.next_offset = self.next_offset.max(offset.checked_add(1));
        }
        match from.properties.message_id() {
            Some(id) => self.arrive_as(delivery, id, from.redelivered),
            None => Arrival::New,
        }
    }

    fn arrive_as(&mut self, latest: Delivery, id: &ShortString, is_redelivered: bool) -> Arrival {
        match self.known.get_mut(id).filter(|_| is_redelivered) {
            Some(Known::Accepted) => return Arrival::Accepted,
            Some(Known::Pending { latest: it, .. }) => {
                *it = latest;
                return Arrival::Waits;
            }
            None => {}
        }
        let first = latest;
        self.known
            .insert(id.clone(), Known::Pending { first, latest });
        self.pending.insert(latest, id.clone());
        Arrival::New
    }

    /// The caller has accepted a delivery; answers which one the server is to be told of.
    pub(super) fn accept(&mut self, delivery: Delivery) -> Delivery {
        let Some(id) = self.pending.remove(&delivery) else {
            return delivery;
        };
        let latest = match self.known.get(&id) {
            Some(Known::Pending { first, latest }) if *first == delivery => *latest,
            // Another message has the same id.
            _ => return delivery,
        };
        self.known.insert(id.clone(), Known::Accepted);
        self.accepted.push_back(id);
        if self.accepted.len() > ACCEPTED_MAX
            && let Some(oldest) = self.accepted.pop_front()
            && self.known.get(&oldest) == Some(&Known::Accepted)
        {
            self.known.remove(&oldest);
        }
        latest
    }

    /// Where a stream goes on, if something of it has come.
    pub(super) fn next_offset(&self) -> Option<i64> {
        self.next_offset
    }
}

/// The header and the argument of a place in a stream.
pub(super) const OFFSET: &str = "x-stream-offset";
/// What a server leaves unacknowledged at the most (the prefetch): all that may come again.
const ACCEPTED_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::FieldTable;

    use super::*;

    fn delivery(connection: u64, tag: u64) -> Delivery {
        Delivery { connection, tag }
    }

    fn arrive(all: &mut Deliveries, at: Delivery, id: &str, is_redelivered: bool) -> Arrival {
        let (exchange, key) = ("e".into(), "k".into());
        let mut from =
            lapin::message::Delivery::mock(at.tag, exchange, key, is_redelivered, b"".to_vec());
        from.properties = BasicProperties::default().with_message_id(id.into());
        all.arrive(at, &from)
    }

    #[test]
    fn a_redelivery_of_what_was_accepted_is_not_taken_again() {
        let mut all = Deliveries::default();
        let first = delivery(1, 1);
        assert_eq!(arrive(&mut all, first, "a", false), Arrival::New);
        assert_eq!(all.accept(first), first);
        let again = arrive(&mut all, delivery(2, 1), "a", true);
        assert_eq!(again, Arrival::Accepted);
        let unknown = arrive(&mut all, delivery(2, 2), "b", true);
        assert_eq!(unknown, Arrival::New);
    }

    #[test]
    fn a_redelivery_of_what_is_being_taken_is_acknowledged_in_its_place() {
        let mut all = Deliveries::default();
        let (first, latest) = (delivery(1, 7), delivery(3, 1));
        assert_eq!(arrive(&mut all, first, "a", false), Arrival::New);
        let second = arrive(&mut all, delivery(2, 1), "a", true);
        assert_eq!(second, Arrival::Waits);
        assert_eq!(arrive(&mut all, latest, "a", true), Arrival::Waits);
        assert_eq!(all.accept(first), latest);
    }

    #[test]
    fn other_messages_of_the_same_id_are_taken_and_acknowledged_each() {
        let mut all = Deliveries::default();
        let (first, second) = (delivery(1, 1), delivery(1, 2));
        assert_eq!(arrive(&mut all, first, "a", false), Arrival::New);
        assert_eq!(arrive(&mut all, second, "a", false), Arrival::New);
        assert_eq!(all.accept(first), first);
        assert_eq!(all.accept(second), second);
    }

    #[test]
    fn a_stream_goes_on_behind_what_has_come() {
        let mut all = Deliveries::default();
        for offset in [10, 11] {
            let (exchange, key) = ("e".into(), "k".into());
            let mut from = lapin::message::Delivery::mock(1, exchange, key, false, b"".to_vec());
            let mut headers = FieldTable::default();
            headers.insert(OFFSET.into(), AMQPValue::LongLongInt(offset));
            from.properties = BasicProperties::default().with_headers(headers);
            assert_eq!(all.arrive(delivery(1, 1), &from), Arrival::New);
        }
        assert_eq!(all.next_offset(), Some(12));
    }
}
