//! Up to where the queue is in Kafka: a record that is in the transactions of what it speaks of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;

use super::events::{Ear, Events};
use super::failure;
use super::settings::ExactlyOnce;
use crate::{Failure, Record};

/// Everything of the queue that a transaction has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Which queue is meant: another store has another, and begins to count anew.
    pub(super) queue: String,
    /// Which process has counted the sequence.
    pub(super) process: String,
    /// The last record of that process.
    sequence: u64,
    /// The last record of each lane, for other processes.
    lanes: BTreeMap<u16, u64>,
}

impl Cursor {
    /// Nothing was sent.
    pub(super) fn new(queue: &str, process: &str) -> Self {
        Self {
            queue: queue.to_owned(),
            process: process.to_owned(),
            ..Self::default()
        }
    }

    /// What is true of this process and queue in what an earlier one has left.
    pub(super) fn carried_on(self, queue: &str, process: &str) -> Self {
        let is_queue = self.queue == queue;
        let is_process = self.process == process;
        Self {
            sequence: if is_process { self.sequence } else { 0 },
            lanes: if is_queue {
                self.lanes
            } else {
                BTreeMap::new()
            },
            ..Self::new(queue, process)
        }
    }

    /// Whether a record is in Kafka already. Records come in order, so all before the last are.
    pub(super) fn has(&self, record: &Record) -> bool {
        let is_of_lane = |id: crate::LastingId| self.lanes.get(&id.lane()) >= Some(&id.number());
        record.sequence <= self.sequence || record.lasting.is_some_and(is_of_lane)
    }

    /// A record is in the transaction.
    pub(super) fn pass(&mut self, record: &Record) {
        self.sequence = self.sequence.max(record.sequence);
        if let Some(id) = record.lasting {
            let lane = self.lanes.entry(id.lane()).or_default();
            *lane = id.number().max(*lane);
        }
    }

    /// # Shape
    /// `{"queue":"Q","process":"P","sequence":7,"lanes":{"0":1024}}`
    pub(super) fn text(&self) -> String {
        let lanes = self.lanes.iter();
        let lanes: Map<String, Value> = lanes
            .map(|(lane, number)| (lane.to_string(), json!(number)))
            .collect();
        json!({
            "queue": self.queue, "process": self.process, "sequence": self.sequence,
            "lanes": lanes,
        })
        .to_string()
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let word = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
        let lanes = value.get("lanes")?.as_object()?.iter();
        let lanes = lanes.map(|(lane, number)| Some((lane.parse().ok()?, number.as_u64()?)));
        Some(Self {
            queue: word("queue")?,
            process: word("process")?,
            sequence: value.get("sequence")?.as_u64()?,
            lanes: lanes.collect::<Option<_>>()?,
        })
    }
}

/// Reads the last cursor of a transactional id, of committed transactions alone. Blocks.
///
/// # Errors
/// The topic cannot be read, or what is there is no cursor.
pub(super) fn read(
    config: &ClientConfig,
    own: &ExactlyOnce,
    events: &Arc<Events>,
    patience: Duration,
) -> Result<Option<Cursor>, Failure> {
    let topic = &own.cursor_topic;
    let mut config = config.clone();
    config
        .set("group.id", &own.transactional_id)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", "0")
        .set("isolation.level", "read_committed");
    let consumer: BaseConsumer<Ear> = config
        .create_with_context(Ear(Arc::clone(events)))
        .map_err(Failure::refused)?;
    if events.tokens.is_some() {
        // It is told what it asks for when it is polled.
        let _ = consumer.poll(TOKEN_WAIT);
    }
    let lost = |error: KafkaError| {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        failure::of_topic(code, topic)
    };
    let (first, end) = consumer
        .fetch_watermarks(topic, PARTITION, patience)
        .map_err(lost)?;
    let mut back = LOOK_BACK;
    loop {
        let from = first.max(end.saturating_sub(back));
        let mut place = TopicPartitionList::new();
        let put = place.add_partition_offset(topic, PARTITION, Offset::Offset(from));
        put.map_err(Failure::retry)?;
        consumer.assign(&place).map_err(lost)?;
        let found = last_of(&consumer, own, patience).map_err(lost)?;
        if let Some(text) = found {
            let cursor = Cursor::parse(&text);
            let what = format!("topic {topic:?}: what is there is no cursor");
            return cursor.map(Some).ok_or_else(|| Failure::refused(what));
        }
        if from <= first {
            return Ok(None);
        }
        back = back.saturating_mul(16);
    }
}

/// The last record of ours from where the consumer is to the end.
fn last_of(
    consumer: &BaseConsumer<Ear>,
    own: &ExactlyOnce,
    patience: Duration,
) -> Result<Option<Vec<u8>>, KafkaError> {
    let mut last = None;
    loop {
        match consumer.poll(patience) {
            Some(Ok(message)) if message.key() == Some(own.transactional_id.as_bytes()) => {
                last = message.payload().map(<[u8]>::to_vec);
            }
            Some(Ok(_)) => {}
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(last),
            Some(Err(error)) => return Err(error),
            None => return Err(KafkaError::MessageConsumption(Code::OperationTimedOut)),
        }
    }
}

/// Makes the topic of cursors, if it is missing: of one partition, with compaction. Blocks.
///
/// # Errors
/// The server does not want to.
pub(super) fn make_topic(
    config: &ClientConfig,
    own: &ExactlyOnce,
    events: &Arc<Events>,
    runtime: &Handle,
) -> Result<(), Failure> {
    let topic = &own.cursor_topic;
    let client: AdminClient<Ear> = config
        .create_with_context(Ear(Arc::clone(events)))
        .map_err(Failure::refused)?;
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        // Each transaction writes one: small segments are compacted sooner.
        .set("segment.bytes", "16777216");
    let options = AdminOptions::new();
    let made = runtime.block_on(client.create_topics(&[new], &options));
    match made.map_err(|error| failure::of_group(&error))?.first() {
        Some(Err((_, code))) if *code != Code::TopicAlreadyExists => {
            Err(failure::of_topic(*code, topic))
        }
        _ => Ok(()),
    }
}

/// All cursors of a topic are there; one record of each is what compaction leaves.
pub(super) const PARTITION: i32 = 0;
/// Offsets from the end that are looked at first.
const LOOK_BACK: i64 = 256;
/// librdkafka asks for a token as soon as there is a client.
const TOKEN_WAIT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::LastingId;

    fn record(sequence: u64, id: u64) -> Record {
        Record {
            sequence,
            lasting: NonZeroU64::new(id).map(LastingId),
            ..Record::default()
        }
    }

    #[test]
    fn a_cursor_knows_what_was_sent_in_this_process_and_in_others() {
        let mut cursor = Cursor::new("q", "p");
        let sent = [record(1, 5 << 10), record(2, 0), record(3, (7 << 10) + 1)];
        for record in &sent {
            assert!(!cursor.has(record));
            cursor.pass(record);
        }
        let known = Cursor::parse(cursor.text().as_bytes()).expect("a cursor");
        assert_eq!(known, cursor);
        let same = known.clone().carried_on("q", "p");
        assert!(sent.iter().all(|it| same.has(it)));
        // In another process sequences begin anew, and only what is stored is known.
        let next = known.clone().carried_on("q", "another");
        assert!(next.has(&record(1, 5 << 10)) && next.has(&record(2, (7 << 10) + 1)));
        assert!(!next.has(&record(1, 6 << 10)) && !next.has(&record(1, 0)));
        // Another queue knows nothing of these.
        let other = known.carried_on("r", "another");
        assert!(!sent.iter().any(|it| other.has(it)));
        assert_eq!(Cursor::parse(b"{}"), None);
    }
}
