//! The publishing end of a measurement: a connection, encoded messages and packet identifiers.

use std::rc::Rc;

use tidewire_protocol::codec::{DeliveryHeader, Packet, PacketId, QoS, encode_delivery};

use super::Shared;
use super::shape::topics;
use crate::cli::client::{ClientError, Connection, ack};

/// Queues messages that differ in packet identifier, sequence and time only.
pub(super) struct Sender {
    pub(super) connection: Connection,
    shared: Rc<Shared>,
    index: u32,
    headers: Vec<Header>,
    payload: Vec<u8>,
    /// Packet identifiers that are not in use.
    free: Vec<PacketId>,
}

/// A PUBLISH up to its payload.
struct Header {
    bytes: Box<[u8]>,
    packet_id_at: Option<usize>,
}

impl Sender {
    pub(super) async fn open(
        shared: &Rc<Shared>,
        index: u32,
        window: u16,
    ) -> Result<Self, ClientError> {
        let connection = shared.open("p", index).await?;
        let payload = vec![0; shared.arguments.payload as usize];
        let headers = topics(&shared.arguments, index)
            .map(|topic| Header::new(shared, &topic, &payload))
            .collect();
        let ids = window.min(connection.receive_maximum);
        Ok(Self {
            connection,
            index,
            headers,
            payload,
            free: (1..=ids).rev().filter_map(PacketId::new).collect(),
            shared: Rc::clone(shared),
        })
    }

    /// How many messages may be queued before an acknowledgement comes.
    pub(super) fn room(&self) -> u64 {
        match self.shared.arguments.qos {
            QoS::AtMostOnce => u64::MAX,
            _ => self.free.len() as u64,
        }
    }

    /// Queues the next message of this publisher with the time it carries.
    pub(super) fn queue_message(&mut self, time_us: u64) -> Option<PacketId> {
        let sent = &self.shared.loops[self.index as usize].sent;
        let sequence = sent.get();
        sent.set(sequence + 1);
        self.payload[..4].copy_from_slice(&self.index.to_be_bytes());
        self.payload[4..12].copy_from_slice(&sequence.to_be_bytes());
        self.payload[12..20].copy_from_slice(&time_us.to_be_bytes());
        let header = &self.headers[(sequence % self.headers.len() as u64) as usize];
        let output = self.connection.output();
        let start = output.len();
        output.extend_from_slice(&header.bytes);
        output.extend_from_slice(&self.payload);
        let at = start + header.packet_id_at?;
        let packet_id = self.free.pop()?;
        output[at..at + 2].copy_from_slice(&packet_id.value().to_be_bytes());
        Some(packet_id)
    }

    /// Takes acknowledgements; `settled` hears of each message that is done, and how it ended.
    pub(super) fn take_packets(
        &mut self,
        mut settled: impl FnMut(PacketId, bool),
    ) -> Result<(), ClientError> {
        while let Some((packet, bytes)) = self.connection.packet()? {
            let (id, is_accepted, is_over) = match packet {
                Packet::PubAck(ack) | Packet::PubComp(ack) => {
                    (ack.packet_id, !ack.reason.is_error(), true)
                }
                Packet::PubRec(ack) if ack.reason.is_error() => (ack.packet_id, false, true),
                Packet::PubRec(ack) => (ack.packet_id, true, false),
                _ => return Err(ClientError::Unexpected),
            };
            self.connection.consume(bytes);
            if is_over {
                self.free.push(id);
                settled(id, is_accepted);
            } else {
                self.connection.queue(&Packet::PubRel(ack(id)))?;
            }
        }
        Ok(())
    }
}

impl Header {
    fn new(shared: &Shared, topic: &str, payload: &[u8]) -> Self {
        let arguments = &shared.arguments;
        let header = DeliveryHeader {
            dup: false,
            qos: arguments.qos,
            retain: false,
            packet_id: None,
            topic_alias: None,
            message_expiry_seconds: None,
            subscription_ids: &[],
        };
        let mut bytes = Vec::new();
        let version = arguments.version;
        let packet_id_at =
            encode_delivery(&mut bytes, version, &header, topic.as_bytes(), &[], payload);
        bytes.truncate(bytes.len() - payload.len());
        Self {
            bytes: bytes.into_boxed_slice(),
            packet_id_at,
        }
    }
}

/// What the payload of a message tells.
pub(super) struct Stamp {
    pub(super) publisher: u32,
    pub(super) sequence: u64,
    pub(super) time_us: u64,
}

impl Stamp {
    pub(super) fn read(payload: &[u8]) -> Result<Self, ClientError> {
        let read = || {
            let (publisher, rest) = payload.split_first_chunk()?;
            let (sequence, rest) = rest.split_first_chunk()?;
            let (time_us, _) = rest.split_first_chunk()?;
            Some(Self {
                publisher: u32::from_be_bytes(*publisher),
                sequence: u64::from_be_bytes(*sequence),
                time_us: u64::from_be_bytes(*time_us),
            })
        };
        read().ok_or(ClientError::Unexpected)
    }
}
