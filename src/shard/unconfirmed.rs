//! What was published and is not committed yet: the store may still refuse it.

use std::collections::VecDeque;

use hashbrown::HashSet;
use tidewire_protocol::codec::PacketId;

use super::Key;
use crate::message::Message;
use crate::store::{MessageId, Ticket};

/// Everything that one shard has published and that is not committed yet, in order.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    runs: VecDeque<Run>,
    /// The messages of all runs.
    messages: VecDeque<(MessageId, Option<PacketId>)>,
    retained: VecDeque<(Ticket, Origin, Message)>,
}

/// Messages that one connection published one after the other in one batch.
#[derive(Debug)]
struct Run {
    ticket: Ticket,
    connection: Key,
    session: Option<Key>,
    count: usize,
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
        match published {
            Published::Message(id) => self.add_message(ticket, origin, id),
            Published::Retained(message) => self.retained.push_back((ticket, origin, message)),
        }
    }

    fn add_message(&mut self, ticket: Ticket, origin: Origin, id: MessageId) {
        let Origin {
            connection,
            session,
            packet_id,
        } = origin;
        self.messages.push_back((id, packet_id));
        let goes_on = |it: &&mut Run| {
            it.ticket == ticket && it.connection == connection && it.session == session
        };
        match self.runs.back_mut().filter(goes_on) {
            Some(run) => run.count += 1,
            None => self.runs.push_back(Run {
                ticket,
                connection,
                session,
                count: 1,
            }),
        }
    }

    /// Everything up to this batch is committed.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        let mut count = 0;
        while let Some(run) = self.runs.front().filter(|it| it.ticket <= ticket) {
            count += run.count;
            self.runs.pop_front();
        }
        self.messages.drain(..count);
        while self.retained.front().is_some_and(|it| it.0 <= ticket) {
            self.retained.pop_front();
        }
    }

    /// The first of these topics that nobody has published to who would be told.
    pub(super) fn first_unknown<'a>(
        &self,
        ticket: Ticket,
        retained: &'a [Box<str>],
    ) -> Option<&'a str> {
        let known = self.retained.iter().filter(|it| it.0 <= ticket);
        let known: HashSet<&[u8]> = known.map(|(_, _, it)| it.topic_bytes()).collect();
        let unknown = retained.iter().find(|it| !known.contains(it.as_bytes()));
        unknown.map(|it| &**it)
    }

    /// Who has published what the store refuses of the batches up to this one.
    pub(super) fn publishers_of(
        &self,
        ticket: Ticket,
        messages: &[MessageId],
        retained: &[Box<str>],
    ) -> Vec<Origin> {
        let refused: HashSet<MessageId> = messages.iter().copied().collect();
        let topics: HashSet<&[u8]> = retained.iter().map(|it| it.as_bytes()).collect();
        let runs = self.runs.iter();
        let runs = runs.flat_map(|run| std::iter::repeat_n(run, run.count));
        let of_messages = runs
            .zip(&self.messages)
            .filter(|(_, (id, _))| refused.contains(id))
            .map(|(run, (_, packet_id))| Origin {
                connection: run.connection,
                session: run.session,
                packet_id: *packet_id,
            });
        let of_retained = self.retained.iter().filter(|it| it.0 <= ticket);
        let of_retained = of_retained
            .filter(|(_, _, message)| topics.contains(message.topic_bytes()))
            .map(|(_, origin, _)| *origin);
        of_messages.chain(of_retained).collect()
    }
}
