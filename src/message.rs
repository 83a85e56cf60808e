//! One published message, immutable, shared by everything that delivers or keeps it.
//!
//! Who receives it and in which state a delivery is, is not known here.

use std::fmt;

use tidewire_protocol::codec::QoS;

/// A published message, used as `Arc<Message>`.
///
/// # Shape
/// One exact allocation: topic, forwarded property bytes (as encoded for MQTT 5.0), payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    content: Box<[u8]>,
    topic_end: usize,
    forwarded_end: usize,
    expires_at_ms: Option<u64>,
    publisher: u64,
    qos: QoS,
    retain: bool,
}

impl Message {
    /// Copies the parts of a publish.
    ///
    /// # Units
    /// `expires_at_ms` is in milliseconds on the clock that later passes `now_ms`. `publisher` is
    /// the opaque key of the publishing session, 0 for the broker itself.
    pub fn new(
        topic: &str,
        forwarded: &[u8],
        payload: &[u8],
        qos: QoS,
        retain: bool,
        expires_at_ms: Option<u64>,
        publisher: u64,
    ) -> Self {
        let topic_end = topic.len();
        let forwarded_end = topic_end + forwarded.len();
        let content = [topic.as_bytes(), forwarded, payload]
            .concat()
            .into_boxed_slice();
        Self {
            content,
            topic_end,
            forwarded_end,
            expires_at_ms,
            publisher,
            qos,
            retain,
        }
    }

    /// The topic name.
    ///
    /// # Panics
    /// Never: the bytes were copied from a `str`.
    pub fn topic(&self) -> &str {
        str::from_utf8(&self.content[..self.topic_end]).expect("the topic was copied from a str")
    }

    /// The encoded properties that subscribers receive unchanged.
    pub fn forwarded(&self) -> &[u8] {
        &self.content[self.topic_end..self.forwarded_end]
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.content[self.forwarded_end..]
    }

    /// The quality of service it was published with.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// Whether it was published with the retain flag.
    pub fn retain(&self) -> bool {
        self.retain
    }

    /// When it expires, in milliseconds; `None` if never.
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.expires_at_ms
    }

    /// The key of the publishing session; 0 is the broker itself.
    pub fn publisher(&self) -> u64 {
        self.publisher
    }

    /// Bytes on the heap: the content, and the message itself behind its `Arc`.
    pub fn bytes(&self) -> usize {
        self.content.len() + size_of::<Self>() + ARC_COUNTERS_BYTES
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// The seconds left, rounded up; `None` if it never expires, 0 once expired.
    pub fn expiry_seconds_left(&self, now_ms: u64) -> Option<u32> {
        let left_ms = self.expires_at_ms?.saturating_sub(now_ms);
        Some(u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX))
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Message")
            .field("topic", &self.topic())
            .field("payload_bytes", &self.payload().len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("expires_at_ms", &self.expires_at_ms)
            .field("publisher", &self.publisher)
            .finish_non_exhaustive()
    }
}

/// The two reference counters in front of an `Arc`'s value.
const ARC_COUNTERS_BYTES: usize = 2 * size_of::<usize>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_come_back_as_they_went_in() {
        let message = Message::new("a/ü", &[1, 2], b"xyz", QoS::AtLeastOnce, true, None, 7);
        assert_eq!(message.topic(), "a/ü");
        assert_eq!(message.forwarded(), [1, 2]);
        assert_eq!(message.payload(), b"xyz");
        assert_eq!((message.qos(), message.retain()), (QoS::AtLeastOnce, true));
        assert_eq!(message.publisher(), 7);
        assert!(!message.is_expired(u64::MAX));
        assert_eq!(message.expiry_seconds_left(5), None);
    }

    #[test]
    fn the_seconds_left_are_rounded_up() {
        let message = Message::new("a", &[], b"", QoS::AtMostOnce, false, Some(2_000), 0);
        assert_eq!(message.expiry_seconds_left(0), Some(2));
        assert_eq!(message.expiry_seconds_left(1), Some(2));
        assert_eq!(message.expiry_seconds_left(1_999), Some(1));
        assert!(!message.is_expired(1_999));
        assert!(message.is_expired(2_000));
        assert_eq!(message.expiry_seconds_left(3_000), Some(0));
    }
}
