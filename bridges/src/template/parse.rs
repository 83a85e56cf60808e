//! From text to a template.

use super::filter::Filter;
use super::{Part, Source, Template, TemplateError};
use crate::{CLIENT_ID_PROPERTY, USER_NAME_PROPERTY};

pub(super) fn parse(text: &str) -> Result<Template, TemplateError> {
    let brace = || TemplateError::Brace(text.to_owned());
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, found) = rest.split_at(at);
        plain += before;
        if let Some(after) = found.strip_prefix("{{") {
            plain.push('{');
            rest = after;
        } else if let Some(after) = found.strip_prefix("}}") {
            plain.push('}');
            rest = after;
        } else {
            let inner = found.strip_prefix('{').ok_or_else(brace)?;
            let end = end_of(inner).ok_or_else(brace)?;
            let (content, after) = inner.split_at(end);
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(place(content)?);
            rest = after.strip_prefix('}').unwrap_or(after);
        }
    }
    plain += rest;
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(Template { parts })
}

/// The closing brace that is not quoted.
fn end_of(inner: &str) -> Option<usize> {
    outside_quotes(inner, '}').next()
}

fn outside_quotes(text: &str, wanted: char) -> impl Iterator<Item = usize> + '_ {
    let mut is_quoted = false;
    text.char_indices().filter_map(move |(at, character)| {
        is_quoted ^= character == '\'';
        (character == wanted && !is_quoted).then_some(at)
    })
}

fn place(content: &str) -> Result<Part, TemplateError> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for bar in outside_quotes(content, '|') {
        pieces.extend(content.get(start..bar));
        start = bar + 1;
    }
    pieces.extend(content.get(start..));
    let mut pieces = pieces.into_iter();
    let name = pieces.next().unwrap_or_default();
    Ok(Part::Place {
        name: name.to_owned(),
        source: source(name).ok_or_else(|| TemplateError::Placeholder(name.to_owned()))?,
        filters: pieces.map(Filter::parse).collect::<Result<_, _>>()?,
    })
}

fn source(name: &str) -> Option<Source> {
    Some(match name {
        "topic" => Source::Topic,
        "key" => Source::Key,
        "#" => Source::Hash,
        "qos" => Source::QoS,
        "retain" => Source::Retain,
        "client_id" => Source::Property(CLIENT_ID_PROPERTY.to_owned()),
        "user_name" => Source::Property(USER_NAME_PROPERTY.to_owned()),
        "bridge" => Source::Bridge,
        "node" => Source::Node,
        "content_type" => Source::ContentType,
        "response_topic" => Source::ResponseTopic,
        "correlation" => Source::Correlation,
        "message_id" => Source::MessageId,
        "priority" => Source::Priority,
        "timestamp_ms" => Source::TimestampMs,
        "payload" => Source::Payload,
        name => {
            if let Some(property) = name.strip_prefix("prop:") {
                return (!property.is_empty()).then(|| Source::Property(property.to_owned()));
            }
            if let Some(pointer) = name.strip_prefix("json:") {
                let is_pointer = pointer.is_empty() || pointer.starts_with('/');
                return is_pointer.then(|| Source::Json(pointer.to_owned()));
            }
            return numbered(name);
        }
    })
}

/// `3`, `-1`, `+2`, `2..4` and `2..`.
fn numbered(name: &str) -> Option<Source> {
    if let Some((from, to)) = name.split_once("..") {
        let from = number(from)?;
        let to = match to {
            "" => None,
            to => Some(number(to).filter(|to| *to >= from)?),
        };
        return Some(Source::Levels(from, to));
    }
    if let Some(rest) = name.strip_prefix('-') {
        return number(rest).map(Source::LevelFromEnd);
    }
    if let Some(rest) = name.strip_prefix('+') {
        return number(rest).map(Source::Plus);
    }
    number(name).map(Source::Level)
}

/// Digits that are not zero.
fn number(text: &str) -> Option<usize> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|it| *it > 0 && is_plain)
}
