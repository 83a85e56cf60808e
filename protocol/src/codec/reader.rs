//! Takes fields off the front of a packet.

use super::{DecodeError, PacketId, PacketType, varint};

/// The bytes not read yet.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Number of bytes not read yet.
    pub(super) fn bytes_left(&self) -> usize {
        self.bytes.len()
    }

    /// Everything not read yet.
    pub(super) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// Ends the packet: nothing may follow.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::TrailingBytes { bytes }),
        }
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(bytes)
            .ok_or_else(|| self.short(bytes))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or_else(|| self.short(N))?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        let (value, size) =
            varint::read_prefix(self.bytes)?.ok_or_else(|| self.short(self.bytes.len() + 1))?;
        self.take(size)?;
        Ok(value)
    }

    /// Binary data: two bytes of length, then the data.
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let bytes = self.u16()?;
        self.take(usize::from(bytes))
    }

    /// A UTF-8 encoded string [MQTT-1.5.4-1], [MQTT-1.5.4-2].
    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let string = utf8(self.binary()?)?;
        if string.as_bytes().contains(&0) {
            return Err(DecodeError::StringContainsNull);
        }
        Ok(string)
    }

    /// A topic name without wildcards; it may be empty.
    pub(super) fn topic_name_or_empty(&mut self) -> Result<&'a str, DecodeError> {
        let string = utf8(self.binary()?)?;
        // One pass over all characters; which one it was matters only on the way out.
        if string.bytes().any(|byte| matches!(byte, 0 | b'+' | b'#')) {
            return Err(match string.as_bytes().contains(&0) {
                true => DecodeError::StringContainsNull,
                false => DecodeError::TopicNameWildcard,
            });
        }
        Ok(string)
    }

    /// A topic name [MQTT-4.7.3-1], [MQTT-4.7.0-1].
    pub(super) fn topic_name(&mut self) -> Result<&'a str, DecodeError> {
        match self.topic_name_or_empty()? {
            "" => Err(DecodeError::TopicNameEmpty),
            topic => Ok(topic),
        }
    }

    pub(super) fn topic_filter(&mut self) -> Result<&'a str, DecodeError> {
        match self.string()? {
            "" => Err(DecodeError::TopicFilterEmpty),
            filter => Ok(filter),
        }
    }

    /// A packet identifier [MQTT-2.2.1-3].
    pub(super) fn packet_id(&mut self, packet_type: PacketType) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdZero { packet_type })
    }

    fn short(&self, bytes: usize) -> DecodeError {
        DecodeError::FieldTruncated {
            bytes,
            bytes_left: self.bytes.len(),
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    str::from_utf8(bytes).map_err(|error| DecodeError::StringNotUtf8 {
        valid_bytes: error.valid_up_to(),
    })
}
