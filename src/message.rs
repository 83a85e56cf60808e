//! One published message, immutable, shared by everything that delivers or keeps it.
//!
//! Who receives it and in which state a delivery is, is not known here.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use tidewire_protocol::codec::QoS;

/// A published message; cloning shares it.
///
/// # Shape
/// One exact allocation: a header ([`Header`]), the topic, forwarded property bytes (as encoded
/// for MQTT 5.0), the payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Arc<[u8]>,
}

/// What a message says besides topic, properties and payload.
///
/// # Units
/// `expires_at_ms` is in milliseconds on the clock that later passes `now_ms`. `publisher` is the
/// opaque key of the publishing session, 0 for the broker itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The quality of service it was published with.
    pub qos: QoS,
    /// Whether it was published with the retain flag.
    pub retain: bool,
    /// When it expires; `None` if never.
    pub expires_at_ms: Option<u64>,
    /// Who published it.
    pub publisher: u64,
    /// The client that published it.
    pub client: ClientNumber,
}

/// A number of a client that is the same in every process; clients may share one. The broker itself
/// has the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientNumber(pub u16);

impl ClientNumber {
    /// The number of a client, by the name of its session, or of a bridge.
    ///
    /// # Source
    /// FNV-1a with 32 bits, folded: RFC 9923 sections 2 and 3.
    pub fn of(name: &str) -> Self {
        let hash = name.bytes().fold(FNV_OFFSET, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME)
        });
        let [a, b, c, d] = hash.to_le_bytes();
        Self(u16::from_le_bytes([a ^ c, b ^ d]))
    }
}

impl Message {
    /// Copies the parts of a publish.
    ///
    /// # Panics
    /// Never: a topic has at most 65,535 bytes, and a packet that holds the properties 256 MiB.
    pub fn new(topic: &str, forwarded: &[u8], payload: &[u8], header: Header) -> Self {
        Self::from_parts(topic.as_bytes(), forwarded, payload, header)
    }

    /// As [`Message::new`], with the topic as the bytes of a `str`.
    pub(crate) fn from_parts(
        topic: &[u8],
        forwarded: &[u8],
        payload: &[u8],
        header: Header,
    ) -> Self {
        let topic_bytes = u32::try_from(topic.len()).expect("topics have two-byte lengths");
        let forwarded_bytes = u32::try_from(forwarded.len()).expect("packets are below 256 MiB");
        let length = HEADER_BYTES + topic.len() + forwarded.len() + payload.len();
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
        let content = Arc::get_mut(&mut bytes).expect("nobody else has seen it");
        let (head, content) = content.split_at_mut(HEADER_BYTES);
        head[TOPIC_BYTES].copy_from_slice(&topic_bytes.to_le_bytes());
        head[FORWARDED_BYTES].copy_from_slice(&forwarded_bytes.to_le_bytes());
        let expires_at_ms = header.expires_at_ms.unwrap_or(NEVER);
        head[EXPIRES_AT_MS].copy_from_slice(&expires_at_ms.to_le_bytes());
        head[PUBLISHER].copy_from_slice(&header.publisher.to_le_bytes());
        head[CLIENT].copy_from_slice(&header.client.0.to_le_bytes());
        head[FLAGS] = header.qos as u8 | if header.retain { RETAIN } else { 0 };
        let (topic_part, content) = content.split_at_mut(topic.len());
        topic_part.copy_from_slice(topic);
        let (forwarded_part, payload_part) = content.split_at_mut(forwarded.len());
        forwarded_part.copy_from_slice(forwarded);
        payload_part.copy_from_slice(payload);
        Self { bytes }
    }

    /// The same message of another publisher: keys of an earlier process mean nothing.
    pub(crate) fn by(&self, publisher: u64, client: ClientNumber) -> Self {
        let header = Header {
            publisher,
            client,
            ..self.header()
        };
        Self::from_parts(self.topic_bytes(), self.forwarded(), self.payload(), header)
    }

    /// The message as a later process is to find it, which knows only the number of the client: it
    /// stands in the place of the key.
    pub(crate) fn to_keep(&self) -> Self {
        self.by(self.client().0.into(), self.client())
    }

    /// The message of an earlier process. Keys are greater than all numbers of clients.
    pub(crate) fn kept(&self) -> Self {
        let client = u16::try_from(self.publisher()).unwrap_or_default();
        self.by(0, ClientNumber(client))
    }

    /// Stands for a message whose content is still to be read back.
    pub fn absent() -> Self {
        Self::from_parts(&[], &[], &[], Header::default())
    }

    /// Whether the content is still to be read back: no topic is empty.
    pub fn is_absent(&self) -> bool {
        self.topic_bytes().is_empty()
    }

    /// The topic name.
    ///
    /// # Panics
    /// Never: the bytes were copied from a `str`.
    pub fn topic(&self) -> &str {
        str::from_utf8(self.topic_bytes()).expect("the topic was copied from a str")
    }

    /// The bytes of the topic name.
    pub fn topic_bytes(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..self.topic_end()]
    }

    /// The encoded properties that subscribers receive unchanged.
    pub fn forwarded(&self) -> &[u8] {
        &self.bytes[self.topic_end()..self.forwarded_end()]
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.forwarded_end()..]
    }

    /// Everything besides topic, properties and payload.
    pub fn header(&self) -> Header {
        Header {
            qos: self.qos(),
            retain: self.retain(),
            expires_at_ms: self.expires_at_ms(),
            publisher: self.publisher(),
            client: self.client(),
        }
    }

    /// The quality of service it was published with.
    pub fn qos(&self) -> QoS {
        match self.bytes[FLAGS] & !RETAIN {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// Whether it was published with the retain flag.
    pub fn retain(&self) -> bool {
        self.bytes[FLAGS] & RETAIN != 0
    }

    /// When it expires, in milliseconds; `None` if never.
    pub fn expires_at_ms(&self) -> Option<u64> {
        let at_ms = u64::from_le_bytes(self.field(EXPIRES_AT_MS));
        (at_ms != NEVER).then_some(at_ms)
    }

    /// The key of the publishing session; 0 is the broker itself.
    pub fn publisher(&self) -> u64 {
        u64::from_le_bytes(self.field(PUBLISHER))
    }

    /// The number of the client that published it.
    pub fn client(&self) -> ClientNumber {
        ClientNumber(u16::from_le_bytes(self.field(CLIENT)))
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + ARC_COUNTERS_BYTES
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms().is_some_and(|at| at <= now_ms)
    }

    /// The seconds left, rounded up; `None` if it never expires, 0 once expired.
    pub fn expiry_seconds_left(&self, now_ms: u64) -> Option<u32> {
        let left_ms = self.expires_at_ms()?.saturating_sub(now_ms);
        Some(u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX))
    }

    fn topic_end(&self) -> usize {
        HEADER_BYTES + u32::from_le_bytes(self.field(TOPIC_BYTES)) as usize
    }

    fn forwarded_end(&self) -> usize {
        self.topic_end() + u32::from_le_bytes(self.field(FORWARDED_BYTES)) as usize
    }

    fn field<const N: usize>(&self, range: Range<usize>) -> [u8; N] {
        self.bytes[range]
            .try_into()
            .expect("the ranges have the widths of their fields")
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Message")
            .field("topic", &self.topic())
            .field("payload_bytes", &self.payload().len())
            .field("header", &self.header())
            .finish_non_exhaustive()
    }
}

const TOPIC_BYTES: Range<usize> = 0..4;
const FORWARDED_BYTES: Range<usize> = 4..8;
const EXPIRES_AT_MS: Range<usize> = 8..16;
const PUBLISHER: Range<usize> = 16..24;
const CLIENT: Range<usize> = 24..26;
const FLAGS: usize = 26;
const HEADER_BYTES: usize = 27;
/// Above the two bits of the QoS.
const RETAIN: u8 = 0b100;
const NEVER: u64 = u64::MAX;
/// The two reference counters in front of an `Arc`'s value.
const ARC_COUNTERS_BYTES: usize = 2 * size_of::<usize>();
const FNV_OFFSET: u32 = 0x811C_9DC5;
const FNV_PRIME: u32 = 0x0100_0193;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_come_back_as_they_went_in() {
        let header = Header {
            qos: QoS::AtLeastOnce,
            retain: true,
            expires_at_ms: None,
            publisher: 7,
            client: ClientNumber(0x0102),
        };
        let message = Message::new("a/ü", &[1, 2], b"xyz", header);
        assert_eq!(message.header(), header);
        assert_eq!(message.topic(), "a/ü");
        assert_eq!(message.forwarded(), [1, 2]);
        assert_eq!(message.payload(), b"xyz");
        assert!(!message.is_expired(u64::MAX));
        assert_eq!(message.expiry_seconds_left(5), None);
    }

    #[test]
    fn a_client_has_the_same_number_in_every_process() {
        // FNV-1a of "" is 811c9dc5, of "foobar" bf9cf968.
        assert_eq!(ClientNumber::of(""), ClientNumber(0x811C ^ 0x9DC5));
        assert_eq!(ClientNumber::of("foobar"), ClientNumber(0xBF9C ^ 0xF968));
    }

    #[test]
    fn a_later_process_finds_the_number_of_the_client_and_no_key() {
        let header = Header {
            publisher: 1 << 48,
            client: ClientNumber::of("c1"),
            ..Header::default()
        };
        let message = Message::new("a", &[], b"x", header);
        let found = message
            .to_keep()
            .by(message.to_keep().publisher(), ClientNumber(0));
        let expected = Header {
            publisher: 0,
            ..header
        };
        assert_eq!(found.kept().header(), expected);
        // What a version kept that knew no numbers.
        assert_eq!(
            message.by(1 << 48, ClientNumber(0)).kept().client(),
            ClientNumber(0)
        );
    }

    #[test]
    fn the_seconds_left_are_rounded_up() {
        let header = Header {
            expires_at_ms: Some(2_000),
            ..Header::default()
        };
        let message = Message::new("a", &[], b"", header);
        assert_eq!(message.expiry_seconds_left(0), Some(2));
        assert_eq!(message.expiry_seconds_left(1), Some(2));
        assert_eq!(message.expiry_seconds_left(1_999), Some(1));
        assert!(!message.is_expired(1_999));
        assert!(message.is_expired(2_000));
        assert_eq!(message.expiry_seconds_left(3_000), Some(0));
    }
}
