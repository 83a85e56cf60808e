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
            ..Properties::default()
        })),
        retain: true,
        ..Record::default()
    };
    let context = Context {
        filter,
        bridge: "up",
        node: "n1",
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
    ] {
        assert!(Template::parse(text).is_err(), "{text}");
    }
}
