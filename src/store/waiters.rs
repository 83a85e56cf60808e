//! Who waits for a commit, and what they are told.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;

use super::id::MessageId;
use super::inbox::Gauges;
use super::operation::{Operation, Refusable};
use super::pending::{Answers, Submitted};
use super::report::{Awaited, Report, Reports, Ticket};
use crate::exchange::ShardId;

/// Whose batches a commit holds.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    tickets: BTreeMap<ShardId, Reached>,
    refused: BTreeMap<ShardId, Refused>,
    bytes: usize,
    operations: usize,
    pub(super) urgent: usize,
    pub(super) version: u64,
}

/// What a commit of a shard's batches had no room for.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) messages: Vec<MessageId>,
    pub(super) delayed: Vec<MessageId>,
    pub(super) retained: Vec<Box<str>>,
}

/// What a commit refuses, to be looked up.
#[derive(Debug)]
pub(super) struct RefusedSet<'a> {
    messages: HashSet<MessageId>,
    topics: HashSet<&'a [u8]>,
}

/// How far a shard's batches are.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    ticket: Ticket,
    is_awaited: bool,
}

impl Waiters {
    pub(super) fn add(&mut self, batch: &Submitted) {
        self.tickets.entry(batch.shard).or_default().add(batch);
        self.bytes += batch.bytes;
        let operations = batch.operations.as_slice().iter();
        self.operations += operations.map(Operation::count).sum::<usize>();
        self.urgent += batch.urgent;
        self.version = self.version.max(batch.version);
    }

    pub(super) fn refuse(&mut self, shard: ShardId) -> &mut Refused {
        self.refused.entry(shard).or_default()
    }

    pub(super) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    pub(super) fn refused_set(&self) -> RefusedSet<'_> {
        let refused = self.refused.values();
        let messages = refused.flat_map(|it| it.messages.iter().chain(&it.delayed));
        RefusedSet {
            messages: messages.copied().collect(),
            topics: self.refused_topics().map(|it| it.as_bytes()).collect(),
        }
    }

    /// Topics whose earlier retained message remains.
    pub(super) fn refused_topics(&self) -> impl Iterator<Item = &Box<str>> {
        self.refused.values().flat_map(|it| &it.retained)
    }

    pub(super) fn first_shard(&self) -> Option<ShardId> {
        self.tickets.keys().next().copied()
    }

    /// Tells that the commit is done.
    pub(super) fn answer(self, gauges: &Gauges, reports: &Reports) {
        for (shard, refused) in self.refused {
            let Refused {
                messages,
                delayed,
                retained,
            } = refused;
            let report = Report::Refused {
                ticket: self
                    .tickets
                    .get(&shard)
                    .map_or_else(Ticket::default, |it| it.ticket),
                messages,
                delayed,
                retained,
            };
            reports.send(shard, report);
        }
        for (shard, reached) in self.tickets {
            reports.send(shard, reached.report());
        }
        let relaxed = Ordering::Relaxed;
        gauges.operations.fetch_add(self.operations as u64, relaxed);
        gauges.pending_bytes.fetch_sub(self.bytes, relaxed);
    }
}

impl<'a> RefusedSet<'a> {
    pub(super) fn of_retained(topics: &'a [Box<str>]) -> Self {
        Self {
            messages: HashSet::new(),
            topics: topics.iter().map(|it| it.as_bytes()).collect(),
        }
    }

    pub(super) fn has_any_of(&self, with: &Refusable) -> bool {
        let has_message = with.message.is_some_and(|it| self.messages.contains(&it));
        let retained = with.retained.as_ref();
        has_message || retained.is_some_and(|it| self.topics.contains(it.topic_bytes()))
    }
}

impl Reached {
    fn add(&mut self, batch: &Submitted) {
        self.ticket = self.ticket.max(batch.ticket);
        self.is_awaited |= batch.awaited != Awaited::No;
    }

    fn report(self) -> Report {
        Report::Committed {
            ticket: self.ticket,
            is_awaited: self.is_awaited,
        }
    }
}

/// Answers batches that need no commit.
pub(super) fn answer(answers: Answers, gauges: &Gauges, reports: &Reports) {
    let Answers { done, settled } = answers;
    for (shard, ticket) in settled {
        reports.send(shard, Report::Settled { ticket });
    }
    let bytes = done.iter().map(|it| it.bytes).sum();
    gauges.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
    let mut tickets: BTreeMap<ShardId, Reached> = BTreeMap::new();
    for batch in done {
        tickets.entry(batch.shard).or_default().add(&batch);
        if batch.operations.capacity() >= WORTH_RETURNING {
            reports.send(batch.shard, Report::Spent(batch.operations));
        }
    }
    for (shard, reached) in tickets {
        reports.send(shard, reached.report());
    }
}

/// A list with room for less is made anew for less than it takes to send it back.
const WORTH_RETURNING: usize = 64;
