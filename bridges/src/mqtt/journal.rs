//! What of the session has to be on disk before the server hears of it.
//!
//! Without a store nothing is noted, and nothing waits.

use std::collections::{HashSet, VecDeque};

use tidewire_protocol::codec::PacketId;

use crate::Note;

/// What an earlier process knew of its session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Which session, as [`Note::Begin`] said.
    pub session: String,
    /// Identifiers of messages that were sent; those records come again with `sent_as`.
    pub sent: Vec<PacketId>,
    /// Identifiers whose PUBREC came, in the order of sending.
    pub released: Vec<PacketId>,
    /// Identifiers of the server that wait for its PUBREL.
    pub received: Vec<PacketId>,
}

/// The notes on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct Journal {
    is_on: bool,
    /// For the caller, until taken.
    pub(super) notes: Vec<Note>,
    /// What waits for each of the notes that are not kept, in order.
    pending: VecDeque<Pending>,
    /// Not to be sent yet.
    unkept: HashSet<PacketId>,
    /// Not to be released yet.
    releasing: HashSet<PacketId>,
    /// Sent by an earlier process; their records are to come.
    remembered: HashSet<PacketId>,
}

#[derive(Clone, Copy, Debug)]
enum Pending {
    Nothing,
    Send(PacketId),
    Release(PacketId),
    Forget(PacketId, u32),
}

/// A packet that was held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    PubRel(PacketId),
    /// For PUBREL of this connection.
    PubComp(PacketId, u32),
}

impl Journal {
    pub(super) fn turn_on(&mut self) {
        self.is_on = true;
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) fn remember(&mut self, sent: &[PacketId]) {
        self.remembered.extend(sent);
    }

    /// Whether an earlier process of this session has sent a message under this identifier.
    pub(super) fn take_remembered(&mut self, id: PacketId) -> bool {
        self.remembered.remove(&id)
    }

    /// Another session begins: what was pending means nothing any more.
    pub(super) fn begin(&mut self, session: &str) {
        self.unkept.clear();
        self.releasing.clear();
        self.remembered.clear();
        self.pending
            .iter_mut()
            .for_each(|it| *it = Pending::Nothing);
        let session = session.to_owned();
        self.note(Note::Begin { session }, Pending::Nothing);
    }

    /// A message has its identifier.
    pub(super) fn send(&mut self, packet_id: PacketId, sequence: u64) {
        if !self.is_on {
            return;
        }
        self.unkept.insert(packet_id);
        let note = Note::Send {
            packet_id,
            sequence,
        };
        self.note(note, Pending::Send(packet_id));
    }

    /// Whether a message may leave.
    pub(super) fn may_send(&self, packet_id: PacketId) -> bool {
        !self.unkept.contains(&packet_id)
    }

    /// Whether every message that has an identifier may leave.
    pub(super) fn may_resend(&self) -> bool {
        self.unkept.is_empty()
    }

    /// PUBREC came.
    pub(super) fn release(&mut self, packet_id: PacketId, sequence: Option<u64>) {
        if !self.is_on {
            return;
        }
        self.releasing.insert(packet_id);
        let note = Note::Release {
            packet_id,
            sequence,
        };
        self.note(note, Pending::Release(packet_id));
    }

    /// Whether PUBREL may leave.
    pub(super) fn may_release(&self, packet_id: PacketId) -> bool {
        !self.releasing.contains(&packet_id)
    }

    pub(super) fn complete(&mut self, packet_id: PacketId) {
        self.unkept.remove(&packet_id);
        self.note(Note::Complete(packet_id), Pending::Nothing);
    }

    /// PUBREL came, over this connection.
    pub(super) fn forget(&mut self, packet_id: PacketId, link: u32) {
        let pending = Pending::Forget(packet_id, link);
        self.note(Note::Forget(packet_id), pending);
    }

    /// So many more notes are kept; answers what may leave now.
    pub(super) fn keep(&mut self, count: usize) -> Vec<Due> {
        let mut due = Vec::new();
        for _ in 0..count {
            match self.pending.pop_front() {
                Some(Pending::Send(id)) => drop(self.unkept.remove(&id)),
                Some(Pending::Release(id)) => {
                    self.releasing.remove(&id);
                    due.push(Due::PubRel(id));
                }
                Some(Pending::Forget(id, link)) => due.push(Due::PubComp(id, link)),
                Some(Pending::Nothing) | None => {}
            }
        }
        due
    }

    fn note(&mut self, note: Note, pending: Pending) {
        if self.is_on {
            self.notes.push(note);
            self.pending.push_back(pending);
        }
    }
}
