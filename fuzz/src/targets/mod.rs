//! The targets, and how they read their input.

pub mod chunking;
pub mod decode;
pub mod differential;
pub mod retained;
pub mod round_trip;
pub mod server;
pub mod session_operations;
pub mod trie;

use tidewire_protocol::codec::{ProtocolVersion, Receiver};

/// What is run on each input.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 9] = [
    ("decode", decode::run),
    ("round_trip", round_trip::run),
    ("chunking", chunking::run),
    ("differential", differential::run),
    ("session_operations", session_operations::run),
    ("trie", trie::run),
    ("retained", retained::run),
    ("amqp10_server", server::amqp10),
    ("amqp091_server", server::amqp091),
];

/// All versions of the protocol.
pub const VERSIONS: [ProtocolVersion; 3] = [
    ProtocolVersion::V3_1,
    ProtocolVersion::V3_1_1,
    ProtocolVersion::V5,
];

/// No packet of an input is larger.
pub(crate) const PACKET_BYTES_MAX: usize = 1 << 20;

/// The version and the receiver that the first byte of an input stands for.
pub fn end_of_connection(byte: u8) -> (ProtocolVersion, Receiver) {
    let receiver = if byte & 1 == 0 {
        Receiver::Server
    } else {
        Receiver::Client
    };
    let version = VERSIONS[usize::from(byte >> 1) % VERSIONS.len()];
    (version, receiver)
}

/// The first byte of an input for a version and a receiver.
pub fn selector(version: ProtocolVersion, receiver: Receiver) -> u8 {
    let version = VERSIONS.iter().position(|it| *it == version).unwrap_or(0);
    u8::try_from(version).unwrap_or(0) << 1 | u8::from(receiver == Receiver::Client)
}

/// Operations read from the bytes of an input, until they end.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// An input of operations, cut where more would only take longer.
    pub(crate) fn operations(data: &'a [u8]) -> Self {
        Self(&data[..data.len().min(OPERATIONS_BYTES_MAX)])
    }

    /// The next byte.
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next two bytes.
    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// At most so many of the levels; not always a valid topic or filter.
    pub(crate) fn text(&mut self, levels: &[&str], levels_max: usize) -> Option<String> {
        let count = usize::from(self.u8()?) % levels_max + 1;
        let picked: Option<Vec<&str>> = (0..count).map(|_| self.pick(levels).copied()).collect();
        Some(picked?.join("/"))
    }

    /// One of the items.
    pub(crate) fn pick<'b, T>(&mut self, items: &'b [T]) -> Option<&'b T> {
        let at = usize::from(self.u8()?) % items.len();
        items.get(at)
    }
}

const OPERATIONS_BYTES_MAX: usize = 400;
