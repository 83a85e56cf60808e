//! Where in a topic over there a record goes, and what is written on it: key, partition, time, tag.

use bytes::Bytes;
use tidewire_bridges::{Context, Envelope, Record, Template, TemplateError};

use crate::config::{BridgeKind, BridgeRule};

/// What a rule says of it, ready for use.
#[derive(Debug, Default)]
pub(super) struct Place {
    key: Option<Template>,
    partition: Option<Template>,
    timestamp_ms: Option<Template>,
    tag: Option<Template>,
    keys: Vec<Template>,
    delay_ms: Option<Template>,
    priority: Option<Template>,
}

/// What it is for one record.
#[derive(Debug)]
pub(super) struct Placed {
    key: Option<Bytes>,
    partition: Option<i32>,
    timestamp_ms: Option<u64>,
    envelope: Option<Envelope>,
}

impl Place {
    pub(super) fn new(rule: &BridgeRule, kind: BridgeKind) -> Result<Self, TemplateError> {
        let without = match kind {
            BridgeKind::Kafka => "{topic}",
            _ => "",
        };
        let parse = |text: &Option<String>| text.as_deref().map(Template::parse).transpose();
        let key = rule.key.as_deref().unwrap_or(without);
        let keys = rule.keys.iter().map(|it| Template::parse(it));
        Ok(Self {
            key: (!key.is_empty())
                .then(|| Template::parse(key))
                .transpose()?,
            partition: parse(&rule.partition)?,
            timestamp_ms: parse(&rule.timestamp_ms)?,
            tag: parse(&rule.tag)?,
            keys: keys.collect::<Result<_, _>>()?,
            delay_ms: parse(&rule.delay_ms)?,
            priority: parse(&rule.priority)?,
        })
    }

    /// What it is for a record that still has the topic of this side.
    ///
    /// # Errors
    /// What the record lacks, in words.
    pub(super) fn fill(&self, record: &Record, context: Context<'_>) -> Result<Placed, String> {
        let text = |template: &Option<Template>| {
            let filled = template.as_ref().map(|it| it.fill(record, context));
            filled.transpose().map_err(|error| error.to_string())
        };
        Ok(Placed {
            key: text(&self.key)?.map(Bytes::from),
            partition: number("partition", text(&self.partition)?)?,
            timestamp_ms: number("timestamp_ms", text(&self.timestamp_ms)?)?,
            envelope: self.envelope(record, context, text)?,
        })
    }

    fn envelope(
        &self,
        record: &Record,
        context: Context<'_>,
        text: impl Fn(&Option<Template>) -> Result<Option<String>, String>,
    ) -> Result<Option<Envelope>, String> {
        let keys = self.keys.iter().map(|it| it.fill(record, context));
        let envelope = Envelope {
            priority: number("priority", text(&self.priority)?)?,
            tag: text(&self.tag)?,
            keys: keys
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
            delay_ms: number("delay_ms", text(&self.delay_ms)?)?,
        };
        Ok((envelope != Envelope::default()).then_some(envelope))
    }
}

impl Placed {
    pub(super) fn give(self, record: &mut Record) {
        record.key = self.key;
        record.partition = self.partition;
        record.timestamp_ms = self.timestamp_ms;
        if self.envelope.is_some() {
            record.properties.get_or_insert_default().envelope = self.envelope;
        }
    }
}

/// An empty text is none: rules may ask for that where a value is missing.
fn number<T: std::str::FromStr>(what: &str, text: Option<String>) -> Result<Option<T>, String> {
    let text = text.filter(|it| !it.trim().is_empty());
    let parsed = text.map(|text| {
        let number = text.trim().parse();
        number.map_err(|_| format!("the {what} would be {text:?}, which is no number that fits"))
    });
    parsed.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(rule: &BridgeRule, payload: &'static str) -> Result<Record, String> {
        let mut record = Record {
            topic: "a/7".into(),
            payload: payload.into(),
            ..Record::default()
        };
        let context = Context {
            filter: "a/+",
            bridge: "b",
            node: "n",
            missing_is_empty: false,
        };
        let place = Place::new(rule, BridgeKind::Kafka).unwrap();
        place.fill(&record, context)?.give(&mut record);
        Ok(record)
    }

    #[test]
    fn the_topic_is_the_key_unless_the_rule_says_otherwise() {
        let rule = BridgeRule::default();
        let record = placed(&rule, "").unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"a/7"[..]));
        assert_eq!((record.partition, record.timestamp_ms), (None, None));
        let rule = BridgeRule {
            key: Some(String::new()),
            ..rule
        };
        assert_eq!(placed(&rule, "").unwrap().key, None);
    }

    #[test]
    fn partition_and_time_come_from_the_record() {
        let rule = BridgeRule {
            partition: Some("{+1}".into()),
            timestamp_ms: Some("{json:/at}".into()),
            ..BridgeRule::default()
        };
        let record = placed(&rule, r#"{"at":12}"#).unwrap();
        assert_eq!((record.partition, record.timestamp_ms), (Some(7), Some(12)));
        assert!(placed(&rule, "{}").unwrap_err().contains("{json:/at}"));
        let error = placed(&rule, r#"{"at":"noon"}"#).unwrap_err();
        assert!(error.contains("\"noon\""), "{error}");
    }

    #[test]
    fn tag_keys_and_delay_are_written_on_the_record() {
        let rule = BridgeRule {
            tag: Some("{1}".into()),
            keys: vec!["{+1}".into(), "x".into()],
            delay_ms: Some("{json:/wait}".into()),
            ..BridgeRule::default()
        };
        let envelope = placed(&rule, r#"{"wait":500}"#)
            .unwrap()
            .properties
            .unwrap()
            .envelope
            .unwrap();
        assert_eq!(
            (envelope.tag.as_deref(), envelope.delay_ms),
            (Some("a"), Some(500))
        );
        assert_eq!(envelope.keys, ["7", "x"]);
        assert_eq!(placed(&BridgeRule::default(), "").unwrap().properties, None);
    }
}
