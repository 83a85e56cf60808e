//! A message with its properties as one object, in JSON or CBOR.
//!
//! # Shape
//! A map: `topic`, `qos`, `retain`, `payload`, and if there are any `content_type`,
//! `response_topic`, `correlation_data`, `message_expiry_seconds` and `user_properties`, a list of
//! pairs. In JSON bytes that are no text are base64, under the name with `_base64` behind it.

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use ciborium::Value as Cbor;
use serde_json::{Map, Value as Json};
use tidewire_protocol::topic::Topic;
use tokio::time::{Duration, Instant};

use super::{PayloadError, give_bytes};
use crate::{Properties, Record};

/// What an envelope holds under a name.
enum Field {
    Flag(bool),
    Number(u64),
    Text(String),
    Bytes(Bytes),
    Pairs(Vec<(String, String)>),
    /// As good as not there.
    Nothing,
    /// What no name has.
    Other,
}

pub(super) fn to_json(record: &Record) -> String {
    let mut object = Map::new();
    for (name, field) in fields_of(record) {
        let value = match field {
            Field::Flag(flag) => flag.into(),
            Field::Number(number) => number.into(),
            Field::Text(text) => text.into(),
            Field::Pairs(pairs) => {
                let pairs = pairs.into_iter().map(|(name, value)| vec![name, value]);
                pairs.collect::<Vec<_>>().into()
            }
            Field::Nothing | Field::Other => Json::Null,
            Field::Bytes(bytes) => match str::from_utf8(&bytes) {
                Ok(text) => text.into(),
                Err(_) => {
                    let base64 = Base64::encode_string(&bytes);
                    object.insert(format!("{name}{BASE64}"), base64.into());
                    continue;
                }
            },
        };
        object.insert(name.to_owned(), value);
    }
    Json::Object(object).to_string()
}

pub(super) fn to_cbor(record: &Record) -> Result<Vec<u8>, PayloadError> {
    let entries = fields_of(record).into_iter().map(|(name, field)| {
        let value = match field {
            Field::Flag(flag) => Cbor::Bool(flag),
            Field::Number(number) => Cbor::Integer(number.into()),
            Field::Text(text) => Cbor::Text(text),
            Field::Bytes(bytes) => Cbor::Bytes(bytes.into()),
            Field::Pairs(pairs) => {
                let pairs = pairs.into_iter();
                let pairs = pairs.map(|(a, b)| Cbor::Array(vec![Cbor::Text(a), Cbor::Text(b)]));
                Cbor::Array(pairs.collect())
            }
            Field::Nothing | Field::Other => Cbor::Null,
        };
        (Cbor::Text(name.to_owned()), value)
    });
    let map = Cbor::Map(entries.collect());
    let mut out = Vec::new();
    ciborium::into_writer(&map, &mut out).map_err(|error| wrong("CBOR", error.to_string()))?;
    Ok(out)
}

pub(super) fn open_json(record: &mut Record) -> Result<(), PayloadError> {
    let wrong = |problem| wrong("JSON", problem);
    let value = serde_json::from_slice(&record.payload).map_err(|it| wrong(it.to_string()))?;
    let Json::Object(object) = value else {
        return Err(wrong("it is no object".to_owned()));
    };
    let fields = object.into_iter().map(|(name, value)| match value {
        // JSON within JSON is what people write by hand.
        Json::Null | Json::String(_) => from_json(name, value),
        value if name == "payload" => Ok((name, Field::Text(value.to_string()))),
        value => from_json(name, value),
    });
    let fields = fields.collect::<Result<_, _>>().map_err(wrong)?;
    give(record, fields).map_err(wrong)
}

pub(super) fn open_cbor(record: &mut Record) -> Result<(), PayloadError> {
    let wrong = |problem| wrong("CBOR", problem);
    let mut rest: &[u8] = &record.payload;
    let value: Cbor = ciborium::from_reader(&mut rest).map_err(|it| wrong(it.to_string()))?;
    let Cbor::Map(entries) = value else {
        return Err(wrong("it is no map".to_owned()));
    };
    if !rest.is_empty() {
        return Err(wrong(format!("{} bytes follow it", rest.len())));
    }
    let fields = entries.into_iter().filter_map(|(name, value)| {
        // What we have no use for may have any name.
        Some((name.into_text().ok()?, from_cbor(value)))
    });
    give(record, fields.collect()).map_err(wrong)
}

/// What a record has to say, in the order in which it is written.
fn fields_of(record: &Record) -> Vec<(&'static str, Field)> {
    let mut fields = vec![
        ("topic", Field::Text(record.topic.clone())),
        ("qos", Field::Number(record.qos as u64)),
        ("retain", Field::Flag(record.retain)),
        ("payload", Field::Bytes(record.payload.clone())),
    ];
    if let Some(properties) = record.properties.as_deref() {
        let text = |text: &Option<String>| text.clone().map(Field::Text);
        let correlation = properties.correlation_data.clone().map(Field::Bytes);
        let rare = [
            ("content_type", text(&properties.content_type)),
            ("response_topic", text(&properties.response_topic)),
            ("correlation_data", correlation),
        ];
        let present = rare.into_iter();
        fields.extend(present.filter_map(|(name, field)| Some((name, field?))));
    }
    if let Some(at) = record.expires_at {
        let left = at.saturating_duration_since(Instant::now());
        let seconds = left.as_millis().div_ceil(1_000);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        fields.push(("message_expiry_seconds", Field::Number(seconds)));
    }
    if !record.headers.is_empty() {
        fields.push(("user_properties", Field::Pairs(record.headers.clone())));
    }
    fields
}

/// Bytes in base64 lose the end of their name.
fn from_json(name: String, value: Json) -> Result<(String, Field), String> {
    let field = match value {
        Json::Null => Field::Nothing,
        Json::Bool(flag) => Field::Flag(flag),
        Json::Number(number) => number.as_u64().map_or(Field::Other, Field::Number),
        Json::String(text) => match name.strip_suffix(BASE64) {
            Some(plain) if is_known(plain) => {
                let bytes = Base64::decode_vec(&text);
                let bytes = bytes.map_err(|_| format!("{name} is not base64"))?;
                return Ok((plain.to_owned(), Field::Bytes(bytes.into())));
            }
            _ => Field::Text(text),
        },
        Json::Array(list) => pairs_of(&list, |pair| match pair.as_array().map(Vec::as_slice) {
            Some([Json::String(name), Json::String(value)]) => Some((name.clone(), value.clone())),
            _ => None,
        }),
        Json::Object(_) => Field::Other,
    };
    Ok((name, field))
}

fn from_cbor(value: Cbor) -> Field {
    match value {
        Cbor::Null => Field::Nothing,
        Cbor::Bool(flag) => Field::Flag(flag),
        Cbor::Integer(number) => number.try_into().map_or(Field::Other, Field::Number),
        Cbor::Text(text) => Field::Text(text),
        Cbor::Bytes(bytes) => Field::Bytes(bytes.into()),
        Cbor::Array(list) => pairs_of(&list, |pair| match pair.as_array().map(Vec::as_slice) {
            Some([Cbor::Text(name), Cbor::Text(value)]) => Some((name.clone(), value.clone())),
            _ => None,
        }),
        _ => Field::Other,
    }
}

fn pairs_of<T>(list: &[T], pair: impl Fn(&T) -> Option<(String, String)>) -> Field {
    let pairs: Option<Vec<_>> = list.iter().map(pair).collect();
    pairs.map_or(Field::Other, Field::Pairs)
}

/// Topic and QoS are those that the record came with; of the rest the envelope's own count.
fn give(record: &mut Record, fields: Vec<(String, Field)>) -> Result<(), String> {
    let mut payload = None;
    let mut properties = record.properties.take().unwrap_or_default();
    for (name, field) in fields {
        match (&*name, field) {
            (_, Field::Nothing) => {}
            ("payload", Field::Bytes(bytes)) => payload = Some(bytes),
            ("payload", Field::Text(text)) => payload = Some(text.into()),
            ("correlation_data", Field::Bytes(bytes)) => {
                properties.correlation_data = Some(checked_bytes(&name, bytes)?);
            }
            ("correlation_data", Field::Text(text)) => {
                properties.correlation_data = Some(checked_bytes(&name, text.into())?);
            }
            ("content_type", Field::Text(text)) => {
                check_text(&name, &text)?;
                properties.content_type = Some(text);
            }
            ("response_topic", Field::Text(text)) => {
                let topic = Topic::parse(&text, usize::MAX).map(drop);
                topic.map_err(|error| format!("response_topic is {text:?}: {error}"))?;
                properties.response_topic = Some(text);
            }
            ("retain", Field::Flag(flag)) => record.retain = flag,
            ("message_expiry_seconds", Field::Number(seconds)) if seconds <= SECONDS_MAX => {
                record.expires_at = Some(Instant::now() + Duration::from_secs(seconds));
            }
            ("user_properties", Field::Pairs(pairs)) => give_headers(record, pairs)?,
            (name, _) => check_unknown(name)?,
        }
    }
    let payload = payload.ok_or("payload is missing")?;
    record.properties = (*properties != Properties::default()).then_some(properties);
    give_bytes(record, payload.into());
    Ok(())
}

/// What has crossed beside the envelope as well is there once.
fn give_headers(record: &mut Record, pairs: Vec<(String, String)>) -> Result<(), String> {
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        check_text("a user property", text)?;
    }
    let headers = &mut record.headers;
    headers.retain(|it| pairs.iter().all(|(name, _)| *name != it.0));
    headers.extend(pairs);
    Ok(())
}

fn checked_bytes(name: &str, bytes: Bytes) -> Result<Bytes, String> {
    check_length(name, bytes.len()).map(|()| bytes)
}

/// Texts of MQTT hold no U+0000 and have two-byte lengths [MQTT-1.5.4-2].
fn check_text(name: &str, text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err(format!("{name} holds U+0000"));
    }
    check_length(name, text.len())
}

fn check_length(name: &str, length: usize) -> Result<(), String> {
    match u16::try_from(length) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{name} has {length} bytes; MQTT takes 65,535")),
    }
}

fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == name)
}

/// What stands under a name that is read is of the wrong type.
fn check_unknown(name: &str) -> Result<(), String> {
    match KNOWN.iter().find(|(known, _)| *known == name) {
        Some((_, expected)) => Err(format!("{name} is not {expected}")),
        None => Ok(()),
    }
}

fn wrong(kind: &'static str, problem: String) -> PayloadError {
    PayloadError::Envelope { kind, problem }
}

const BASE64: &str = "_base64";
/// As in MQTT.
const SECONDS_MAX: u64 = u32::MAX as u64;
/// Names that are read, and what is expected under them.
const KNOWN: [(&str, &str); 7] = [
    ("retain", "true or false"),
    ("payload", "a text or bytes"),
    ("content_type", "a text"),
    ("response_topic", "a text"),
    ("correlation_data", "a text or bytes"),
    ("message_expiry_seconds", "a number from 0 to 4294967295"),
    ("user_properties", "a list of pairs of texts"),
];
