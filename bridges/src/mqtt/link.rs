//! What ends with a connection to an MQTT server.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU16;

use tidewire_protocol::codec::{
    DeliveryHeader, PacketId, ProtocolVersion, delivery_bytes, encode_delivery,
};
use tidewire_protocol::session::InboundAliases;
use tokio::time::Instant;

use super::convert::encode_properties;
use super::peer::Peer;
use crate::Record;

/// What ends with the connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) version: ProtocolVersion,
    pub(super) number: u32,
    pub(super) peer: Peer,
    /// Messages of an earlier connection come first.
    pub(super) is_resending: bool,
    pub(super) submitted: VecDeque<Record>,
    /// Submitted before those; behind the first are some that are being noted.
    pub(super) waiting: VecDeque<Waiting>,
    /// QoS 0 records that are encoded but not yet written.
    pub(super) unwritten: Vec<u64>,
    pub(super) inbound_aliases: InboundAliases,
    outbound_aliases: HashMap<String, NonZeroU16>,
    /// Grows from a few to the whole window as acknowledgements come.
    pub(super) window: usize,
    scratch: Vec<u8>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            version: ProtocolVersion::V5,
            number: 0,
            peer: Peer::default(),
            is_resending: false,
            submitted: VecDeque::new(),
            waiting: VecDeque::new(),
            unwritten: Vec::new(),
            inbound_aliases: InboundAliases::default(),
            outbound_aliases: HashMap::new(),
            window: WINDOW_AT_START,
            scratch: Vec::new(),
        }
    }
}

/// What is to be sent next.
#[derive(Debug)]
pub(super) enum Waiting {
    Record(Record),
    /// It has an identifier, which is being noted; an earlier process may have sent it.
    Numbered(PacketId, SentBefore),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentBefore {
    No,
    Perhaps,
}

impl Link {
    pub(super) fn new(version: ProtocolVersion, number: u32, peer: Peer) -> Self {
        Self {
            version,
            number,
            peer,
            ..Self::default()
        }
    }

    /// Appends the PUBLISH, unless the server does not take one of this size.
    pub(super) fn encode(
        &mut self,
        record: &Record,
        mut header: DeliveryHeader<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        header.retain = record.retain && self.peer.retain_available;
        header.message_expiry_seconds = record.expires_at.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            u32::try_from(left.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
        });
        self.scratch.clear();
        if self.version == ProtocolVersion::V5 {
            encode_properties(record, &mut self.scratch);
        }
        let mut topic = record.topic.as_bytes();
        let (version, forwarded, payload) = (self.version, &self.scratch, &record.payload);
        let bytes = delivery_bytes(version, &header, topic, forwarded, payload) + ALIAS_BYTES;
        if bytes > self.peer.packet_bytes_max {
            return false;
        }
        if let Some(alias) = self.outbound_aliases.get(&record.topic) {
            header.topic_alias = Some(*alias);
            topic = b"";
        } else if self.outbound_aliases.len() < usize::from(self.peer.topic_aliases_max) {
            let next = u16::try_from(self.outbound_aliases.len() + 1).unwrap_or(u16::MAX);
            header.topic_alias = NonZeroU16::new(next);
            if let Some(alias) = header.topic_alias {
                self.outbound_aliases.insert(record.topic.clone(), alias);
            }
        }
        encode_delivery(out, version, &header, topic, forwarded, payload);
        true
    }
}

/// After a reconnect the remote is met with a few messages, not with the whole window.
const WINDOW_AT_START: usize = 8;
/// What a topic alias adds to a packet, with the length that may grow.
const ALIAS_BYTES: usize = 8;
