//! What was published and is not committed yet: the store may still refuse it.

use std::collections::VecDeque;

use hashbrown::HashSet;
use tidewire_protocol::codec::PacketId;

use super::Key;
use crate::message::Message;
use crate::store::{Few, MessageId, Ticket};

/// Everything that one shard has published and that is not committed yet, in order.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    runs: VecDeque<Run>,
}

/// What one connection published one after the other in one batch.
#[derive(Debug)]
struct Run {
    ticket: Ticket,
    connection: Key,
    session: Option<Key>,
    published: Few<(Published, Option<PacketId>)>,
}

/// Which packet published something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) connection: Key,
    pub(super) session: Option<Key>,
    /// `None`: nobody waits for an acknowledgement.
    pub(super) packet_id: Option<PacketId>,
}

/// What it published.
#[derive(Debug)]
pub(super) enum Published {
    Message(MessageId),
    Retained(Message),
}

impl Unconfirmed {
    /// Something published in a batch, the open one.
    pub(super) fn add(&mut self, ticket: Ticket, origin: Origin, published: Published) {
        let Origin {
            connection,
            session,
            packet_id,
        } = origin;
        let published = (published, packet_id);
        let goes_on = |it: &&mut Run| {
            it.ticket == ticket && it.connection == connection && it.session == session
        };
        match self.runs.back_mut().filter(goes_on) {
            Some(run) => run.published.push(published),
            None => self.runs.push_back(Run {
                ticket,
                connection,
                session,
                published: Few::One(published),
            }),
        }
    }

    /// Everything up to this batch is committed.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        while self.runs.front().is_some_and(|it| it.ticket <= ticket) {
            self.runs.pop_front();
        }
    }

    /// Who has published what the store refuses.
    pub(super) fn publishers_of(
        &self,
        messages: &[MessageId],
        retained: &[Box<str>],
    ) -> Vec<Origin> {
        let messages: HashSet<MessageId> = messages.iter().copied().collect();
        let topics: HashSet<&[u8]> = retained.iter().map(|it| it.as_bytes()).collect();
        let is_refused = |it: &Published| match it {
            Published::Message(id) => messages.contains(id),
            Published::Retained(message) => topics.contains(message.topic_bytes()),
        };
        let mut origins = Vec::new();
        for run in &self.runs {
            let refused = run
                .published
                .as_slice()
                .iter()
                .filter(|it| is_refused(&it.0));
            origins.extend(refused.map(|(_, packet_id)| Origin {
                connection: run.connection,
                session: run.session,
                packet_id: *packet_id,
            }));
        }
        origins
    }
}
