//! The way out: what waits to be sent, what is on its way, and whose turn it is.
//!
//! Messages without a group go in batches, as many at a time as the window takes: RocketMQ spreads
//! them over queues and keeps no order between them. Of a group one message is on its way, since
//! requests overtake each other; a batch would not go to the queue of its group.
//!
//! A request costs far more than a message in it. So while a few batches are on their way, messages
//! wait for others to share the next one with, until it is full or one of those has come back.

use std::collections::{HashMap, VecDeque};

use super::grpc::Framed;
use super::wire::{Message, SendMessageRequest};
use crate::{Failure, Settled};

/// What is sent in one request.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) topic: String,
    pub(super) question: Framed<SendMessageRequest>,
}

/// How a batch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server has it.
    Taken,
    /// The server will never have it.
    Refused(Failure),
    /// It is more at once than the server takes.
    TooLarge(Failure),
    /// Another attempt may succeed.
    Failed(Failure),
}

/// Records between the caller and the server.
#[derive(Debug)]
pub(super) struct Outbox {
    inflight_max: usize,
    /// Bytes of messages in one request; less once the server took less.
    batch_bytes_max: usize,
    waiting: VecDeque<Item>,
    /// The next of groups whose message before has ended; before all that waits.
    ready: VecDeque<Item>,
    flying: HashMap<u64, Vec<Item>>,
    /// Those of them that others could have shared.
    batches: usize,
    /// What is on its way, in messages and in bytes.
    messages: usize,
    bytes: usize,
    /// Groups of which a message is on its way, and what waits behind it.
    groups: HashMap<Group, VecDeque<Item>>,
    /// Groups whose message has failed, and which: nothing of them is sent until it comes again.
    broken: HashMap<Group, u64>,
    last_number: u64,
}

/// A topic and a message group in it.
type Group = (String, String);

#[derive(Clone, Debug)]
struct Item {
    sequence: u64,
    message: Message,
    group: Option<Group>,
    /// Its batch was refused; alone it may not be.
    is_alone: bool,
}

impl Outbox {
    pub(super) fn new(inflight_max: usize) -> Self {
        Self {
            inflight_max,
            batch_bytes_max: BATCH_BYTES_MAX,
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            flying: HashMap::new(),
            batches: 0,
            messages: 0,
            bytes: 0,
            groups: HashMap::new(),
            broken: HashMap::new(),
            last_number: 0,
        }
    }

    /// Puts a message at the end. The answer is a message that may not be sent yet: an earlier one
    /// of its group is to be sent again first.
    pub(super) fn push(&mut self, sequence: u64, message: Message) -> Option<Settled> {
        let group = group_of(&message);
        if let Some(group) = &group
            && let Some(failed) = self.broken.get(group)
        {
            if sequence > *failed {
                let result = Err(Failure::retry("an earlier message of its group has failed"));
                return Some(Settled { sequence, result });
            }
            self.broken.remove(group);
        }
        self.waiting.push_back(Item {
            sequence,
            message,
            group,
            is_alone: false,
        });
        None
    }

    /// What is to be sent now, if the window has room.
    pub(super) fn next(&mut self) -> Option<Batch> {
        if self.may_wait() {
            return None;
        }
        let mut items = Vec::new();
        let mut bytes = 0;
        while self.messages + items.len() < self.inflight_max
            && (self.bytes < BYTES_MAX || self.messages + items.len() == 0)
            && let Some(item) = self.next_item()
        {
            let fits = items.first().is_none_or(|first| are_alike(first, &item));
            if !fits
                || items.len() >= BATCH_MAX
                || bytes + item.bytes() > self.batch_bytes_max && !items.is_empty()
            {
                self.put_back(item);
                break;
            }
            bytes += item.bytes();
            items.push(item);
        }
        if items.is_empty() {
            return None;
        }
        self.last_number += 1;
        self.messages += items.len();
        self.bytes += bytes;
        self.batches += usize::from(items.first().is_some_and(Item::is_plain));
        let (topic, question) = request_of(&mut items);
        self.flying.insert(self.last_number, items);
        Some(Batch {
            number: self.last_number,
            topic,
            question,
        })
    }

    /// Whether all that waits is less than one batch, and others are on their way.
    fn may_wait(&self) -> bool {
        let is_little = self.ready.is_empty() && self.waiting.len() < BATCH_MAX;
        if self.batches < BATCHES_FEW || !is_little {
            return false;
        }
        let waiting = || self.waiting.iter();
        self.waiting.front().is_some_and(|first| {
            waiting().all(|it| are_alike(first, it))
                && waiting().map(Item::bytes).sum::<usize>() < self.batch_bytes_max
        })
    }

    /// The first message that nothing of its group is before, which is its group's on its way now.
    fn next_item(&mut self) -> Option<Item> {
        if let Some(item) = self.ready.pop_front() {
            return Some(item);
        }
        while let Some(item) = self.waiting.pop_front() {
            let Some(group) = &item.group else {
                return Some(item);
            };
            match self.groups.get_mut(group) {
                Some(behind) => behind.push_back(item),
                None => {
                    self.groups.insert(group.clone(), VecDeque::new());
                    return Some(item);
                }
            }
        }
        None
    }

    /// A message whose turn it is later.
    fn put_back(&mut self, item: Item) {
        match item.group {
            Some(_) => self.ready.push_front(item),
            None => self.waiting.push_front(item),
        }
    }

    /// What is settled by the end of a batch.
    pub(super) fn settle(&mut self, number: u64, verdict: &Verdict) -> Vec<Settled> {
        let items = self.flying.remove(&number).unwrap_or_default();
        self.batches -= usize::from(items.first().is_some_and(Item::is_plain));
        let bytes = items.iter().map(Item::bytes).sum::<usize>();
        self.messages -= items.len();
        self.bytes -= bytes;
        let are_too_much = matches!(verdict, Verdict::TooLarge(_));
        if items.len() > 1 && (are_too_much || matches!(verdict, Verdict::Refused(_))) {
            if are_too_much {
                self.batch_bytes_max = self.batch_bytes_max.min(bytes / 2);
            }
            for mut item in items.into_iter().rev() {
                // One of those that are refused is to blame.
                item.is_alone |= !are_too_much;
                self.waiting.push_front(item);
            }
            return Vec::new();
        }
        let mut settled = Vec::new();
        for item in items {
            if let Some(group) = item.group {
                self.pass_on(&group, item.sequence, verdict, &mut settled);
            }
            let result = match verdict {
                Verdict::Taken => Ok(()),
                Verdict::Refused(failure)
                | Verdict::TooLarge(failure)
                | Verdict::Failed(failure) => Err(failure.clone()),
            };
            let sequence = item.sequence;
            settled.push(Settled { sequence, result });
        }
        settled
    }

    /// The next message of a group has its turn, or all of them fail with the one that did.
    fn pass_on(
        &mut self,
        group: &Group,
        sequence: u64,
        verdict: &Verdict,
        settled: &mut Vec<Settled>,
    ) {
        if let Verdict::Failed(failure) = verdict {
            let mut behind = self.groups.remove(group).unwrap_or_default();
            let is_of_group = |item: &mut Item| item.group.as_ref() == Some(group);
            while let Some(index) = self.waiting.iter_mut().position(is_of_group) {
                behind.extend(self.waiting.remove(index));
            }
            settled.extend(behind.into_iter().map(|item| Settled {
                sequence: item.sequence,
                result: Err(failure.clone()),
            }));
            self.broken.insert(group.clone(), sequence);
        } else if let Some(next) = self.groups.get_mut(group).and_then(VecDeque::pop_front) {
            self.ready.push_back(next);
        } else {
            self.groups.remove(group);
        }
    }
}

impl Item {
    fn bytes(&self) -> usize {
        self.message.body.len()
    }

    /// Whether it may share a batch.
    fn is_plain(&self) -> bool {
        let system = self.message.system_properties.as_ref();
        self.group.is_none()
            && !self.is_alone
            && system.is_some_and(|it| it.delivery_timestamp.is_none())
    }
}

/// The request that sends messages, and their topic. They are kept, but not copied.
fn request_of(items: &mut [Item]) -> (String, Framed<SendMessageRequest>) {
    let messages = items.iter_mut().map(|it| std::mem::take(&mut it.message));
    let request = SendMessageRequest {
        messages: messages.collect(),
    };
    let topic = request.messages.first().and_then(|it| it.topic.as_ref());
    let topic = topic.map(|it| it.name.clone()).unwrap_or_default();
    let question = Framed::of(&request);
    for (item, message) in items.iter_mut().zip(request.messages) {
        item.message = message;
    }
    (topic, question)
}

fn group_of(message: &Message) -> Option<Group> {
    let group = message.system_properties.as_ref()?.message_group.clone()?;
    let topic = message.topic.as_ref()?.name.clone();
    Some((topic, group))
}

/// Whether two messages may share a batch.
fn are_alike(one: &Item, other: &Item) -> bool {
    one.is_plain() && other.is_plain() && one.message.topic == other.message.topic
}

/// So many batches go at once, full or not: nothing waits while there is little to send.
const BATCHES_FEW: usize = 4;
/// Messages in one request.
const BATCH_MAX: usize = 32;
/// Bytes of messages in one request; servers take 4 MiB.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes of messages on their way.
const BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::super::wire::{Resource, SystemProperties};
    use super::*;

    fn message(topic: &str, group: Option<&str>) -> Message {
        Message {
            topic: Some(Resource {
                name: topic.into(),
                ..Resource::default()
            }),
            system_properties: Some(SystemProperties {
                message_group: group.map(str::to_owned),
                ..SystemProperties::default()
            }),
            body: "x".into(),
            ..Message::default()
        }
    }

    fn filled(inflight_max: usize, messages: &[(&str, Option<&str>)]) -> Outbox {
        let mut outbox = Outbox::new(inflight_max);
        for (sequence, (topic, group)) in (1..).zip(messages) {
            assert_eq!(outbox.push(sequence, message(topic, *group)), None);
        }
        outbox
    }

    /// How many messages are sent in each request now.
    fn sent(outbox: &mut Outbox) -> Vec<usize> {
        let mut sizes = Vec::new();
        while let Some(batch) = outbox.next() {
            sizes.push(outbox.flying[&batch.number].len());
        }
        sizes
    }

    fn sequences(settled: &[Settled]) -> Vec<(u64, bool)> {
        let pairs = settled.iter().map(|it| (it.sequence, it.result.is_ok()));
        pairs.collect()
    }

    fn failed() -> Verdict {
        Verdict::Failed(Failure::retry("why"))
    }

    #[test]
    fn messages_of_a_topic_go_in_batches_within_the_window() {
        let mut outbox = filled(
            4,
            &[
                ("t", None),
                ("t", None),
                ("u", None),
                ("t", None),
                ("t", None),
            ],
        );
        assert_eq!(sent(&mut outbox), [2, 1, 1]);
        assert_eq!(
            sequences(&outbox.settle(1, &Verdict::Taken)),
            [(1, true), (2, true)]
        );
        assert_eq!(sent(&mut outbox), [1]);
        assert_eq!((outbox.messages, outbox.bytes), (3, 3));
    }

    #[test]
    fn while_some_batches_are_on_their_way_messages_wait_for_others_to_share_the_next() {
        let mut outbox = filled(99, &[]);
        for sequence in 1..=4 {
            assert_eq!(outbox.push(sequence, message("t", None)), None);
            assert_eq!(sent(&mut outbox), [1]);
        }
        for sequence in 5..=9 {
            assert_eq!(outbox.push(sequence, message("t", None)), None);
            assert!(sent(&mut outbox).is_empty());
        }
        // Not where the next has another topic, nor beside what goes alone anyway.
        assert_eq!(outbox.push(10, message("u", None)), None);
        assert_eq!(sent(&mut outbox), [5]);
        assert_eq!(outbox.push(11, message("t", None)), None);
        assert_eq!(sent(&mut outbox), [1]);
        for number in [1, 2, 3] {
            outbox.settle(number, &Verdict::Taken);
        }
        assert_eq!(sent(&mut outbox), [1]);
        assert_eq!(outbox.push(12, message("t", Some("a"))), None);
        assert_eq!(sent(&mut outbox), [1]);
        // A full one does not wait.
        for sequence in 13..=46 {
            assert_eq!(outbox.push(sequence, message("t", None)), None);
        }
        assert_eq!(sent(&mut outbox), [32]);
        for number in [4, 5, 6, 7, 9] {
            outbox.settle(number, &Verdict::Taken);
        }
        assert_eq!(outbox.batches, 0);
        assert_eq!(sent(&mut outbox), [2]);
    }

    #[test]
    fn of_each_group_one_message_is_on_its_way_and_the_next_follows_it() {
        let (a, b) = (Some("a"), Some("b"));
        let mut outbox = filled(9, &[("t", a), ("t", a), ("t", b), ("t", a), ("t", None)]);
        assert_eq!(sent(&mut outbox), [1, 1, 1]);
        assert_eq!(sequences(&outbox.settle(1, &Verdict::Taken)), [(1, true)]);
        assert_eq!(sent(&mut outbox), [1]);
        let poison = Verdict::Refused(Failure::poison("why"));
        assert_eq!(sequences(&outbox.settle(4, &poison)), [(2, false)]);
        assert_eq!(sent(&mut outbox), [1]);
        assert_eq!(sequences(&outbox.settle(5, &Verdict::Taken)), [(4, true)]);
    }

    #[test]
    fn a_group_whose_message_failed_waits_until_it_comes_again() {
        let (a, b) = (Some("a"), Some("b"));
        let mut outbox = filled(2, &[("t", a), ("t", a), ("t", b), ("t", a)]);
        assert_eq!(sent(&mut outbox), [1, 1]);
        let settled = sequences(&outbox.settle(1, &failed()));
        assert_eq!(settled, [(2, false), (4, false), (1, false)]);
        let bounced = outbox.push(5, message("t", a)).unwrap();
        assert!(bounced.result.is_err());
        assert_eq!(outbox.push(6, message("t", b)), None);
        for sequence in [1, 2] {
            assert_eq!(outbox.push(sequence, message("t", a)), None);
        }
        assert_eq!(sent(&mut outbox), [1]);
        assert_eq!(sequences(&outbox.settle(3, &Verdict::Taken)), [(1, true)]);
    }

    #[test]
    fn a_batch_that_is_refused_is_sent_one_by_one() {
        let mut outbox = filled(9, &[("t", None), ("t", None)]);
        assert_eq!(sent(&mut outbox), [2]);
        let poison = Verdict::Refused(Failure::poison("why"));
        assert_eq!(outbox.settle(1, &poison), []);
        assert_eq!(sent(&mut outbox), [1, 1]);
        assert_eq!(sequences(&outbox.settle(2, &poison)), [(1, false)]);
        assert_eq!(sequences(&outbox.settle(3, &Verdict::Taken)), [(2, true)]);
        assert_eq!((outbox.messages, outbox.bytes), (0, 0));
    }

    #[test]
    fn a_batch_that_is_more_than_the_server_takes_is_sent_in_smaller_ones() {
        let mut outbox = filled(9, &[("t", None); 5]);
        assert_eq!(sent(&mut outbox), [5]);
        let much = Verdict::TooLarge(Failure::poison("why"));
        assert_eq!(outbox.settle(1, &much), []);
        assert_eq!(sent(&mut outbox), [2, 2, 1]);
        let all = [(1, true), (2, true)];
        assert_eq!(sequences(&outbox.settle(2, &Verdict::Taken)), all);
        // One that is too large alone is so for ever.
        assert_eq!(sequences(&outbox.settle(4, &much)), [(5, false)]);
    }

    #[test]
    fn a_batch_that_failed_settles_all_that_was_in_it() {
        let mut outbox = filled(9, &[("t", None), ("t", None)]);
        assert_eq!(sent(&mut outbox), [2]);
        assert_eq!(
            sequences(&outbox.settle(1, &failed())),
            [(1, false), (2, false)]
        );
    }
}
