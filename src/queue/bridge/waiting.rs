//! What waits for a bridge: the first stored messages in memory, the rest as identifiers.

use std::collections::VecDeque;

use tidewire_protocol::codec::QoS;

use crate::message::Message;
use crate::store::{Loaded, MessageId, RecoveredMessage, Ticket};

/// First in, first out, whether a message is in memory or in the store.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Stored messages that are in memory as well, before all others.
    ready: VecDeque<Ready>,
    ready_bytes: usize,
    behind: VecDeque<Behind>,
    bytes: usize,
    /// The last of `behind`: how many of them each batch brings, none of it committed when last
    /// looked at.
    uncommitted: VecDeque<(Ticket, usize)>,
    uncommitted_count: usize,
    asked: Asked,
}

/// A message whose turn comes.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) message: Message,
    pub(super) stored: Option<MessageId>,
    pub(super) since_ms: u64,
    /// The batch that brings it.
    fence: Ticket,
}

/// A message that waits behind those.
#[derive(Debug)]
struct Behind {
    content: Content,
    bytes: u32,
    since_ms: u64,
}

#[derive(Debug)]
enum Content {
    /// Not in the store: QoS 0, or there is none.
    InMemory(Message),
    Stored(MessageId),
}

/// What the next messages need before they can be lent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That this batch is committed.
    Commit(Ticket),
    /// That these are read back.
    Messages(Vec<MessageId>),
}

/// What was asked for and has not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    Nothing,
    Commit,
    /// The first messages behind, as many as are left of those asked for.
    Messages(usize),
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.behind.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a message; a stored one can be read back once the batch `fence` is committed.
    pub(super) fn push(
        &mut self,
        message: Message,
        stored: Option<MessageId>,
        fence: Ticket,
        since_ms: u64,
    ) {
        let bytes = message.bytes();
        self.bytes += bytes;
        if stored.is_some() && self.behind.is_empty() && self.has_room(READY_MAX) {
            self.ready_bytes += bytes;
            self.ready.push_back(Ready {
                message,
                stored,
                since_ms,
                fence,
            });
            return;
        }
        match self.uncommitted.back_mut() {
            Some((last, count)) if stored.is_none() || *last >= fence => {
                *count += 1;
                self.uncommitted_count += 1;
            }
            _ if stored.is_some() => {
                self.uncommitted.push_back((fence, 1));
                self.uncommitted_count += 1;
            }
            _ => {}
        }
        self.behind.push_back(Behind {
            content: stored.map_or(Content::InMemory(message), Content::Stored),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            since_ms,
        });
    }

    /// What an earlier process has left, in order.
    pub(super) fn restore(
        &mut self,
        messages: impl Iterator<Item = RecoveredMessage>,
        since_ms: u64,
    ) {
        debug_assert_eq!(self.len(), 0, "restored before anything is published");
        let bytes = &mut self.bytes;
        self.behind.extend(messages.map(|message| {
            *bytes += message.bytes as usize;
            Behind {
                content: Content::Stored(message.id),
                bytes: message.bytes,
                since_ms,
            }
        }));
    }

    /// The next message, if it is in memory. One of QoS 2 does not leave before it is committed:
    /// after a crash its publisher would send it again, and the other side could not know it.
    pub(super) fn pop(&mut self, committed: Ticket) -> Option<Ready> {
        if let Some(next) = self.ready.front() {
            if next.has_to_wait(committed) {
                return None;
            }
            return self.pop_ready();
        }
        if !matches!(self.behind.front()?.content, Content::InMemory(_)) {
            return None;
        }
        let Behind {
            content, since_ms, ..
        } = self.pop_behind()?;
        match content {
            Content::InMemory(message) => Some(Ready {
                message,
                stored: None,
                since_ms,
                fence: Ticket::default(),
            }),
            Content::Stored(_) => None,
        }
    }

    /// Drops the oldest; answers its name in the store. `None` if there is none.
    pub(super) fn drop_oldest(&mut self) -> Option<Option<MessageId>> {
        if let Some(ready) = self.pop_ready() {
            return Some(ready.stored);
        }
        match self.pop_behind()?.content {
            Content::InMemory(_) => Some(None),
            Content::Stored(id) => Some(Some(id)),
        }
    }

    /// What to ask for now; once it has been answered, [`Waiting::pop`] goes on.
    pub(super) fn wanted(&mut self, committed: Ticket) -> Option<Wanted> {
        if self.asked != Asked::Nothing {
            return None;
        }
        if let Some(next) = self.ready.front()
            && next.has_to_wait(committed)
        {
            self.asked = Asked::Commit;
            return Some(Wanted::Commit(next.fence));
        }
        while let Some((fence, count)) = self.uncommitted.front().copied()
            && fence <= committed
        {
            self.uncommitted_count -= count;
            self.uncommitted.pop_front();
        }
        if !self.has_room(READY_LOW) {
            return None;
        }
        let committed_count = self.behind.len() - self.uncommitted_count;
        let id_of = |it: &Behind| match it.content {
            Content::Stored(id) => Some(id),
            Content::InMemory(_) => None,
        };
        let stored = self.behind.iter().map_while(id_of);
        let ids: Vec<MessageId> = stored.take(committed_count.min(LOAD_MAX)).collect();
        if !ids.is_empty() {
            self.asked = Asked::Messages(ids.len());
            return Some(Wanted::Messages(ids));
        }
        let is_stored = self.behind.front().is_some_and(|it| id_of(it).is_some());
        let (fence, _) = self.uncommitted.front().filter(|_| is_stored)?;
        self.asked = Asked::Commit;
        Some(Wanted::Commit(*fence))
    }

    /// A batch was committed: what was asked for may be there.
    pub(super) fn end_commit(&mut self) {
        if self.asked == Asked::Commit {
            self.asked = Asked::Nothing;
        }
    }

    /// The reader's answer, in order; it leaves out what is gone and what did not fit behind the
    /// last. Messages dropped in the meantime are passed over.
    pub(super) fn end_load(&mut self, loaded: Vec<Loaded>) {
        let is_empty = loaded.is_empty();
        for Loaded { id, message, .. } in loaded {
            let is_id = |it: &Behind| matches!(it.content, Content::Stored(it) if it == id);
            let left = self.asked_count();
            let Some(gone) = self.behind.iter().take(left).position(is_id) else {
                continue;
            };
            for _ in 0..gone {
                self.pop_behind();
            }
            let Some(Behind { since_ms, .. }) = self.pop_behind() else {
                continue;
            };
            let bytes = message.bytes();
            self.bytes += bytes;
            self.ready_bytes += bytes;
            self.ready.push_back(Ready {
                message,
                stored: Some(id),
                since_ms,
                fence: Ticket::default(),
            });
        }
        if is_empty {
            for _ in 0..self.asked_count() {
                self.pop_behind();
            }
        }
        self.asked = Asked::Nothing;
    }

    fn asked_count(&self) -> usize {
        match self.asked {
            Asked::Messages(count) => count,
            Asked::Nothing | Asked::Commit => 0,
        }
    }

    fn has_room(&self, count_max: usize) -> bool {
        self.ready.len() < count_max && self.ready_bytes < READY_BYTES_MAX
    }

    fn pop_ready(&mut self) -> Option<Ready> {
        let ready = self.ready.pop_front()?;
        let bytes = ready.message.bytes();
        self.ready_bytes -= bytes;
        self.bytes -= bytes;
        if self.ready.is_empty() && self.ready.capacity() > KEPT {
            self.ready = VecDeque::new();
        }
        Some(ready)
    }

    fn pop_behind(&mut self) -> Option<Behind> {
        let behind = self.behind.pop_front()?;
        self.bytes -= behind.bytes as usize;
        if let Asked::Messages(left) = &mut self.asked {
            *left = left.saturating_sub(1);
        }
        if self.behind.len() < self.uncommitted_count
            && let Some((_, count)) = self.uncommitted.front_mut()
        {
            *count -= 1;
            self.uncommitted_count -= 1;
            if *count == 0 {
                self.uncommitted.pop_front();
            }
        }
        if self.behind.is_empty() && self.behind.capacity() > KEPT {
            self.behind = VecDeque::new();
        }
        Some(behind)
    }
}

impl Ready {
    fn has_to_wait(&self, committed: Ticket) -> bool {
        self.stored.is_some() && self.message.qos() == QoS::ExactlyOnce && self.fence > committed
    }
}

/// Stored messages that wait in memory as well.
const READY_MAX: usize = 1_024;
/// Their bytes, but for the last and those of one answer.
const READY_BYTES_MAX: usize = 1 << 20;
/// Below this more are read back.
const READY_LOW: usize = 512;
/// Messages read back at once.
const LOAD_MAX: usize = 1_024;
/// A ring this small stays allocated when it runs empty.
const KEPT: usize = 1_024;
