//! The way in: one task that reads from the group's partitions and commits what is accepted.

use std::sync::Arc;

use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use tokio::time::{Duration, Instant, sleep_until};

use super::convert::record_of;
use super::events::{Ear, Events};
use super::failure;
use super::offsets::Offsets;
use crate::{Failure, Receipt, Received, Token};

/// The client of a way in.
pub(super) type Consumer = StreamConsumer<Ear>;

/// The task of a way in.
pub(super) struct Reader {
    pub(super) consumer: Arc<Consumer>,
    pub(super) events: Arc<Events>,
    pub(super) unaccepted_max: usize,
    pub(super) offsets: Offsets,
}

impl Reader {
    /// Ends when the connection does.
    pub(super) async fn run(mut self) {
        let events = Arc::clone(&self.events);
        loop {
            if !self.take_accepted() {
                return;
            }
            if self.offsets.unaccepted() >= self.unaccepted_max {
                self.wait_for_room().await;
                continue;
            }
            // Cancel safe, both: what is not taken stays where it is.
            tokio::select! {
                message = self.consumer.recv() => {
                    let received = match message {
                        Ok(message) => {
                            begin_anew(&mut self.offsets, &events);
                            Some(received(&mut self.offsets, &message))
                        }
                        Err(error) => {
                            self.failed(&error);
                            None
                        }
                    };
                    if let Some(received) = received {
                        events.recovered();
                        events.ports.leave(|boxes| boxes.received.push(received));
                    }
                }
                () = events.ports.to_task.notified() => {}
            }
        }
    }

    /// Stores the offsets of what found its place; false when the connection has ended.
    fn take_accepted(&mut self) -> bool {
        let (accepted, is_open) = {
            let mut boxes = self.events.ports.lock();
            let is_open = boxes.closing.is_none() && boxes.failure.is_none();
            (std::mem::take(&mut boxes.accepted), is_open)
        };
        begin_anew(&mut self.offsets, &self.events);
        for position in accepted.into_iter().filter_map(Receipt::position) {
            if let Some(upto) = self.offsets.accept(position) {
                // It fails for a partition that was just taken from us: who has it now gets the
                // message again.
                let _ = self
                    .consumer
                    .store_offset(upto.topic, upto.partition, upto.offset);
            }
        }
        is_open
    }

    /// Nothing more is taken before what was received is accepted. A group expels who is silent
    /// for long: then the partitions are paused, and the client is asked on.
    async fn wait_for_room(&mut self) {
        let ports = Arc::clone(&self.events.ports);
        tokio::select! {
            () = ports.to_task.notified() => return,
            () = sleep_until(Instant::now() + PATIENCE) => {}
        }
        let Ok(paused) = self.consumer.assignment() else {
            return;
        };
        if self.consumer.pause(&paused).is_err() {
            return;
        }
        tokio::select! {
            () = ports.to_task.notified() => {}
            // A rebalance, or a message that was on its way: it is within one of the bound.
            message = self.consumer.recv() => if let Ok(message) = message {
                begin_anew(&mut self.offsets, &self.events);
                let received = received(&mut self.offsets, &message);
                ports.leave(|boxes| boxes.received.push(received));
            },
        }
        // It fails for partitions that were taken from us meanwhile.
        let _ = self.consumer.resume(&paused);
    }

    fn failed(&self, error: &KafkaError) {
        let Some(code) = error.rdkafka_error_code() else {
            return self.events.trouble(error.to_string(), "");
        };
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            let text = format!("the consumer has ended: {}", failure::words(code));
            self.events.ports.fail(Failure::retry(text));
        } else if !matches!(code, Code::AllBrokersDown | Code::BrokerTransportFailure) {
            // Connections that come and go are told by the ear.
            let what = format!("the consumer: {}", failure::words(code));
            self.events.trouble(what, "");
        }
    }
}

/// After a rebalance nothing of before counts.
fn begin_anew(offsets: &mut Offsets, events: &Events) {
    for (topic, partition) in events.take_revoked() {
        offsets.revoke(&topic, partition);
    }
}

fn received(offsets: &mut Offsets, message: &BorrowedMessage<'_>) -> Received {
    let position = offsets.received(message.topic(), message.partition(), message.offset());
    Received {
        record: record_of(message),
        receipt: Receipt(Token::Position(position)),
    }
}

/// Well below `max.poll.interval.ms`.
const PATIENCE: Duration = Duration::from_secs(20);
