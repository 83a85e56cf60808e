use super::{Context, Template, TemplateError};
use crate::{Properties, Record};

fn fill(text: &str, topic: &str, filter: &str) -> Result<String, String> {
    let record = Record {
        topic: topic.into(),
        payload: r#"{"a":{"b":[1,"x/y"]},"n":null}"#.into(),
        headers: vec![
            ("site".into(), "North".into()),
            ("tidewire-client-id".into(), "meter-7".into()),
        ],
        properties: Some(Box::new(Properties {
            content_type: Some("text/plain".into()),
            correlation_data: Some(b"\xfb\xff\0"[..].into()),
            ..Properties::default()
        })),
        retain: true,
        ..Record::default()
    };
    let context = Context {
        filter,
        bridge: "up",
        node: "n1",
        missing_is_empty: false,
    };
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    template
        .fill(&record, context)
        .map_err(|error| error.to_string())
}

#[test]
fn placeholders_stand_for_parts_of_topic_payload_and_properties() {
    let cases = [
        ("{topic}", "a/b/c/d"),
        ("{1}-{-1}", "a-d"),
        ("{2..3}|{2..}", "b/c|b/c/d"),
        ("{4..4}", "d"),
        ("{+1}/{#}", "b/c/d"),
        ("{qos}{retain}", "01"),
        ("{bridge}.{node}", "up.n1"),
        ("{prop:site|lower}", "north"),
        ("{content_type|replace('/','.')|upper}", "TEXT.PLAIN"),
        ("{json:/a/b/0}", "1"),
        ("{json:/a/b/1|level}", "x%2Fy"),
        ("{json:/n|default('}|')}", "}|"),
        ("{client_id}", "meter-7"),
        ("{client_id|slice(0,3)}{client_id|slice(6,9)}", "met7"),
        ("{prop:site|slice(2,4)|hex}", "7274"),
        ("{{{1}}}", "{a}"),
        ("{correlation|hex}", "fbff00"),
        (
            "{correlation|default('d')}{correlation|upper|default('e')}",
            "de",
        ),
        ("{correlation|b64}", "+/8A"),
        ("{correlation|b64|level}", "%2B%2F8A"),
        ("{1|b64}{payload|slice(0,4)}", "YQ=={\"a\""),
        // SHA-256 of "a".
        ("{1|hash(8)}", "ca978112"),
        ("{correlation|hash(64)|slice(62,64)}", "e2"),
    ];
    for (text, expected) in cases {
        assert_eq!(
            fill(text, "a/b/c/d", "a/+/#").as_deref(),
            Ok(expected),
            "{text}"
        );
    }
}

#[test]
fn what_is_missing_is_named() {
    for text in [
        "{5}",
        "{3..5}",
        "{-5}",
        "{prop:x}",
        "{response_topic}",
        "{json:/x}",
        "{#}",
    ] {
        let expected = format!("{text} is missing");
        assert_eq!(fill(text, "a/b/c", "a/b/c/#"), Err(expected));
    }
}

#[test]
fn bytes_that_are_no_text_have_to_be_made_one() {
    for text in ["{correlation}", "{correlation|upper}"] {
        let error = fill(text, "a", "a").unwrap_err();
        assert!(error.contains("no text; |hex and |b64"), "{error}");
    }
}

#[test]
fn what_is_missing_may_be_empty() {
    let context = Context {
        filter: "a",
        bridge: "up",
        node: "n1",
        missing_is_empty: true,
    };
    let template = Template::parse("<{5}{prop:x|upper}{1|default('d')}>").unwrap();
    let record = Record {
        topic: "a".into(),
        ..Record::default()
    };
    assert_eq!(template.fill(&record, context).as_deref(), Ok("<a>"));
}

#[test]
fn what_can_never_exist_is_found_before() {
    let check = |text: &str, filter: &str| Template::parse(text).unwrap().check(filter);
    for (text, filter) in [
        ("{4}", "a/+/c"),
        ("{#}", "a/+"),
        ("{+2}", "a/+/#"),
        ("{2..4}", "a/b/c"),
    ] {
        assert!(
            matches!(check(text, filter), Err(TemplateError::Never { .. })),
            "{text} {filter}"
        );
    }
    for (text, filter) in [
        ("{4}", "a/#"),
        ("{4|default('')}", "a"),
        ("{+1}", "+"),
        ("{-3}", "a/b/c"),
    ] {
        assert_eq!(check(text, filter), Ok(()), "{text} {filter}");
    }
}

#[test]
fn texts_that_mean_nothing_are_refused() {
    for text in [
        "{",
        "}",
        "a{b",
        "{}",
        "{0}",
        "{x}",
        "{1..0}",
        "{prop:}",
        "{json:a}",
        "{+}",
        "{-0}",
        "{1|}",
        "{1|shout}",
        "{1|replace('','b')}",
        "{1|default(x)}",
        "{1|default('x}",
        "{1|hash}",
        "{1|hash(0)}",
        "{1|hash(65)}",
        "{1|hash(x)}",
    ] {
        assert!(Template::parse(text).is_err(), "{text}");
    }
}
