//! MQTT packets as they come, a whole one at a time.

use std::io::Read;

#[derive(Debug, PartialEq)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

/// Waits for one packet.
pub(crate) fn read_packet(stream: &mut impl Read) -> Packet {
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    let first = byte[0];
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        stream.read_exact(&mut byte).unwrap();
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Packet { first, body }
}
