//! The way in: messages that the server has lent us, and the handles by which they are given back.
//!
//! A message is invisible to others until its time is over. Half way there the time is renewed, as
//! often as it takes until the caller has said what becomes of the message; then it is
//! acknowledged, or moved to the dead letters of the group.

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
    /// How many times the server has delivered it.
    attempt: i32,
    /// From then on others may have it.
    until: Instant,
    /// None as long as the caller has it.
    verdict: Option<Verdict>,
    state: State,
}

/// What the caller says of a message in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It has found its place.
    Accepted,
    /// It never will, and is for the dead letters of the group.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Resting,
    /// A renewal is on its way, and brings the handle to say the verdict by.
    Renewing,
    /// The verdict is on its way.
    Ending,
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

/// One message that is to go to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) number: u64,
    pub(super) topic: Resource,
    pub(super) message_id: String,
    pub(super) handle: String,
    pub(super) attempt: i32,
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
    /// It cannot be read, and is refused.
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
        let record = convert::record_of(message).map_err(named);
        let attempt = system.delivery_attempt.unwrap_or(1);
        let (number, verdict, is_new) = match &record {
            Err(_) => (self.seen().number(), Some(Verdict::Refused), false),
            Ok(_) => {
                let key = (topic.name.clone(), system.message_id.clone());
                match self.seen().arrive(key, attempt > 1) {
                    Arrival::New(number) => (number, None, true),
                    Arrival::Pending(number) => (number, None, false),
                    Arrival::Accepted(number) => (number, Some(Verdict::Accepted), false),
                }
            }
        };
        let held = Held {
            message_id: system.message_id,
            topic,
            handle,
            attempt,
            until: since + self.invisible,
            verdict,
            state: State::Resting,
        };
        self.held.insert(number, held);
        let record = record?;
        Ok(is_new.then_some(Received {
            record,
            receipt: Receipt(Token::Handle(Handle { number })),
            bookmark: None,
        }))
    }

    /// The caller has found a place for a message, over whichever connection it came.
    pub(super) fn accept(&mut self, receipt: Receipt) {
        if let Some(Handle { number }) = receipt.handle() {
            self.seen().accept(number);
            self.decide(number, Verdict::Accepted);
        }
    }

    /// There will never be a place for a message.
    pub(super) fn refuse(&mut self, receipt: Receipt) {
        if let Some(Handle { number }) = receipt.handle() {
            self.seen().refuse(number);
            self.decide(number, Verdict::Refused);
        }
    }

    fn decide(&mut self, number: u64, verdict: Verdict) {
        let Some(held) = self.held.get_mut(&number) else {
            return;
        };
        if held.state == State::Lost {
            self.held.remove(&number);
        } else {
            held.verdict.get_or_insert(verdict);
        }
    }

    /// Whether the server is still to be told of something.
    pub(super) fn is_busy(&self) -> bool {
        self.held.values().any(|it| it.verdict.is_some())
    }

    /// Messages whose verdict is to be said now.
    fn decided(&mut self, verdict: Verdict) -> impl Iterator<Item = (&u64, &mut Held)> {
        let is_due = move |it: &Held| it.verdict == Some(verdict) && it.state == State::Resting;
        self.held.iter_mut().filter(move |(_, it)| is_due(it))
    }

    /// What is to be acknowledged now.
    pub(super) fn acknowledgements(&mut self) -> Vec<Acknowledgement> {
        let mut all: Vec<Acknowledgement> = Vec::new();
        for (number, held) in self.decided(Verdict::Accepted) {
            held.state = State::Ending;
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

    /// What is to go to the dead letters now.
    pub(super) fn refusals(&mut self) -> Vec<Refusal> {
        let refused = self.decided(Verdict::Refused);
        let refused = refused.map(|(number, held)| {
            held.state = State::Ending;
            Refusal {
                number: *number,
                topic: held.topic.clone(),
                message_id: held.message_id.clone(),
                handle: held.handle.clone(),
                attempt: held.attempt,
            }
        });
        refused.collect()
    }

    /// What the server says of a verdict. What may pass is tried again in time.
    pub(super) fn ended(&mut self, number: u64, result: Result<(), Status>, now: Instant) {
        let Some(held) = self.held.get_mut(&number) else {
            return;
        };
        match result {
            Err(status) if failure::may_pass(&status) && now < held.until => {
                held.state = State::Resting;
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
        let due = due.filter(|(_, it)| {
            it.verdict.is_none() && it.state == State::Resting && it.until < now + half
        });
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
        held.state = State::Resting;
        match result {
            Ok(handle) => {
                // Servers may leave the handle as it is.
                if !handle.is_empty() {
                    held.handle = mended(&handle);
                }
                held.until = since + self.invisible;
            }
            Err(status) if failure::may_pass(&status) && since < held.until => {}
            Err(_) if held.verdict.is_some() => {}
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
        deliveries.ended(2, Ok(()), now);
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
        deliveries.ended(1, Err(refused(50001)), now);
        assert_eq!(handles(&mut deliveries), ["a"]);
        deliveries.ended(1, Err(refused(50001)), now + INVISIBLE);
        assert_eq!(deliveries.room(), 9);
    }

    #[test]
    fn what_finds_no_place_goes_to_the_dead_letters_and_is_new_if_it_comes_again() {
        let now = Instant::now();
        let mut deliveries = Deliveries::new(Arc::default(), INVISIBLE, 9);
        let receipt = deliveries.take(message("a"), now).unwrap().unwrap().receipt;
        deliveries.refuse(receipt);
        let refusals = deliveries.refusals();
        assert_eq!((refusals.len(), &*refusals[0].handle), (1, "a"));
        assert!(handles(&mut deliveries).is_empty());
        assert_eq!(deliveries.refusals(), []);
        deliveries.ended(refusals[0].number, Err(refused(50001)), now);
        assert_eq!(deliveries.refusals().len(), 1);
        deliveries.ended(refusals[0].number, Err(refused(40013)), now);
        assert_eq!(deliveries.room(), 9);
        let mut again = message("b");
        again.system_properties.as_mut().unwrap().delivery_attempt = Some(2);
        assert!(deliveries.take(again, now).unwrap().is_some());
    }

    #[test]
    fn what_cannot_be_read_goes_to_the_dead_letters() {
        let now = Instant::now();
        let mut deliveries = Deliveries::new(Arc::default(), INVISIBLE, 9);
        let mut broken = message("a");
        let system = broken.system_properties.as_mut().unwrap();
        system.body_encoding = super::super::wire::GZIP;
        assert!(deliveries.take(broken, now).is_err());
        assert_eq!(deliveries.refusals().len(), 1);
        assert_eq!(deliveries.renewals(now + INVISIBLE), []);
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
