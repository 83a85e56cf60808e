//! What waits in the store behind the few messages of a queue that are in memory.

use std::collections::VecDeque;

use super::expiry::remove_between;
use crate::store::{MessageId, QueueId, Ticket};

/// What of a durable queue can be read back from the store.
///
/// # Shape
/// In the order of sending; at the front what the reader was asked for.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: VecDeque<Waiting>,
    /// Its name in the store, once it had anything.
    queue: Option<QueueId>,
    /// How many at the front can be read once which batch is committed, in order.
    fences: VecDeque<(Ticket, usize)>,
    is_loading: bool,
    /// How many at the front the reader was asked for.
    asked: usize,
}

/// A message that waits in the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) id: MessageId,
    pub(super) bytes: u32,
    /// Rounded up, so that it takes no more room.
    pub(super) expires_at_seconds: u32,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn store(&self) -> Option<QueueId> {
        self.queue
    }

    /// Appends a message that can be read back once the batch `fence` is committed.
    pub(super) fn push(&mut self, queue: QueueId, waiting: Waiting, fence: Ticket) {
        self.waiting.push_back(waiting);
        self.queue = Some(queue);
        self.count_in(fence, 1);
    }

    /// Appends what an earlier process has left.
    pub(super) fn restore(&mut self, queue: QueueId, waiting: impl Iterator<Item = Waiting>) {
        self.queue = Some(queue);
        let before = self.waiting.len();
        self.waiting.extend(waiting);
        self.count_in(Ticket::default(), self.waiting.len() - before);
    }

    /// What to read back next, and the batch that has to be committed before.
    pub(super) fn next_load(&mut self, committed: Ticket) -> Option<(Vec<MessageId>, Ticket)> {
        if self.is_loading {
            return None;
        }
        let (first, mut count) = self.fences.pop_front()?;
        // Those that can be read become one, so that each is added once.
        while let Some((fence, more)) = self.fences.front().copied()
            && fence <= committed
        {
            self.fences.pop_front();
            count += more;
        }
        self.fences.push_front((first, count));
        let readable = self.waiting.iter().take(count.min(LOAD_MAX));
        Some((readable.map(|it| it.id).collect(), first))
    }

    pub(super) fn begin_load(&mut self, asked: usize) {
        self.is_loading = true;
        self.asked = asked;
    }

    /// Answers how many of those that the reader was asked for still wait.
    pub(super) fn end_load(&mut self) -> usize {
        self.is_loading = false;
        std::mem::take(&mut self.asked)
    }

    /// Where a message is among the first so many.
    pub(super) fn position(&self, id: MessageId, among: usize) -> Option<usize> {
        self.waiting.iter().take(among).position(|it| it.id == id)
    }

    /// Answers the bytes of so many that left the front.
    pub(super) fn forget_oldest(&mut self, count: usize) -> usize {
        let forgotten = self.waiting.drain(..count);
        let bytes = forgotten.map(|it| it.bytes as usize).sum();
        self.count_out(count);
        bytes
    }

    pub(super) fn pop_front(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.count_out(1);
        self.asked = self.asked.saturating_sub(1);
        Some(waiting)
    }

    /// Removes what `is_over` of the places from `from` to `to`, and answers how many those were;
    /// what the reader was asked for stays.
    pub(super) fn remove_between(
        &mut self,
        from: usize,
        to: usize,
        mut is_over: impl FnMut(&Waiting) -> bool,
    ) -> usize {
        let from = from.max(self.asked).min(to);
        let fences = &mut self.fences;
        // The fence that the message at hand is behind, and the place at which the next begins.
        let (mut fence, mut end) = (0, fences.front().map_or(0, |it| it.1));
        let count = remove_between(&mut self.waiting, from, to, |at, waiting| {
            while at >= end && fence + 1 < fences.len() {
                fence += 1;
                end += fences.get(fence).map_or(0, |it| it.1);
            }
            let is_over = is_over(waiting);
            if is_over && let Some((_, count)) = fences.get_mut(fence) {
                *count -= 1;
            }
            is_over
        });
        if count > 0 {
            fences.retain(|it| it.1 > 0);
        }
        count
    }

    fn count_in(&mut self, fence: Ticket, count: usize) {
        match self.fences.back_mut() {
            Some((last, counted)) if *last == fence => *counted += count,
            _ if count > 0 => self.fences.push_back((fence, count)),
            _ => {}
        }
    }

    /// So many left the front.
    fn count_out(&mut self, mut count: usize) {
        while let Some((_, counted)) = self.fences.front_mut() {
            if *counted > count {
                *counted -= count;
                return;
            }
            count -= *counted;
            self.fences.pop_front();
        }
    }
}

/// Messages read back at once.
const LOAD_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use tidewire_protocol::codec::QoS;

    use super::*;
    use crate::config::{Limits, QueueOverflow};
    use crate::message::{Header, Message};
    use crate::queue::{Delivery, Pushed, Queue, READY_MAX, Stored};
    use crate::store::RecoveredMessage;

    fn name() -> QueueId {
        QueueId::of(7)
    }

    fn delivery(id: u64) -> Delivery {
        let id = MessageId(id);
        Delivery {
            message: Message::new("a", &[], b"content", Header::default()),
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: None,
            group: None,
            stored: Some(Stored {
                queue: name(),
                id,
                order: id,
            }),
        }
    }

    fn ids(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.next(0))
            .filter_map(|it| it.stored.map(|stored| stored.id.0))
            .collect()
    }

    /// A queue that waits for the reader's answer about all of `backlog`.
    fn loading(backlog: &[u64]) -> Queue {
        let mut queue = Queue::default();
        let message = |id: &u64| RecoveredMessage {
            id: MessageId(*id),
            bytes: 8,
        };
        queue.restore(name(), backlog.iter().map(message), &[]);
        let ids = queue.to_load(Ticket::default()).map(|it| it.0);
        queue.begin_load(ids.map_or(0, |ids| ids.len()));
        queue
    }

    #[test]
    fn what_an_earlier_process_has_left_counts_for_the_limit_of_bytes() {
        let mut queue = loading(&[1, 2, 3, 4]);
        let limits = Limits {
            queue_bytes_max: 4 * 8 + delivery(5).message.bytes() - 1,
            queue_overflow: QueueOverflow::DropOldest,
            ..Limits::default()
        };
        let pushed = queue.push(delivery(5), &limits, Ticket(1));
        assert_eq!(pushed, Pushed::DroppedOldest(1));
        queue.end_load([2, 3, 4].map(delivery).to_vec());
        let bytes = 4 * delivery(5).message.bytes();
        assert_eq!((queue.len(), queue.bytes), (4, bytes));
    }

    #[test]
    fn what_is_committed_is_read_back_while_more_keeps_coming() {
        let mut queue = Queue::default();
        let limits = Limits::default();
        for id in 0..READY_MAX as u64 {
            queue.push(delivery(id), &limits, Ticket(1));
        }
        for (id, ticket) in [(100, 2), (101, 2), (102, 3), (103, 4)] {
            queue.push(delivery(id), &limits, Ticket(ticket));
        }
        while queue.next(0).is_some() {}
        let shown = |load: Option<(Vec<MessageId>, Ticket)>| {
            load.map(|(ids, fence)| (ids.iter().map(|id| id.0).collect::<Vec<_>>(), fence))
        };
        assert_eq!(
            shown(queue.to_load(Ticket(1))),
            Some((vec![100, 101], Ticket(2)))
        );
        assert_eq!(
            shown(queue.to_load(Ticket(3))),
            Some((vec![100, 101, 102], Ticket(2)))
        );
        // And is not added up again each time.
        assert_eq!(queue.backlog.fences, [(Ticket(2), 3), (Ticket(4), 1)]);
        queue.begin_load(3);
        queue.push(delivery(104), &limits, Ticket(5));
        queue.end_load([100, 101, 102].map(delivery).to_vec());
        while queue.next(0).is_some() {}
        assert_eq!(
            shown(queue.to_load(Ticket(4))),
            Some((vec![103], Ticket(4)))
        );
    }

    #[test]
    fn what_is_dropped_while_it_is_read_takes_nothing_else_with_it() {
        // Two shards have published: the order is not that of the numbers.
        let mut queue = loading(&[50, 20, 51, 21]);
        let limits = Limits {
            queue_messages_max: 4,
            queue_overflow: QueueOverflow::DropOldest,
            ..Limits::default()
        };
        let pushed = queue.push(delivery(60), &limits, Ticket(1));
        assert_eq!(pushed, Pushed::DroppedOldest(1));
        queue.end_load([50, 20, 51, 21].map(delivery).into());
        assert_eq!(ids(&mut queue), [20, 51, 21]);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn an_empty_answer_ends_only_what_was_asked_for() {
        let backlog: Vec<u64> = (1..=LOAD_MAX as u64 + 10).collect();
        let mut queue = loading(&backlog);
        queue.drop_oldest();
        queue.end_load(Vec::new());
        assert_eq!(queue.len(), 10);
    }

    #[test]
    fn what_the_reader_leaves_out_is_gone_and_the_rest_is_asked_for_again() {
        let mut queue = loading(&[1, 2, 3, 4]);
        queue.end_load([2, 3].map(delivery).into());
        assert_eq!(ids(&mut queue), [2, 3]);
        let next = queue.to_load(Ticket::default()).map(|it| it.0);
        assert_eq!(next, Some(vec![MessageId(4)]));
    }
}
