//! Packet identifiers of ours that a server may remember from before this process, or from before
//! another server stood in.

use std::collections::VecDeque;

use tidewire_protocol::codec::PacketId;

/// Which identifiers to release before anything is noted or sent under them: the server may hold
/// one for an earlier message, and would take ours for that one sent again.
///
/// Noted first and released later, one would be taken after a kill for an identifier under which
/// its message had been sent already.
#[derive(Debug, Default)]
pub(super) struct StrangeIds {
    /// Those that the server may hold, a bit for each; empty if there are none.
    strange: Vec<u64>,
    /// How many those are.
    left: u32,
    /// Messages that wait for the release of their identifier, or of one before it, with their
    /// sequences and in their order.
    waiting: VecDeque<(PacketId, u64)>,
    /// Connections in a row that ended while messages waited and nothing was released.
    in_vain: u32,
}

impl StrangeIds {
    /// From now on each identifier may be one, until it is released.
    pub(super) fn expect_any(&mut self) {
        *self = Self {
            strange: vec![u64::MAX; WORDS],
            left: u32::from(u16::MAX),
            ..Self::default()
        };
    }

    /// Whether there may be any.
    pub(super) fn are_expected(&self) -> bool {
        !self.strange.is_empty()
    }

    /// A message has an identifier; whether that has to be released first.
    pub(super) fn number(&mut self, id: PacketId, sequence: u64) -> bool {
        self.waiting.push_back((id, sequence));
        self.is_strange(id)
    }

    /// The server holds nothing under this identifier any more; whether it might have.
    pub(super) fn released(&mut self, id: PacketId) -> bool {
        let was_strange = self.is_strange(id);
        let (word, bit) = place_of(id);
        if was_strange && let Some(bits) = self.strange.get_mut(word) {
            *bits &= !bit;
            self.left -= 1;
            self.in_vain = 0;
        }
        if self.left == 0 {
            self.strange = Vec::new();
        }
        was_strange
    }

    /// The next message that waits no longer, and its sequence.
    pub(super) fn next_ready(&mut self) -> Option<(PacketId, u64)> {
        let (id, _) = self.waiting.front()?;
        match self.is_strange(*id) {
            true => None,
            false => self.waiting.pop_front(),
        }
    }

    /// Whether no message waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the message with this identifier is the first that waits.
    pub(super) fn is_next(&self, id: PacketId) -> bool {
        self.waiting.front().is_some_and(|(first, _)| *first == id)
    }

    /// Whether the message with this identifier waits.
    pub(super) fn is_waiting(&self, id: PacketId) -> bool {
        self.waiting.iter().any(|(it, _)| *it == id)
    }

    /// A connection has ended: the identifiers of what waits, which are free again.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = PacketId> + use<> {
        self.in_vain += u32::from(!self.waiting.is_empty());
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|(id, _)| id)
    }

    /// Expects none any more if the server releases none; whether it has come to that.
    pub(super) fn give_up(&mut self) -> bool {
        let is_in_vain = self.in_vain >= ATTEMPTS;
        if is_in_vain {
            *self = Self::default();
        }
        is_in_vain
    }

    fn is_strange(&self, id: PacketId) -> bool {
        let (word, bit) = place_of(id);
        self.strange.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

/// The word of an identifier, and its bit in there.
fn place_of(id: PacketId) -> (usize, u64) {
    (usize::from(id.value() / 64), 1 << (id.value() % 64))
}

/// A bit for each of 65,536 numbers; none of them is 0.
const WORDS: usize = 1_024;
/// Connections over which a server may fail to answer PUBREL [MQTT-4.3.3-13].
const ATTEMPTS: u32 = 3;
