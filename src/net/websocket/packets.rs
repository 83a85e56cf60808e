//! Where MQTT packets end in a stream of their bytes.

/// What is known of the packet that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Packets {
    /// The next byte begins a packet.
    #[default]
    Start,
    /// Inside the remaining length.
    Length { value: usize, shift: u32 },
    /// The bytes that the packet still has.
    Body(usize),
}

impl Packets {
    /// How many of these bytes belong to the same packet; all of them if it does not end here.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match *self {
                Self::Start => {
                    *self = Self::Length { value: 0, shift: 0 };
                    at += 1;
                }
                Self::Length { value, shift } => {
                    let value = value | usize::from(byte & 0x7F) << shift;
                    let is_whole = byte & 0x80 == 0 || shift >= LAST_SHIFT;
                    *self = if is_whole {
                        Self::Body(value)
                    } else {
                        Self::Length {
                            value,
                            shift: shift + 7,
                        }
                    };
                    at += 1;
                }
                Self::Body(left) => {
                    let here = left.min(bytes.len() - at);
                    *self = Self::Body(left - here);
                    at += here;
                }
            }
            if *self == Self::Body(0) {
                *self = Self::Start;
                break;
            }
        }
        at
    }
}

/// A remaining length has four bytes at the most.
const LAST_SHIFT: u32 = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_end_where_they_end_however_the_bytes_are_cut() {
        let long = [&[0x30, 0xC8, 0x01][..], &[7; 200]].concat();
        let packets = [vec![0xD0, 0], long, vec![0x40, 2, 0, 1]];
        let bytes = packets.concat();
        for cut in 1..=bytes.len() {
            let mut state = Packets::default();
            let mut lengths = Vec::new();
            let mut is_new = true;
            for mut piece in bytes.chunks(cut) {
                while !piece.is_empty() {
                    let length = state.take(piece);
                    if is_new {
                        lengths.push(0);
                    }
                    *lengths.last_mut().expect("one began") += length;
                    is_new = state == Packets::Start;
                    piece = &piece[length..];
                }
            }
            assert_eq!(lengths, [2, 203, 4], "cut at {cut}");
        }
    }
}
