//! The messages of a bridge: out to the sink, in from the source, and what becomes of them.

use tidewire_bridges::{
    Class, Connected, Connector, Failure, Note, Received, Record, Settled, Sink, Source,
};
use tokio::time::Instant;

use super::Runner;
use crate::bridge::letter::Letter;
use crate::bridge::map::{Inward, NotCrossing};
use crate::bridge::queues::queue_name;
use crate::config::BridgeKind;
use crate::queue::BridgeNote;
use crate::shard::{BridgeReport, BridgeRequest, Placed};

impl<C: Connector> Runner<C> {
    pub(super) fn take_reports(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        let mut accepted = Vec::new();
        let deferred = std::mem::take(&mut self.deferred);
        for report in deferred.into_iter().chain(self.inbox.take()) {
            match report {
                BridgeReport::Lent(lent) => self.loan.take(lent),
                BridgeReport::Kept(count) => {
                    self.unkept = self.unkept.saturating_sub(count);
                    let stale = count.min(self.stale);
                    self.stale -= stale;
                    link.sink.keep(count - stale);
                }
                BridgeReport::Published(placed) => {
                    let published = |it: Placed| self.arrivals.published(it.number, it.reason);
                    accepted.extend(placed.into_iter().filter_map(published));
                }
            }
        }
        if !accepted.is_empty() {
            link.source.accept(accepted);
        }
    }

    /// What the home shard has to keep before the sink goes on.
    pub(super) fn pass_notes(&mut self, sink: &mut C::Sink) {
        let notes = sink.take_notes();
        if notes.is_empty() {
            return;
        }
        let notes: Vec<BridgeNote> = notes.into_iter().map(|it| self.own_note(it)).collect();
        self.keep(notes);
    }

    pub(super) fn keep(&mut self, notes: Vec<BridgeNote>) {
        self.unkept += notes.len();
        self.post.add(BridgeRequest::Keep(notes));
    }

    fn own_note(&mut self, note: Note) -> BridgeNote {
        match note {
            Note::Begin { session } => {
                self.arrivals.forget_packet_ids();
                let name = queue_name(&self.reporter.name, Some(&session));
                BridgeNote::Begin { name }
            }
            Note::Send {
                packet_id,
                sequence,
            } => BridgeNote::Send {
                packet_id,
                sequence,
            },
            Note::Release {
                packet_id,
                sequence,
            } => BridgeNote::Release {
                packet_id,
                sequence,
            },
            Note::Complete(packet_id) => BridgeNote::Complete(packet_id),
            Note::Forget(packet_id) => BridgeNote::Forget(packet_id),
        }
    }

    /// Gives the sink what it may have now.
    pub(super) fn submit(&mut self, sink: &mut C::Sink) {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        let now_ms = self.post.now_ms();
        let allowance = self.conduct.rate.allowance(now);
        let mut records = Vec::with_capacity(allowance.min(self.loan.unsent()));
        while records.len() < allowance
            && let Some(lent) = self.loan.next_unsent()
        {
            match self.map.outward(lent, self.peer.as_deref(), now_ms) {
                Ok(mut record) => {
                    // MQTT has no names of messages, Kafka offsets instead.
                    let is_named = !matches!(self.kind, BridgeKind::Mqtt | BridgeKind::Kafka);
                    record.uid = is_named.then(|| self.naming.name(lent).into());
                    records.push(record);
                }
                Err(why) => {
                    let sequence = lent.sequence;
                    self.count(&why);
                    if let NotCrossing::Invalid(reason) = &why {
                        self.bury(sequence, reason);
                    }
                    self.loan.settle(sequence);
                }
            }
        }
        self.conduct.rate.spend(records.len());
        if !records.is_empty() {
            sink.submit(records);
        }
        self.pass_settled();
    }

    pub(super) fn settle(&mut self, settled: Vec<Settled>) {
        let mut again = Vec::new();
        let mut sent = 0;
        for Settled { sequence, result } in settled {
            match result {
                Ok(()) => sent += 1,
                Err(failure) if failure.class == Class::Poison => {
                    self.refuse(sequence, &failure);
                }
                Err(failure) => {
                    self.reporter.metrics.retried.add(1);
                    tracing::debug!(bridge = self.reporter.name, %failure, "to be sent again");
                    again.push(sequence);
                    continue;
                }
            }
            self.loan.settle(sequence);
        }
        self.reporter.metrics.sent.add(sent);
        if !again.is_empty() {
            self.loan.send_again(again);
            self.paused_until = Some(Instant::now() + self.conduct.backoff.next());
        }
        self.pass_settled();
    }

    pub(super) fn pass_settled(&mut self) {
        if let Some(settled) = self.loan.take_settled() {
            self.post.add(settled);
        }
    }

    /// A message that the other side will never take.
    fn refuse(&mut self, sequence: u64, failure: &Failure) {
        self.reporter.metrics.dropped_poison.add(1);
        let bridge = &*self.reporter.name;
        let topic = self.loan.get(sequence).map(|it| it.message.topic());
        tracing::warn!(bridge, topic, reason = failure.reason, "message not taken");
        self.bury(sequence, &failure.reason);
    }

    /// Puts a message into the dead letters, if there is a place for them.
    fn bury(&mut self, sequence: u64, reason: &str) {
        let letter = self.loan.get(sequence).and_then(|lent| {
            let letter = self.letter(reason)?;
            Some(letter.of(&lent.message))
        });
        if let Some(letter) = letter {
            self.post.add(BridgeRequest::Notify(letter));
        }
    }

    fn letter<'a>(&'a self, reason: &'a str) -> Option<Letter<'a>> {
        Some(Letter {
            to: self.conduct.dead_letter.as_deref()?,
            bridge: &self.reporter.name,
            reason,
            publisher: self.map.publisher(),
        })
    }

    /// The dead letter of a record that cannot be mapped, where the other side would not keep it.
    fn letter_of(&self, record: &Record, why: &NotCrossing) -> Option<Inward> {
        let keeps_nothing = matches!(self.kind, BridgeKind::Mqtt | BridgeKind::Kafka);
        let NotCrossing::Invalid(reason) = why else {
            return None;
        };
        let letter = self.letter(reason).filter(|_| keeps_nothing)?;
        Some(Inward {
            message: letter.of_record(record),
            needs_subscriber: false,
        })
    }

    /// What the home shard had no room or no subscribers for.
    pub(super) fn publish_again(&mut self) {
        self.reporter
            .metrics
            .held_back
            .set(self.arrivals.held_back());
        if let Some(refused) = self.arrivals.publish_again() {
            self.post.add(refused);
        }
    }

    pub(super) fn receive(&mut self, received: Vec<Received>, source: &mut C::Source) {
        let now_ms = self.post.now_ms();
        let mut messages = Vec::new();
        let (mut looping, mut unwanted) = (Vec::new(), Vec::new());
        for Received {
            mut record,
            receipt,
            bookmark,
        } in received
        {
            match self.map.inward(&mut record, self.peer.as_deref(), now_ms) {
                Ok(inward) => {
                    messages.push(self.arrivals.add(inward, bookmark, receipt));
                    self.reporter.metrics.received.add(1);
                }
                Err(why) => {
                    self.count(&why);
                    match (self.letter_of(&record, &why), why) {
                        (Some(letter), _) => {
                            messages.push(self.arrivals.add(letter, bookmark, receipt));
                        }
                        (None, NotCrossing::Loop) => looping.push(receipt),
                        (None, _) => unwanted.push(receipt),
                    }
                }
            }
        }
        if !looping.is_empty() {
            source.accept(looping);
        }
        if !unwanted.is_empty() {
            source.refuse(unwanted);
        }
        if !messages.is_empty() {
            self.post.add(BridgeRequest::Publish(messages));
        }
    }

    fn count(&self, why: &NotCrossing) {
        let metrics = &self.reporter.metrics;
        match why {
            NotCrossing::Unwanted => {}
            NotCrossing::Loop => metrics.dropped_loop.add(1),
            NotCrossing::Invalid(reason) | NotCrossing::Dropped(reason) => {
                metrics.dropped_mapping.add(1);
                let bridge = &*self.reporter.name;
                tracing::debug!(bridge, reason, "message does not cross");
            }
        }
    }
}
