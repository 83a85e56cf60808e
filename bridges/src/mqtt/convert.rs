//! Between MQTT packets and records.

use bytes::Bytes;
use tidewire_protocol::codec::{Publish, PublishProperties, UserProperties};
use tokio::time::{Duration, Instant};

use crate::{Properties, Record};

/// The record of a PUBLISH; its own topic may be an alias.
pub(super) fn record_of(publish: &Publish<'_>, topic: &str) -> Record {
    let properties = &publish.properties;
    let pairs = properties.user_properties.iter();
    Record {
        topic: topic.to_owned(),
        payload: Bytes::copy_from_slice(publish.payload),
        headers: pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        properties: rare(properties),
        qos: publish.qos,
        retain: publish.retain,
        expires_at: properties
            .message_expiry_seconds
            .map(|seconds| Instant::now() + Duration::from_secs(u64::from(seconds))),
        ..Record::default()
    }
}

fn rare(properties: &PublishProperties<'_>) -> Option<Box<Properties>> {
    let rare = Properties {
        envelope: None,
        payload_is_utf8: properties.payload_is_utf8,
        content_type: properties.content_type.map(str::to_owned),
        response_topic: properties.response_topic.map(str::to_owned),
        correlation_data: properties.correlation_data.map(Bytes::copy_from_slice),
    };
    (rare != Properties::default()).then(|| Box::new(rare))
}

/// Appends headers and properties as they stand in a PUBLISH of MQTT 5.0, without a length.
pub fn encode_properties(record: &Record, out: &mut Vec<u8>) {
    if record.headers.is_empty() && record.properties.is_none() {
        return;
    }
    let pairs: Vec<(&str, &str)> = record
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut properties = PublishProperties {
        user_properties: UserProperties::from_pairs(&pairs),
        ..PublishProperties::default()
    };
    if let Some(rare) = &record.properties {
        properties.payload_is_utf8 = rare.payload_is_utf8;
        properties.content_type = rare.content_type.as_deref();
        properties.response_topic = rare.response_topic.as_deref();
        properties.correlation_data = rare.correlation_data.as_deref();
    }
    properties.encode_forwarded(out);
}

/// Headers and properties from what [`encode_properties`], or a broker's message, holds.
pub fn decode_properties(encoded: &[u8], record: &mut Record) {
    if encoded.is_empty() {
        return;
    }
    let properties = PublishProperties::decode_forwarded(encoded);
    let pairs = properties.user_properties.iter();
    record
        .headers
        .extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    record.properties = rare(&properties);
}
