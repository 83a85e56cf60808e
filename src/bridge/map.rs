//! Which messages cross a bridge, and what they are on the other side.

use std::num::NonZeroU64;

use bytes::Bytes;
use tidewire_bridges::mqtt::{decode_properties, encode_properties};
use tidewire_bridges::{Context, LastingId, PayloadCodec, Record, Template, TemplateError};
use tidewire_protocol::codec::QoS;
use tidewire_protocol::topic::{Topic, matches};
use tokio::time::{Duration, Instant};

use super::BridgeError;
use super::headers::Headers;
use super::place::Place;
use crate::auth::may_publish;
use crate::config::{Bridge, BridgeKind, BridgeOnMissing, BridgePayload, BridgeRetain, BridgeRule};
use crate::exchange::BridgeId;
use crate::message::{ClientNumber, Header, Message};
use crate::queue::Lent;
use crate::shard::publisher_of_bridge;

/// The rules of one bridge, ready for use.
#[derive(Debug)]
pub(super) struct Map {
    outward: Vec<Rule>,
    inward: Vec<Rule>,
    bridge: String,
    node: String,
    publisher: u64,
    /// What comes in is the bridge's as what a client publishes is the client's.
    client: ClientNumber,
    hops_max: usize,
    levels_max: usize,
}

/// One rule for one direction; `from` is the side that messages come from.
#[derive(Debug)]
struct Rule {
    filters: Vec<String>,
    exclude: Vec<String>,
    from_prefix: String,
    to_prefix: String,
    /// In place of exchanging the prefixes.
    topic: Option<Template>,
    headers: Headers,
    /// Key, partition and more, where the protocol has such things.
    place: Place,
    payload: PayloadCodec,
    on_missing: BridgeOnMissing,
    qos_max: QoS,
    retain: BridgeRetain,
    needs_subscriber: bool,
}

/// A record from over there as it is here.
#[derive(Debug)]
pub(super) struct Inward {
    pub(super) message: Message,
    /// It waits over there while nobody would receive it.
    pub(super) needs_subscriber: bool,
}

/// What a rule says of one message, filled in.
struct Texts {
    topic: String,
    added: Vec<(String, String)>,
    payload: Option<String>,
}

/// Why a message does not cross.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotCrossing {
    /// No rule wants it.
    Unwanted,
    /// It has crossed enough bridges, or was where it would go.
    Loop,
    /// It lacks what its rule asks for, or would be nothing valid on the other side.
    Invalid(String),
    /// The same, and the rule says that it is dropped.
    Dropped(String),
}

impl Map {
    pub(super) fn new(
        bridge: &Bridge,
        id: BridgeId,
        node: &str,
        levels_max: usize,
    ) -> Result<Self, BridgeError> {
        let hops_max = bridge
            .max_hops
            .unwrap_or(if bridge.both.is_empty() { 4 } else { 1 });
        let rules = |own: &[BridgeRule], flip: bool| {
            let rules = own.iter().chain(&bridge.both);
            let rules = rules.map(|rule| Rule::new(rule, bridge.kind, flip));
            rules
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| BridgeError {
                    bridge: bridge.name.clone(),
                    problem: error.to_string(),
                })
        };
        Ok(Self {
            outward: rules(&bridge.out, false)?,
            inward: rules(&bridge.inward, true)?,
            bridge: bridge.name.clone(),
            node: node.to_owned(),
            publisher: publisher_of_bridge(id),
            client: ClientNumber::of(&bridge.name),
            hops_max: usize::from(hops_max),
            levels_max,
        })
    }

    /// The mark on messages that must not come back to this bridge.
    pub(super) fn publisher(&self) -> u64 {
        self.publisher
    }

    /// What to bind the bridge's queue to.
    pub(super) fn local_filters(&self) -> impl Iterator<Item = &str> {
        let filters = self.outward.iter().flat_map(|rule| &rule.filters);
        filters.map(String::as_str)
    }

    /// What to subscribe to over there.
    pub(super) fn remote_filters(&self) -> Vec<(String, QoS)> {
        let mut filters: Vec<(String, QoS)> = Vec::new();
        for rule in &self.inward {
            for filter in &rule.filters {
                match filters.iter_mut().find(|(known, _)| known == filter) {
                    Some((_, qos)) => *qos = rule.qos_max.max(*qos),
                    None => filters.push((filter.clone(), rule.qos_max)),
                }
            }
        }
        filters
    }

    /// The record of a message of ours.
    pub(super) fn outward(
        &self,
        lent: &Lent,
        peer: Option<&str>,
        now_ms: u64,
    ) -> Result<Record, NotCrossing> {
        let (rule, filter) = Self::find(&self.outward, lent.message.topic())?;
        let mut record = Self::record_of(lent, rule, now_ms);
        let context = self.context(rule, filter);
        let texts = self.texts(rule, &record, context);
        let texts = texts.map_err(|why| rule.judged(why))?;
        let place = rule.place.fill(&record, context);
        let place = place.map_err(|why| rule.judged(why))?;
        let path = take_path(&mut record);
        rule.headers.apply(&mut record, texts.added);
        let written = rule.payload.encode(&mut record, texts.payload);
        written.map_err(|error| rule.judged(error.to_string()))?;
        place.give(&mut record);
        record.topic = texts.topic;
        if peer.is_some_and(|peer| path.iter().any(|node| node == peer)) {
            return Err(NotCrossing::Loop);
        }
        if path.len() >= self.hops_max {
            return Err(NotCrossing::Loop);
        }
        let path = match path.is_empty() {
            true => self.node.clone(),
            false => format!("{},{}", path.join(","), self.node),
        };
        // Most have no others.
        record.headers.reserve_exact(1);
        record.headers.push((PATH.to_owned(), path));
        Ok(record)
    }

    /// A message of ours, as it is here.
    fn record_of(lent: &Lent, rule: &Rule, now_ms: u64) -> Record {
        let message = &lent.message;
        let mut record = Record {
            sequence: lent.sequence,
            sent_as: lent.sent_as,
            lasting: lent
                .stored
                .and_then(|it| NonZeroU64::new(it.0))
                .map(LastingId),
            topic: message.topic().to_owned(),
            payload: Bytes::from_owner(Payload(message.clone())),
            qos: message.qos().min(rule.qos_max),
            retain: rule.retain.applied_to(message.retain()),
            expires_at: message
                .expires_at_ms()
                .map(|at_ms| Instant::now() + Duration::from_millis(at_ms.saturating_sub(now_ms))),
            ..Record::default()
        };
        decode_properties(message.forwarded(), &mut record);
        record
    }

    /// The message of a record from over there; what does not cross keeps its topic and payload.
    pub(super) fn inward(
        &self,
        record: &mut Record,
        peer: Option<&str>,
        now_ms: u64,
    ) -> Result<Inward, NotCrossing> {
        let (rule, filter) = Self::find(&self.inward, &record.topic)?;
        let context = self.context(rule, filter);
        let texts = self.texts(rule, record, context);
        let Texts {
            topic,
            added,
            payload,
        } = texts.map_err(|why| rule.judged(why))?;
        if !may_publish(&topic) {
            let text = format!("{topic:?} is a topic of the broker's own");
            return Err(rule.judged(text));
        }
        let read = rule.payload.decode(record, payload);
        read.map_err(|error| rule.judged(error.to_string()))?;
        let mut path = take_path(record);
        rule.headers.apply(record, added);
        // A broker marks only what it sends over bridges of its own.
        path.extend(peer.map(str::to_owned));
        if path.len() > self.hops_max || path.contains(&self.node) {
            return Err(NotCrossing::Loop);
        }
        if !path.is_empty() {
            record.headers.push((PATH.to_owned(), path.join(",")));
        }
        let mut forwarded = Vec::new();
        encode_properties(record, &mut forwarded);
        let header = Header {
            qos: record.qos.min(rule.qos_max),
            retain: rule.retain.applied_to(record.retain),
            expires_at_ms: record.expires_at.map(|at| {
                let left = at.saturating_duration_since(Instant::now());
                now_ms.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
            }),
            publisher: self.publisher,
            client: self.client,
        };
        Ok(Inward {
            message: Message::new(&topic, &forwarded, &record.payload, header),
            needs_subscriber: rule.needs_subscriber,
        })
    }

    fn context<'a>(&'a self, rule: &Rule, filter: &'a str) -> Context<'a> {
        Context {
            filter,
            bridge: &self.bridge,
            node: &self.node,
            missing_is_empty: rule.on_missing == BridgeOnMissing::Empty,
        }
    }

    /// All that a rule says of a record, before the record is changed.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn texts(&self, rule: &Rule, record: &Record, context: Context<'_>) -> Result<Texts, String> {
        let payload = rule.payload.text(record, context);
        let payload = payload.map_err(|error| format!("the payload cannot be made: {error}"))?;
        Ok(Texts {
            topic: self.translate(rule, record, context)?,
            added: rule.headers.fill(record, context),
            payload,
        })
    }

    /// The first rule that wants a topic, and the filter by which it does.
    fn find<'a>(rules: &'a [Rule], topic: &str) -> Result<(&'a Rule, &'a str), NotCrossing> {
        let found = rules
            .iter()
            .find_map(|rule| Some((rule, rule.filter_for(topic)?)));
        found.ok_or(NotCrossing::Unwanted)
    }

    /// Topics over there that something always goes to.
    #[cfg(any(feature = "kafka", feature = "rocketmq"))]
    pub(super) fn fixed_topics(&self) -> impl Iterator<Item = String> {
        self.outward.iter().filter_map(Rule::fixed_topic)
    }

    /// The topic's name on the other side.
    fn translate(
        &self,
        rule: &Rule,
        record: &Record,
        context: Context<'_>,
    ) -> Result<String, String> {
        let invalid = |error: &dyn std::fmt::Display| {
            format!("the topic on the other side would be wrong: {error}")
        };
        let name = match &rule.topic {
            Some(template) => template
                .fill(record, context)
                .map_err(|error| invalid(&error))?,
            None => {
                // No filter of the rule matches without it.
                let rest = record.topic.strip_prefix(&rule.from_prefix);
                format!("{}{}", rule.to_prefix, rest.unwrap_or_default())
            }
        };
        match Topic::parse(&name, self.levels_max) {
            Ok(_) => Ok(name),
            Err(error) => Err(invalid(&error)),
        }
    }
}

impl Rule {
    fn new(rule: &BridgeRule, kind: BridgeKind, flip: bool) -> Result<Self, TemplateError> {
        let (from_prefix, to_prefix) = if flip {
            (&rule.remote_prefix, &rule.local_prefix)
        } else {
            (&rule.local_prefix, &rule.remote_prefix)
        };
        let full = |filters: &[String]| {
            let filters = filters
                .iter()
                .map(|filter| format!("{from_prefix}{filter}"));
            filters.collect()
        };
        Ok(Self {
            filters: full(&rule.filters),
            exclude: full(&rule.exclude),
            from_prefix: from_prefix.clone(),
            to_prefix: to_prefix.clone(),
            topic: rule.topic.as_deref().map(Template::parse).transpose()?,
            headers: Headers::new(rule)?,
            place: Place::new(rule, kind)?,
            payload: codec_of(rule)?,
            on_missing: rule.on_missing,
            qos_max: match rule.qos_max {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            },
            retain: rule.retain,
            needs_subscriber: rule.require_subscriber,
        })
    }

    #[cfg(any(feature = "kafka", feature = "rocketmq"))]
    fn fixed_topic(&self) -> Option<String> {
        if let Some(template) = &self.topic {
            return template.literal().map(str::to_owned);
        }
        let [filter] = &*self.filters else {
            return None;
        };
        let is_one = !filter.contains(['+', '#']);
        let rest = filter.strip_prefix(&self.from_prefix).filter(|_| is_one)?;
        Some(format!("{}{rest}", self.to_prefix))
    }

    /// What becomes of a message that the rule cannot map.
    fn judged(&self, why: String) -> NotCrossing {
        match self.on_missing {
            BridgeOnMissing::Drop => NotCrossing::Dropped(why),
            BridgeOnMissing::DeadLetter | BridgeOnMissing::Empty => NotCrossing::Invalid(why),
        }
    }

    /// The filter by which a rule wants a topic, if it does.
    fn filter_for(&self, topic: &str) -> Option<&str> {
        let matching = |filters: &'_ [String]| {
            let mut filters = filters.iter();
            filters.position(|filter| matches(filter, topic))
        };
        let found = self.filters.get(matching(&self.filters)?)?;
        let is_excluded = matching(&self.exclude).is_some();
        (topic.starts_with(&self.from_prefix) && !is_excluded).then_some(found)
    }
}

fn codec_of(rule: &BridgeRule) -> Result<PayloadCodec, TemplateError> {
    Ok(match rule.payload {
        BridgePayload::Raw => PayloadCodec::Raw,
        BridgePayload::Text => PayloadCodec::Text,
        BridgePayload::Base64 => PayloadCodec::Base64,
        BridgePayload::Template => {
            let text = rule.payload_template.as_deref().unwrap_or_default();
            PayloadCodec::Template(Template::parse(text)?)
        }
        BridgePayload::JsonEnvelope => PayloadCodec::JsonEnvelope,
        BridgePayload::CborEnvelope => PayloadCodec::CborEnvelope,
    })
}

impl BridgeRetain {
    fn applied_to(self, retain: bool) -> bool {
        match self {
            Self::Keep => retain,
            Self::Strip => false,
            Self::Set => true,
        }
    }
}

/// A message as the owner of a payload.
struct Payload(Message);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.0.payload()
    }
}

/// The nodes whose bridges a record has crossed, oldest first; taken out of its headers.
fn take_path(record: &mut Record) -> Vec<String> {
    let mut path = Vec::new();
    record.headers.retain(|(name, value)| {
        let is_path = name == PATH;
        if is_path {
            let nodes = value.split(',').filter(|node| !node.is_empty());
            path.extend(nodes.take(PATH_NODES_MAX).map(str::to_owned));
        }
        !is_path
    });
    path
}

/// The user property with the names of the nodes whose bridges a message has crossed.
const PATH: &str = "tidewire-path";
/// Longer than any path that is let through.
const PATH_NODES_MAX: usize = 64;

#[cfg(test)]
mod tests;
