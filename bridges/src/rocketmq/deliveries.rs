//! The way in: messages that the server has lent us, and the handles by which they are given back.
//!
//! A message is invisible to others until its time is over. Half way there the time is renewed, as
//! often as it takes until the caller has accepted the message; then it is acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::seen::{Arrival, Seen};
use super::wire::{AckMessageEntry, Message, Resource, Status};
use super::{convert, failure};
use crate::{Failure, Receipt, Received, Token};

/// Stands for a message that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    number: u64,
}

/// Messages that are not acknowledged.
#[derive(Debug)]
pub(super) struct Deliveries {
    invisible: Duration,
    unaccepted_max: usize,
    seen: Arc<Mutex<Seen>>,
    held: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    topic: Resource,
    message_id: String,
    handle: String,
    /// From then on others may have it.
    until: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The caller has it.
    Given,
    /// The caller has it, and a renewal is on its way.
    Renewing,
    /// The renewal that is on its way brings the handle to acknowledge by.
    AcceptedWhileRenewing,
    Accepted,
    Acknowledging,
    /// The server gives it to somebody again, whatever the caller does.
    Lost,
}

/// An acknowledgement of several messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    pub(super) numbers: Vec<u64>,
    pub(super) topic: Resource,
    pub(super) entries: Vec<AckMessageEntry>,
}

/// A renewal of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    pub(super) number: u64,
    pub(super) topic: Resource,
    pub(super) message_id: String,
    pub(super) handle: String,
}

impl Deliveries {
    pub(super) fn new(seen: Arc<Mutex<Seen>>, invisible: Duration, unaccepted_max: usize) -> Self {
        Self {
            invisible,
            unaccepted_max,
            seen,
            held: BTreeMap::new(),
        }
    }

    /// How many more messages may come.
    pub(super) fn room(&self) -> usize {
        self.unaccepted_max.saturating_sub(self.held.len())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Nothing that holds the lock can panic half way through a change.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message that was asked for at `since`; answers it if the caller has not got it yet.
    ///
    /// # Errors
    /// It cannot be read; without an acknowledgement it ends among the server's dead letters.
    pub(super) fn take(
        &mut self,
        message: Message,
        since: Instant,
    ) -> Result<Option<Received>, Failure> {
        let topic = message.topic.clone().unwrap_or_default();
        let system = message.system_properties.clone().unwrap_or_default();
        let id = &system.message_id;
        let named = |failure: Failure| {
            Failure::poison(format!("topic {:?}, message {id}: {failure}", topic.name))
        };
        let handle = system.receipt_handle.clone();
        let handle = handle.ok_or_else(|| named(Failure::poison("it has no receipt handle")))?;
        let record = convert::record_of(message).map_err(named)?;
        let is_again = system.delivery_attempt.is_some_and(|it| it > 1);
        let key = (topic.name.clone(), system.message_id.clone());
        let arrival = self.seen().arrive(key, is_again);
        let (number, state) = match arrival {
            Arrival::New(number) | Arrival::Pending(number) => (number, State::Given),
            Arrival::Accepted(number) => (number, State::Accepted),
        };
        let held = Held {
            message_id: system.message_id,
            topic,
            handle,
            until: since + self.invisible,
            state,
        };
        self.held.insert(number, held);
        let receipt = Receipt(Token::Handle(Handle { number }));
        let received = matches!(arrival, Arrival::New(_)).then_some(Received {
            record,
            receipt,
            bookmark: None,
        });
        Ok(received)
    }

    /// The caller has found a place for a message, over whichever connection it came.
    pub(super) fn accept(&mut self, receipt: Receipt) {
        let Some(Handle { number }) = receipt.handle() else {
            return;
        };
        self.seen().accept(number);
        let Some(held) = self.held.get_mut(&number) else {
            return;
        };
        match held.state {
            State::Given => held.state = State::Accepted,
            State::Renewing => held.state = State::AcceptedWhileRenewing,
            State::Lost => {
                self.held.remove(&number);
            }
            State::AcceptedWhileRenewing | State::Accepted | State::Acknowledging => {}
        }
    }

    /// Whether the server is still to be told of something.
    pub(super) fn is_busy(&self) -> bool {
        let is_done = |it: &Held| matches!(it.state, State::Given | State::Renewing | State::Lost);
        !self.held.values().all(is_done)
    }

    /// What is to be acknowledged now.
    pub(super) fn acknowledgements(&mut self) -> Vec<Acknowledgement> {
        let mut all: Vec<Acknowledgement> = Vec::new();
        for (number, held) in &mut self.held {
            if held.state != State::Accepted {
                continue;
            }
            held.state = State::Acknowledging;
            let entry = AckMessageEntry {
                message_id: held.message_id.clone(),
                receipt_handle: held.handle.clone(),
            };
            let open = all.iter_mut().rev().find(|it| it.topic == held.topic);
            match open.filter(|it| it.entries.len() < ENTRIES_MAX) {
                Some(open) => {
                    open.numbers.push(*number);
                    open.entries.push(entry);
                }
                None => all.push(Acknowledgement {
                    numbers: vec![*number],
                    topic: held.topic.clone(),
                    entries: vec![entry],
                }),
            }
        }
        all
    }

    /// What the server says of an acknowledged message. What may pass is tried again in time.
    pub(super) fn acknowledged(&mut self, number: u64, result: Result<(), Status>, now: Instant) {
        let Some(held) = self.held.get_mut(&number) else {
            return;
        };
        match result {
            Err(status) if failure::may_pass(&status) && now < held.until => {
                held.state = State::Accepted;
            }
            _ => {
                self.held.remove(&number);
            }
        }
    }

    /// Whose time is to be renewed now.
    pub(super) fn renewals(&mut self, now: Instant) -> Vec<Renewal> {
        let half = self.invisible / 2;
        let due = self.held.iter_mut();
        let due = due.filter(|(_, it)| it.state == State::Given && it.until < now + half);
        due.take(RENEWALS_MAX)
            .map(|(number, held)| {
                held.state = State::Renewing;
                Renewal {
                    number: *number,
                    topic: held.topic.clone(),
                    message_id: held.message_id.clone(),
                    handle: held.handle.clone(),
                }
            })
            .collect()
    }

    /// What the server says of a renewal that was asked for at `since`.
    pub(super) fn renewed(&mut self, number: u64, result: Result<String, Status>, since: Instant) {
        let Some(held) = self.held.get_mut(&number) else {
            return;
        };
        let is_accepted = held.state == State::AcceptedWhileRenewing;
        held.state = if is_accepted {
            State::Accepted
        } else {
            State::Given
        };
        match result {
            Ok(handle) => {
                // Servers may leave the handle as it is.
                if !handle.is_empty() {
                    held.handle = mended(&handle);
                }
                held.until = since + self.invisible;
            }
            Err(status) if failure::may_pass(&status) && since < held.until => {}
            Err(_) if is_accepted => {}
            Err(_) => held.state = State::Lost,
        }
    }
}

/// A renewed handle as the broker knows it.
///
/// A renewal is a checkpoint of its own at the broker, which begins with the one message that is
/// renewed. Proxies of the mode LOCAL answer with the start of the batch that the message came in.
/// Of that the broker has no such checkpoint, and the acknowledgement would have no effect.
///
/// # Shape
/// Start, time, duration, queue of the checkpoint, kind of topic, broker, queue, offset and more,
/// separated by spaces; start and offset are to be equal.
///
/// # Source
/// `ReceiptHandle` and `LocalMessageService` of apache/rocketmq 5.4, apache/rocketmq#9583.
fn mended(handle: &str) -> String {
    let fields: Vec<&str> = handle.split(' ').collect();
    let is_number = |index: usize| {
        fields
            .get(index)
            .is_some_and(|it| it.parse::<u64>().is_ok())
    };
    let is_known = [0, 1, 2, 3, 4, 6, OFFSET].into_iter().all(is_number);
    match (&*fields, is_known) {
        ([_, rest @ ..], true) => {
            let offset = fields.get(OFFSET).copied().unwrap_or_default();
            format!("{offset} {}", rest.join(" "))
        }
        _ => handle.to_owned(),
    }
}

const OFFSET: usize = 7;
/// Messages in one acknowledgement.
const ENTRIES_MAX: usize = 64;
/// Renewals that begin at once.
const RENEWALS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::wire::SystemProperties;
    use super::*;

    const INVISIBLE: Duration = Duration::from_secs(30);

    fn message(handle: &str) -> Message {
        Message {
            system_properties: Some(SystemProperties {
                receipt_handle: Some(handle.to_owned()),
                ..SystemProperties::default()
            }),
            ..Message::default()
        }
    }

    fn handles(deliveries: &mut Deliveries) -> Vec<String> {
        let all = deliveries.acknowledgements().into_iter();
        all.flat_map(|it| it.entries)
            .map(|it| it.receipt_handle)
            .collect()
    }

    fn refused(code: i32) -> Status {
        Status {
            code,
            message: String::new(),
        }
    }

    #[test]
    fn only_what_was_accepted_is_acknowledged_and_room_comes_back() {
        let now = Instant::now();
        let mut deliveries = Deliveries::new(Arc::default(), INVISIBLE, 2);
        deliveries.take(message("a"), now).unwrap().unwrap();
        let second = deliveries.take(message("b"), now).unwrap().unwrap().receipt;
        assert_eq!(deliveries.room(), 0);
        deliveries.accept(second);
        assert_eq!(handles(&mut deliveries), ["b"]);
        assert!(handles(&mut deliveries).is_empty());
        assert!(deliveries.is_busy());
        deliveries.acknowledged(2, Ok(()), now);
        assert_eq!((deliveries.room(), deliveries.is_busy()), (1, false));
    }

    #[test]
    fn what_comes_again_over_another_connection_is_acknowledged_and_not_given_again() {
        let (now, seen) = (Instant::now(), Arc::default());
        let again = |handle: &str| {
            let mut message = message(handle);
            let system = message.system_properties.as_mut().unwrap();
            system.delivery_attempt = Some(2);
            message
        };
        let mut before = Deliveries::new(Arc::clone(&seen), INVISIBLE, 9);
        let receipt = before.take(message("a"), now).unwrap().unwrap().receipt;
        let mut after = Deliveries::new(Arc::clone(&seen), INVISIBLE, 9);
        assert!(after.take(again("b"), now).unwrap().is_none());
        assert!(handles(&mut after).is_empty());
        after.accept(receipt);
        assert_eq!(handles(&mut after), ["b"]);
        assert!(after.take(again("c"), now).unwrap().is_none());
        assert_eq!(handles(&mut after), ["c"]);
    }

    #[test]
    fn a_renewed_handle_begins_with_its_own_message() {
        let local = "0 1795272451864 10000 4 0 b 1 3 0 76";
        assert_eq!(mended(local), "3 1795272451864 10000 4 0 b 1 3 0 76");
        for other in [
            "3 1795272451864 10000 4 0 b 1 3 0 76",
            "opaque",
            "a b c d e f g h i",
            "",
        ] {
            assert_eq!(mended(other), other);
        }
    }

    #[test]
    fn a_message_is_renewed_half_way_and_acknowledged_by_its_new_handle() {
        let now = Instant::now();
        let mut deliveries = Deliveries::new(Arc::default(), INVISIBLE, 9);
        let receipt = deliveries.take(message("a"), now).unwrap().unwrap().receipt;
        assert_eq!(deliveries.renewals(now), []);
        let later = now + INVISIBLE * 3 / 4;
        assert_eq!(deliveries.renewals(later).len(), 1);
        assert_eq!(deliveries.renewals(later), []);
        deliveries.accept(receipt);
        assert!(handles(&mut deliveries).is_empty());
        deliveries.renewed(1, Ok("b".to_owned()), later);
        assert_eq!(handles(&mut deliveries), ["b"]);
        assert_eq!(deliveries.renewals(later + INVISIBLE), []);
    }

    #[test]
    fn an_acknowledgement_is_tried_again_while_the_message_is_ours() {
        let now = Instant::now();
        let mut deliveries = Deliveries::new(Arc::default(), INVISIBLE, 9);
        let receipt = deliveries.take(message("a"), now).unwrap().unwrap().receipt;
        deliveries.accept(receipt);
        assert_eq!(handles(&mut deliveries), ["a"]);
        deliveries.acknowledged(1, Err(refused(50001)), now);
        assert_eq!(handles(&mut deliveries), ["a"]);
        deliveries.acknowledged(1, Err(refused(50001)), now + INVISIBLE);
        assert_eq!(deliveries.room(), 9);
    }

    #[test]
    fn a_message_that_the_server_gives_to_others_takes_room_until_it_is_accepted() {
        let now = Instant::now();
        let mut deliveries = Deliveries::new(Arc::default(), INVISIBLE, 9);
        let receipt = deliveries.take(message("a"), now).unwrap().unwrap().receipt;
        let later = now + INVISIBLE;
        assert_eq!(deliveries.renewals(later).len(), 1);
        deliveries.renewed(1, Err(refused(40013)), later);
        assert_eq!(deliveries.room(), 8);
        deliveries.accept(receipt);
        assert!(handles(&mut deliveries).is_empty());
        assert_eq!(deliveries.room(), 9);
    }
}
