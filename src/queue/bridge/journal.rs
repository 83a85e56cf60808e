//! What outlives the process of the session that a bridge has at the other broker.

use std::collections::{HashMap, HashSet};

use tidewire_protocol::codec::{PacketId, QoS};

use crate::store::{InFlightRecord, MessageId, Operation, QueueId, Refusable};

/// A change of a bridge's session, to be on disk before the bridge goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BridgeNote {
    /// The session begins: nothing of an earlier one counts any more.
    Begin {
        /// What the queue is called from now on; it names the session.
        name: Box<str>,
    },
    /// A lent message is about to be sent at QoS 2.
    Send {
        /// Under this identifier.
        packet_id: PacketId,
        /// The message.
        sequence: u64,
    },
    /// PUBREC came: the other broker has the message.
    Release {
        /// Its identifier.
        packet_id: PacketId,
        /// The message, if it is lent.
        sequence: Option<u64>,
    },
    /// An identifier towards the other broker is free again.
    Complete(PacketId),
    /// PUBREL came: an identifier of the other broker is free again.
    Forget(PacketId),
}

/// The packet identifiers that have a row in the store.
#[derive(Debug, Default)]
pub(super) struct Journal {
    in_flight: HashSet<PacketId>,
    received: HashSet<PacketId>,
    /// Waiting messages that an earlier process has sent, and how.
    sent_before: HashMap<MessageId, PacketId>,
}

impl Journal {
    pub(super) fn restore(
        &mut self,
        in_flight: &[(PacketId, InFlightRecord)],
        received: &[PacketId],
    ) {
        self.in_flight.extend(in_flight.iter().map(|it| it.0));
        self.received.extend(received);
        let sent = in_flight.iter();
        self.sent_before
            .extend(sent.filter_map(|(packet_id, it)| Some((it.message?, *packet_id))));
    }

    /// Under which identifier an earlier process has sent a message that is lent now.
    pub(super) fn take_sent_before(&mut self, id: MessageId) -> Option<PacketId> {
        self.sent_before.remove(&id)
    }

    /// Nothing of an earlier session counts any more.
    pub(super) fn begin(&mut self, queue: QueueId) -> Vec<Operation> {
        self.sent_before.clear();
        let in_flight = self.in_flight.drain();
        let in_flight = in_flight.map(|packet_id| Operation::RemoveInFlight { queue, packet_id });
        let received = self.received.drain();
        let received = received.map(|packet_id| Operation::RemoveReceived { queue, packet_id });
        in_flight.chain(received).collect()
    }

    /// An identifier is in use: for a message, or for the PUBREL that follows it.
    pub(super) fn put(
        &mut self,
        queue: QueueId,
        packet_id: PacketId,
        order: MessageId,
        message: Option<MessageId>,
    ) -> Operation {
        self.in_flight.insert(packet_id);
        Operation::PutInFlight {
            queue,
            packet_id,
            in_flight: InFlightRecord {
                order,
                qos: QoS::ExactlyOnce,
                message,
            },
        }
    }

    pub(super) fn complete(&mut self, queue: QueueId, packet_id: PacketId) -> Option<Operation> {
        let was_kept = self.in_flight.remove(&packet_id);
        was_kept.then_some(Operation::RemoveInFlight { queue, packet_id })
    }

    /// A message of the other broker was accepted; PUBREL is to come.
    pub(super) fn receive(&mut self, queue: QueueId, packet_id: PacketId) -> Operation {
        self.received.insert(packet_id);
        Operation::PutReceived {
            queue,
            packet_id,
            // Its message is not refused for want of room.
            with: Refusable::default(),
        }
    }

    pub(super) fn forget(&mut self, queue: QueueId, packet_id: PacketId) -> Option<Operation> {
        let was_kept = self.received.remove(&packet_id);
        was_kept.then_some(Operation::RemoveReceived { queue, packet_id })
    }
}
