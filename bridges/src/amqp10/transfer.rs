//! What stands before a message on the way out, and messages that are larger than a frame.

use super::encoder::Encoder;
use super::performative::code;
use super::session::Session;
use super::wire::Wire;

/// What stands before a message, or before a part of it (AMQP 1.0 section 2.7.5).
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) handle: u32,
    /// Missing in all parts but the first.
    pub(super) delivery_id: Option<u32>,
    pub(super) has_more: bool,
}

pub(super) fn write_transfer(out: &mut Encoder<'_>, transfer: Transfer) {
    out.composite(code::TRANSFER, |fields| {
        fields.some(|it| it.uint(transfer.handle));
        match transfer.delivery_id {
            Some(id) => {
                fields.some(|it| it.uint(id));
                fields.some(|it| it.binary(&id.to_be_bytes()));
                fields.some(|it| it.uint(MESSAGE_FORMAT));
                fields.some(|it| it.bool(false));
            }
            // The first part has said it.
            None => fields.none(4),
        }
        fields.maybe(transfer.has_more.then_some(true), |it, more| it.bool(more));
    });
}

/// A message of which a part has been sent, or nothing yet.
#[derive(Debug)]
pub(super) struct Unfinished {
    handle: u32,
    delivery_id: u32,
    message: Vec<u8>,
    sent: usize,
}

impl Unfinished {
    pub(super) fn new(handle: u32, delivery_id: u32, message: Vec<u8>) -> Self {
        Self {
            handle,
            delivery_id,
            message,
            sent: 0,
        }
    }

    /// Whether it goes over this link.
    pub(super) fn is_of(&self, handle: u32) -> bool {
        self.handle == handle
    }

    /// Sends more of it, as far as session and wire go; whether that was all.
    pub(super) fn go_on(&mut self, session: &mut Session, wire: &mut Wire) -> bool {
        while self.sent < self.message.len() && session.may_send() && !wire.is_crowded() {
            let room = wire.frame_bytes_max - TRANSFER_BYTES_MAX;
            let end = self.message.len().min(self.sent + room);
            let part = self.message.get(self.sent..end).unwrap_or_default();
            let transfer = Transfer {
                handle: self.handle,
                delivery_id: (self.sent == 0).then_some(self.delivery_id),
                has_more: end < self.message.len(),
            };
            wire.frame(session.channel(), |out| {
                write_transfer(out, transfer);
                out.0.extend_from_slice(part);
            });
            session.sent();
            self.sent = end;
        }
        self.sent == self.message.len()
    }
}

/// The format of messages that the specification describes.
const MESSAGE_FORMAT: u32 = 0;
/// What a frame with a transfer has besides the message, at the most.
const TRANSFER_BYTES_MAX: usize = 64;
