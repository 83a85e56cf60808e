//! The messages of a bridge: out to the sink, in from the source, and what becomes of them.

use tidewire_bridges::{
    Class, Connected, Connector, Failure, Note, Received, Settled, Sink, Source,
};
use tidewire_protocol::codec::{PublishProperties, UserProperties};
use tokio::time::Instant;

use super::Runner;
use crate::bridge::map::NotCrossing;
use crate::bridge::queues::queue_name;
use crate::config::BridgeKind;
use crate::message::{Header, Message};
use crate::queue::{BridgeNote, Lent};
use crate::shard::{BridgeReport, BridgeRequest};

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
                BridgeReport::Published(reasons) => {
                    let published = |(number, reason)| self.arrivals.published(number, reason);
                    accepted.extend(reasons.into_iter().filter_map(published));
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
        let mut records = Vec::new();
        let now_ms = self.post.now_ms();
        let allowance = self.conduct.rate.allowance(now);
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
                    self.loan.settle(sequence);
                    self.count(&why);
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
        for Settled { sequence, result } in settled {
            match result {
                Ok(()) => self.reporter.metrics.sent.add(1),
                Err(failure) if failure.class == Class::Poison => {
                    self.bury(sequence, &failure);
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
    fn bury(&mut self, sequence: u64, failure: &Failure) {
        let Some(Lent { message, .. }) = self.loan.get(sequence) else {
            return;
        };
        self.reporter.metrics.dropped_poison.add(1);
        let bridge = &*self.reporter.name;
        let topic = message.topic();
        tracing::warn!(bridge, topic, reason = failure.reason, "message not taken");
        let Some(dead_letter) = &self.conduct.dead_letter else {
            return;
        };
        let pairs = [
            ("tidewire-bridge", bridge),
            ("tidewire-topic", topic),
            ("tidewire-error", &failure.reason),
        ];
        let mut forwarded = message.forwarded().to_vec();
        let properties = PublishProperties {
            user_properties: UserProperties::from_pairs(&pairs),
            ..PublishProperties::default()
        };
        properties.encode_forwarded(&mut forwarded);
        let header = Header {
            qos: message.qos(),
            // It is not to come back to this bridge.
            publisher: self.map.publisher(),
            ..Header::default()
        };
        let letter = Message::new(dead_letter, &forwarded, message.payload(), header);
        self.post.add(BridgeRequest::Notify(letter));
    }

    pub(super) fn receive(&mut self, received: Vec<Received>, source: &mut C::Source) {
        let now_ms = self.post.now_ms();
        let mut messages = Vec::new();
        let (mut looping, mut unwanted) = (Vec::new(), Vec::new());
        for Received {
            record,
            receipt,
            bookmark,
        } in received
        {
            match self.map.inward(record, self.peer.as_deref(), now_ms) {
                Ok(inward) => {
                    messages.push(self.arrivals.add(inward, bookmark, receipt));
                    self.reporter.metrics.received.add(1);
                }
                Err(why) => {
                    self.count(&why);
                    match why {
                        NotCrossing::Loop => looping.push(receipt),
                        NotCrossing::Unwanted | NotCrossing::Invalid(_) => unwanted.push(receipt),
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
            NotCrossing::Invalid(reason) => {
                metrics.dropped_mapping.add(1);
                let bridge = &*self.reporter.name;
                tracing::debug!(bridge, reason, "message does not cross");
            }
        }
    }
}
