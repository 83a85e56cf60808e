//! What can be wrong with the bytes of a packet.

use super::ReasonCode;

/// Bytes that are not a packet we accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The fixed header announces more than the receiver accepts.
    #[error("packet of {bytes} bytes exceeds the maximum of {bytes_max}")]
    PacketTooLarge {
        /// Announced size of the whole packet.
        bytes: usize,
        /// Accepted size.
        bytes_max: usize,
    },
}

impl DecodeError {
    /// The reason code to answer with.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
        }
    }
}

/// A packet that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string or binary field is longer than its two-byte length can say.
    #[error("field of {bytes} bytes exceeds 65535")]
    FieldTooLong {
        /// Length of the field.
        bytes: usize,
    },
    /// The packet is longer than its remaining length can say.
    #[error("packet of {bytes} bytes exceeds 268435455")]
    PacketTooLong {
        /// Remaining length.
        bytes: usize,
    },
}
