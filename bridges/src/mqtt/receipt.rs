//! Messages from the server: which of them were accepted, and what it is told of that.

use std::collections::HashSet;

use tidewire_protocol::codec::{Ack, Packet, PacketId, Publish, QoS, ReasonCode};
use tidewire_protocol::session::AwaitingRelease;

/// Stands for a message from the server that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    session: u32,
    link: u32,
    qos: QoS,
    packet_id: Option<PacketId>,
}

impl Receipt {
    pub(crate) fn packet_id_at_qos_2(self) -> Option<PacketId> {
        self.packet_id.filter(|_| self.qos == QoS::ExactlyOnce)
    }
}

/// What is known of the messages of a session.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// QoS 2 messages that came and were not released, and those of them that were accepted.
    awaiting_release: AwaitingRelease,
    accepted: HashSet<PacketId>,
    session: u32,
}

impl Receipts {
    /// What an earlier process had accepted and the server has not released.
    pub(super) fn remember(&mut self, received: &[PacketId]) {
        for id in received {
            self.awaiting_release.insert(*id);
            self.accepted.insert(*id);
        }
        self.session = 1;
    }

    /// The session is lost: its receipts are for nothing.
    pub(super) fn forget(&mut self) {
        self.awaiting_release = AwaitingRelease::default();
        self.accepted.clear();
        self.session = self.session.wrapping_add(1).max(1);
    }

    /// A QoS 2 message comes; false if it came before.
    pub(super) fn note(&mut self, id: PacketId) -> bool {
        self.awaiting_release.insert(id)
    }

    pub(super) fn is_accepted(&self, id: PacketId) -> bool {
        self.accepted.contains(&id)
    }

    pub(super) fn receipt_of(&self, publish: &Publish<'_>, link: u32) -> Receipt {
        Receipt {
            session: self.session,
            link,
            qos: publish.qos,
            packet_id: publish.packet_id,
        }
    }

    /// Answers the acknowledgement that the server waits for on this connection.
    pub(super) fn accept(&mut self, receipt: Receipt, link: u32) -> Option<Packet<'static>> {
        if receipt.session != self.session {
            return None;
        }
        let id = receipt.packet_id?;
        let ack = Ack::plain(id, ReasonCode::Success);
        match receipt.qos {
            // The server will send it again on the new connection, and then wait for its PUBACK.
            QoS::AtLeastOnce if receipt.link != link => None,
            QoS::AtLeastOnce => Some(Packet::PubAck(ack)),
            _ => {
                self.accepted.insert(id);
                Some(Packet::PubRec(ack))
            }
        }
    }

    /// PUBREL; false if no message waits for it.
    pub(super) fn release(&mut self, id: PacketId) -> bool {
        self.accepted.remove(&id);
        self.awaiting_release.remove(id)
    }
}
