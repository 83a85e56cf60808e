//! Packet identifiers of ours that a server may remember from before this process.

use std::collections::HashSet;

use tidewire_protocol::codec::PacketId;

/// Which identifiers to release before anything is sent under them: the server may hold one for a
/// message of an earlier process, and would take ours for that one sent again.
#[derive(Debug, Default)]
pub(super) struct StrangeIds {
    /// So many of those that are given next may be strange.
    left: u32,
    /// In use, and nothing was sent under them yet.
    noted: HashSet<PacketId>,
}

impl StrangeIds {
    /// From now on each identifier may be one, the first time that it is given.
    pub(super) fn expect_any(&mut self) {
        self.left = u32::from(u16::MAX);
    }

    /// A message has a new identifier.
    pub(super) fn note(&mut self, id: PacketId) {
        if self.left > 0 {
            self.left -= 1;
            self.noted.insert(id);
        }
    }

    /// Whether the server may remember it, now that something is sent under it.
    pub(super) fn take(&mut self, id: PacketId) -> bool {
        self.noted.remove(&id)
    }
}
