//! Keys: numbers big-endian, so that their order is the order of rows; texts within LMDB's limit.

use ring::digest::{SHA256, digest};
use tidewire_protocol::codec::PacketId;

use super::bytes::{Damaged, SHORT};
use super::id::{Lane, MessageId, QueueId};

/// The key of a row.
pub(super) type Key = Box<[u8]>;

pub(super) fn queue_key(queue: QueueId) -> Key {
    Box::new(queue.number().to_be_bytes())
}

pub(super) fn message_key(id: MessageId) -> Key {
    Box::new(id.0.to_be_bytes())
}

pub(super) fn queue_message_key(queue: QueueId, id: MessageId) -> Key {
    pair(queue.number(), &id.0.to_be_bytes())
}

pub(super) fn queue_lane_key(queue: QueueId, lane: Lane) -> Key {
    pair(queue.number(), &lane.number().to_be_bytes())
}

pub(super) fn queue_packet_key(queue: QueueId, packet_id: PacketId) -> Key {
    pair(queue.number(), &packet_id.0.get().to_be_bytes())
}

pub(super) fn queue_text_key(queue: QueueId, text: &str) -> Key {
    pair(queue.number(), &text_key(text))
}

pub(super) fn expiry_key(unix_ms: u64, text: &str) -> Key {
    pair(unix_ms, &text_key(text))
}

/// The text itself, or its beginning, a byte that UTF-8 does not have, and its SHA-256.
///
/// The key of an empty text is a single zero, which no MQTT text holds.
pub(super) fn text_key(text: &str) -> Key {
    if text.is_empty() {
        return Box::new([0]);
    }
    if text.len() <= TEXT_BYTES_MAX {
        return text.as_bytes().into();
    }
    let mut key = text.as_bytes()[..TEXT_BYTES_MAX].to_vec();
    key.push(LONG);
    key.extend_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    key.into()
}

/// Whether a text key holds only the beginning of its text.
pub(super) fn is_long(key: &[u8]) -> bool {
    key.contains(&LONG)
}

/// The number that a key begins with, and what follows.
pub(super) fn split_key(key: &[u8]) -> Result<(u64, &[u8]), Damaged> {
    let (number, rest) = key.split_first_chunk::<8>().ok_or(SHORT)?;
    Ok((u64::from_be_bytes(*number), rest))
}

pub(super) fn key_number(key: &[u8]) -> Result<u64, Damaged> {
    match split_key(key)? {
        (number, []) => Ok(number),
        _ => Err(Damaged("its key is too long")),
    }
}

pub(super) fn key_packet_id(rest: &[u8]) -> Result<PacketId, Damaged> {
    let value = rest.try_into().map_err(|_| SHORT)?;
    PacketId::new(u16::from_be_bytes(value)).ok_or(Damaged("a packet identifier is zero"))
}

fn pair(first: u64, second: &[u8]) -> Key {
    [&first.to_be_bytes(), second].concat().into()
}

/// With a number in front and a hash behind, below LMDB's 511 bytes.
pub(super) const TEXT_BYTES_MAX: usize = 400;
const LONG: u8 = 0xFF;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_have_different_keys_within_the_limit() {
        let long = "x".repeat(65_534);
        let keys =
            [format!("{long}a"), format!("{long}b"), "x".repeat(400)].map(|it| text_key(&it));
        assert_ne!(keys[0], keys[1]);
        assert!(is_long(&keys[0]) && !is_long(&keys[2]));
        for key in &keys {
            assert!(key.len() + 8 <= 511);
            assert!(key.starts_with(&keys[2]));
        }
    }
}
