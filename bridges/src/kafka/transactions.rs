//! The way out, exactly once: each transaction holds records and the cursor that says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseRecord, Producer as _};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::client;
use super::convert::Outgoing;
use super::cursor::{self, Cursor, PARTITION};
use super::events::{Events, Part, SILENCE, Sent};
use super::failure;
use super::settings::{ExactlyOnce, ProducerSettings, Settings};
use super::sink::Producer;
use super::topics::topic_of;
use crate::ports::Ports;
use crate::{Class, Failure, Note, Record, Settled};

/// What the thread of such a way out works with; librdkafka's transactions block.
pub(super) struct Transactions {
    pub(super) producer: Arc<Producer>,
    /// What becomes of records comes here.
    pub(super) events: Arc<Events>,
    /// Towards the caller.
    pub(super) ports: Arc<Ports>,
    pub(super) settings: Arc<ProducerSettings>,
    pub(super) own: Arc<ExactlyOnce>,
    pub(super) cursor: Cursor,
    /// The queue has to be known as this before anything is sent.
    pub(super) note: Option<Note>,
    pub(super) ack_timeout: Duration,
    /// Of the caller, to wait for it.
    pub(super) runtime: Handle,
    /// In order, and not settled.
    pub(super) waiting: VecDeque<Record>,
}

/// The end of a transaction.
enum End {
    Done,
    /// It has to be undone, for this error unless records were refused.
    Undone(Option<Code>),
}

/// Ends what an earlier producer of the id has left open, fences it, and reads how far it came.
/// Blocks.
///
/// # Errors
/// The server does not let us, or the cursor cannot be read.
pub(super) fn resume(
    producer: &Producer,
    settings: &Settings,
    own: &ExactlyOnce,
    runtime: &Handle,
) -> Result<Option<Cursor>, Failure> {
    let config = client::common(settings)?;
    let creates = settings
        .producer
        .as_ref()
        .is_some_and(|it| it.creates_topics);
    let events = &producer.context().0;
    if creates {
        cursor::make_topic(&config, own, events, runtime)?;
    }
    producer
        .init_transactions(settings.connect_timeout)
        .map_err(|error| failure::of_transaction(&error, &own.transactional_id))?;
    cursor::read(&config, own, events, settings.connect_timeout)
}

impl Transactions {
    /// Ends when the connection does.
    pub(super) fn run(mut self) {
        let ended = self.serve();
        if let Err(failure) = ended {
            self.events.ports.fail(failure.clone());
            self.ports.fail(failure);
        }
    }

    fn serve(&mut self) -> Result<(), Failure> {
        if let Some(note) = self.note.take() {
            self.ports.leave(|boxes| boxes.notes.push(note));
            while self.ports.lock().kept == 0 {
                if !self.is_open()? {
                    return Ok(());
                }
                self.wait();
            }
        }
        while self.is_open()? {
            self.take_submitted();
            // A transaction that was undone is tried again after a while.
            if self.waiting.is_empty() || !self.transact()? {
                self.wait();
            }
        }
        Ok(())
    }

    /// False if it was closed.
    fn is_open(&self) -> Result<bool, Failure> {
        if let Some(failure) = self.events.fatal(self.producer.client()) {
            return Err(failure);
        }
        if let Some(failure) = &self.events.ports.lock().failure {
            return Err(failure.clone());
        }
        Ok(self.ports.lock().closing.is_none())
    }

    /// Until the caller has something, but not for long.
    fn wait(&self) {
        let told = self.ports.to_task.notified();
        // Whoever told is looked for, whether it was in time or not.
        let _ = self.runtime.block_on(async { timeout(TICK, told).await });
    }

    /// What is in Kafka already is settled at once.
    fn take_submitted(&mut self) {
        let submitted = std::mem::take(&mut self.ports.lock().submitted);
        let (sent, unsent): (Vec<_>, Vec<_>) =
            submitted.into_iter().partition(|it| self.cursor.has(it));
        self.settle(sent.iter().map(|it| (it.sequence, Ok(()))));
        self.waiting.extend(unsent);
    }

    fn settle(&self, ends: impl Iterator<Item = (u64, Result<(), Failure>)>) {
        let settled = ends.map(|(sequence, result)| Settled { sequence, result });
        self.ports.leave(|boxes| boxes.settled.extend(settled));
    }

    /// Sends what waits in one transaction; false if it was undone, and has to be tried again.
    fn transact(&mut self) -> Result<bool, Failure> {
        let count = self.next_count();
        self.producer
            .begin_transaction()
            .map_err(|error| self.ended(&error))?;
        let mut cursor = self.cursor.clone();
        let mut is_whole = true;
        for record in self.waiting.iter().take(count) {
            cursor.pass(record);
            is_whole = is_whole && self.send(record)?;
        }
        let mut end = End::Undone(None);
        if is_whole && self.send_cursor(&cursor)? {
            end = self.commit()?;
        }
        if let End::Undone(code) = end {
            self.abort()?;
            if !self.drop_refused() {
                self.look_for_the_cause(code, count)?;
            }
            return Ok(false);
        }
        self.cursor = cursor;
        self.events.ports.lock().settled.clear();
        self.events.recovered(Part::Out);
        let done: Vec<Record> = self.waiting.drain(..count).collect();
        for record in &done {
            self.events.clear(record.sequence);
        }
        self.settle(done.iter().map(|it| (it.sequence, Ok(()))));
        Ok(true)
    }

    /// How many of the records go together: one whose batch was too large goes alone.
    fn next_count(&self) -> usize {
        let is_suspect = |it: &Record| self.events.is_suspect(it.sequence);
        let first = self.waiting.iter().take(self.settings.inflight_max);
        match first.clone().position(is_suspect) {
            Some(0) => 1,
            Some(count) => count,
            None => first.count(),
        }
    }

    /// False if librdkafka refuses it, which is told where deliveries are.
    fn send(&self, record: &Record) -> Result<bool, Failure> {
        let outgoing = Outgoing::new(record, self.settings.has_tombstones);
        loop {
            match self.producer.send(outgoing.as_base_record()) {
                Ok(()) => return Ok(true),
                Err((error, _)) => match error.rdkafka_error_code().unwrap_or(Code::InvalidTopic) {
                    Code::QueueFull => std::thread::sleep(PAUSE),
                    code => {
                        let topic = topic_of(&record.topic);
                        self.events.refused(Sent::new(record), code, &topic);
                        return Ok(false);
                    }
                },
            }
            if !self.is_open()? {
                return Ok(false);
            }
        }
    }

    fn send_cursor(&self, cursor: &Cursor) -> Result<bool, Failure> {
        let text = cursor.text();
        loop {
            let mut base =
                BaseRecord::with_opaque_to(&self.own.cursor_topic, Box::new(Sent::CURSOR));
            base.key = Some(self.own.transactional_id.as_bytes());
            base.payload = Some(text.as_bytes());
            base.partition = Some(PARTITION);
            match self.producer.send(base) {
                Ok(()) => return Ok(true),
                Err((error, _)) if error.rdkafka_error_code() == Some(Code::QueueFull) => {
                    std::thread::sleep(PAUSE);
                }
                Err((error, _)) => return Err(self.ended(&error)),
            }
            if !self.is_open()? {
                return Ok(false);
            }
        }
    }

    fn commit(&self) -> Result<End, Failure> {
        let begin = Instant::now();
        loop {
            let Err(error) = self.producer.commit_transaction(SLICE) else {
                return Ok(End::Done);
            };
            if begin.elapsed() >= SILENCE {
                self.events.silent();
            }
            let KafkaError::Transaction(why) = &error else {
                // Records are still on their way, and stay so once one of them was refused.
                if self.has_refused() {
                    return Ok(End::Undone(None));
                }
                if begin.elapsed() < self.ack_timeout && self.is_open()? {
                    continue;
                }
                return Err(self.ended(&error));
            };
            if why.txn_requires_abort() {
                return Ok(End::Undone(Some(why.code())));
            }
            let is_worth_it = why.is_retriable() && begin.elapsed() < self.ack_timeout;
            if !is_worth_it || !self.is_open()? {
                return Err(self.ended(&error));
            }
        }
    }

    fn has_refused(&self) -> bool {
        let ports = self.events.ports.lock();
        ports.settled.iter().any(|it| it.result.is_err())
    }

    fn abort(&self) -> Result<(), Failure> {
        let begin = Instant::now();
        loop {
            let Err(error) = self.producer.abort_transaction(SLICE) else {
                return Ok(());
            };
            let is_retriable = match &error {
                KafkaError::Transaction(why) => why.is_retriable(),
                _ => false,
            };
            if !is_retriable || begin.elapsed() >= self.ack_timeout {
                return Err(self.ended(&error));
            }
        }
    }

    /// After an abort: what Kafka will never take leaves; all else is tried again, in order. False
    /// if nothing was refused by itself.
    fn drop_refused(&mut self) -> bool {
        let ends = std::mem::take(&mut self.events.ports.lock().settled);
        let refused: BTreeMap<u64, Failure> = ends
            .into_iter()
            .filter_map(|it| Some((it.sequence, it.result.err()?)))
            .collect();
        let undone = refused.values().find(|it| it.class != Class::Poison);
        if let Some(failure) = undone {
            let details = format!(": {failure}");
            self.events
                .trouble(Part::Out, "a transaction was undone".to_owned(), &details);
        }
        if refused.is_empty() {
            return false;
        }
        let is_poison = |it: &u64| refused.get(it).is_some_and(|it| it.class == Class::Poison);
        self.waiting.retain(|it| !is_poison(&it.sequence));
        self.settle(
            refused
                .iter()
                .filter(|(sequence, _)| is_poison(sequence))
                .map(|(sequence, failure)| (*sequence, Err(failure.clone()))),
        );
        true
    }

    /// The transaction was refused as a whole. What goes to topics of its own is sent alone, to
    /// find the one that may not be used; without such records it is a topic that all need.
    fn look_for_the_cause(&mut self, code: Option<Code>, count: usize) -> Result<(), Failure> {
        let Some(code) = code else {
            return Ok(());
        };
        let failure =
            failure::of_transaction(&KafkaError::Global(code), &self.own.transactional_id);
        if !failure::is_operators(code) {
            let details = format!(": {failure}");
            self.events
                .trouble(Part::Out, "a transaction was undone".to_owned(), &details);
            return Ok(());
        }
        let batch = self.waiting.iter().take(count);
        let own_topics = batch.filter(|it| !self.settings.topics.contains(&topic_of(&it.topic)));
        let own_topics: Vec<u64> = own_topics.map(|it| it.sequence).collect();
        match *own_topics {
            [] => return Err(failure),
            [sequence] if count == 1 => {
                self.waiting.pop_front();
                let refused = Failure::poison(failure);
                self.settle([(sequence, Err(refused))].into_iter());
            }
            _ => own_topics.iter().for_each(|it| self.events.suspect(*it)),
        }
        Ok(())
    }

    /// Why nothing can be sent any more by this client.
    fn ended(&self, error: &KafkaError) -> Failure {
        if let Some(failure) = self.events.fatal(self.producer.client()) {
            return failure;
        }
        failure::of_transaction(error, &self.own.transactional_id)
    }
}

/// How long the thread may be deaf for the caller.
const TICK: Duration = Duration::from_millis(100);
/// librdkafka's own queue is full.
const PAUSE: Duration = Duration::from_millis(1);
/// A part of the time that a commit has.
const SLICE: Duration = Duration::from_millis(500);
