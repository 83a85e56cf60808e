//! A stream of packets is the same packets however it arrives.

use tidewire_protocol::codec::{ProtocolVersion, Receiver, decode};

use super::{Input, PACKET_BYTES_MAX, end_of_connection};

/// The input: version and receiver, the number of chunk sizes, the sizes, and the stream.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let (Some(selector), Some(sizes)) = (input.u8(), input.u8()) else {
        return;
    };
    let (version, receiver) = end_of_connection(selector);
    let sizes = usize::from(sizes % 16).min(input.0.len());
    let (sizes, stream) = input.0.split_at(sizes);
    let mut whole = Reading::default();
    whole.receive(stream, version, receiver);
    let mut parts = Reading::default();
    let mut rest = stream;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().map_or(1, |size| usize::from(*size));
        let (chunk, later) = rest.split_at(size.clamp(1, rest.len()));
        parts.receive(chunk, version, receiver);
        rest = later;
    }
    assert_eq!(whole.events, parts.events);
}

/// What a connection reads, as a connection reads it: a buffer that keeps what is incomplete.
#[derive(Default)]
struct Reading {
    buffer: Vec<u8>,
    events: Vec<String>,
    has_failed: bool,
}

impl Reading {
    fn receive(&mut self, chunk: &[u8], version: ProtocolVersion, receiver: Receiver) {
        if self.has_failed {
            return;
        }
        self.buffer.extend_from_slice(chunk);
        let mut start = 0;
        loop {
            match decode(&self.buffer[start..], version, receiver, PACKET_BYTES_MAX) {
                Ok(Some((packet, size))) => {
                    self.events.push(format!("{packet:?}"));
                    start += size;
                }
                Ok(None) => break,
                Err(error) => {
                    self.events.push(format!("{error:?}"));
                    self.has_failed = true;
                    break;
                }
            }
        }
        self.buffer.drain(..start);
    }
}
