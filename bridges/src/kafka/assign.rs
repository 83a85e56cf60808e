//! Where the partitions that the group gives to us begin.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::bookmarks::{Bookmarks, name_of};
use super::events::Ear;
use super::failure;
use super::settings::{ConsumerSettings, Start};
use crate::Failure;

/// Knows how far partitions were read.
#[derive(Debug)]
pub(super) struct Assigner {
    pub(super) bookmarks: Arc<Bookmarks>,
    pub(super) settings: Arc<ConsumerSettings>,
    /// For each answer of a server.
    pub(super) patience: Duration,
}

/// Offsets that can be read: from the first on, below the second.
type Range = (i64, i64);

impl Assigner {
    /// Puts the offset at each partition; answers what was found to be gone, in words. Blocks.
    ///
    /// Whoever read a partition further counts: this broker, whose bookmarks are in the commit of
    /// the messages, or another member of the group, which has committed its offset.
    ///
    /// # Errors
    /// The server does not answer, or a partition was never read and has to.
    pub(super) fn place(
        &self,
        consumer: &BaseConsumer<Ear>,
        partitions: &mut TopicPartitionList,
    ) -> Result<Vec<String>, Failure> {
        let committed = consumer
            .committed_offsets(partitions.clone(), self.patience)
            .map_err(|it| failure::of_group(&it))?;
        let mut gone = Vec::new();
        for element in committed.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let name = name_of(&self.settings.group, topic, partition);
            let (begin, what_is_gone) = match self.bookmarks.next(&name).max(offset_in(&element)) {
                Some(next) => self.look_at(consumer, topic, partition, next)?,
                None => (self.begin(consumer, topic, partition)?, None),
            };
            gone.extend(what_is_gone);
            let put = partitions.set_partition_offset(topic, partition, Offset::Offset(begin));
            put.map_err(Failure::retry)?;
        }
        Ok(gone)
    }

    /// Where a partition begins that was read before, and what is wrong with that.
    fn look_at(
        &self,
        consumer: &BaseConsumer<Ear>,
        topic: &str,
        partition: i32,
        next: i64,
    ) -> Result<(i64, Option<String>), Failure> {
        let (mut first, mut end) = self.range(consumer, topic, partition)?;
        // A new leader may know less for a moment.
        for _ in 0..LOOKS {
            if next <= end {
                break;
            }
            sleep(PAUSE);
            (first, end) = self.range(consumer, topic, partition)?;
        }
        let place = format!("topic {topic:?}, partition {partition}");
        Ok(match next {
            // A topic of the same name, that was never read.
            _ if next > end => {
                let text = format!("{place}: offset {next} is behind its end {end}: all of it");
                (first, Some(format!("{text} is read, from {first}")))
            }
            _ if next < first => {
                let text = format!("{place}: deleted before it was read: {next} to {first}");
                (first, Some(text))
            }
            _ => (next, None),
        })
    }

    /// Where a partition begins that was never read.
    fn begin(
        &self,
        consumer: &BaseConsumer<Ear>,
        topic: &str,
        partition: i32,
    ) -> Result<i64, Failure> {
        let (first, end) = self.range(consumer, topic, partition)?;
        let unix_ms = match self.settings.start {
            Start::Earliest => return Ok(first),
            Start::Latest => return Ok(end),
            Start::At(unix_ms) => unix_ms,
            Start::Stored => {
                let text = format!("topic {topic:?}, partition {partition}: was never read");
                return Err(Failure::refused(text));
            }
        };
        let mut times = TopicPartitionList::new();
        let put = times.add_partition_offset(topic, partition, Offset::Offset(unix_ms));
        put.map_err(Failure::retry)?;
        let found = consumer.offsets_for_times(times, self.patience);
        let found = found.map_err(|error| failure::of_topic(code_of(&error), topic))?;
        // If there is nothing as late as that, what comes is.
        Ok(found.elements().first().and_then(offset_in).unwrap_or(end))
    }

    /// Asks a server. Blocks.
    fn range(
        &self,
        consumer: &BaseConsumer<Ear>,
        topic: &str,
        partition: i32,
    ) -> Result<Range, Failure> {
        let range = consumer.fetch_watermarks(topic, partition, self.patience);
        range.map_err(|error| failure::of_topic(code_of(&error), topic))
    }
}

fn offset_in(element: &TopicPartitionListElem<'_>) -> Option<i64> {
    match element.offset() {
        Offset::Offset(next) => Some(next),
        _ => None,
    }
}

fn code_of(error: &KafkaError) -> Code {
    error.rdkafka_error_code().unwrap_or(Code::Fail)
}

/// Looks at an end that is too near, and the pause between two.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_millis(700);
