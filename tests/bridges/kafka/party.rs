//! A client of Kafka at the far end.

use std::collections::VecDeque;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidewire::clock::Clock;

use super::server::Kafka;
use crate::java::START_MS;

/// A message that lay in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) key: Option<String>,
    /// `None` is a tombstone.
    pub(crate) payload: Option<String>,
    pub(crate) partition: i32,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) headers: Vec<(String, String)>,
}

/// Reads a topic from its beginning.
pub(crate) struct Reader {
    consumer: BaseConsumer,
    got: VecDeque<Got>,
}

impl Reader {
    pub(crate) fn new(kafka: &Kafka, topic: &str, partitions: i32) -> Self {
        let mut config = kafka.config();
        config
            .set("group.id", "reader")
            .set("fetch.wait.max.ms", "50");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .expect("an offset");
        }
        consumer.assign(&list).expect("assigned");
        Self {
            consumer,
            got: VecDeque::new(),
        }
    }

    /// The next message, if one comes in a while.
    pub(crate) fn poll(&mut self, patience: Duration) -> Option<Got> {
        let clock = Clock::start();
        while self.got.is_empty() && u128::from(clock.now_ms()) < patience.as_millis() {
            let message = self.consumer.poll(Duration::from_millis(50));
            // Errors are connections that come and go.
            if let Some(Ok(message)) = message {
                self.got.push_back(got(&message));
            }
        }
        self.got.pop_front()
    }

    pub(crate) fn next(&mut self) -> Got {
        let got = self.poll(Duration::from_millis(START_MS));
        got.expect("a message in Kafka")
    }

    pub(crate) fn payload(&mut self) -> String {
        self.next().payload.expect("a payload")
    }
}

fn got(message: &impl Message) -> Got {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().into_iter().flat_map(|it| {
        let pair = |it: Header<'_, &[u8]>| (it.key.to_owned(), text(it.value.unwrap_or_default()));
        it.iter().map(pair).collect::<Vec<_>>()
    });
    Got {
        key: message.key().map(text),
        payload: message.payload().map(text),
        partition: message.partition(),
        timestamp_ms: message.timestamp().to_millis(),
        headers: headers.collect(),
    }
}

/// Waits until a group has an offset of the first partition of a topic.
pub(crate) fn wait_for_group(kafka: &Kafka, group: &str, topic: &str) {
    let mut config = kafka.config();
    let consumer: BaseConsumer = config.set("group.id", group).create().expect("a consumer");
    let clock = Clock::start();
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    loop {
        let committed = consumer.committed_offsets(list.clone(), Duration::from_secs(5));
        let offset = committed.expect("an answer").elements()[0].offset();
        if matches!(offset, Offset::Offset(_)) {
            return;
        }
        assert!(clock.now_ms() < START_MS, "{offset:?}");
    }
}

/// Writes to topics.
pub(crate) struct Writer {
    producer: BaseProducer,
}

impl Writer {
    pub(crate) fn new(kafka: &Kafka) -> Self {
        let mut config = kafka.config();
        config.set("enable.idempotence", "true");
        Self {
            producer: config.create().expect("a producer"),
        }
    }

    /// Queues a message; without a payload it is a tombstone.
    pub(crate) fn send(
        &self,
        topic: &str,
        key: &str,
        payload: Option<&str>,
        pairs: &[(&str, &[u8])],
    ) {
        let headers = pairs
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(*value),
                })
            });
        let mut record = BaseRecord::<str, str>::to(topic).key(key).headers(headers);
        record.payload = payload;
        while let Err((error, unsent)) = self.producer.send(record) {
            let code = error.rdkafka_error_code();
            assert_eq!(code, Some(RDKafkaErrorCode::QueueFull), "{error}");
            self.producer.poll(Duration::from_millis(50));
            record = unsent;
        }
    }

    /// As [`Writer::send`], made at a time.
    pub(crate) fn send_at(&self, topic: &str, key: &str, payload: &str, unix_ms: i64) {
        let record = BaseRecord::<str, str>::to(topic).key(key).payload(payload);
        let sent = self.producer.send(record.timestamp(unix_ms));
        sent.map_err(|it| it.0).expect("sent");
    }

    /// Waits until the server has everything.
    pub(crate) fn flush(&self) {
        let patience = Duration::from_millis(START_MS);
        self.producer.flush(patience).expect("delivered");
    }
}
