//! Between AMQP messages and records.

use amq_protocol::protocol::BasicProperties;
use amq_protocol::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use bytes::Bytes;
use tidewire_protocol::codec::QoS;
use tokio::time::{Duration, Instant};

use crate::separators::exchange_separators;
use crate::{Envelope, Failure, Properties, Record};

/// A text of at most 255 bytes, or why the record can never be sent.
pub(super) fn short(what: &str, text: &str) -> Result<ShortString, Failure> {
    ShortString::try_new(text).map_err(|_| {
        let length = text.len();
        Failure::poison(format!(
            "{what} of {length} bytes: AMQP 0-9-1 takes at most 255"
        ))
    })
}

/// The properties of a record; `priority` is that of records without one of their own.
///
/// # Errors
/// Something is longer than AMQP can say.
pub(super) fn properties_of(
    record: &Record,
    priority: Option<u8>,
) -> Result<BasicProperties, Failure> {
    let mode = if record.qos == QoS::AtMostOnce {
        TRANSIENT
    } else {
        PERSISTENT
    };
    let mut headers = headers_of(&record.headers)?;
    let mut properties = BasicProperties::default().with_delivery_mode(mode);
    let envelope = record
        .properties
        .as_deref()
        .and_then(|it| it.envelope.as_ref());
    if let Some(priority) = envelope.and_then(|it| it.priority).or(priority) {
        properties = properties.with_priority(priority);
    }
    if let Some(uid) = &record.uid {
        properties = properties.with_message_id(short("message id", uid)?);
    }
    let left = record
        .expires_at
        .map(|at| at.saturating_duration_since(Instant::now()));
    // RabbitMQ closes the channel for more; who expires after 49 days may as well not expire.
    if let Some(left) = left.filter(|it| it.as_millis() <= EXPIRATION_MS_MAX) {
        let left = left.as_millis().to_string();
        properties = properties.with_expiration(short("expiration", &left)?);
    }
    if let Some(at_ms) = record.timestamp_ms {
        properties = properties.with_timestamp(at_ms / 1_000);
    }
    if let Some(rare) = record.properties.as_deref() {
        if let Some(kind) = &rare.content_type {
            properties = properties.with_content_type(short("content type", kind)?);
        }
        if let Some(topic) = &rare.response_topic {
            properties = properties.with_reply_to(short("response topic", topic)?);
        }
        match rare.correlation_data.as_deref().map(str::from_utf8) {
            None => {}
            Some(Ok(text)) => {
                properties = properties.with_correlation_id(short("correlation data", text)?);
            }
            // A correlation id is text; bytes travel beside it.
            Some(Err(_)) => {
                let bytes = rare.correlation_data.as_deref().unwrap_or_default();
                let value = AMQPValue::LongString(LongString::from(bytes));
                headers.insert(short("header", CORRELATION)?, value);
            }
        }
    }
    Ok(properties.with_headers(headers))
}

/// A table has each name once: values of a name that repeats become an array.
fn headers_of(pairs: &[(String, String)]) -> Result<FieldTable, Failure> {
    let mut table = std::collections::BTreeMap::new();
    for (name, value) in pairs {
        if ROUTING.contains(&name.as_str()) {
            let text = format!("user property {name:?}: as a header it would route the message");
            return Err(Failure::poison(text));
        }
        let name = short("name of a user property", name)?;
        let value = AMQPValue::LongString(LongString::from(value.as_str()));
        let value = match table.remove(&name) {
            None => value,
            Some(AMQPValue::FieldArray(mut values)) => {
                values.push(value);
                AMQPValue::FieldArray(values)
            }
            Some(before) => AMQPValue::FieldArray(FieldArray::from(vec![before, value])),
        };
        table.insert(name, value);
    }
    Ok(table.into())
}

/// The record of a message; its topic is made of the routing key.
pub(super) fn record_of(
    routing_key: &ShortString,
    properties: &BasicProperties,
    payload: Bytes,
) -> Record {
    let text = |text: &Option<ShortString>| text.as_ref().map(|it| it.as_str().to_owned());
    let mut record = Record {
        uid: properties
            .message_id()
            .as_ref()
            .map(|it| it.as_str().into()),
        topic: exchange_separators(routing_key.as_str()),
        payload,
        timestamp_ms: properties.timestamp().map(|it| it.saturating_mul(1_000)),
        qos: match properties.delivery_mode() {
            Some(PERSISTENT) => QoS::AtLeastOnce,
            _ => QoS::AtMostOnce,
        },
        expires_at: text(properties.expiration())
            .and_then(|it| it.parse().ok())
            .and_then(|left_ms| Instant::now().checked_add(Duration::from_millis(left_ms))),
        ..Record::default()
    };
    let mut rare = Properties {
        content_type: text(properties.content_type()),
        response_topic: text(properties.reply_to()),
        correlation_data: text(properties.correlation_id()).map(Bytes::from),
        envelope: properties.priority().map(|priority| Envelope {
            priority: Some(priority),
            ..Envelope::default()
        }),
        ..Properties::default()
    };
    for (name, value) in properties.headers().iter().flatten() {
        match value {
            AMQPValue::LongString(bytes) if name.as_str() == CORRELATION => {
                rare.correlation_data = Some(Bytes::copy_from_slice(bytes.as_bytes()));
            }
            AMQPValue::FieldArray(values) => {
                let texts = values.as_slice().iter().filter_map(text_of);
                let pairs = texts.map(|text| (name.as_str().to_owned(), text));
                record.headers.extend(pairs);
            }
            value => {
                let pair = text_of(value).map(|text| (name.as_str().to_owned(), text));
                record.headers.extend(pair);
            }
        }
    }
    record.properties = (rare != Properties::default()).then(|| Box::new(rare));
    record
}

/// A value as a user property says it; tables and bytes have no such text.
fn text_of(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok()?,
        AMQPValue::ShortString(text) => text.as_str().to_owned(),
        AMQPValue::Boolean(it) => it.to_string(),
        AMQPValue::ShortShortInt(it) => it.to_string(),
        AMQPValue::ShortShortUInt(it) => it.to_string(),
        AMQPValue::ShortInt(it) => it.to_string(),
        AMQPValue::ShortUInt(it) => it.to_string(),
        AMQPValue::LongInt(it) => it.to_string(),
        AMQPValue::LongUInt(it) => it.to_string(),
        AMQPValue::LongLongInt(it) => it.to_string(),
        AMQPValue::Timestamp(it) => it.to_string(),
        AMQPValue::Float(it) => it.to_string(),
        AMQPValue::Double(it) => it.to_string(),
        AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => return None,
    })
}

const TRANSIENT: u8 = 1;
const PERSISTENT: u8 = 2;
const EXPIRATION_MS_MAX: u128 = 4_294_967_295;
/// Headers by which a sender chooses further routing keys; only the configuration may.
const ROUTING: [&str; 2] = ["CC", "BCC"];
/// Correlation data that is no text.
const CORRELATION: &str = "tidewire-correlation-data";

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(record: &Record) -> Record {
        let properties = properties_of(record, Some(1)).unwrap();
        record_of(&"a.b".into(), &properties, record.payload.clone())
    }

    #[test]
    fn properties_come_back_as_they_were() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for correlation in [&b"id"[..], &[0xff, 0x00]] {
            let record = Record {
                uid: Some("plant.up.s1".into()),
                topic: "a/b".into(),
                payload: Bytes::from_static(b"x"),
                timestamp_ms: Some(5_000),
                headers: vec![
                    pair("a", "1"),
                    pair("a", "2"),
                    pair("a", "3"),
                    pair("b", ""),
                ],
                properties: Some(Box::new(Properties {
                    content_type: Some("text/plain".into()),
                    response_topic: Some("re/ply".into()),
                    correlation_data: Some(Bytes::copy_from_slice(correlation)),
                    envelope: Some(Envelope {
                        priority: Some(200),
                        ..Envelope::default()
                    }),
                    ..Properties::default()
                })),
                qos: QoS::AtLeastOnce,
                ..Record::default()
            };
            assert_eq!(there_and_back(&record), record);
        }
    }

    #[test]
    fn what_is_too_long_for_amqp_is_poison_with_its_name() {
        let record = Record {
            headers: vec![("n".repeat(256), String::new())],
            ..Record::default()
        };
        let failure = properties_of(&record, None).unwrap_err();
        assert_eq!(failure.class, crate::Class::Poison);
        assert!(
            failure
                .reason
                .starts_with("name of a user property of 256 bytes")
        );
    }

    #[test]
    fn a_client_cannot_route_a_message_by_its_user_properties() {
        for name in ["CC", "BCC"] {
            let record = Record {
                headers: vec![(name.into(), "admin.reboot".into())],
                ..Record::default()
            };
            let failure = properties_of(&record, None).unwrap_err();
            assert_eq!(failure.class, crate::Class::Poison);
        }
    }

    #[tokio::test]
    async fn an_expiry_beyond_what_rabbitmq_takes_is_left_out() {
        let expiring = |days: u64| {
            let record = Record {
                expires_at: Some(Instant::now() + Duration::from_secs(days * 86_400)),
                ..Record::default()
            };
            properties_of(&record, None).unwrap().expiration().is_some()
        };
        assert_eq!((expiring(49), expiring(50)), (true, false));
    }
}
