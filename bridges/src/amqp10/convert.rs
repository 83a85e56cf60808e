//! Between AMQP 1.0 messages and records.

use bytes::Bytes;
use fe2o3_amqp::types::messaging::{
    Annotations, ApplicationProperties, Body, Data, Header, Message, MessageAnnotations, MessageId,
    Priority, Properties as AmqpProperties,
};
use fe2o3_amqp::types::primitives::{Binary, OrderedMap, SimpleValue, Symbol, Timestamp, Value};
use tidewire_protocol::codec::QoS;
use tokio::time::{Duration, Instant};

use super::body::{payload_of, text_of, uuid_text};
use super::dialect::Place;
use super::{Dialect, Node, Settings};
use crate::{Envelope, Failure, Properties, Record};

/// The message of a record.
///
/// # Errors
/// Something cannot be said in AMQP, or is larger than it may be.
pub(super) fn message_of(
    record: &Record,
    place: Place,
    settings: &Settings,
) -> Result<Message<Data>, Failure> {
    let size = record.payload.len();
    let size_max = settings.message_bytes_max;
    if size_max > 0 && size > size_max {
        let text = format!("a payload of {size} bytes: at most message_bytes_max = {size_max}");
        return Err(Failure::poison(text));
    }
    let names = record.headers.iter();
    let mut application = OrderedMap::new();
    for (name, value) in names {
        insert(&mut application, name, value);
    }
    Ok(Message {
        header: Some(header_of(record, settings.priority)),
        delivery_annotations: None,
        message_annotations: annotations_of(settings),
        properties: Some(properties_of(record, place)?),
        application_properties: (!application.is_empty())
            .then_some(ApplicationProperties(application)),
        body: Data(Binary::from(record.payload.to_vec())),
        footer: None,
    })
}

fn header_of(record: &Record, priority: u8) -> Header {
    let envelope = record
        .properties
        .as_deref()
        .and_then(|it| it.envelope.as_ref());
    let own = envelope.and_then(|it| it.priority);
    let left = record
        .expires_at
        .map(|at| at.saturating_duration_since(Instant::now()));
    Header {
        durable: record.qos != QoS::AtMostOnce,
        priority: Priority(own.unwrap_or(priority)),
        // What lasts longer than a ttl can say may as well not expire.
        ttl: left.and_then(|it| u32::try_from(it.as_millis()).ok()),
        first_acquirer: false,
        delivery_count: 0,
    }
}

fn properties_of(record: &Record, place: Place) -> Result<AmqpProperties, Failure> {
    let mut properties = AmqpProperties {
        message_id: record
            .uid
            .as_deref()
            .map(|it| MessageId::String(it.to_owned())),
        to: place.to,
        subject: place.subject,
        ..AmqpProperties::default()
    };
    if let Some(at_ms) = record.timestamp_ms {
        let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
        properties.creation_time = Some(Timestamp::from(at_ms));
    }
    let Some(rare) = record.properties.as_deref() else {
        return Ok(properties);
    };
    if let Some(kind) = &rare.content_type {
        if !kind.is_ascii() {
            let text = format!("content type {kind:?}: AMQP 1.0 takes ASCII only");
            return Err(Failure::poison(text));
        }
        properties.content_type = Some(Symbol::from(kind.as_str()));
    }
    properties.reply_to.clone_from(&rare.response_topic);
    let correlation = rare.correlation_data.as_deref();
    properties.correlation_id = correlation.map(|bytes| match str::from_utf8(bytes) {
        Ok(text) => MessageId::String(text.to_owned()),
        Err(_) => MessageId::Binary(Binary::from(bytes.to_vec())),
    });
    Ok(properties)
}

/// Without a link of its own an address does not say what it stands for: Artemis asks the message.
fn annotations_of(settings: &Settings) -> Option<MessageAnnotations> {
    if settings.dialect != Dialect::Artemis {
        return None;
    }
    let destination: i8 = match settings.target {
        Node::Queue => 0,
        Node::Topic => 1,
    };
    let mut annotations = Annotations::new();
    annotations.insert(
        Symbol::from(JMS_DESTINATION).into(),
        Value::Byte(destination),
    );
    Some(MessageAnnotations(annotations))
}

/// A map has each name once: a name that repeats gets a number.
fn insert(map: &mut OrderedMap<String, SimpleValue>, name: &str, value: &str) {
    let value = SimpleValue::String(value.to_owned());
    if !map.contains_key(name) {
        map.insert(name.to_owned(), value);
        return;
    }
    let numbered = (2..).map(|number: usize| format!("{name}{REPEATED}{number}"));
    let free = numbered.into_iter().find(|it| !map.contains_key(it));
    if let Some(free) = free {
        map.insert(free, value);
    }
}

/// The record of a message, or why there is none.
pub(super) fn record_of(
    message: Message<Body<Value>>,
    source: &str,
    dialect: Dialect,
) -> Result<Record, String> {
    let properties = message.properties.unwrap_or_default();
    let routed = message.message_annotations.as_ref();
    let topic = dialect.topic(sent_to(dialect, &properties, routed), source);
    let header = message.header.unwrap_or_default();
    let (payload, payload_is_utf8) = payload_of(message.body)?;
    // What is usual is not told from what nobody has said.
    let priority = Some(header.priority).filter(|it| *it != Priority::default());
    let rare = Properties {
        envelope: priority.map(|it| Envelope {
            priority: Some(it.0),
            ..Envelope::default()
        }),
        content_type: properties.content_type.map(|it| it.0),
        response_topic: properties.reply_to,
        correlation_data: properties.correlation_id.map(bytes_of),
        payload_is_utf8,
    };
    let made_at = properties.creation_time.map(|it| it.milliseconds());
    let application = message.application_properties.into_iter();
    Ok(Record {
        uid: properties.message_id.map(name_of),
        topic,
        payload,
        timestamp_ms: made_at.and_then(|it| u64::try_from(it).ok()),
        headers: application
            .flat_map(|it| it.0)
            .filter_map(|(name, value)| Some((without_number(name), text_of(&value.into())?)))
            .collect(),
        properties: (rare != Properties::default()).then(|| Box::new(rare)),
        qos: match header.durable {
            true => QoS::AtLeastOnce,
            false => QoS::AtMostOnce,
        },
        expires_at: header
            .ttl
            .and_then(|left| Instant::now().checked_add(Duration::from_millis(left.into()))),
        ..Record::default()
    })
}

/// The name that a message was sent to, where the server says so.
fn sent_to<'a>(
    dialect: Dialect,
    properties: &'a AmqpProperties,
    annotations: Option<&'a MessageAnnotations>,
) -> Option<&'a str> {
    match dialect {
        Dialect::RabbitMq3 => properties.subject.as_deref(),
        Dialect::RabbitMq4 => {
            let key = Symbol::from(ROUTING_KEY).into();
            let mut pairs = annotations?.0.iter();
            match pairs.find(|(name, _)| **name == key)?.1 {
                Value::String(text) => Some(text),
                _ => None,
            }
        }
        _ => properties.to.as_deref(),
    }
}

fn without_number(name: String) -> String {
    match name.rsplit_once(REPEATED) {
        Some((rest, number)) if number.parse::<usize>().is_ok_and(|it| it > 1) => rest.to_owned(),
        _ => name,
    }
}

/// A message id as a text.
fn name_of(id: MessageId) -> Box<str> {
    match id {
        MessageId::String(text) => text.into(),
        MessageId::Ulong(number) => number.to_string().into(),
        MessageId::Uuid(uuid) => uuid_text(&uuid.into_inner()).into(),
        MessageId::Binary(bytes) => bytes
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
            .into(),
    }
}

fn bytes_of(id: MessageId) -> Bytes {
    match id {
        MessageId::Ulong(number) => Bytes::from(number.to_string()),
        MessageId::Uuid(uuid) => Bytes::copy_from_slice(&uuid.into_inner()),
        MessageId::Binary(bytes) => Bytes::from(bytes.into_vec()),
        MessageId::String(text) => Bytes::from(text),
    }
}

/// 0 is a queue, 1 a topic, as clients of JMS say it.
const JMS_DESTINATION: &str = "x-opt-jms-dest";
/// RabbitMQ 4 says by it how a message was routed.
const ROUTING_KEY: &str = "x-routing-key";
/// Between a name that repeats and its number.
const REPEATED: char = '#';

#[cfg(test)]
mod tests {
    use fe2o3_amqp::types::messaging::Batch;

    use super::*;
    use crate::Class;
    use crate::amqp10::tests::settings;

    fn there_and_back(record: &Record, settings: &Settings) -> Record {
        let place = settings.dialect.place(&record.topic, settings);
        let sent = message_of(record, place, settings).unwrap();
        let received = Message {
            header: sent.header,
            delivery_annotations: None,
            message_annotations: sent.message_annotations,
            properties: sent.properties,
            application_properties: sent.application_properties,
            body: Body::Data(Batch::new(vec![sent.body])),
            footer: None,
        };
        record_of(received, "q", settings.dialect).unwrap()
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let names = [("a", "1"), ("a", "2"), ("a#2", "x"), ("a", "3"), ("b", "")];
        for correlation in [&b"id"[..], &[0xff, 0x00]] {
            let record = Record {
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
            };
            assert_eq!(there_and_back(&record, &settings()), record);
        }
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
        let class = |record: &Record| {
            let message = message_of(record, Place::default(), &settings);
            message.err().map(|it| it.class)
        };
        assert_eq!(class(&record(b"123", "text")), None);
        assert_eq!(class(&record(b"1234", "text")), Some(Class::Poison));
        assert_eq!(class(&record(b"123", "täxt")), Some(Class::Poison));
    }

    #[tokio::test]
    async fn an_expiry_beyond_what_a_ttl_can_say_is_left_out() {
        let ttl = |days: u64| {
            let record = Record {
                expires_at: Some(Instant::now() + Duration::from_secs(days * 86_400)),
                ..Record::default()
            };
            header_of(&record, 4).ttl.is_some()
        };
        assert_eq!((ttl(49), ttl(50)), (true, false));
    }

    #[test]
    fn rabbitmq_says_the_routing_key_in_its_own_place() {
        let key = "a.b".to_owned();
        let properties = AmqpProperties {
            subject: Some(key.clone()),
            to: Some("x".into()),
            ..AmqpProperties::default()
        };
        let sent = |dialect, annotations: Option<&MessageAnnotations>| {
            sent_to(dialect, &properties, annotations).map(str::to_owned)
        };
        assert_eq!(sent(Dialect::RabbitMq3, None), Some(key));
        assert_eq!(sent(Dialect::RabbitMq4, None), None);
        let mut annotations = Annotations::new();
        annotations.insert(Symbol::from(ROUTING_KEY).into(), Value::String("c".into()));
        let annotations = MessageAnnotations(annotations);
        assert_eq!(
            sent(Dialect::RabbitMq4, Some(&annotations)),
            Some("c".into())
        );
        assert_eq!(sent(Dialect::Artemis, None), Some("x".into()));
    }
}
