use bytes::Bytes;
use ciborium::Value as Cbor;
use tidewire_protocol::codec::QoS;
use tokio::time::{Duration, Instant};

use super::PayloadCodec;
use crate::{Context, Properties, Record, Template};

/// Which text stands in the place of the payload is for templates alone.
fn encoded(codec: &PayloadCodec, mut record: Record) -> Result<Record, String> {
    let encoded = codec.encode(&mut record, None);
    encoded.map(|()| record).map_err(|error| error.to_string())
}

fn decoded(codec: &PayloadCodec, mut record: Record) -> Result<Record, String> {
    let decoded = codec.decode(&mut record, None);
    decoded.map(|()| record).map_err(|error| error.to_string())
}

fn with(payload: impl Into<Bytes>) -> Record {
    Record {
        topic: "a/b".into(),
        payload: payload.into(),
        ..Record::default()
    }
}

fn full(payload: &'static [u8]) -> Record {
    Record {
        qos: QoS::AtLeastOnce,
        retain: true,
        expires_at: Some(Instant::now() + Duration::from_secs(60)),
        headers: [("x", "1"), ("x", "2")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .to_vec(),
        properties: Some(Box::new(Properties {
            content_type: Some("text/plain".into()),
            response_topic: Some("re/1".into()),
            correlation_data: Some(Bytes::from_static(b"\xff\0")),
            ..Properties::default()
        })),
        ..with(payload)
    }
}

#[test]
fn base64_is_written_and_read() {
    let there = encoded(&PayloadCodec::Base64, with(&b"\xfb\xff\0"[..])).unwrap();
    assert_eq!(there.payload, "+/8A");
    let said = there.properties.as_ref().unwrap().payload_is_utf8;
    assert_eq!(said, Some(true));
    let back = decoded(&PayloadCodec::Base64, there).unwrap();
    assert_eq!(back.payload, &b"\xfb\xff\0"[..]);
    assert_eq!(back.properties.unwrap().payload_is_utf8, None);
    let lined = decoded(&PayloadCodec::Base64, with("+/8A\n")).unwrap();
    assert_eq!(lined.payload, &b"\xfb\xff\0"[..]);
    for wrong in ["+/8", "_-8A", "+/8A=", "+ /8A"] {
        let error = decoded(&PayloadCodec::Base64, with(wrong)).unwrap_err();
        assert!(error.contains("no base64"), "{wrong}");
    }
}

#[test]
fn text_has_to_be_text_in_both_directions() {
    let codec = PayloadCodec::Text;
    for change in [encoded, decoded] {
        let record = change(&codec, with("ü")).unwrap();
        assert_eq!(record.properties.unwrap().payload_is_utf8, Some(true));
        let error = change(&codec, with(&b"ab\xff"[..])).unwrap_err();
        assert_eq!(error, "the payload is no text: byte 2 is no UTF-8");
    }
}

#[test]
fn a_template_takes_the_place_of_the_payload() {
    let codec = PayloadCodec::Template(Template::parse("{2}={payload}").unwrap());
    let context = Context {
        filter: "a/+",
        bridge: "b",
        node: "n",
        missing_is_empty: false,
    };
    let mut record = with("7");
    let text = codec.text(&record, context).unwrap();
    codec.encode(&mut record, text).unwrap();
    assert_eq!(record.payload, "b=7");
    assert!(codec.text(&with(&b"\xff"[..]), context).is_err());
    assert_eq!(PayloadCodec::Raw.text(&record, context), Ok(None));
}

#[test]
fn an_envelope_of_json_says_everything_and_is_read_back() {
    let there = encoded(&PayloadCodec::JsonEnvelope, full(b"{}")).unwrap();
    let expected = serde_json::json!({
        "topic": "a/b", "qos": 1, "retain": true, "payload": "{}",
        "content_type": "text/plain", "response_topic": "re/1",
        "correlation_data_base64": "/wA=", "message_expiry_seconds": 60,
        "user_properties": [["x", "1"], ["x", "2"]],
    });
    let said: serde_json::Value = serde_json::from_slice(&there.payload).unwrap();
    assert_eq!(said, expected);
    comes_back(&PayloadCodec::JsonEnvelope, &full(b"{}"));
    comes_back(&PayloadCodec::JsonEnvelope, &full(b"\xff\0"));
    comes_back(&PayloadCodec::JsonEnvelope, &with(""));
}

#[test]
fn an_envelope_of_cbor_says_the_same() {
    let there = encoded(&PayloadCodec::CborEnvelope, full(b"\xff")).unwrap();
    let said: Cbor = ciborium::from_reader(&*there.payload).unwrap();
    let entry = |name: &str| {
        let mut entries = said.as_map().unwrap().iter();
        let found = entries.find(|(key, _)| key.as_text() == Some(name));
        found.map(|(_, value)| value.clone())
    };
    assert_eq!(entry("payload"), Some(Cbor::Bytes(vec![0xFF])));
    assert_eq!(entry("correlation_data"), Some(Cbor::Bytes(vec![0xFF, 0])));
    assert_eq!(entry("qos"), Some(Cbor::Integer(1.into())));
    comes_back(&PayloadCodec::CborEnvelope, &full(b"\xff\0"));
    comes_back(&PayloadCodec::CborEnvelope, &with(""));
}

/// Through an envelope, with nothing beside it and with everything beside it.
fn comes_back(codec: &PayloadCodec, sent: &Record) {
    let there = encoded(codec, sent.clone()).unwrap();
    let bare = Record {
        qos: sent.qos,
        ..with(there.payload.clone())
    };
    for came in [bare, there] {
        let mut back = decoded(codec, came).unwrap();
        let left = |record: &Record| {
            let left = record.expires_at.map(|at| at - Instant::now());
            left.map(|it| it.as_secs().div_ceil(10))
        };
        assert_eq!(left(&back), left(sent));
        back.expires_at = sent.expires_at;
        back.properties = back.properties.filter(|it| **it != Properties::default());
        assert_eq!(&back, sent);
    }
}

#[test]
fn an_envelope_by_hand_needs_little() {
    let json = |text: &'static str| decoded(&PayloadCodec::JsonEnvelope, with(text)).unwrap();
    let object = json(r#"{"payload":{"v":1},"more":[],"topic":7}"#);
    assert_eq!(
        (&*object.payload, object.retain),
        (&br#"{"v":1}"#[..], false)
    );
    assert_eq!(json(r#"{"payload_base64":"/wA="}"#).payload, &b"\xff\0"[..]);
    let text = Cbor::Map(vec![(Cbor::Text("payload".into()), Cbor::Text("x".into()))]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&text, &mut bytes).unwrap();
    let record = decoded(&PayloadCodec::CborEnvelope, with(bytes)).unwrap();
    assert_eq!(record.payload, "x");
}

#[test]
fn what_is_no_envelope_is_refused_with_what_is_wrong() {
    let cases = [
        ("plain", "expected value"),
        ("[]", "it is no object"),
        ("{}", "payload is missing"),
        (
            r#"{"payload":"","retain":1}"#,
            "retain is not true or false",
        ),
        (r#"{"payload_base64":"%"}"#, "payload_base64 is not base64"),
        (
            r#"{"payload":"","content_type":7}"#,
            "content_type is not a text",
        ),
        (
            r#"{"payload":"","content_type":"a\u0000"}"#,
            "content_type holds U+0000",
        ),
        (
            r#"{"payload":"","response_topic":"a/#"}"#,
            "response_topic is",
        ),
        (
            r#"{"payload":"","message_expiry_seconds":-1}"#,
            "message_expiry_seconds is not a number",
        ),
        (
            r#"{"payload":"","user_properties":[["a"]]}"#,
            "user_properties is not a list of pairs",
        ),
    ];
    for (text, expected) in cases {
        let error = decoded(&PayloadCodec::JsonEnvelope, with(text)).unwrap_err();
        let is_said = error.starts_with("the payload is no JSON envelope: ");
        assert!(is_said && error.contains(expected), "{text}: {error}");
    }
    let long = format!(
        r#"{{"payload":"","content_type":"{}"}}"#,
        "x".repeat(65_536)
    );
    let error = decoded(&PayloadCodec::JsonEnvelope, with(long)).unwrap_err();
    assert!(error.contains("65536 bytes"), "{error}");
}

#[test]
fn cbor_that_lies_about_lengths_or_nests_without_end_is_refused() {
    let huge = [0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let entry = [&[0xa1, 0x67][..], b"payload", &huge].concat();
    let array = [0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let deep = vec![0x81; 100_000];
    let two = [0xa0, 0xa0];
    for bytes in [&huge[..], &entry, &array, &deep, &two, &[], &[0x01]] {
        let error = decoded(&PayloadCodec::CborEnvelope, with(bytes.to_vec())).unwrap_err();
        assert!(
            error.starts_with("the payload is no CBOR envelope: "),
            "{error}"
        );
    }
}
