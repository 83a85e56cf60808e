//! The client's side of the MQTT session: packets in, packets and outcomes out.
//!
//! What the protocol calls session state outlives connections here; sockets and clocks are unknown
//! but for the expiry that a record carries.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU16;

use tidewire_protocol::codec::{
    Ack, DecodeError, DeliveryHeader, Packet, PacketId, ProtocolVersion, Publish,
    PublishProperties, QoS, ReasonCode, Receiver, SubAck, UserProperties, decode, delivery_bytes,
    encode, encode_delivery,
};
use tidewire_protocol::session::{AwaitingRelease, InFlight, InboundAliases, Outbound};
use tokio::time::Instant;

use super::convert::{encode_properties, record_of};
use super::peer::Peer;
use crate::{Failure, Received, Record, Settled};

/// The session with one server.
#[derive(Debug, Default)]
pub(super) struct Engine {
    outbound: Outbound<Record>,
    /// Records whose PUBREC has come; PUBCOMP settles them.
    released: HashMap<PacketId, u64>,
    /// QoS 2 messages that came and were not released, and those of them that were accepted.
    awaiting_release: AwaitingRelease,
    accepted: HashSet<PacketId>,
    session: u32,
    /// Packet identifiers that the server may remember from before this process.
    strange_ids_left: u32,
    /// SUBSCRIBE packets without an answer, and whether the server has taken all of them.
    subscribing: usize,
    pub(super) is_subscribed: bool,
    link: Link,
    /// Outcomes for the caller, until taken.
    pub(super) settled: Vec<Settled>,
    pub(super) received: Vec<Received>,
    pub(super) troubles: Vec<String>,
}

/// What ends with the connection.
#[derive(Debug)]
struct Link {
    version: ProtocolVersion,
    number: u32,
    peer: Peer,
    waiting: VecDeque<Record>,
    /// QoS 0 records that are encoded but not yet written.
    unwritten: Vec<u64>,
    inbound_aliases: InboundAliases,
    outbound_aliases: HashMap<String, NonZeroU16>,
    /// Grows from a few to the whole window as acknowledgements come.
    window: usize,
    scratch: Vec<u8>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            version: ProtocolVersion::V5,
            number: 0,
            peer: Peer::default(),
            waiting: VecDeque::new(),
            unwritten: Vec::new(),
            inbound_aliases: InboundAliases::default(),
            outbound_aliases: HashMap::new(),
            window: WINDOW_AT_START,
            scratch: Vec::new(),
        }
    }
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

/// Stands for a message from the server that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    session: u32,
    link: u32,
    qos: QoS,
    packet_id: Option<PacketId>,
}

impl Engine {
    /// A connection was accepted; answers which sequences are still on their way.
    pub(super) fn begin(
        &mut self,
        version: ProtocolVersion,
        peer: Peer,
        session: SessionAtServer,
        out: &mut Vec<u8>,
    ) -> Vec<u64> {
        self.link = Link {
            version,
            number: self.link.number.wrapping_add(1),
            peer,
            ..Link::default()
        };
        match session {
            SessionAtServer::Ours => {}
            SessionAtServer::None => {
                self.forget();
                return Vec::new();
            }
            SessionAtServer::Strange => {
                self.forget();
                self.strange_ids_left = u32::from(u16::MAX);
                return Vec::new();
            }
        }
        self.outbound.begin_resend();
        let mut held = Vec::new();
        let mut released = Vec::new();
        for (id, in_flight) in self.outbound.iter() {
            match in_flight {
                InFlight::Published(_, record) => held.push(record.sequence),
                InFlight::Released => {
                    held.extend(self.released.get(&id));
                    released.push(id);
                }
            }
        }
        for id in released {
            self.put(&Packet::PubRel(Ack::plain(id, ReasonCode::Success)), out);
        }
        held
    }

    /// How many in-flight messages a lost session has left in doubt.
    pub(super) fn in_flight(&self) -> usize {
        self.outbound.len()
    }

    fn forget(&mut self) {
        self.outbound = Outbound::default();
        self.released.clear();
        self.awaiting_release = AwaitingRelease::default();
        self.accepted.clear();
        self.strange_ids_left = 0;
        self.is_subscribed = false;
        self.session = self.session.wrapping_add(1).max(1);
    }

    pub(super) fn submit(&mut self, records: impl IntoIterator<Item = Record>) {
        self.link.waiting.extend(records);
    }

    /// Appends what may be sent now, until `out` holds `bytes_max`.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, bytes_max: usize) {
        let window = self
            .link
            .window
            .min(usize::from(self.link.peer.inflight_max));
        while out.len() < bytes_max && self.outbound.has_unsent() {
            if self.outbound.quota_used() >= window {
                return;
            }
            self.resend_next(out);
        }
        while out.len() < bytes_max {
            let Some(next) = self.link.waiting.front() else {
                return;
            };
            let qos = next.qos.min(self.link.peer.qos_max);
            if qos != QoS::AtMostOnce && self.outbound.len() >= window {
                return;
            }
            if let Some(record) = self.link.waiting.pop_front() {
                self.send(record, qos, out);
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
        let Some(receipt) = receipt.mqtt().filter(|it| it.session == self.session) else {
            return;
        };
        let Some(id) = receipt.packet_id else {
            return;
        };
        match receipt.qos {
            // The server will send it again on the new connection, and then wait for its PUBACK.
            QoS::AtLeastOnce if receipt.link != self.link.number => {}
            QoS::AtLeastOnce => {
                self.put(&Packet::PubAck(Ack::plain(id, ReasonCode::Success)), out);
            }
            _ => {
                self.accepted.insert(id);
                self.put(&Packet::PubRec(Ack::plain(id, ReasonCode::Success)), out);
            }
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
                self.accepted.remove(&ack.packet_id);
                let was_known = self.awaiting_release.remove(ack.packet_id);
                let reason = if was_known {
                    ReasonCode::Success
                } else {
                    ReasonCode::PacketIdentifierNotFound
                };
                self.put(&Packet::PubComp(Ack::plain(ack.packet_id, reason)), out);
            }
            Packet::PubComp(ack) => {
                // Anything else answers a PUBREL for an identifier of an earlier process.
                if self.outbound.complete(ack.packet_id).is_ok()
                    && let Some(sequence) = self.released.remove(&ack.packet_id)
                {
                    self.settle(sequence, Ok(()));
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
            && !self.awaiting_release.insert(id)
        {
            // Sent again: PUBREC is due now if it was accepted, else as soon as it is.
            if self.accepted.contains(&id) {
                self.put(&Packet::PubRec(Ack::plain(id, ReasonCode::Success)), out);
            }
            return Ok(());
        }
        self.received.push(Received {
            record,
            receipt: crate::Receipt(crate::Token::Mqtt(Receipt {
                session: self.session,
                link: self.link.number,
                qos: publish.qos,
                packet_id: publish.packet_id,
            })),
        });
        Ok(())
    }

    fn receive_puback(&mut self, ack: &Ack<'_>) {
        if let Ok(record) = self.outbound.acknowledge(ack.packet_id) {
            self.settle(record.sequence, outcome(ack));
        }
    }

    fn receive_pubrec(&mut self, ack: &Ack<'_>, out: &mut Vec<u8>) {
        if ack.reason.is_error() {
            if let Ok(record) = self.outbound.refuse(ack.packet_id) {
                self.settle(record.sequence, outcome(ack));
            }
            return;
        }
        let reason = match self.outbound.receive(ack.packet_id) {
            Ok(Some(record)) => {
                self.released.insert(ack.packet_id, record.sequence);
                ReasonCode::Success
            }
            Ok(None) => ReasonCode::Success,
            Err(_) => ReasonCode::PacketIdentifierNotFound,
        };
        self.put(&Packet::PubRel(Ack::plain(ack.packet_id, reason)), out);
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

    fn resend_next(&mut self, out: &mut Vec<u8>) {
        let Some(id) = self.outbound.resend_next() else {
            return;
        };
        let Some(record) = self.outbound.published(id) else {
            return;
        };
        let header = DeliveryHeader {
            dup: true,
            qos: record.qos,
            packet_id: Some(id),
            ..DeliveryHeader::default()
        };
        if record.qos <= self.link.peer.qos_max && self.link.encode(record, header, out) {
            return;
        }
        if let Some(record) = self.outbound.release(id) {
            if record.qos == QoS::ExactlyOnce {
                self.put(&Packet::PubRel(Ack::plain(id, ReasonCode::Success)), out);
            }
            let failure = Failure::poison("the server no longer takes this QoS or size");
            self.settle(record.sequence, Err(failure));
        }
    }

    fn send(&mut self, mut record: Record, qos: QoS, out: &mut Vec<u8>) {
        let sequence = record.sequence;
        if record.expires_at.is_some_and(|at| at <= Instant::now()) {
            self.settle(sequence, Err(Failure::poison("expired")));
            return;
        }
        record.qos = qos;
        if qos == QoS::AtMostOnce {
            if self.link.encode(&record, DeliveryHeader::default(), out) {
                self.link.unwritten.push(sequence);
            } else {
                self.settle(sequence, Err(too_large()));
            }
            return;
        }
        let id = match self.outbound.send(qos, record) {
            Ok(id) => id,
            Err(record) => return self.link.waiting.push_front(record),
        };
        if qos == QoS::ExactlyOnce && self.strange_ids_left > 0 {
            // The server may hold this identifier for a message of an earlier process, and would
            // take ours for that one sent again.
            self.strange_ids_left -= 1;
            self.put(&Packet::PubRel(Ack::plain(id, ReasonCode::Success)), out);
        }
        let header = DeliveryHeader {
            qos,
            packet_id: Some(id),
            ..DeliveryHeader::default()
        };
        let is_sent = self
            .outbound
            .published(id)
            .is_some_and(|record| self.link.encode(record, header, out));
        if !is_sent {
            // Nothing of it was written: as if the server had refused it.
            if qos == QoS::ExactlyOnce {
                drop(self.outbound.refuse(id));
            } else {
                drop(self.outbound.acknowledge(id));
            }
            self.settle(sequence, Err(too_large()));
        }
    }
}

impl Link {
    /// Appends the PUBLISH, unless the server does not take one of this size.
    fn encode(
        &mut self,
        record: &Record,
        mut header: DeliveryHeader<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let link = self;
        header.retain = record.retain && link.peer.retain_available;
        header.message_expiry_seconds = record.expires_at.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            u32::try_from(left.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
        });
        link.scratch.clear();
        if link.version == ProtocolVersion::V5 {
            encode_properties(record, &mut link.scratch);
        }
        let mut topic = record.topic.as_bytes();
        let (version, forwarded, payload) = (link.version, &link.scratch, &record.payload);
        let bytes = delivery_bytes(version, &header, topic, forwarded, payload) + ALIAS_BYTES;
        if bytes > link.peer.packet_bytes_max {
            return false;
        }
        if let Some(alias) = link.outbound_aliases.get(&record.topic) {
            header.topic_alias = Some(*alias);
            topic = b"";
        } else if link.outbound_aliases.len() < usize::from(link.peer.topic_aliases_max) {
            let next = u16::try_from(link.outbound_aliases.len() + 1).unwrap_or(u16::MAX);
            header.topic_alias = NonZeroU16::new(next);
            if let Some(alias) = header.topic_alias {
                link.outbound_aliases.insert(record.topic.clone(), alias);
            }
        }
        encode_delivery(out, version, &header, topic, forwarded, payload);
        true
    }
}

fn outcome(ack: &Ack<'_>) -> Result<(), Failure> {
    if !ack.reason.is_error() {
        return Ok(());
    }
    let text = format!("refused by the server: {:?}", ack.reason);
    Err(match ack.reason {
        ReasonCode::NotAuthorized
        | ReasonCode::TopicNameInvalid
        | ReasonCode::PayloadFormatInvalid
        | ReasonCode::PacketTooLarge => Failure::poison(text),
        _ => Failure::retry(text),
    })
}

fn too_large() -> Failure {
    Failure::poison("larger than the server takes")
}

fn broken(error: &DecodeError) -> Failure {
    Failure::retry(format!("the server broke the protocol: {error}"))
}

/// Whether only an operator can help.
pub(super) fn is_operators(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::NotAuthorized
            | ReasonCode::BadUserNameOrPassword
            | ReasonCode::ClientIdentifierNotValid
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::SessionTakenOver
            | ReasonCode::UnsupportedProtocolVersion
    )
}

/// A PUBLISH of the connector's own, retained, at QoS 0.
pub(super) fn notice<'a>(topic: &'a str, payload: &'a [u8]) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: true,
        topic,
        packet_id: None,
        properties: PublishProperties {
            user_properties: UserProperties::default(),
            ..PublishProperties::default()
        },
        payload,
    })
}

/// After a reconnect the remote is met with a few messages, not with the whole window.
const WINDOW_AT_START: usize = 8;
/// What a topic alias adds to a packet, with the length that may grow.
const ALIAS_BYTES: usize = 8;
