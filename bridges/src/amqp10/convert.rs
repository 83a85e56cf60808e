//! Between AMQP 1.0 messages and records.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use tidewire_protocol::codec::QoS;
use tokio::time::{Duration, Instant};

use super::body::{payload_of, text_of, uuid_text};
use super::dialect::Place;
use super::encoder::{Encoder, Fields};
use super::message::{Message, PRIORITY, Properties as AmqpProperties};
use super::performative::code;
use super::value::{Items, Malformed, Value};
use super::{Dialect, Node, Settings};
use crate::hex::hex_of;
use crate::{Envelope, Failure, Properties, Record};

/// Writes the message of a record.
///
/// # Errors
/// Something cannot be said in AMQP, or is larger than it may be; a part may be written.
pub(super) fn write(
    record: &Record,
    place: &Place,
    settings: &Settings,
    out: &mut Encoder<'_>,
) -> Result<(), Failure> {
    let size = record.payload.len();
    let size_max = settings.message_bytes_max;
    if size_max > 0 && size > size_max {
        let text = format!("a payload of {size} bytes: at most message_bytes_max = {size_max}");
        return Err(Failure::poison(text));
    }
    let content_type = record.properties.as_deref();
    let content_type = content_type.and_then(|it| it.content_type.as_deref());
    if let Some(kind) = content_type.filter(|it| !it.is_ascii()) {
        let text = format!("content type {kind:?}: AMQP 1.0 takes ASCII only");
        return Err(Failure::poison(text));
    }
    out.composite(code::HEADER, |fields| {
        write_header(record, settings.priority, fields);
    });
    write_annotations(settings, out);
    out.composite(code::PROPERTIES, |fields| {
        write_properties(record, place, content_type, fields);
    });
    if !record.headers.is_empty() {
        out.descriptor(code::APPLICATION_PROPERTIES);
        out.map(|it| write_headers(&record.headers, it));
    }
    out.descriptor(code::DATA);
    out.binary(&record.payload);
    Ok(())
}

fn write_header(record: &Record, priority: u8, fields: &mut Fields<'_>) {
    let envelope = record.properties.as_deref();
    let envelope = envelope.and_then(|it| it.envelope.as_ref());
    let own = envelope.and_then(|it| it.priority);
    fields.some(|it| it.bool(record.qos != QoS::AtMostOnce));
    fields.some(|it| it.ubyte(own.unwrap_or(priority)));
    fields.maybe(record.expires_at.and_then(ttl_ms), |it, value| {
        it.uint(value)
    });
}

/// What lasts longer than a ttl can say may as well not expire.
fn ttl_ms(expires_at: Instant) -> Option<u32> {
    let left = expires_at.saturating_duration_since(Instant::now());
    u32::try_from(left.as_millis()).ok()
}

/// Without a link of its own an address does not say what it stands for: Artemis asks the message.
fn write_annotations(settings: &Settings, out: &mut Encoder<'_>) {
    if settings.dialect != Dialect::Artemis {
        return;
    }
    out.descriptor(code::MESSAGE_ANNOTATIONS);
    out.map(|it| {
        it.symbol(JMS_DESTINATION);
        it.byte(match settings.target {
            Node::Queue => 0,
            Node::Topic => 1,
        });
        1
    });
}

fn write_properties(
    record: &Record,
    place: &Place,
    content_type: Option<&str>,
    fields: &mut Fields<'_>,
) {
    let rare = record.properties.as_deref();
    let reply_to = rare.and_then(|it| it.response_topic.as_deref());
    let correlation = rare.and_then(|it| it.correlation_data.as_deref());
    let made_at = record.timestamp_ms;
    let made_at = made_at.map(|it| i64::try_from(it).unwrap_or(i64::MAX));
    fields.maybe(record.uid.as_deref(), |it, id| it.string(id));
    // user-id
    fields.none(1);
    fields.maybe(place.to.as_deref(), |it, to| it.string(to));
    fields.maybe(place.subject.as_deref(), |it, subject| it.string(subject));
    fields.maybe(reply_to, |it, reply_to| it.string(reply_to));
    fields.maybe(correlation, |it, bytes| match str::from_utf8(bytes) {
        Ok(text) => it.string(text),
        Err(_) => it.binary(bytes),
    });
    fields.maybe(content_type, |it, kind| it.symbol(kind));
    // content-encoding, absolute-expiry-time
    fields.none(2);
    fields.maybe(made_at, |it, at| it.timestamp(at));
}

/// A map has each name once: a name that repeats gets a number.
fn write_headers(headers: &[(String, String)], out: &mut Encoder<'_>) -> u32 {
    let mut taken = HashSet::with_capacity(headers.len());
    let mut count = 0;
    for (name, value) in headers {
        let own = free_name(name, &taken);
        out.string(&own);
        out.string(value);
        taken.insert(own);
        count += 1;
    }
    count
}

fn free_name<'a>(name: &'a str, taken: &HashSet<Cow<'_, str>>) -> Cow<'a, str> {
    if !taken.contains(name) {
        return Cow::Borrowed(name);
    }
    let numbered = (2..).map(|number: usize| format!("{name}{REPEATED}{number}"));
    let free = numbered.into_iter().find(|it| !taken.contains(it.as_str()));
    Cow::Owned(free.unwrap_or_default())
}

/// The record of a message, or why there is none.
pub(super) fn record_of(
    message: &Message<'_>,
    source: &str,
    dialect: Dialect,
) -> Result<Record, String> {
    let (header, properties) = (message.header, &message.properties);
    let sent_to = sent_to(dialect, properties, message.annotations)?;
    let (payload, payload_is_utf8) = payload_of(&message.body)?;
    // What is usual is not told from what nobody has said.
    let priority = Some(header.priority).filter(|it| *it != PRIORITY);
    let rare = Properties {
        envelope: priority.map(|priority| Envelope {
            priority: Some(priority),
            ..Envelope::default()
        }),
        content_type: properties.content_type.map(str::to_owned),
        response_topic: properties.reply_to.map(str::to_owned),
        correlation_data: bytes_of(properties.correlation_id),
        payload_is_utf8,
    };
    let made_at = properties.created_ms;
    let left = header.ttl_ms.map(|it| Duration::from_millis(it.into()));
    Ok(Record {
        uid: name_of(properties.message_id),
        topic: dialect.topic(sent_to, source),
        payload,
        timestamp_ms: made_at.and_then(|it| u64::try_from(it).ok()),
        headers: headers(message.application)?,
        properties: (rare != Properties::default()).then(|| Box::new(rare)),
        qos: match header.is_durable {
            true => QoS::AtLeastOnce,
            false => QoS::AtMostOnce,
        },
        expires_at: left.and_then(|left| Instant::now().checked_add(left)),
        ..Record::default()
    })
}

/// The name that a message was sent to, where the server says so.
fn sent_to<'a>(
    dialect: Dialect,
    properties: &AmqpProperties<'a>,
    mut annotations: Items<'a>,
) -> Result<Option<&'a str>, Malformed> {
    match dialect {
        Dialect::RabbitMq3 => Ok(properties.subject),
        Dialect::RabbitMq4 => {
            while let Some(name) = annotations.next()? {
                let value = annotations.field()?;
                if name == Value::Symbol(ROUTING_KEY)
                    && let Value::String(key) = value
                {
                    return Ok(Some(key));
                }
            }
            Ok(None)
        }
        _ => Ok(properties.to),
    }
}

fn headers(mut pairs: Items<'_>) -> Result<Vec<(String, String)>, Malformed> {
    let mut headers = Vec::new();
    while let Some(name) = pairs.next()? {
        let name = name.text().ok_or(Malformed("a property without a name"))?;
        if let Some(value) = text_of(pairs.field()?) {
            headers.push((without_number(name).to_owned(), value));
        }
    }
    Ok(headers)
}

fn without_number(name: &str) -> &str {
    match name.rsplit_once(REPEATED) {
        Some((rest, number)) if number.parse::<usize>().is_ok_and(|it| it > 1) => rest,
        _ => name,
    }
}

/// A message id as a text; one that is longer than any sender means tells nothing apart.
fn name_of(id: Value<'_>) -> Option<Box<str>> {
    Some(match id {
        Value::String(text) if text.len() > ID_BYTES_MAX => return None,
        Value::Binary(bytes) if bytes.len() > ID_BYTES_MAX => return None,
        Value::String(text) => text.into(),
        Value::Unsigned(number) => number.to_string().into(),
        Value::Uuid(uuid) => uuid_text(&uuid).into(),
        Value::Binary(bytes) => hex_of(bytes).into(),
        _ => return None,
    })
}

fn bytes_of(id: Value<'_>) -> Option<Bytes> {
    Some(match id {
        Value::String(text) => Bytes::copy_from_slice(text.as_bytes()),
        Value::Unsigned(number) => Bytes::from(number.to_string()),
        Value::Uuid(uuid) => Bytes::copy_from_slice(&uuid),
        Value::Binary(bytes) => Bytes::copy_from_slice(bytes),
        _ => return None,
    })
}

/// 0 is a queue, 1 a topic, as clients of JMS say it.
const JMS_DESTINATION: &str = "x-opt-jms-dest";
/// RabbitMQ 4 says by it how a message was routed.
const ROUTING_KEY: &str = "x-routing-key";
/// Message ids are remembered.
const ID_BYTES_MAX: usize = 1_024;
/// Between a name that repeats and its number.
const REPEATED: char = '#';

#[cfg(test)]
mod tests {
    use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;
    use fe2o3_amqp::types::messaging::{Body, MessageId};
    use serde_amqp::Value as TheirValue;

    use super::*;
    use crate::Class;
    use crate::amqp10::message::read;
    use crate::amqp10::tests::settings;

    fn written(record: &Record, settings: &Settings) -> Result<Vec<u8>, Failure> {
        let place = settings.dialect.place(&record.topic, settings);
        let mut bytes = Vec::new();
        write(record, &place, settings, &mut Encoder(&mut bytes))?;
        Ok(bytes)
    }

    fn full_record(correlation: &[u8]) -> Record {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let names = [("a", "1"), ("a", "2"), ("a#2", "x"), ("a", "3"), ("b", "")];
        Record {
            uid: Some("plant.up.s1".into()),
            topic: "a/b".into(),
            payload: Bytes::from_static(b"x"),
            headers: names.map(|(name, value)| pair(name, value)).to_vec(),
            timestamp_ms: Some(5),
            properties: Some(Box::new(Properties {
                envelope: Some(Envelope {
                    priority: Some(9),
                    ..Envelope::default()
                }),
                payload_is_utf8: None,
                content_type: Some("text/plain".into()),
                response_topic: Some("re/ply".into()),
                correlation_data: Some(Bytes::copy_from_slice(correlation)),
            })),
            qos: QoS::AtLeastOnce,
            ..Record::default()
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        for correlation in [&b"id"[..], &[0xff, 0x00]] {
            let record = full_record(correlation);
            let bytes = written(&record, &settings()).unwrap();
            let message = read(&bytes).unwrap();
            let back = record_of(&message, "q", settings().dialect).unwrap();
            assert_eq!(back, record);
        }
    }

    #[test]
    fn another_library_reads_what_is_written() {
        let bytes = written(&full_record(b"id"), &settings()).unwrap();
        let reader = serde_amqp::read::SliceReader::new(&bytes);
        let message = Body::<TheirValue>::decode_message_from_reader(reader).unwrap();
        let header = message.header.unwrap();
        assert!(header.durable && header.priority.0 == 9 && header.ttl.is_none());
        let properties = message.properties.unwrap();
        assert_eq!(
            properties.message_id,
            Some(MessageId::String("plant.up.s1".into()))
        );
        assert_eq!(properties.to.as_deref(), Some("a.b"));
        assert_eq!(properties.reply_to.as_deref(), Some("re/ply"));
        assert_eq!(properties.content_type, Some("text/plain".into()));
        let made_at = properties.creation_time.map(|it| it.milliseconds());
        assert_eq!(made_at, Some(5));
        let application = message.application_properties.unwrap().0;
        let names: Vec<&str> = application.keys().map(String::as_str).collect();
        assert_eq!(names, ["a", "a#2", "a#2#2", "a#3", "b"]);
        let annotations = message.message_annotations.unwrap().0;
        let kind = annotations.values().collect::<Vec<_>>();
        assert_eq!(kind, [&TheirValue::Byte(1)]);
        assert!(matches!(message.body, Body::Data(_)));
    }

    #[test]
    fn what_is_too_large_or_cannot_be_said_is_poison() {
        let settings = Settings {
            message_bytes_max: 3,
            ..settings()
        };
        let record = |payload: &'static [u8], kind: &str| Record {
            payload: Bytes::from_static(payload),
            properties: Some(Box::new(Properties {
                envelope: None,
                content_type: Some(kind.to_owned()),
                ..Properties::default()
            })),
            ..Record::default()
        };
        let class = |record: &Record| written(record, &settings).err().map(|it| it.class);
        assert_eq!(class(&record(b"123", "text")), None);
        assert_eq!(class(&record(b"1234", "text")), Some(Class::Poison));
        assert_eq!(class(&record(b"123", "täxt")), Some(Class::Poison));
    }

    #[tokio::test]
    async fn an_expiry_beyond_what_a_ttl_can_say_is_left_out() {
        let ttl = |days: u64| ttl_ms(Instant::now() + Duration::from_secs(days * 86_400)).is_some();
        assert_eq!((ttl(49), ttl(50)), (true, false));
    }

    #[test]
    fn rabbitmq_says_the_routing_key_in_its_own_place() {
        let properties = AmqpProperties {
            subject: Some("a.b"),
            to: Some("x"),
            ..AmqpProperties::default()
        };
        let mut bytes = Vec::new();
        Encoder(&mut bytes).map(|it| {
            it.symbol("other");
            it.bool(true);
            it.symbol(ROUTING_KEY);
            it.string("c");
            2
        });
        let Ok(Value::Map(annotations)) = crate::amqp10::value::take(&mut &*bytes) else {
            panic!("no map");
        };
        let sent = |dialect, annotations| sent_to(dialect, &properties, annotations).unwrap();
        assert_eq!(sent(Dialect::RabbitMq3, Items::default()), Some("a.b"));
        assert_eq!(sent(Dialect::RabbitMq4, Items::default()), None);
        assert_eq!(sent(Dialect::RabbitMq4, annotations), Some("c"));
        assert_eq!(sent(Dialect::Artemis, Items::default()), Some("x"));
    }
}
