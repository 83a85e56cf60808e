//! The way out: records are handed to librdkafka, and come back when they are delivered.

use std::collections::VecDeque;
use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{Producer as _, ThreadedProducer};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::convert::Outgoing;
use super::events::{Ear, Events, Part, SILENCE, Sent};
use super::settings::ProducerSettings;
use super::topics::topic_of;
use crate::progress::Progress;
use crate::{Failure, Note, PortSink, Record, Settled, Sink};

/// The client of a way out.
pub(super) type Producer = ThreadedProducer<Ear>;

/// The way out of one connection.
pub struct KafkaSink(Way);

/// How records get there.
enum Way {
    /// One by one.
    Window(Box<Window>),
    /// In transactions, through their thread.
    Transactions(PortSink),
}

/// Records that librdkafka has, and those that wait for room there.
pub(super) struct Window {
    producer: Option<(Arc<Producer>, Arc<ProducerSettings>)>,
    events: Arc<Events>,
    ack_timeout: Duration,
    /// Not yet given to librdkafka, in order.
    waiting: VecDeque<Record>,
    in_flight: usize,
    /// The record in flight goes alone: nothing else is sent until it is settled.
    is_alone: bool,
    progress: Progress,
    /// Until then what is settled gathers.
    gathers_until: Option<Instant>,
}

impl KafkaSink {
    pub(super) fn new(window: Window) -> Self {
        Self(Way::Window(Box::new(window)))
    }

    pub(super) fn of_transactions(ports: PortSink) -> Self {
        Self(Way::Transactions(ports))
    }
}

impl Window {
    pub(super) fn new(
        producer: Option<(Arc<Producer>, Arc<ProducerSettings>)>,
        events: Arc<Events>,
        ack_timeout: Duration,
    ) -> Self {
        Self {
            producer,
            events,
            ack_timeout,
            waiting: VecDeque::new(),
            in_flight: 0,
            is_alone: false,
            progress: Progress::begin(),
            gathers_until: None,
        }
    }

    /// Sends what may be sent now.
    fn pump(&mut self) {
        let Some((producer, settings)) = self.producer.clone() else {
            return;
        };
        if self.waiting.is_empty() || self.has_ended() {
            return;
        }
        // A record is suspected before it waits here again.
        let has_suspects = self.events.has_suspects();
        while self.in_flight < settings.inflight_max && !self.is_alone {
            let Some(record) = self.waiting.front() else {
                return;
            };
            let is_suspect = has_suspects && self.events.is_suspect(record.sequence);
            if is_suspect && self.in_flight > 0 {
                return;
            }
            match send(&producer, record, &settings) {
                // librdkafka's own queue is full: what is settled makes room.
                Err(Code::QueueFull) if self.in_flight > 0 => return,
                Err(code) => {
                    self.refuse(code);
                    if self.has_ended() {
                        return;
                    }
                }
                Ok(()) => {
                    if self.in_flight == 0 {
                        self.progress.made();
                    }
                    self.in_flight += 1;
                    self.is_alone = is_suspect;
                    self.waiting.pop_front();
                }
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.events.ports.lock().failure.is_some()
    }

    /// The first of the waiting records cannot be sent; it is settled like one that was.
    fn refuse(&mut self, code: Code) {
        if let Some(record) = self.waiting.pop_front() {
            self.in_flight += 1;
            let topic = topic_of(&record.topic);
            self.events.refused(Sent::new(&record), code, &topic);
        }
    }

    fn take_settled(&mut self) -> Vec<Settled> {
        let settled = std::mem::take(&mut self.events.ports.lock().settled);
        if !settled.is_empty() {
            self.in_flight = self.in_flight.saturating_sub(settled.len());
            let is_busy = settled.len() >= MANY && self.in_flight >= MANY;
            self.gathers_until = is_busy.then(|| Instant::now() + GATHERING);
            self.progress.made();
            if std::mem::take(&mut self.is_alone) {
                settled.iter().for_each(|it| self.events.clear(it.sequence));
            }
            if settled.iter().any(|it| it.result.is_ok()) {
                self.events.recovered(Part::Out);
            }
        }
        settled
    }

    fn look_at_the_client(&self) {
        let client = self.producer.as_ref().map(|(it, _)| it.client());
        if let Some(failure) = client.and_then(|it| self.events.fatal(it)) {
            self.events.ports.fail(failure);
        }
    }

    fn look_at_the_clock(&mut self) {
        if self.in_flight > 0 && self.progress.is_older_than(SILENCE) {
            self.events.silent();
        }
        if let Err(silence) = self.progress.check(self.in_flight > 0, self.ack_timeout) {
            self.events.ports.fail(self.events.with_last_error(silence));
        }
    }
}

impl Sink for KafkaSink {
    fn submit(&mut self, records: Vec<Record>) {
        match &mut self.0 {
            Way::Window(it) => it.submit(records),
            Way::Transactions(it) => it.submit(records),
        }
    }

    async fn settled(&mut self) -> Result<Vec<Settled>, Failure> {
        match &mut self.0 {
            Way::Window(it) => it.settled().await,
            Way::Transactions(it) => it.settled().await,
        }
    }

    fn take_notes(&mut self) -> Vec<Note> {
        match &mut self.0 {
            Way::Window(_) => Vec::new(),
            Way::Transactions(it) => it.take_notes(),
        }
    }

    fn keep(&mut self, count: usize) {
        match &mut self.0 {
            Way::Window(_) => {}
            Way::Transactions(it) => it.keep(count),
        }
    }
}

impl Window {
    fn submit(&mut self, records: Vec<Record>) {
        match self.waiting.is_empty() {
            // Records are large to move.
            true => self.waiting = records.into(),
            false => self.waiting.extend(records),
        }
        self.pump();
    }

    async fn settled(&mut self) -> Result<Vec<Settled>, Failure> {
        loop {
            // Deliveries come in runs, and each look at them wakes this thread and a shard. Cancel
            // safe: the time is kept.
            if let Some(end) = self.gathers_until {
                sleep_until(end).await;
            }
            self.gathers_until = None;
            let settled = self.take_settled();
            self.pump();
            if !settled.is_empty() {
                return Ok(settled);
            }
            self.look_at_the_client();
            self.look_at_the_clock();
            if let Some(failure) = &self.events.ports.lock().failure {
                return Err(failure.clone());
            }
            // Cancel safe: a permit that is not taken stays, and the clock is looked at again.
            tokio::select! {
                () = self.events.ports.settled_wake() => {}
                () = sleep(TICK) => {}
            }
        }
    }
}

fn send(producer: &Producer, record: &Record, settings: &ProducerSettings) -> Result<(), Code> {
    let outgoing = Outgoing::new(record, settings.has_tombstones);
    let sent = producer.send(outgoing.as_base_record());
    sent.map_err(|(error, _)| error.rdkafka_error_code().unwrap_or(Code::InvalidTopic))
}

const TICK: Duration = Duration::from_millis(500);
/// Settled at once, and as many in flight: there is more to come.
const MANY: usize = 64;
/// So long it may take to come, where nobody waits for a single one.
const GATHERING: Duration = Duration::from_millis(1);
