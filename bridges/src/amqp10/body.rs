//! What is inside a message, as bytes.

use bytes::{Bytes, BytesMut};
use serde_json::Number;

use super::value::{Items, Malformed, Value};

/// The body of a message (AMQP 1.0 section 3.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Body<'a> {
    #[default]
    Empty,
    /// Bytes, and what follows if they come in parts.
    Data(&'a [u8], Vec<&'a [u8]>),
    Sequence(Vec<Items<'a>>),
    Value(Value<'a>),
}

impl<'a> Body<'a> {
    /// Another section with bytes.
    pub(super) fn add_data(&mut self, part: &'a [u8]) -> Result<(), Malformed> {
        match self {
            Self::Empty => *self = Self::Data(part, Vec::new()),
            Self::Data(_, parts) => parts.push(part),
            _ => return Err(MIXED),
        }
        Ok(())
    }

    /// The section with a value.
    pub(super) fn set_value(&mut self, value: Value<'a>) -> Result<(), Malformed> {
        match self {
            Self::Empty => *self = Self::Value(value),
            _ => return Err(MIXED),
        }
        Ok(())
    }

    /// Another section with a list.
    pub(super) fn add_sequence(&mut self, items: Items<'a>) -> Result<(), Malformed> {
        match self {
            Self::Empty => *self = Self::Sequence(vec![items]),
            Self::Sequence(parts) => parts.push(items),
            _ => return Err(MIXED),
        }
        Ok(())
    }
}

/// The payload of a body and whether it is text; what has a structure becomes JSON.
///
/// # Errors
/// The body holds what neither bytes nor JSON can say.
pub(super) fn payload_of(body: &Body<'_>) -> Result<(Bytes, Option<bool>), String> {
    match body {
        Body::Empty | Body::Value(Value::Null) => Ok((Bytes::new(), None)),
        Body::Data(whole, parts) if parts.is_empty() => Ok((Bytes::copy_from_slice(whole), None)),
        Body::Data(first, parts) => {
            let mut bytes = BytesMut::from(*first);
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            Ok((bytes.freeze(), None))
        }
        Body::Value(Value::Binary(bytes)) => Ok((Bytes::copy_from_slice(bytes), None)),
        Body::Value(value) => match text_of(*value) {
            Some(text) => Ok((Bytes::from(text), Some(true))),
            None => Ok(json_text(&json_of(*value, 0)?)),
        },
        Body::Sequence(parts) => {
            let mut values = Vec::new();
            for part in parts {
                values.extend(array(*part, 0)?);
            }
            Ok(json_text(&serde_json::Value::Array(values)))
        }
    }
}

/// A value as a user property says it; bytes and structures have no such text.
pub(super) fn text_of(value: Value<'_>) -> Option<String> {
    Some(match value {
        Value::String(text) | Value::Symbol(text) => text.to_owned(),
        Value::Char(it) => it.to_string(),
        Value::Bool(it) => it.to_string(),
        Value::Unsigned(it) => it.to_string(),
        Value::Signed(it) | Value::Timestamp(it) => it.to_string(),
        Value::Float(it) => it.to_string(),
        Value::Double(it) => it.to_string(),
        Value::Uuid(it) => uuid_text(&it),
        _ => return None,
    })
}

fn json_text(json: &serde_json::Value) -> (Bytes, Option<bool>) {
    (Bytes::from(json.to_string()), Some(true))
}

fn json_of(value: Value<'_>, depth: usize) -> Result<serde_json::Value, String> {
    use serde_json::Value as Json;
    if depth > DEPTH_MAX {
        return Err(format!("a body nested deeper than {DEPTH_MAX} levels"));
    }
    let float = |it: f64| Number::from_f64(it).map_or(Json::Null, Json::Number);
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(it) => Json::Bool(it),
        Value::Unsigned(it) => Json::from(it),
        Value::Signed(it) | Value::Timestamp(it) => Json::from(it),
        Value::Float(it) => float(f64::from(it)),
        Value::Double(it) => float(it),
        Value::List(items) => Json::Array(array(items, depth)?),
        Value::Map(mut items) => {
            let mut object = serde_json::Map::new();
            while let Some(name) = items.next()? {
                let name = text_of(name).ok_or("a body with a key that is no text")?;
                let value = items.next()?.ok_or("a body with a key that has no value")?;
                object.insert(name, json_of(value, depth + 1)?);
            }
            Json::Object(object)
        }
        other => match text_of(other) {
            Some(text) => Json::String(text),
            None => return Err("a body that holds bytes or a described type".to_owned()),
        },
    })
}

fn array(mut items: Items<'_>, depth: usize) -> Result<Vec<serde_json::Value>, String> {
    let mut values = Vec::new();
    while let Some(value) = items.next()? {
        values.push(json_of(value, depth + 1)?);
    }
    Ok(values)
}

pub(super) fn uuid_text(bytes: &[u8; 16]) -> String {
    let number = u128::from_be_bytes(*bytes);
    let text = format!("{number:032x}");
    let ends = [0, 8, 12, 16, 20, 32];
    let parts = ends.windows(2).filter_map(|it| match it {
        [from, to] => text.get(*from..*to),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("-")
}

const MIXED: Malformed = Malformed("a message with bodies of several kinds");
/// Deeper bodies are refused.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use serde_amqp::primitives::OrderedMap;
    use serde_amqp::{Value as Theirs, to_vec};

    use super::*;
    use crate::amqp10::value::take;

    fn payload(body: &Body<'_>) -> Result<(String, Option<bool>), String> {
        let (bytes, is_text) = payload_of(body)?;
        Ok((String::from_utf8(bytes.to_vec()).unwrap(), is_text))
    }

    fn of_value(value: &Theirs) -> Result<(String, Option<bool>), String> {
        let bytes = to_vec(value).unwrap();
        payload(&Body::Value(take(&mut &*bytes).unwrap()))
    }

    #[test]
    fn bytes_and_texts_are_taken_as_they_are() {
        let mut parts = Body::default();
        for part in ["a", "b"] {
            parts.add_data(part.as_bytes()).unwrap();
        }
        assert_eq!(payload(&parts), Ok(("ab".into(), None)));
        assert_eq!(parts.add_sequence(Items::default()), Err(MIXED));
        let text = Theirs::String("ä".into());
        assert_eq!(of_value(&text), Ok(("ä".into(), Some(true))));
        let binary = Theirs::Binary(vec![b'x'].into());
        assert_eq!(of_value(&binary), Ok(("x".into(), None)));
        assert_eq!(of_value(&Theirs::Int(-7)), Ok(("-7".into(), Some(true))));
        assert_eq!(of_value(&Theirs::Null), Ok((String::new(), None)));
        assert_eq!(payload(&Body::Empty), Ok((String::new(), None)));
    }

    #[test]
    fn structures_become_json_and_what_json_cannot_say_is_refused() {
        let list = vec![Theirs::Uint(1), Theirs::String("a\"b".into()), Theirs::Null];
        let bytes = to_vec(&Theirs::List(list.clone())).unwrap();
        let Ok(Value::List(items)) = take(&mut &*bytes) else {
            panic!("no list");
        };
        let mut sequence = Body::default();
        sequence.add_sequence(items).unwrap();
        assert_eq!(
            payload(&sequence),
            Ok((r#"[1,"a\"b",null]"#.into(), Some(true)))
        );
        let mut map = OrderedMap::new();
        map.insert(Theirs::String("k".into()), Theirs::List(list));
        assert_eq!(
            of_value(&Theirs::Map(map)),
            Ok((r#"{"k":[1,"a\"b",null]}"#.into(), Some(true)))
        );
        let bytes = Theirs::List(vec![Theirs::Binary(vec![0].into())]);
        assert!(of_value(&bytes).unwrap_err().contains("bytes"));
        let deep = (0..100).fold(Theirs::Null, |inner, _| Theirs::List(vec![inner]));
        assert!(of_value(&deep).unwrap_err().contains("deeper"));
    }

    #[test]
    fn a_uuid_is_written_with_dashes() {
        let bytes = *b"\x12\x3e\x45\x67\xe8\x9b\x12\xd3\xa4\x56\x42\x66\x14\x17\x40\x00";
        assert_eq!(uuid_text(&bytes), "123e4567-e89b-12d3-a456-426614174000");
    }
}
