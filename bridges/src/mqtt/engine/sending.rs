//! Messages on their way to the server: when they get an identifier, when they are written.

use tidewire_protocol::codec::{DeliveryHeader, PacketId, QoS};
use tokio::time::Instant;

use super::Engine;
use crate::mqtt::failure::{expired, too_large};
use crate::mqtt::link::{SentBefore, Waiting};
use crate::{Failure, Record};

impl Engine {
    /// Appends what may be sent now, until `out` holds `bytes_max`.
    pub(in crate::mqtt) fn fill(&mut self, out: &mut Vec<u8>, bytes_max: usize) {
        let window = self
            .link
            .window
            .min(usize::from(self.link.peer.inflight_max));
        while out.len() < bytes_max && self.link.is_resending {
            if self.outbound.quota_used() >= window || !self.journal.may_resend() {
                return;
            }
            match self.outbound.resend_next() {
                Some(id) => self.write(id, SentBefore::Perhaps, out),
                None => self.link.is_resending = false,
            }
        }
        if self.link.is_resending {
            return;
        }
        self.number(out);
        while out.len() < bytes_max {
            let has_room = self.outbound.quota_used() < window;
            let may_send = match self.link.waiting.front() {
                None => return,
                Some(Waiting::Record(next)) => next.qos == QoS::AtMostOnce || has_room,
                Some(Waiting::Numbered(id, _)) => {
                    has_room && !self.strange_ids.is_next(*id) && self.journal.may_send(*id)
                }
            };
            if !may_send {
                return;
            }
            match self.link.waiting.pop_front() {
                Some(Waiting::Record(record)) => self.send(record, out),
                Some(Waiting::Numbered(id, before)) => {
                    let next = self.outbound.resend_next();
                    debug_assert_eq!(next, Some(id), "numbered in the order of sending");
                    self.write(id, before, out);
                }
                None => {}
            }
        }
    }

    /// Gives identifiers to messages that have to be noted, or whose identifiers have to be
    /// released first, some ahead of their turn.
    fn number(&mut self, out: &mut Vec<u8>) {
        while self.outbound.len() < NUMBERED_MAX
            && let Some(mut record) = self.link.submitted.pop_front()
        {
            let sequence = record.sequence;
            let sent_as = record.sent_as.take();
            let sent_as = sent_as.filter(|id| self.journal.take_remembered(*id));
            if let Some(id) = sent_as {
                record.qos = QoS::ExactlyOnce;
                let is_free = self.outbound.restore_later(id, record.qos, record);
                debug_assert!(is_free, "what was sent before comes first");
                let next = Waiting::Numbered(id, SentBefore::Perhaps);
                self.link.waiting.push_back(next);
                continue;
            }
            record.qos = record.qos.min(self.link.peer.qos_max);
            if is_expired(&record) {
                self.settle(sequence, Err(expired()));
                continue;
            }
            let is_numbered = self.journal.is_on() || self.strange_ids.are_expected();
            if record.qos != QoS::ExactlyOnce || !is_numbered {
                self.link.waiting.push_back(Waiting::Record(record));
                continue;
            }
            match self.outbound.send_later(record.qos, record) {
                Ok(id) => {
                    if self.strange_ids.number(id, sequence) {
                        self.put_pubrel(id, out);
                    }
                    self.note_ready();
                    let next = Waiting::Numbered(id, SentBefore::No);
                    self.link.waiting.push_back(next);
                }
                Err(record) => return self.link.submitted.push_front(record),
            }
        }
    }

    /// Notes the messages whose identifiers the server does not hold for others.
    pub(super) fn note_ready(&mut self) {
        while let Some((id, sequence)) = self.strange_ids.next_ready() {
            self.journal.send(id, sequence);
        }
    }

    fn send(&mut self, record: Record, out: &mut Vec<u8>) {
        let (sequence, qos) = (record.sequence, record.qos);
        if is_expired(&record) {
            self.settle(sequence, Err(expired()));
            return;
        }
        if qos == QoS::AtMostOnce {
            if self.link.encode(&record, DeliveryHeader::default(), out) {
                self.link.unwritten.push(sequence);
            } else {
                self.settle(sequence, Err(too_large()));
            }
            return;
        }
        match self.outbound.send(qos, record) {
            Ok(id) => self.write(id, SentBefore::No, out),
            Err(record) => self.link.waiting.push_front(Waiting::Record(record)),
        }
    }

    /// Writes a message that has an identifier.
    fn write(&mut self, id: PacketId, before: SentBefore, out: &mut Vec<u8>) {
        let Some(record) = self.outbound.published(id) else {
            return;
        };
        let header = DeliveryHeader {
            dup: before == SentBefore::Perhaps,
            qos: record.qos,
            packet_id: Some(id),
            ..DeliveryHeader::default()
        };
        if record.qos <= self.link.peer.qos_max && self.link.encode(record, header, out) {
            return;
        }
        match before {
            SentBefore::No => self.take_back(id),
            SentBefore::Perhaps => self.give_up(id, out),
        }
    }

    /// Nothing of a message was written: as if the server had refused it.
    fn take_back(&mut self, id: PacketId) {
        let refused = self.outbound.refuse(id);
        if let Ok(record) = refused.or_else(|_| self.outbound.acknowledge(id)) {
            self.journal.complete(id);
            self.settle(record.sequence, Err(too_large()));
        }
    }

    /// The server may have a message that it does not take any more.
    fn give_up(&mut self, id: PacketId, out: &mut Vec<u8>) {
        let Some(record) = self.outbound.release(id) else {
            return;
        };
        if record.qos == QoS::ExactlyOnce {
            self.journal.release(id, Some(record.sequence));
            self.put_pubrel(id, out);
        }
        let failure = Failure::poison("the server no longer takes this QoS or size");
        self.settle(record.sequence, Err(failure));
    }
}

fn is_expired(record: &Record) -> bool {
    record.expires_at.is_some_and(|at| at <= Instant::now())
}

/// Messages that have identifiers, sent or not.
const NUMBERED_MAX: usize = 16_384;
