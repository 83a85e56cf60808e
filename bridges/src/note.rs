//! What a connector wants to have on disk before it goes on.

use tidewire_protocol::codec::PacketId;

/// A change of the session at the remote, to outlive the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A session begins; all notes before count no more.
    Begin {
        /// Names the remote and the session there.
        session: String,
    },
    /// A record is about to be sent at QoS 2.
    Send {
        /// Under this identifier.
        packet_id: PacketId,
        /// Which record.
        sequence: u64,
    },
    /// The remote has a record; the identifier is in use until [`Note::Complete`].
    Release {
        /// The identifier.
        packet_id: PacketId,
        /// Which record, if it was submitted in this process.
        sequence: Option<u64>,
    },
    /// An identifier is free again.
    Complete(PacketId),
    /// An identifier of the remote, of a record that was accepted, is free again.
    Forget(PacketId),
}
