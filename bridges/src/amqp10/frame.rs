//! What stands before the body of a frame (AMQP 1.0 section 2.3.1).

/// What is said before the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Of the whole frame.
    pub(super) bytes: usize,
    /// Where its body begins.
    pub(super) start: usize,
    pub(super) channel: u16,
}

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Amqp = 0,
    Sasl = 1,
}

impl Head {
    /// Reads one, unless it is another kind's, or lies about its size or is above this one.
    pub(super) fn read(head: [u8; HEAD_BYTES], kind: Kind, bytes_max: usize) -> Option<Self> {
        let [a, b, c, d, offset, their_kind, high, low] = head;
        let bytes = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
        let start = 4 * usize::from(offset);
        let is_one =
            their_kind == kind as u8 && (HEAD_BYTES..=bytes).contains(&start) && bytes <= bytes_max;
        is_one.then_some(Self {
            bytes,
            start,
            channel: u16::from_be_bytes([high, low]),
        })
    }
}

/// Writes what stands before the body of a frame; answers where it begins.
pub(super) fn begin(out: &mut Vec<u8>, kind: Kind, channel: u16) -> usize {
    let begin = out.len();
    let [high, low] = channel.to_be_bytes();
    out.extend([0, 0, 0, 0, 2, kind as u8, high, low]);
    begin
}

/// The body of the frame that begins there is complete.
pub(super) fn end(out: &mut [u8], begin: usize) {
    let size = u32::try_from(out.len() - begin).unwrap_or(u32::MAX);
    if let Some(head) = out.get_mut(begin..begin + 4) {
        head.copy_from_slice(&size.to_be_bytes());
    }
}

pub(super) const HEAD_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut out = vec![9];
        let frame = begin(&mut out, Kind::Amqp, 0x1234);
        out.extend(b"body");
        end(&mut out, frame);
        let head = out[1..].first_chunk().unwrap();
        let read = Head {
            bytes: 12,
            start: 8,
            channel: 0x1234,
        };
        assert_eq!(Head::read(*head, Kind::Amqp, 12), Some(read));
        assert_eq!(Head::read(*head, Kind::Amqp, 11), None);
        assert_eq!(Head::read(*head, Kind::Sasl, 12), None);
    }

    #[test]
    fn heads_that_lie_about_their_size_are_none() {
        for head in [
            [0, 0, 0, 7, 2, 0, 0, 0],
            [0, 0, 0, 8, 1, 0, 0, 0],
            [0, 0, 0, 8, 3, 0, 0, 0],
            [255, 255, 255, 255, 2, 0, 0, 0],
        ] {
            assert_eq!(Head::read(head, Kind::Amqp, 512), None, "{head:?}");
        }
    }
}
