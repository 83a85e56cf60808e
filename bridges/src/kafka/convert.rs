//! Between Kafka's messages and records.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use tidewire_protocol::codec::QoS;

use super::events::Sent;
use super::topics::topic_of;
use crate::{Properties, Record};

/// A record as it is sent.
pub(super) struct Outgoing<'a> {
    record: &'a Record,
    topic: Cow<'a, str>,
    /// `None` is a tombstone.
    payload: Option<&'a [u8]>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(record: &'a Record, has_tombstones: bool) -> Self {
        // A retained message that is cleared; compaction needs a key to know which one.
        let is_cleared = record.retain && record.payload.is_empty() && record.key.is_some();
        Self {
            record,
            topic: match record.topic.contains('/') {
                true => topic_of(&record.topic).into(),
                false => Cow::Borrowed(&record.topic),
            },
            payload: (!is_cleared || !has_tombstones).then_some(&*record.payload),
        }
    }

    pub(super) fn as_base_record(&self) -> BaseRecord<'_, [u8], [u8], Box<Sent>> {
        let record = self.record;
        let sent = Box::new(Sent::new(record));
        let mut base = BaseRecord::with_opaque_to(&self.topic, sent);
        base.payload = self.payload;
        base.key = record.key.as_deref();
        base.partition = record.partition;
        base.timestamp = record.timestamp_ms.and_then(|it| i64::try_from(it).ok());
        base.headers = headers_of(record);
        base
    }
}

fn headers_of(record: &Record) -> Option<OwnedHeaders> {
    let rare = record.properties.as_deref().map(rare_headers_of);
    let rare = rare.into_iter().flatten().flatten();
    let user = record.headers.iter();
    let user = user.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let mut pairs = user.chain(rare).peekable();
    pairs.peek()?;
    // librdkafka grows it where there are rare ones.
    let none = OwnedHeaders::new_with_capacity(record.headers.len());
    let put = |headers: OwnedHeaders, (key, value)| {
        let value = Some(value);
        headers.insert(Header { key, value })
    };
    Some(pairs.fold(none, put))
}

fn rare_headers_of(rare: &Properties) -> [Option<(&str, &[u8])>; 3] {
    let content_type = rare.content_type.as_deref();
    let response_topic = rare.response_topic.as_deref();
    [
        content_type.map(|it| (CONTENT_TYPE, it.as_bytes())),
        response_topic.map(|it| (RESPONSE_TOPIC, it.as_bytes())),
        rare.correlation_data
            .as_deref()
            .map(|it| (CORRELATION_DATA, it)),
    ]
}

/// The record of a message.
pub(super) fn record_of(message: &BorrowedMessage<'_>) -> Record {
    let mut record = Record {
        topic: message.topic().replace('.', "/"),
        key: message.key().map(Bytes::copy_from_slice),
        payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        timestamp_ms: message
            .timestamp()
            .to_millis()
            .and_then(|it| u64::try_from(it).ok()),
        partition: Some(message.partition()),
        qos: QoS::AtLeastOnce,
        ..Record::default()
    };
    if let Some(headers) = message.headers() {
        take_headers(headers, &mut record);
    }
    record
}

fn take_headers(headers: &BorrowedHeaders, record: &mut Record) {
    let mut rare = Properties::default();
    for index in 0..headers.count() {
        // A name that is no UTF-8 makes rdkafka panic, and anybody may send one.
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
        let Ok(Some(Header { key, value })) = header else {
            continue;
        };
        let value = value.unwrap_or_default();
        if key == CORRELATION_DATA {
            rare.correlation_data = Some(Bytes::copy_from_slice(value));
            continue;
        }
        // User properties are text; bytes stay behind.
        let Ok(text) = String::from_utf8(value.to_vec()) else {
            continue;
        };
        match key {
            CONTENT_TYPE => rare.content_type = Some(text),
            RESPONSE_TOPIC => rare.response_topic = Some(text),
            name => record.headers.push((name.to_owned(), text)),
        }
    }
    record.properties = (rare != Properties::default()).then(|| Box::new(rare));
}

/// Properties of MQTT 5.0 that are no user properties.
const CONTENT_TYPE: &str = "mqtt-content-type";
const RESPONSE_TOPIC: &str = "mqtt-response-topic";
const CORRELATION_DATA: &str = "mqtt-correlation-data";

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&str>, payload: &str, retain: bool) -> Record {
        Record {
            topic: "a/b".into(),
            key: key.map(|it| Bytes::copy_from_slice(it.as_bytes())),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            retain,
            ..Record::default()
        }
    }

    fn payload(record: &Record, has_tombstones: bool) -> Option<&[u8]> {
        Outgoing::new(record, has_tombstones).payload
    }

    #[test]
    fn only_a_cleared_retained_message_with_a_key_is_a_tombstone() {
        assert_eq!(payload(&record(Some("k"), "", true), true), None);
        assert_eq!(payload(&record(Some("k"), "", true), false), Some(&b""[..]));
        assert_eq!(payload(&record(Some("k"), "", false), true), Some(&b""[..]));
        assert_eq!(payload(&record(None, "", true), true), Some(&b""[..]));
        assert_eq!(
            payload(&record(Some("k"), "x", true), true),
            Some(&b"x"[..])
        );
    }

    #[test]
    fn everything_that_kafka_has_a_place_for_is_in_it() {
        let record = Record {
            sequence: 7,
            partition: Some(2),
            timestamp_ms: Some(1_000),
            headers: vec![("a".into(), "b".into()), ("a".into(), "c".into())],
            properties: Some(Box::new(Properties {
                content_type: Some("text/plain".into()),
                ..Properties::default()
            })),
            ..record(Some("k"), "x", false)
        };
        let outgoing = Outgoing::new(&record, true);
        let base = outgoing.as_base_record();
        assert_eq!((base.topic, base.partition), ("a.b", Some(2)));
        assert_eq!((base.key, base.timestamp), (Some(&b"k"[..]), Some(1_000)));
        assert_eq!(base.delivery_opaque.sequence, 7);
        let headers = base.headers.expect("headers");
        let names: Vec<_> = headers.iter().map(|it| it.key.to_owned()).collect();
        assert_eq!(names, ["a", "a", "mqtt-content-type"]);
    }
}
