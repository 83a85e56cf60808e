//! Numbers and texts of rows as bytes, and their checksum.

/// A row that is not what it has to be; says what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged(pub(super) &'static str);

pub(super) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7F) as u8);
}

/// Zero is nothing, anything else is one more than the value.
pub(super) fn put_optional(out: &mut Vec<u8>, value: Option<u64>) {
    put_number(out, value.map_or(0, |value| value.saturating_add(1)));
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads a row from its front.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(row: &'a [u8]) -> Self {
        Self { rest: row }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn number(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged("a number is too long"))
    }

    /// A number of a smaller type.
    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Damaged> {
        T::try_from(self.number()?).map_err(|_| Damaged("a number is out of range"))
    }

    pub(super) fn optional(&mut self) -> Result<Option<u64>, Damaged> {
        Ok(self.number()?.checked_sub(1))
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Damaged> {
        let length = self.small()?;
        str::from_utf8(self.bytes(length)?).map_err(|_| Damaged("a text is not UTF-8"))
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn end(self) -> Result<(), Damaged> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Damaged("it is longer than it has to be"))
        }
    }
}

/// Finds damage, not malice: four bytes over everything that follows them.
pub(super) fn checksum(row: &[u8]) -> u32 {
    let mut hash = row.len() as u64 ^ SEED;
    let (words, rest) = row.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
        hash ^= hash >> 29;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(FACTOR);
    }
    hash ^= hash >> 32;
    (hash.wrapping_mul(FACTOR) >> 32) as u32
}

/// The row behind its checksum.
pub(super) fn verified(row: &[u8]) -> Result<&[u8], Damaged> {
    let body = body(row)?;
    let stored = row.first_chunk::<4>().ok_or(SHORT)?;
    if checksum(body) == u32::from_le_bytes(*stored) {
        Ok(body)
    } else {
        Err(Damaged("its checksum is wrong"))
    }
}

/// The row behind a checksum that is not looked at.
pub(super) fn body(row: &[u8]) -> Result<&[u8], Damaged> {
    row.get(4..).ok_or(SHORT)
}

/// Puts the checksum into the four bytes kept free at the front.
pub(super) fn seal(row: &mut [u8]) {
    if let Some((front, body)) = row.split_first_chunk_mut::<4>() {
        *front = checksum(body).to_le_bytes();
    }
}

pub(super) const SHORT: Damaged = Damaged("it is too short");
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
const FACTOR: u64 = 0xD6E8_FEB8_6659_FD93;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_whatever_their_size() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            let mut row = Vec::new();
            put_number(&mut row, value);
            let mut reader = Reader::new(&row);
            assert_eq!(reader.number(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
        }
        assert!(Reader::new(&[0xFF; 11]).number().is_err());
        assert!(Reader::new(&[0x80]).number().is_err());
    }

    #[test]
    fn a_checksum_finds_each_changed_bit_and_zeroes() {
        let mut row: Vec<u8> = (0..61u8).collect();
        seal(&mut row);
        assert!(verified(&row).is_ok());
        for bit in 0..row.len() * 8 {
            let mut damaged = row.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(verified(&damaged).is_err(), "bit {bit}");
        }
        assert!(verified(&[0; 61]).is_err());
        assert!(verified(&row[..60]).is_err());
        assert!(verified(&[1, 2]).is_err());
    }
}
