//! What is inside a message, as bytes.

use bytes::Bytes;
use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::primitives::Value;
use serde_json::Number;

/// The payload of a body and whether it is text; what has a structure becomes JSON.
///
/// # Errors
/// The body holds what neither bytes nor JSON can say.
pub(super) fn payload_of(body: Body<Value>) -> Result<(Bytes, Option<bool>), String> {
    match body {
        Body::Empty => Ok((Bytes::new(), None)),
        Body::Data(parts) => {
            let mut parts = parts.into_iter().map(|it| it.0.into_vec());
            let mut bytes = parts.next().unwrap_or_default();
            parts.for_each(|part| bytes.extend(part));
            Ok((Bytes::from(bytes), None))
        }
        Body::Value(value) => match value.0 {
            Value::Null => Ok((Bytes::new(), None)),
            Value::Binary(bytes) => Ok((Bytes::from(bytes.into_vec()), None)),
            value => match text_of(&value) {
                Some(text) => Ok((Bytes::from(text), Some(true))),
                None => json_text(&value),
            },
        },
        Body::Sequence(parts) => {
            let values = parts.into_iter().flat_map(|it| it.0).collect();
            json_text(&Value::List(values))
        }
    }
}

/// A value as a user property says it; bytes and structures have no such text.
pub(super) fn text_of(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text.clone(),
        Value::Symbol(text) => text.0.clone(),
        Value::Char(it) => it.to_string(),
        Value::Bool(it) => it.to_string(),
        Value::Ubyte(it) => it.to_string(),
        Value::Ushort(it) => it.to_string(),
        Value::Uint(it) => it.to_string(),
        Value::Ulong(it) => it.to_string(),
        Value::Byte(it) => it.to_string(),
        Value::Short(it) => it.to_string(),
        Value::Int(it) => it.to_string(),
        Value::Long(it) => it.to_string(),
        Value::Float(it) => it.to_string(),
        Value::Double(it) => it.to_string(),
        Value::Timestamp(it) => it.milliseconds().to_string(),
        Value::Uuid(it) => uuid_text(&it.clone().into_inner()),
        _ => return None,
    })
}

fn json_text(value: &Value) -> Result<(Bytes, Option<bool>), String> {
    let json = json_of(value, 0)?;
    Ok((Bytes::from(json.to_string()), Some(true)))
}

fn json_of(value: &Value, depth: usize) -> Result<serde_json::Value, String> {
    use serde_json::Value as Json;
    if depth > DEPTH_MAX {
        return Err(format!("a body nested deeper than {DEPTH_MAX} levels"));
    }
    let float = |it: f64| Number::from_f64(it).map_or(Json::Null, Json::Number);
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(it) => Json::Bool(*it),
        Value::Ubyte(it) => Json::from(*it),
        Value::Ushort(it) => Json::from(*it),
        Value::Uint(it) => Json::from(*it),
        Value::Ulong(it) => Json::from(*it),
        Value::Byte(it) => Json::from(*it),
        Value::Short(it) => Json::from(*it),
        Value::Int(it) => Json::from(*it),
        Value::Long(it) => Json::from(*it),
        Value::Timestamp(it) => Json::from(it.milliseconds()),
        Value::Float(it) => float(f64::from(it.into_inner())),
        Value::Double(it) => float(it.into_inner()),
        Value::List(values) => array(values.iter(), depth)?,
        Value::Array(values) => array(values.0.iter(), depth)?,
        Value::Map(pairs) => {
            let mut object = serde_json::Map::new();
            for (name, value) in pairs.iter() {
                let name = text_of(name).ok_or("a body with a key that is no text")?;
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

fn array<'a>(
    values: impl Iterator<Item = &'a Value>,
    depth: usize,
) -> Result<serde_json::Value, String> {
    let values = values.map(|it| json_of(it, depth + 1));
    Ok(serde_json::Value::Array(values.collect::<Result<_, _>>()?))
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

/// Deeper bodies are refused; what decodes them would recurse as deep.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use fe2o3_amqp::types::messaging::{AmqpSequence, AmqpValue, Batch, Data};
    use fe2o3_amqp::types::primitives::{Binary, OrderedMap};

    use super::*;

    fn payload(body: Body<Value>) -> Result<(String, Option<bool>), String> {
        let (bytes, is_text) = payload_of(body)?;
        Ok((String::from_utf8(bytes.to_vec()).unwrap(), is_text))
    }

    fn value(value: Value) -> Body<Value> {
        Body::Value(AmqpValue(value))
    }

    #[test]
    fn bytes_and_texts_are_taken_as_they_are() {
        let data = |text: &str| Data(Binary::from(text.as_bytes().to_vec()));
        let parts = Body::Data(Batch::new(vec![data("a"), data("b")]));
        assert_eq!(payload(parts), Ok(("ab".into(), None)));
        let text = value(Value::String("ä".into()));
        assert_eq!(payload(text), Ok(("ä".into(), Some(true))));
        let binary = value(Value::Binary(Binary::from(vec![b'x'])));
        assert_eq!(payload(binary), Ok(("x".into(), None)));
        assert_eq!(
            payload(value(Value::Int(-7))),
            Ok(("-7".into(), Some(true)))
        );
        assert_eq!(payload(value(Value::Null)), Ok((String::new(), None)));
        assert_eq!(payload(Body::Empty), Ok((String::new(), None)));
    }

    #[test]
    fn structures_become_json_and_what_json_cannot_say_is_refused() {
        let list = vec![Value::Uint(1), Value::String("a\"b".into()), Value::Null];
        let sequence = Body::Sequence(Batch::new(vec![AmqpSequence(list.clone())]));
        assert_eq!(
            payload(sequence),
            Ok((r#"[1,"a\"b",null]"#.into(), Some(true)))
        );
        let mut map = OrderedMap::new();
        map.insert(Value::String("k".into()), Value::List(list));
        let body = value(Value::Map(map));
        assert_eq!(
            payload(body),
            Ok((r#"{"k":[1,"a\"b",null]}"#.into(), Some(true)))
        );
        let bytes = Value::List(vec![Value::Binary(Binary::from(vec![0]))]);
        assert!(payload(value(bytes)).unwrap_err().contains("bytes"));
        let deep = (0..100).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        assert!(payload(value(deep)).unwrap_err().contains("deeper"));
    }

    #[test]
    fn a_uuid_is_written_with_dashes() {
        let bytes = *b"\x12\x3e\x45\x67\xe8\x9b\x12\xd3\xa4\x56\x42\x66\x14\x17\x40\x00";
        assert_eq!(uuid_text(&bytes), "123e4567-e89b-12d3-a456-426614174000");
    }
}
