//! A session: counts transfers both ways (AMQP 1.0 section 2.5.6).

use super::encoder::{Encoder, Fields};
use super::performative::{Begin, Detach, Flow, code};
use super::wire::Wire;

/// One of the two sessions of a connection.
#[derive(Debug)]
pub(super) struct Session {
    channel: u16,
    /// The number that the server has given it, once it has.
    their_channel: Option<u16>,
    next_outgoing_id: u32,
    /// Transfers that the server takes now.
    window: u32,
    next_incoming_id: u32,
    /// How many links there may be.
    pub(super) links_max: usize,
}

/// What a flow says of a link of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    pub(super) handle: u32,
    pub(super) delivery_count: u32,
    pub(super) credit: u32,
    /// The rest was given back because the server wanted that.
    pub(super) drains: bool,
}

/// Our role at a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Sender,
    Receiver,
}

impl Session {
    /// Begins a session.
    pub(super) fn begin(channel: u16, wire: &mut Wire) -> Self {
        wire.frame(channel, |out| {
            out.composite(code::BEGIN, |fields| {
                fields.none(1);
                fields.some(|it| it.uint(0));
                fields.some(|it| it.uint(WINDOW));
                fields.some(|it| it.uint(WINDOW));
            });
        });
        Self {
            channel,
            their_channel: None,
            next_outgoing_id: 0,
            window: 0,
            next_incoming_id: 0,
            links_max: 0,
        }
    }

    /// The server's answer has come over this channel; `false` if it is another session's.
    pub(super) fn begun(&mut self, their_channel: u16, begin: &Begin) -> bool {
        if begin.answers != Some(self.channel) || self.their_channel.is_some() {
            return false;
        }
        self.their_channel = Some(their_channel);
        self.window = begin.incoming_window;
        self.next_incoming_id = begin.next_outgoing_id;
        let links_max = usize::try_from(begin.handle_max).unwrap_or(usize::MAX);
        self.links_max = links_max.saturating_add(1);
        true
    }

    /// Whether frames of this channel of the server are about this session.
    pub(super) fn is(&self, their_channel: u16) -> bool {
        self.their_channel == Some(their_channel)
    }

    pub(super) fn learn(&mut self, flow: &Flow) {
        let told = flow.next_incoming_id.unwrap_or(0);
        self.window = left_of(flow.incoming_window, told, self.next_outgoing_id);
    }

    pub(super) fn may_send(&self) -> bool {
        self.window > 0
    }

    pub(super) fn sent(&mut self) {
        self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
        self.window = self.window.saturating_sub(1);
    }

    pub(super) fn received(&mut self) {
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
    }

    pub(super) fn channel(&self) -> u16 {
        self.channel
    }

    /// Says how much we take, and what is to be said of a link.
    pub(super) fn flow(&self, wire: &mut Wire, link: Option<Credit>) {
        wire.frame(self.channel, |out| {
            out.composite(code::FLOW, |fields| {
                fields.some(|it| it.uint(self.next_incoming_id));
                fields.some(|it| it.uint(WINDOW));
                fields.some(|it| it.uint(self.next_outgoing_id));
                fields.some(|it| it.uint(WINDOW));
                let Some(link) = link else {
                    return;
                };
                fields.some(|it| it.uint(link.handle));
                fields.some(|it| it.uint(link.delivery_count));
                fields.some(|it| it.uint(link.credit));
                fields.none(1);
                fields.some(|it| it.bool(link.drains));
            });
        });
    }

    /// Attaches a link: its name, handle and role, then what else there is to say.
    pub(super) fn attach(
        &self,
        wire: &mut Wire,
        name: &str,
        handle: u32,
        role: Role,
        ends: impl FnOnce(&mut Fields<'_>),
    ) {
        wire.frame(self.channel, |out| {
            out.composite(code::ATTACH, |fields| {
                fields.some(|it| it.string(name));
                fields.some(|it| it.uint(handle));
                fields.some(|it| it.bool(role == Role::Receiver));
                fields.some(|it| it.ubyte(UNSETTLED));
                fields.some(|it| it.ubyte(FIRST));
                ends(fields);
            });
        });
    }

    /// Ends a link for good.
    pub(super) fn close(&self, wire: &mut Wire, handle: u32) {
        self.end_link(wire, handle, true);
    }

    /// Agrees to the end of a link.
    pub(super) fn agree(&self, wire: &mut Wire, handle: u32, end: &Detach) {
        self.end_link(wire, handle, end.is_closed);
    }

    fn end_link(&self, wire: &mut Wire, handle: u32, is_closed: bool) {
        wire.frame(self.channel, |out| {
            out.composite(code::DETACH, |fields| {
                fields.some(|it| it.uint(handle));
                fields.some(|it| it.bool(is_closed));
            });
        });
    }

    /// Settles what was received, from the first delivery to the last.
    pub(super) fn settle(
        &self,
        wire: &mut Wire,
        range: (u32, u32),
        outcome: impl FnOnce(&mut Encoder<'_>),
    ) {
        self.dispose(wire, Role::Receiver, range, Some(outcome));
    }

    /// Settles what was sent and the server has decided on.
    pub(super) fn forget(&self, wire: &mut Wire, range: (u32, u32)) {
        self.dispose(wire, Role::Sender, range, None::<fn(&mut Encoder<'_>)>);
    }

    fn dispose(
        &self,
        wire: &mut Wire,
        role: Role,
        (first, last): (u32, u32),
        outcome: Option<impl FnOnce(&mut Encoder<'_>)>,
    ) {
        wire.frame(self.channel, |out| {
            out.composite(code::DISPOSITION, |fields| {
                fields.some(|it| it.bool(role == Role::Receiver));
                fields.some(|it| it.uint(first));
                fields.some(|it| it.uint(last));
                fields.some(|it| it.bool(true));
                fields.maybe(outcome, |it, outcome| outcome(it));
            });
        });
    }
}

/// How much may be sent now where the other end allows so much after as much as it has been told
/// of, which may be less than has been sent. Both counts are serial numbers (RFC 1982).
pub(super) fn left_of(allowed: u32, told: u32, sent: u32) -> u32 {
    let behind = told.wrapping_sub(sent).cast_signed();
    let left = i64::from(allowed) + i64::from(behind);
    u32::try_from(left.max(0)).unwrap_or(u32::MAX)
}

/// As many transfers as can be said: links have credit, which bounds them.
const WINDOW: u32 = i32::MAX.cast_unsigned();
/// Everything is sent unsettled (snd-settle-mode), and its receiver settles it (rcv-settle-mode).
const UNSETTLED: u8 = 0;
const FIRST: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_been_sent_and_not_told_of_is_not_allowed_twice() {
        assert_eq!(left_of(10, 5, 5), 10);
        assert_eq!(left_of(10, 5, 8), 7);
        assert_eq!(left_of(10, u32::MAX, 2), 7);
        assert_eq!(left_of(1, 5, 8), 0);
        assert_eq!(left_of(u32::MAX, 9, 8), u32::MAX);
    }
}
