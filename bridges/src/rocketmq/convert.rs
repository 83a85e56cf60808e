//! Between RocketMQ's messages and records.

use std::collections::HashMap;

use bytes::Bytes;
use tidewire_protocol::codec::QoS;

use super::inflate::inflated;
use super::wire::{self, Message, Resource, SystemProperties, Time};
use crate::hex::hex_of;
use crate::separators::exchange;
use crate::{Failure, Properties, Record};

/// What all messages of a connector have in common.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) namespace: String,
}

/// The topic's name over there, and back: RocketMQ has no levels, and takes letters, digits, `-`,
/// `_` and `%`. `/` and `-` change places.
pub fn name_of(name: &str) -> String {
    exchange(name, '-')
}

impl Sender {
    pub(super) fn resource(&self, name: &str) -> Resource {
        Resource {
            resource_namespace: self.namespace.clone(),
            name: name.to_owned(),
        }
    }

    /// The message of a record.
    ///
    /// # Errors
    /// It has what no message can.
    pub(super) fn message(&self, record: &Record, now_ms: u64) -> Result<Message, Failure> {
        let envelope = record
            .properties
            .as_deref()
            .and_then(|it| it.envelope.as_ref());
        let group = record.key.as_deref().map(text_of_key).transpose()?;
        let deliver_at_ms = envelope.and_then(|it| it.delay_ms);
        let deliver_at_ms = deliver_at_ms.map(|delay| now_ms.saturating_add(delay));
        let message_type = match (&group, deliver_at_ms) {
            (Some(_), _) => wire::FIFO,
            (None, Some(_)) => wire::DELAY,
            (None, None) => wire::NORMAL,
        };
        let system = SystemProperties {
            tag: envelope.and_then(|it| it.tag.clone()),
            keys: envelope.map(|it| it.keys.clone()).unwrap_or_default(),
            message_id: match &record.uid {
                Some(uid) => uid.to_string(),
                None => record.sequence.to_string(),
            },
            body_encoding: wire::IDENTITY,
            message_type,
            born_timestamp: Some(Time::of_ms(now_ms)),
            born_host: "tidewire".to_owned(),
            delivery_timestamp: deliver_at_ms.map(Time::of_ms),
            message_group: group,
            ..SystemProperties::default()
        };
        Ok(Message {
            topic: Some(self.resource(&name_of(&record.topic))),
            user_properties: properties_of(record)?,
            system_properties: Some(system),
            body: record.payload.clone(),
        })
    }
}

fn text_of_key(key: &[u8]) -> Result<String, Failure> {
    let text = str::from_utf8(key).map(str::to_owned);
    text.map_err(|_| Failure::poison("the key is no text, which a message group has to be"))
}

/// Each name once: later values of a name that repeats are called `NAME.2`, `NAME.3` and so on.
fn properties_of(record: &Record) -> Result<HashMap<String, String>, Failure> {
    let mut properties = HashMap::new();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (name, value) in &record.headers {
        let name = match record.headers.len() {
            1 => name.clone(),
            _ => {
                let count = counts.entry(name).or_default();
                *count += 1;
                match *count {
                    1 => name.clone(),
                    nth => format!("{name}.{nth}"),
                }
            }
        };
        put(&mut properties, name, value.clone())?;
    }
    let Some(rare) = record.properties.as_deref() else {
        return Ok(properties);
    };
    let texts = [
        (CONTENT_TYPE, &rare.content_type),
        (RESPONSE_TOPIC, &rare.response_topic),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            put(&mut properties, name.to_owned(), text.clone())?;
        }
    }
    if let Some(data) = rare.correlation_data.as_deref() {
        let (name, text) = match str::from_utf8(data) {
            Ok(text) if !text.contains(SEPARATORS) => (CORRELATION, text.to_owned()),
            _ => (CORRELATION_HEX, hex_of(data)),
        };
        put(&mut properties, name.to_owned(), text)?;
    }
    Ok(properties)
}

/// Servers keep properties as one text: what separates them there would make others of them.
fn put(
    properties: &mut HashMap<String, String>,
    name: String,
    value: String,
) -> Result<(), Failure> {
    let wrong = |why: &str| Err(Failure::poison(format!("user property {name:?}: {why}")));
    if name.is_empty() {
        return wrong("RocketMQ needs a name");
    }
    if is_own(&name) {
        return wrong("it is a property of RocketMQ's own, which would act on the message");
    }
    if name.contains(SEPARATORS) || value.contains(SEPARATORS) {
        return wrong("RocketMQ separates properties by the characters U+0001 and U+0002");
    }
    if properties.contains_key(&name) {
        return wrong("there are two of this name");
    }
    properties.insert(name, value);
    Ok(())
}

fn is_own(name: &str) -> bool {
    OWN.contains(&name) || name.starts_with(OWN_PREFIX)
}

/// The record of a message; its topic is made of the name over there.
///
/// # Errors
/// Its body is packed in a way that is not known here.
pub(super) fn record_of(message: Message) -> Result<Record, Failure> {
    let topic = message.topic.unwrap_or_default();
    let system = message.system_properties.unwrap_or_default();
    let payload = match system.body_encoding {
        wire::GZIP => inflated(&message.body)?,
        _ => message.body,
    };
    let mut rare = Properties::default();
    let mut headers = Vec::with_capacity(message.user_properties.len());
    for (name, value) in message.user_properties {
        match name.as_str() {
            CONTENT_TYPE => rare.content_type = Some(value),
            RESPONSE_TOPIC => rare.response_topic = Some(value),
            CORRELATION => rare.correlation_data = Some(Bytes::from(value)),
            name if is_own(name) => {}
            CORRELATION_HEX => rare.correlation_data = bytes_of(&value),
            _ => headers.push((name, value)),
        }
    }
    // They come in any order, and are to leave in one that can be relied on.
    headers.sort_unstable();
    let own = [
        (MESSAGE_ID, Some(system.message_id)),
        (TAG, system.tag.filter(|it| !it.is_empty())),
        (ATTEMPT, attempt_of(system.delivery_attempt)),
    ];
    let own = own
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    headers.extend(own);
    headers.extend(system.keys.into_iter().map(|it| (KEY.to_owned(), it)));
    Ok(Record {
        topic: name_of(&topic.name),
        key: system
            .message_group
            .filter(|it| !it.is_empty())
            .map(Bytes::from),
        timestamp_ms: system.born_timestamp.map(Time::ms),
        payload,
        headers,
        properties: (rare != Properties::default()).then(|| Box::new(rare)),
        qos: QoS::AtLeastOnce,
        ..Record::default()
    })
}

/// Only a message that may have been here before says so.
fn attempt_of(attempt: Option<i32>) -> Option<String> {
    attempt.filter(|it| *it > 1).map(|it| it.to_string())
}

fn bytes_of(hex: &str) -> Option<Bytes> {
    let digits: Option<Vec<u32>> = hex.chars().map(|it| it.to_digit(16)).collect();
    let bytes = digits?
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high << 4 | low).ok(),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>();
    bytes.map(Bytes::from)
}

/// Properties of MQTT 5.0 that are no user properties.
const CONTENT_TYPE: &str = "mqtt-content-type";
const RESPONSE_TOPIC: &str = "mqtt-response-topic";
const CORRELATION: &str = "mqtt-correlation-data";
const CORRELATION_HEX: &str = "mqtt-correlation-data-hex";
/// What RocketMQ says of a message besides.
const TAG: &str = "rocketmq-tag";
const KEY: &str = "rocketmq-key";
const MESSAGE_ID: &str = "rocketmq-message-id";
const ATTEMPT: &str = "rocketmq-delivery-attempt";
/// Properties that servers act on, and that they neither refuse nor leave out. The first names the
/// message group, `INNER_MULTI_DISPATCH` further queues.
///
/// # Source
/// `MessageConst` of apache/rocketmq 5.4, without its `STRING_HASH_SET`.
const OWN: [&str; 12] = [
    "__SHARDINGKEY",
    "INNER_MULTI_DISPATCH",
    "INNER_NUM",
    "INNER_BASE",
    "REDIRECT",
    "TRANS_OFFSET",
    "TRACE_CONTEXT",
    "CHECK_IMMUNITY_TIME_IN_SECONDS",
    "TRANSACTION_CHECK_TIMES",
    "__transactionId__",
    "PROPERTY_FORWARD_QUEUE_ID",
    "TIMER_ROLL_LABEL",
];
const OWN_PREFIX: &str = "__RMQ.TRANSIENT.";
/// Between a name and its value, and between properties.
const SEPARATORS: [char; 2] = ['\u{1}', '\u{2}'];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Envelope;

    fn sender() -> Sender {
        Sender {
            namespace: String::new(),
        }
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_is_said_of_a_message_comes_back_as_it_was() {
        for correlation in [&b"id"[..], &[0xff, 0x00], b"a\x01b"] {
            let record = Record {
                uid: Some("here.up.s7".into()),
                topic: "a/b-c".into(),
                key: Some("boiler".into()),
                payload: Bytes::from_static(b"x"),
                timestamp_ms: Some(1_234),
                headers: vec![pair("a", ""), pair("b", "2")],
                properties: Some(Box::new(Properties {
                    content_type: Some("text/plain".into()),
                    response_topic: Some("r".into()),
                    correlation_data: Some(Bytes::from_static(correlation)),
                    ..Properties::default()
                })),
                qos: QoS::AtLeastOnce,
                ..Record::default()
            };
            let message = sender().message(&record, 1_234).unwrap();
            assert_eq!(message.topic.as_ref().unwrap().name, "a-b/c");
            let mut back = record_of(message).unwrap();
            back.uid = Some("here.up.s7".into());
            let id = back.headers.pop().unwrap();
            assert_eq!(id, pair("rocketmq-message-id", "here.up.s7"));
            assert_eq!(back, record);
        }
    }

    #[test]
    fn the_type_of_a_message_follows_from_key_and_delay() {
        let type_of = |key: Option<&'static str>, delay_ms| {
            let record = Record {
                key: key.map(Bytes::from),
                properties: Some(Box::new(Properties {
                    envelope: Some(Envelope {
                        delay_ms,
                        tag: Some("t".into()),
                        keys: vec!["k".into()],
                        ..Envelope::default()
                    }),
                    ..Properties::default()
                })),
                ..Record::default()
            };
            let message = sender().message(&record, 1_000).unwrap();
            let system = message.system_properties.unwrap();
            assert_eq!(
                (system.tag.as_deref(), &*system.keys),
                (Some("t"), &["k".to_owned()][..])
            );
            (system.message_type, system.delivery_timestamp.map(Time::ms))
        };
        assert_eq!(type_of(None, None), (wire::NORMAL, None));
        assert_eq!(type_of(Some("g"), None), (wire::FIFO, None));
        assert_eq!(type_of(None, Some(500)), (wire::DELAY, Some(1_500)));
    }

    #[test]
    fn a_property_cannot_make_another_one() {
        let refused = |headers: &[(String, String)]| {
            let record = Record {
                headers: headers.to_vec(),
                ..Record::default()
            };
            sender().message(&record, 0).unwrap_err().class == crate::Class::Poison
        };
        assert!(refused(&[pair("a", "x\u{2}DELAY\u{1}3")]));
        assert!(refused(&[pair("a\u{1}", "")]));
        assert!(refused(&[pair("", "x")]));
        assert!(refused(&[pair("__SHARDINGKEY", "x")]));
        assert!(refused(&[pair("a", "1"), pair("a.2", "2"), pair("a", "3")]));
    }

    #[test]
    fn values_of_a_name_that_repeats_are_numbered() {
        let record = Record {
            headers: vec![pair("a", "1"), pair("a", "2"), pair("a", "3")],
            ..Record::default()
        };
        let message = sender().message(&record, 0).unwrap();
        let headers = record_of(message).unwrap().headers;
        assert_eq!(
            headers[..3],
            [pair("a", "1"), pair("a.2", "2"), pair("a.3", "3")]
        );
    }

    #[test]
    fn tag_keys_and_a_repeated_delivery_are_user_properties_here() {
        let message = Message {
            system_properties: Some(SystemProperties {
                tag: Some("t".into()),
                keys: vec!["k".into(), "l".into()],
                message_id: "i".into(),
                delivery_attempt: Some(2),
                ..SystemProperties::default()
            }),
            ..Message::default()
        };
        let expected = [
            pair("rocketmq-message-id", "i"),
            pair("rocketmq-tag", "t"),
            pair("rocketmq-delivery-attempt", "2"),
            pair("rocketmq-key", "k"),
            pair("rocketmq-key", "l"),
        ];
        assert_eq!(record_of(message).unwrap().headers, expected);
    }
}
