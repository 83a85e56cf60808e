//! The client's side of the MQTT session: packets in, packets and outcomes out.
//!
//! What the protocol calls session state outlives connections here; sockets and clocks are unknown
//! but for the expiry that a record carries.

mod sending;

use std::collections::HashMap;

use tidewire_protocol::codec::{
    Ack, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Receiver, SubAck, decode,
    encode,
};
use tidewire_protocol::session::{InFlight, Outbound};

use super::convert::record_of;
use super::failure::{broken, is_operators, outcome};
use super::journal::{Due, Journal, Remembered};
use super::link::Link;
use super::peer::Peer;
use super::receipt::Receipts;
use super::strange_ids::StrangeIds;
use crate::{Failure, Received, Record, Settled};

/// The session with one server.
#[derive(Debug, Default)]
pub(super) struct Engine {
    outbound: Outbound<Record>,
    /// Records whose PUBREC has come; PUBCOMP settles them.
    released: HashMap<PacketId, u64>,
    receipts: Receipts,
    strange_ids: StrangeIds,
    /// The server has released an identifier that it might have held, until taken.
    pub(super) has_released: bool,
    pub(super) journal: Journal,
    /// SUBSCRIBE packets without an answer, and whether the server has taken all of them.
    subscribing: usize,
    pub(super) is_subscribed: bool,
    link: Link,
    /// Outcomes for the caller, until taken.
    pub(super) settled: Vec<Settled>,
    pub(super) received: Vec<Received>,
    pub(super) troubles: Vec<String>,
    /// What is to be said of a connection that begins, until taken.
    pub(super) warnings: Vec<String>,
}

/// What a server knows of us when a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionAtServer {
    /// Nothing.
    None,
    /// The session that this engine holds.
    Ours,
    /// A session of an earlier process, or from before another server stood in.
    Strange,
}

impl Engine {
    pub(super) fn new(is_durable: bool) -> Self {
        let mut engine = Self::default();
        if is_durable {
            engine.journal.turn_on();
        }
        engine
    }

    /// What an earlier process knew of its session; to be called before the first connection.
    pub(super) fn remember(&mut self, remembered: &Remembered) {
        for id in &remembered.released {
            self.outbound.restore(*id, None);
        }
        self.receipts.remember(&remembered.received);
        self.journal.remember(&remembered.sent);
        // There may be identifiers whose messages are gone.
        self.strange_ids.expect_any();
    }

    /// A connection was accepted; answers which sequences are still on their way.
    pub(super) fn begin(
        &mut self,
        version: ProtocolVersion,
        peer: Peer,
        session: SessionAtServer,
        out: &mut Vec<u8>,
    ) -> Vec<u64> {
        self.link = Link::new(version, self.link.number.wrapping_add(1), peer);
        match session {
            SessionAtServer::Ours => {}
            SessionAtServer::None => return self.forget(),
            SessionAtServer::Strange => {
                let held = self.forget();
                self.strange_ids.expect_any();
                return held;
            }
        }
        self.take_back_waiting();
        self.outbound.begin_resend();
        self.link.is_resending = self.outbound.has_unsent();
        let in_flight = self.outbound.iter();
        let released = in_flight.filter(|(_, it)| matches!(it, InFlight::Released));
        for (id, _) in released {
            self.put_pubrel(id, out);
        }
        self.held()
    }

    /// What waits for the release of its identifier was never sent: it comes again.
    fn take_back_waiting(&mut self) {
        for id in self.strange_ids.take_waiting() {
            let taken = self.outbound.refuse(id);
            debug_assert!(taken.is_ok(), "nobody else ends what waits");
        }
        if self.strange_ids.give_up() {
            let text = "the server does not answer PUBREL: messages may be taken for earlier ones";
            self.warnings.push(text.to_owned());
        }
    }

    /// The sequences that are in flight.
    pub(super) fn held(&self) -> Vec<u64> {
        let sequence = |(id, in_flight): (PacketId, InFlight<'_, Record>)| match in_flight {
            InFlight::Published(_, record) => Some(record.sequence),
            InFlight::Released => self.released.get(&id).copied(),
        };
        self.outbound.iter().filter_map(sequence).collect()
    }

    /// Identifiers for packets that wait for no outcome.
    pub(super) fn spare_ids(&self) -> Vec<PacketId> {
        let ids = self.outbound.spare_ids().skip(self.subscribing);
        ids.take(SPARE_IDS).collect()
    }

    /// How many in-flight messages a lost session has left in doubt.
    pub(super) fn in_flight(&self) -> usize {
        self.outbound.len()
    }

    /// Whether the server has something to acknowledge.
    pub(super) fn awaits_answers(&self) -> bool {
        self.outbound.quota_used() > 0 || !self.strange_ids.is_empty()
    }

    /// The session is lost; answers what the server had taken before.
    fn forget(&mut self) -> Vec<u64> {
        self.outbound = Outbound::default();
        let released = self.released.drain();
        let taken: Vec<u64> = released.map(|(_, sequence)| sequence).collect();
        for sequence in &taken {
            self.settle(*sequence, Ok(()));
        }
        self.strange_ids = StrangeIds::default();
        self.receipts.forget();
        self.is_subscribed = false;
        taken
    }

    pub(super) fn submit(&mut self, records: impl IntoIterator<Item = Record>) {
        self.link.submitted.extend(records);
    }

    /// So many more notes are kept.
    pub(super) fn keep(&mut self, count: usize, out: &mut Vec<u8>) {
        for due in self.journal.keep(count) {
            match due {
                Due::PubRel(id) => self.put_pubrel(id, out),
                Due::PubComp(id, link) if link == self.link.number => {
                    self.put(&Packet::PubComp(Ack::plain(id, ReasonCode::Success)), out);
                }
                // The server sends PUBREL again.
                Due::PubComp(..) => {}
            }
        }
    }

    /// Everything that [`Engine::fill`] appended has been written.
    pub(super) fn written(&mut self) {
        let sequences = self.link.unwritten.drain(..);
        self.settled.extend(sequences.map(|sequence| Settled {
            sequence,
            result: Ok(()),
        }));
    }

    /// Reads the packets in `bytes`; answers how many bytes they took.
    ///
    /// # Errors
    /// The server broke the protocol or ended the connection.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        packet_bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..)
            && let Some((packet, count)) =
                decode(rest, self.link.version, Receiver::Client, packet_bytes_max)
                    .map_err(|error| broken(&error))?
        {
            self.receive_packet(&packet, out)?;
            used += count;
        }
        Ok(used)
    }

    /// Acknowledges a message from the server.
    pub(super) fn accept(&mut self, receipt: crate::Receipt, out: &mut Vec<u8>) {
        let receipt = receipt.mqtt();
        if let Some(answer) = receipt.and_then(|it| self.receipts.accept(it, self.link.number)) {
            self.put(&answer, out);
        }
    }

    pub(super) fn put(&self, packet: &Packet<'_>, out: &mut Vec<u8>) {
        if let Err(error) = encode(packet, self.link.version, out) {
            debug_assert!(false, "a packet of ours cannot be written: {error}");
        }
    }

    fn receive_packet(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        match packet {
            Packet::Publish(publish) => return self.receive_publish(publish, out),
            Packet::PubAck(ack) => self.receive_puback(ack),
            Packet::PubRec(ack) => self.receive_pubrec(ack, out),
            Packet::PubRel(ack) => {
                let was_known = self.receipts.release(ack.packet_id);
                if self.journal.is_on() {
                    self.journal.forget(ack.packet_id, self.link.number);
                    return Ok(());
                }
                let reason = if was_known {
                    ReasonCode::Success
                } else {
                    ReasonCode::PacketIdentifierNotFound
                };
                self.put(&Packet::PubComp(Ack::plain(ack.packet_id, reason)), out);
            }
            Packet::PubComp(ack) => {
                self.has_released |= self.strange_ids.released(ack.packet_id);
                self.note_ready();
                // Anything else answers a PUBREL for an identifier of an earlier process.
                if self.outbound.complete(ack.packet_id).is_ok() {
                    self.journal.complete(ack.packet_id);
                    if let Some(sequence) = self.released.remove(&ack.packet_id) {
                        self.settle(sequence, Ok(()));
                    }
                }
            }
            Packet::SubAck(ack) => self.receive_suback(ack),
            Packet::UnsubAck(_) | Packet::PingResp => {}
            Packet::Disconnect(end) => {
                let why = end.reason_string.map(|it| format!(" ({it})"));
                let why = why.unwrap_or_default();
                let text = format!("disconnected by the server: {:?}{why}", end.reason);
                return Err(if is_operators(end.reason) {
                    Failure::refused(text)
                } else {
                    Failure::retry(text)
                });
            }
            _ => return Err(Failure::retry("the server sent an unexpected packet")),
        }
        Ok(())
    }

    fn receive_publish(&mut self, publish: &Publish<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let topic = match publish.properties.topic_alias {
            None => publish.topic,
            Some(alias) => self
                .link
                .inbound_aliases
                .resolve(publish.topic, alias, super::INBOUND_ALIASES_MAX)
                .map_err(Failure::retry)?,
        };
        let record = record_of(publish, topic);
        if let (QoS::ExactlyOnce, Some(id)) = (publish.qos, publish.packet_id)
            && !self.receipts.note(id)
        {
            // Sent again: PUBREC is due now if it was accepted, else as soon as it is.
            if self.receipts.is_accepted(id) {
                self.put(&Packet::PubRec(Ack::plain(id, ReasonCode::Success)), out);
            }
            return Ok(());
        }
        let receipt = self.receipts.receipt_of(publish, self.link.number);
        self.received.push(Received {
            record,
            receipt: crate::Receipt(crate::Token::Mqtt(receipt)),
            bookmark: None,
        });
        Ok(())
    }

    fn receive_puback(&mut self, ack: &Ack<'_>) {
        if let Ok(record) = self.outbound.acknowledge(ack.packet_id) {
            self.settle(record.sequence, outcome(ack));
        }
    }

    fn receive_pubrec(&mut self, ack: &Ack<'_>, out: &mut Vec<u8>) {
        if self.is_unsent(ack.packet_id) {
            // It is about an earlier message, which some servers say again on a new connection.
            return self.put_pubrel(ack.packet_id, out);
        }
        if ack.reason.is_error() {
            if let Ok(record) = self.outbound.refuse(ack.packet_id) {
                self.journal.complete(ack.packet_id);
                self.settle(record.sequence, outcome(ack));
            }
            return;
        }
        let reason = match self.outbound.receive(ack.packet_id) {
            Ok(Some(record)) => {
                self.released.insert(ack.packet_id, record.sequence);
                self.journal.release(ack.packet_id, Some(record.sequence));
                return self.put_pubrel(ack.packet_id, out);
            }
            Ok(None) => return self.put_pubrel(ack.packet_id, out),
            Err(_) => ReasonCode::PacketIdentifierNotFound,
        };
        self.put(&Packet::PubRel(Ack::plain(ack.packet_id, reason)), out);
    }

    /// Whether nothing was ever sent of the message with this identifier.
    fn is_unsent(&self, id: PacketId) -> bool {
        self.strange_ids.is_waiting(id) || !self.journal.may_send(id)
    }

    /// So many SUBSCRIBE packets are sent, with these identifiers.
    pub(super) fn subscribe(&mut self, packets: usize) -> Vec<PacketId> {
        self.subscribing = packets;
        self.is_subscribed = false;
        self.outbound.spare_ids().take(packets).collect()
    }

    fn receive_suback(&mut self, ack: &SubAck<'_>) {
        self.subscribing = self.subscribing.saturating_sub(1);
        self.is_subscribed = self.subscribing == 0 && self.troubles.is_empty();
        for (index, reason) in ack.reasons.iter().enumerate() {
            if reason.is_error() {
                self.is_subscribed = false;
                // With more than one SUBSCRIBE the answer alone does not say which filter it is.
                let filters = &self.link.peer.filters;
                let named = filters
                    .get(index)
                    .filter(|_| filters.len() == ack.reasons.len());
                let filter = named.map_or("one of the filters", String::as_str);
                self.troubles
                    .push(format!("subscription to {filter} refused: {reason:?}"));
            }
        }
    }

    fn settle(&mut self, sequence: u64, result: Result<(), Failure>) {
        self.link.window = self
            .link
            .window
            .saturating_add(1)
            .min(usize::from(u16::MAX));
        self.settled.push(Settled { sequence, result });
    }

    /// Writes PUBREL, unless PUBREC is still being noted.
    fn put_pubrel(&self, id: PacketId, out: &mut Vec<u8>) {
        if self.journal.may_release(id) {
            self.put(&Packet::PubRel(Ack::plain(id, ReasonCode::Success)), out);
        }
    }
}

const SPARE_IDS: usize = 1_024;
