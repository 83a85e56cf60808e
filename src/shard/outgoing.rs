//! A message on its way through the shard.

use tidewire_protocol::codec::QoS;

use super::unconfirmed::Origin;
use crate::message::{Header, Message};
use crate::store::{MessageId, Refusal};

/// A message in parts; it becomes a [`Message`] only if it outlives the read.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    /// The bytes of a `str`.
    pub(super) topic: &'a [u8],
    pub(super) forwarded: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) header: Header,
    /// Its name in the store, if a durable queue receives it.
    pub(super) stored: Option<MessageId>,
    /// The packet it came in; `None` for what the broker publishes by itself.
    pub(super) origin: Option<Origin>,
    pub(super) refusal: Refusal,
    source: Source<'a>,
}

/// Where a [`Message`] comes from if one is needed.
#[derive(Debug)]
enum Source<'a> {
    /// The parts.
    Parts,
    Copied(Message),
    Kept(&'a Message),
}

impl<'a> Outgoing<'a> {
    pub(super) fn borrowed(
        topic: &'a str,
        forwarded: &'a [u8],
        payload: &'a [u8],
        header: Header,
    ) -> Self {
        Self {
            topic: topic.as_bytes(),
            forwarded,
            payload,
            header,
            stored: None,
            origin: None,
            refusal: Refusal::First,
            source: Source::Parts,
        }
    }

    pub(super) fn of(message: &'a Message) -> Self {
        Self {
            topic: message.topic_bytes(),
            forwarded: message.forwarded(),
            payload: message.payload(),
            header: message.header(),
            stored: None,
            origin: None,
            refusal: Refusal::First,
            source: Source::Kept(message),
        }
    }

    /// Bytes of its parts.
    pub(super) fn bytes(&self) -> usize {
        self.topic.len() + self.forwarded.len() + self.payload.len()
    }

    /// The message as a value to keep: copied once, exactly, however many keep it.
    pub(super) fn message(&mut self) -> Message {
        match &self.source {
            Source::Copied(message) => message.clone(),
            Source::Kept(message) => Message::clone(message),
            Source::Parts => {
                let Self {
                    topic,
                    forwarded,
                    payload,
                    header,
                    ..
                } = *self;
                let message = Message::from_parts(topic, forwarded, payload, header);
                self.source = Source::Copied(message.clone());
                message
            }
        }
    }

    /// Whether every receiver gets the same bytes, whatever the time and its subscription.
    pub(super) fn is_uniform(&self) -> bool {
        self.header.qos == QoS::AtMostOnce
            && !self.header.retain
            && self.header.expires_at_ms.is_none()
    }

    pub(super) fn expiry_seconds_left(&self, now_ms: u64) -> Option<u32> {
        let left_ms = self.header.expires_at_ms?.saturating_sub(now_ms);
        Some(
            u32::try_from(left_ms.div_ceil(1_000))
                .unwrap_or(u32::MAX)
                .max(1),
        )
    }
}
