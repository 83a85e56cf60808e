//! The way in: one thread that reads from the group's partitions and commits what is accepted.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::assign::Assigner;
use super::convert::record_of;
use super::events::{Ear, Events, Part, Rebalanced};
use super::failure::{self, Unread};
use super::offsets::Offsets;
use crate::{Failure, Receipt, Received, Token};

/// The client of a way in.
pub(super) type Consumer = BaseConsumer<Ear>;

/// What the thread of a way in works with. It blocks in librdkafka, which neither polls nor asks
/// servers any other way.
pub(super) struct Reader {
    pub(super) consumer: Arc<Consumer>,
    pub(super) events: Arc<Events>,
    pub(super) assigner: Assigner,
    pub(super) offsets: Offsets,
    /// Of the caller, to wait for it.
    pub(super) runtime: Handle,
}

impl Reader {
    /// Ends when the connection does.
    pub(super) fn run(mut self) {
        self.events.set_read(true);
        while self.take_accepted() {
            let room = self
                .unaccepted_max()
                .saturating_sub(self.offsets.unaccepted());
            if room == 0 {
                self.wait_for_room();
            } else {
                self.read(room.min(BATCH_MAX));
            }
            while let Some(rebalance) = self.events.take_rebalance() {
                self.rebalance(rebalance);
            }
        }
        self.events.set_read(false);
        if self.events.take_rebalance().is_some() {
            // The group waits for an answer, and the end of the consumer for the group.
            let _ = self.consumer.unassign();
        }
    }

    fn unaccepted_max(&self) -> usize {
        self.assigner.settings.unaccepted_max
    }

    /// Hands on what has come, if the connection has not ended meanwhile.
    fn read(&mut self, room: usize) {
        let consumer = Arc::clone(&self.consumer);
        let mut received = Vec::new();
        let mut patience = POLL;
        while received.len() < room {
            match consumer.poll(patience) {
                Some(Ok(message)) => received.push(self.received(&message)),
                Some(Err(error)) => self.failed(&error),
                None => break,
            }
            patience = Duration::ZERO;
        }
        if received.is_empty() {
            return;
        }
        self.events.recovered(Part::In);
        let bookmarks = &self.assigner.bookmarks;
        self.events.ports.leave(|boxes| {
            // Nobody comes back for it: it is read again.
            if boxes.failure.is_some() {
                return;
            }
            for Received { bookmark, .. } in &received {
                let next = bookmark.as_ref();
                let next = next.and_then(|it| Some((&it.name, i64::try_from(it.next).ok()?)));
                next.into_iter()
                    .for_each(|(name, next)| bookmarks.set(name, next));
            }
            boxes.received.append(&mut received);
        });
    }

    fn received(&mut self, message: &BorrowedMessage<'_>) -> Received {
        let (topic, partition) = (message.topic(), message.partition());
        let (position, bookmark) = self.offsets.received(topic, partition, message.offset());
        Received {
            record: record_of(message),
            receipt: Receipt(Token::Position(position)),
            bookmark,
        }
    }

    /// Stores the offsets of what found its place; false when the connection has ended.
    fn take_accepted(&mut self) -> bool {
        let (accepted, is_open) = {
            let mut boxes = self.events.ports.lock();
            let is_open = boxes.closing.is_none() && boxes.failure.is_none();
            (std::mem::take(&mut boxes.accepted), is_open)
        };
        let positions = accepted.into_iter().filter_map(Receipt::position);
        for upto in self.offsets.accept(positions) {
            // It fails for a partition that was just taken from us: who has it now gets the
            // message again.
            let _ = self
                .consumer
                .store_offset(upto.topic, upto.partition, upto.offset);
        }
        is_open
    }

    /// Nothing more is taken before what was received is accepted. A group expels who is silent
    /// for long: then the partitions are paused, and the client is asked on.
    fn wait_for_room(&mut self) {
        if self.is_told_within(PATIENCE) {
            return;
        }
        let Ok(paused) = self.consumer.assignment() else {
            return;
        };
        if self.consumer.pause(&paused).is_err() {
            return;
        }
        // A rebalance, or a message that was on its way: it is within one of the bound.
        self.read(1);
        // It fails for partitions that were taken from us meanwhile.
        let _ = self.consumer.resume(&paused);
    }

    /// Waits until the caller has something; false if there is nothing so long.
    fn is_told_within(&self, patience: Duration) -> bool {
        let told = self.events.ports.to_task.notified();
        self.runtime
            .block_on(async { timeout(patience, told).await })
            .is_ok()
    }

    fn rebalance(&mut self, rebalance: Rebalanced) {
        let done = match rebalance {
            Rebalanced::Assigned(partitions) => self.begin(partitions),
            Rebalanced::Revoked => self.give_away(),
        };
        if let Err(failure) = done {
            self.events.ports.fail(failure);
        }
    }

    fn begin(&mut self, mut partitions: TopicPartitionList) -> Result<(), Failure> {
        self.offsets.revoke();
        let gone = self.assigner.place(&self.consumer, &mut partitions)?;
        self.consumer
            .assign(&partitions)
            .map_err(|it| failure::of_group(&it))?;
        // The group is told even where nothing comes: the next one does not begin later.
        self.consumer
            .store_offsets(&partitions)
            .map_err(|it| failure::of_group(&it))?;
        self.events.recovered(Part::In);
        if !gone.is_empty() {
            self.events.trouble(Part::In, gone.join("; "), "");
        }
        Ok(())
    }

    /// Waits for what is on its way, so that who gets the partitions does not read it again; the
    /// offsets are committed with the end of the assignment.
    fn give_away(&mut self) -> Result<(), Failure> {
        let mut rounds = GIVE_AWAY_ROUNDS;
        while self.take_accepted()
            && self.offsets.unaccepted() > 0
            && rounds > 0
            && !self.consumer.assignment_lost()
        {
            rounds -= 1;
            self.is_told_within(POLL);
        }
        self.offsets.revoke();
        self.consumer
            .unassign()
            .map_err(|it| failure::of_group(&it))
    }

    fn failed(&self, error: &KafkaError) {
        let Some(code) = error.rdkafka_error_code() else {
            return self.events.trouble(Part::In, error.to_string(), "");
        };
        let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        if let Some(failure) = self.events.fatal(self.consumer.client()) {
            return self.events.ports.fail(failure);
        }
        match failure::unread(code, is_fatal) {
            Unread::Ended(failure) => self.events.ports.fail(failure),
            Unread::Missing(what) => self.events.missing(what),
            Unread::Trouble(what) => self.events.trouble(Part::In, what, ""),
            Unread::Nothing => {}
        }
    }
}

/// How long the thread may be deaf for the caller.
const POLL: Duration = Duration::from_millis(100);
/// Records that are handed on at once.
const BATCH_MAX: usize = 1_000;
/// Well below `max.poll.interval.ms`.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a partition that is to be given away waits for what is on its way; in polls.
const GIVE_AWAY_ROUNDS: u32 = 30;
