//! The mapping language: a text with placeholders that is filled in from a record.
//!
//! Small and total: no loops, no I/O. It is compiled once and checked against the topic filters
//! whose records it will see, so that a placeholder that can never exist is found at the start.

mod parse;
#[cfg(test)]
mod tests;

mod filter;

use std::borrow::Cow;
use std::fmt;

use crate::Record;
use filter::Filter;

/// A compiled text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// What a template is filled in from besides the record.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The topic filter that selected the record.
    pub filter: &'a str,
    /// The name of the bridge.
    pub bridge: &'a str,
    /// The name of the node.
    pub node: &'a str,
    /// Whether what a record has no value for is an empty text, and no error.
    pub missing_is_empty: bool,
}

/// Why a template cannot be compiled, or not be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its other half.
    #[error("`{0}` has an open brace; write {{{{ and }}}} for braces that are meant")]
    Brace(String),
    /// A placeholder that does not exist.
    #[error(
        "{{{0}}} is not known; there are topic, key, 1, 2..4, 2.., -1, +1, #, qos, retain, bridge, \
         node, client_id, user_name, prop:NAME, content_type, response_topic, correlation, \
         message_id, priority, timestamp_ms, payload and json:/POINTER"
    )]
    Placeholder(String),
    /// A filter that does not exist.
    #[error(
        "|{0} is not known; there are lower, upper, hex, b64, hash(1 to 64), level, \
         slice(FROM,TO), replace('A','B') and default('TEXT')"
    )]
    Filter(String),
    /// A placeholder that no topic of a filter has.
    #[error("{{{placeholder}}} never exists for the filter `{filter}`")]
    Never {
        /// The placeholder.
        placeholder: String,
        /// The topic filter.
        filter: String,
    },
    /// The record has no such value.
    #[error("{{{0}}} is missing")]
    Missing(String),
    /// The record has bytes there that are no text.
    #[error("{{{0}}} is no text; |hex and |b64 make bytes one")]
    NotText(String),
}

impl TemplateError {
    /// A word that is not known, and the words that are.
    pub fn unknown(&self) -> Option<(&str, &'static [&'static str])> {
        let (word, known): (&str, &'static [&'static str]) = match self {
            Self::Placeholder(name) => (name, &PLACEHOLDERS),
            Self::Filter(text) => (text.split('(').next().unwrap_or(text), &FILTERS),
            Self::Brace(_) | Self::Never { .. } | Self::Missing(_) | Self::NotText(_) => {
                return None;
            }
        };
        // A filter may be known, and its arguments not be what it takes.
        (!known.contains(&word)).then_some((word, known))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place {
        /// As written, for errors.
        name: String,
        source: Source,
        filters: Vec<Filter>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Topic,
    Key,
    /// Counted from 1.
    Level(usize),
    /// Counted from the end, 1 is the last.
    LevelFromEnd(usize),
    /// From and to, both counted from 1 and included.
    Levels(usize, Option<usize>),
    /// What the n-th `+` matched.
    Plus(usize),
    /// What `#` matched.
    Hash,
    QoS,
    Retain,
    Bridge,
    Node,
    Property(String),
    ContentType,
    ResponseTopic,
    Correlation,
    MessageId,
    Priority,
    TimestampMs,
    Payload,
    Json(String),
}

impl Template {
    /// Compiles a text.
    ///
    /// # Errors
    /// The first placeholder or filter that does not exist.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::parse(text)
    }

    /// The first placeholder without a default that stands for a property of this name.
    pub fn needs_property(&self, property: &str) -> Option<&str> {
        self.parts.iter().find_map(|part| match part {
            Part::Place {
                name,
                source: Source::Property(wanted),
                filters,
            } => {
                let has_default = filters.iter().any(|it| matches!(it, Filter::Default(_)));
                (wanted == property && !has_default).then_some(name.as_str())
            }
            _ => None,
        })
    }

    /// The text of a template without placeholders.
    pub fn literal(&self) -> Option<&str> {
        match &*self.parts {
            [Part::Text(text)] => Some(text),
            [] => Some(""),
            _ => None,
        }
    }

    /// Whether every placeholder can exist in the topics of a filter.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self, filter: &str) -> Result<(), TemplateError> {
        for part in &self.parts {
            let Part::Place {
                name,
                source,
                filters,
            } = part
            else {
                continue;
            };
            let has_default = filters.iter().any(|it| matches!(it, Filter::Default(_)));
            if !has_default && !source.can_exist(filter) {
                return Err(TemplateError::Never {
                    placeholder: name.clone(),
                    filter: filter.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The first placeholder that some topics of a filter have and others do not.
    pub fn sometimes_missing(&self, filter: &str) -> Option<&str> {
        self.parts.iter().find_map(|part| match part {
            Part::Place {
                name,
                source,
                filters,
            } => {
                let has_default = filters.iter().any(|it| matches!(it, Filter::Default(_)));
                (!has_default && source.may_be_missing(filter)).then_some(name.as_str())
            }
            Part::Text(_) => None,
        })
    }

    /// The text for a record.
    ///
    /// # Errors
    /// The first placeholder that the record has no value, or no text, for.
    pub fn fill(&self, record: &Record, context: Context<'_>) -> Result<String, TemplateError> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled += text,
                Part::Place {
                    name,
                    source,
                    filters,
                } => {
                    let found = source.value(record, context);
                    let is_found = found.is_some();
                    let value = filters.iter().fold(found, |value, it| it.apply(value));
                    match value.as_deref().and_then(|it| str::from_utf8(it).ok()) {
                        Some(text) => filled += text,
                        None if context.missing_is_empty => {}
                        None if is_found => return Err(TemplateError::NotText(name.clone())),
                        None => return Err(TemplateError::Missing(name.clone())),
                    }
                }
            }
        }
        Ok(filled)
    }
}

impl Source {
    fn can_exist(&self, filter: &str) -> bool {
        let levels = filter.split('/').count();
        let is_open = filter.split('/').next_back() == Some("#");
        let plus = filter.split('/').filter(|level| *level == "+").count();
        match self {
            Self::Level(number) | Self::LevelFromEnd(number) => is_open || *number <= levels,
            Self::Levels(from, to) => is_open || to.unwrap_or(*from) <= levels,
            Self::Plus(number) => *number <= plus,
            Self::Hash => is_open,
            _ => true,
        }
    }

    /// Whether it counts on levels that stand for `#`, which may be none.
    fn may_be_missing(&self, filter: &str) -> bool {
        let Some(fixed) = filter.strip_suffix('#') else {
            return false;
        };
        let fixed = fixed.split('/').filter(|it| !it.is_empty()).count();
        match self {
            Self::Level(number) | Self::LevelFromEnd(number) => *number > fixed.max(1),
            Self::Levels(from, to) => to.unwrap_or(*from) > fixed.max(1),
            Self::Hash => fixed > 0,
            _ => false,
        }
    }

    /// Text is in UTF-8; only few sources have other bytes.
    fn value<'a>(&self, record: &'a Record, context: Context<'a>) -> Option<Cow<'a, [u8]>> {
        let topic = record.topic.as_str();
        let level = |index: usize| topic.split('/').nth(index);
        let properties = record.properties.as_deref();
        let text = match self {
            Self::Topic => topic,
            Self::Key => return Some(Cow::Borrowed(record.key.as_deref()?)),
            Self::Level(number) => level(number - 1)?,
            Self::LevelFromEnd(number) => topic.rsplit('/').nth(number - 1)?,
            Self::Levels(from, to) => levels(topic, *from, *to)?,
            Self::Plus(number) => {
                let places = context.filter.split('/').enumerate();
                let mut plus = places.filter(|(_, level)| *level == "+");
                level(plus.nth(number - 1)?.0)?
            }
            Self::Hash => levels(topic, context.filter.split('/').count(), None)?,
            Self::QoS => return Some(text_of(record.qos as u8)),
            Self::Retain => match record.retain {
                true => "1",
                false => "0",
            },
            Self::Bridge => context.bridge,
            Self::Node => context.node,
            Self::Property(wanted) => {
                let mut headers = record.headers.iter();
                &headers.find(|(name, _)| name == wanted)?.1
            }
            Self::ContentType => properties?.content_type.as_deref()?,
            Self::ResponseTopic => properties?.response_topic.as_deref()?,
            Self::Correlation => {
                return Some(Cow::Borrowed(properties?.correlation_data.as_deref()?));
            }
            Self::MessageId => record.uid.as_deref()?,
            Self::Priority => return properties?.envelope.as_ref()?.priority.map(text_of),
            Self::TimestampMs => return record.timestamp_ms.map(text_of),
            Self::Payload => return Some(Cow::Borrowed(&record.payload)),
            Self::Json(pointer) => {
                let text = json(&record.payload, pointer)?;
                return Some(Cow::Owned(text.into_bytes()));
            }
        };
        Some(Cow::Borrowed(text.as_bytes()))
    }
}

fn text_of<'a>(number: impl fmt::Display) -> Cow<'a, [u8]> {
    Cow::Owned(format!("{number}").into_bytes())
}

/// Levels of a topic, counted from 1; what is beyond the last is missing.
fn levels(topic: &str, from: usize, to: Option<usize>) -> Option<&str> {
    let starts = std::iter::once(0).chain(topic.match_indices('/').map(|(at, _)| at + 1));
    let start = starts.into_iter().nth(from - 1)?;
    let rest = topic.get(start..)?;
    let Some(to) = to else { return Some(rest) };
    let count = to.checked_sub(from)?;
    let mut ends = rest.match_indices('/').map(|(at, _)| at);
    match ends.nth(count) {
        Some(end) => rest.get(..end),
        None => (rest.split('/').count() > count).then_some(rest),
    }
}

/// Texts as they are, everything else as JSON.
fn json(payload: &[u8], pointer: &str) -> Option<String> {
    if payload.len() > JSON_BYTES_MAX {
        return None;
    }
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    match value.pointer(pointer)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Names of placeholders that are words; others are numbers.
const PLACEHOLDERS: [&str; 17] = [
    "topic",
    "key",
    "qos",
    "retain",
    "bridge",
    "node",
    "client_id",
    "user_name",
    "content_type",
    "response_topic",
    "correlation",
    "message_id",
    "priority",
    "timestamp_ms",
    "payload",
    "prop:NAME",
    "json:/POINTER",
];
const FILTERS: [&str; 9] = [
    "lower", "upper", "hex", "b64", "hash", "level", "slice", "replace", "default",
];
/// Larger payloads are not looked into.
const JSON_BYTES_MAX: usize = 256 * 1_024;
