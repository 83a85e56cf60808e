//! Who has not settled what: the writer's memory of all queues.
//!
//! It turns messages and settlements into the least change of rows. It knows no pages and no files.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::changes::Changes;
use super::error::StoreError;
use super::few::Few;
use super::id::{Lane, MessageId, QueueId};
use super::operation::Receiver;

/// All durable queues.
#[derive(Debug, Default)]
pub(super) struct Index {
    queues: HashMap<QueueId, QueueIndex>,
    /// Open receivers of messages that have more than one; any other stored message has one.
    open: HashMap<MessageId, u32>,
    /// Messages of queues that ended, still to be counted down.
    ended: VecDeque<MessageId>,
}

#[derive(Debug, Default)]
struct QueueIndex {
    /// Few: one for each shard that published.
    lanes: Vec<LaneIndex>,
    adopted: BTreeSet<MessageId>,
}

/// The messages of one lane in one queue.
#[derive(Debug, Default)]
struct LaneIndex {
    lane: Lane,
    /// Everything up to here is settled.
    floor: u64,
    /// Rising. Holds what is open, and behind the first what is settled too.
    waiting: VecDeque<MessageId>,
    /// Settled above the floor; whether there may be a row that says so.
    settled: BTreeMap<MessageId, bool>,
}

impl Index {
    /// A session or named queue begins; nothing changes if it is there.
    pub(super) fn add_queue(&mut self, queue: QueueId) {
        self.queues.entry(queue).or_default();
    }

    pub(super) fn has_queue(&self, queue: QueueId) -> bool {
        self.queues.contains_key(&queue)
    }

    /// A cursor found at start.
    pub(super) fn restore_floor(&mut self, queue: QueueId, lane: Lane, floor: u64) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.lane(lane).floor = floor;
        }
    }

    /// An exception found at start.
    pub(super) fn restore_settled(&mut self, queue: QueueId, id: MessageId) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.lane(id.lane()).settled.insert(id, true);
        }
    }

    /// A message found at start, with those who took it over; answers who has not settled it.
    pub(super) fn restore_message<'a>(
        &mut self,
        id: MessageId,
        receivers: &'a [Receiver],
        adopted_by: &'a [Receiver],
    ) -> Vec<&'a Receiver> {
        let mut open = Vec::new();
        for receiver in receivers {
            if let Some(queue) = self.queues.get_mut(&receiver.queue)
                && queue.lane(id.lane()).restore(id)
            {
                open.push(receiver);
            }
        }
        for receiver in adopted_by {
            if let Some(queue) = self.queues.get_mut(&receiver.queue)
                && queue.adopted.insert(id)
            {
                open.push(receiver);
            }
        }
        self.count_open(id, open.len());
        open
    }

    /// A new message; receivers whose queue has ended are left out. False if nobody is left.
    pub(super) fn add_message(
        &mut self,
        id: MessageId,
        receivers: &mut Few<Receiver>,
    ) -> Result<bool, StoreError> {
        receivers.retain(|receiver| self.queues.contains_key(&receiver.queue));
        for receiver in receivers.as_slice() {
            let Some(queue) = self.queues.get_mut(&receiver.queue) else {
                continue;
            };
            let lane = queue.lane(id.lane());
            let newest = lane.waiting.back().map_or(lane.floor, |last| last.0);
            if newest >= id.0 {
                return Err(StoreError::Misuse(
                    "message identifiers of a lane do not rise, or a receiver is named twice",
                ));
            }
            lane.waiting.push_back(id);
        }
        self.count_open(id, receivers.len());
        Ok(!receivers.is_empty())
    }

    /// A receiver is done. One that is unknown, or was done already, changes nothing.
    pub(super) fn settle(&mut self, queue_id: QueueId, id: MessageId, changes: &mut Changes) {
        let Some(queue) = self.queues.get_mut(&queue_id) else {
            return;
        };
        if queue.adopted.remove(&id) {
            changes.remove_adopted(queue_id, id);
            self.release(id, changes);
            return;
        }
        if !queue.lane(id.lane()).is_open(id) {
            return;
        }
        let is_last = !self.open.contains_key(&id);
        queue.settle(queue_id, id, !is_last, changes);
        self.release(id, changes);
    }

    /// The receiver `to` takes over what `from` has not settled; false if that is not so.
    pub(super) fn move_message(
        &mut self,
        id: MessageId,
        from: QueueId,
        to: &Receiver,
        changes: &mut Changes,
    ) -> bool {
        let target = self.queues.get_mut(&to.queue);
        if target.is_none_or(|queue| queue.has_open(id)) {
            return false;
        }
        let Some(queue) = self.queues.get_mut(&from) else {
            return false;
        };
        if queue.adopted.remove(&id) {
            changes.remove_adopted(from, id);
        } else if queue.lane(id.lane()).is_open(id) {
            queue.settle(from, id, true, changes);
        } else {
            return false;
        }
        if let Some(queue) = self.queues.get_mut(&to.queue) {
            queue.adopted.insert(id);
        }
        changes.put_adopted(id, to);
        true
    }

    /// Settles everything that waits in a queue, which goes on.
    pub(super) fn purge(&mut self, queue_id: QueueId, changes: &mut Changes) {
        let Some(queue) = self.queues.get_mut(&queue_id) else {
            return;
        };
        for id in std::mem::take(&mut queue.adopted) {
            changes.remove_adopted(queue_id, id);
            self.ended.push_back(id);
        }
        for lane in &mut queue.lanes {
            // What was settled before the start is not in `waiting`.
            let newest = lane.waiting.back().copied();
            let newest = newest.max(lane.settled.keys().next_back().copied());
            if let Some(newest) = newest {
                lane.floor = lane.floor.max(newest.0);
                changes.raise_cursor_always(queue_id, lane.lane, lane.floor);
            }
            for id in lane.waiting.drain(..) {
                if !lane.settled.contains_key(&id) {
                    self.ended.push_back(id);
                }
            }
            for (id, has_row) in std::mem::take(&mut lane.settled) {
                if has_row {
                    changes.remove_settled(queue_id, id);
                }
            }
        }
    }

    /// A queue ends; its rows go at once, its messages later.
    pub(super) fn remove_queue(&mut self, queue_id: QueueId, changes: &mut Changes) {
        let Some(queue) = self.queues.remove(&queue_id) else {
            return;
        };
        changes.remove_queue(queue_id);
        self.ended.extend(queue.adopted);
        for lane in queue.lanes {
            let settled = lane.settled;
            let open = lane.waiting.into_iter();
            self.ended
                .extend(open.filter(|id| !settled.contains_key(id)));
        }
    }

    /// Counts down some messages of queues that ended.
    pub(super) fn release_ended(&mut self, count_max: usize, changes: &mut Changes) {
        for _ in 0..count_max {
            let Some(id) = self.ended.pop_front() else {
                break;
            };
            self.release(id, changes);
        }
        if self.ended.is_empty() {
            self.ended = VecDeque::new();
        }
    }

    /// Whether [`Index::release_ended`] has something to do.
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// A message that could not be written is settled by all who have not.
    pub(super) fn forget(&mut self, id: MessageId, receivers: &[Receiver]) {
        // Its rows do not exist: what this would change is of no interest.
        let mut ignored = Changes::default();
        for receiver in receivers {
            self.settle(receiver.queue, id, &mut ignored);
        }
    }

    fn release(&mut self, id: MessageId, changes: &mut Changes) {
        match self.open.get_mut(&id) {
            None => changes.remove_message(id),
            Some(2) => {
                self.open.remove(&id);
            }
            Some(count) => *count -= 1,
        }
    }

    fn count_open(&mut self, id: MessageId, count: usize) {
        if count > 1 {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.open.insert(id, count);
        }
    }
}

impl QueueIndex {
    fn lane(&mut self, lane: Lane) -> &mut LaneIndex {
        let index = match self.lanes.iter().position(|it| it.lane == lane) {
            Some(index) => index,
            None => {
                self.lanes.push(LaneIndex {
                    lane,
                    ..LaneIndex::default()
                });
                self.lanes.len() - 1
            }
        };
        &mut self.lanes[index]
    }

    fn has_open(&mut self, id: MessageId) -> bool {
        self.adopted.contains(&id) || self.lane(id.lane()).is_open(id)
    }

    /// `has_others`: the row of the message stays, so that something has to say it is settled here.
    fn settle(&mut self, queue: QueueId, id: MessageId, has_others: bool, changes: &mut Changes) {
        let lane = self.lane(id.lane());
        if lane.waiting.front() != Some(&id) {
            lane.settled.insert(id, has_others);
            if has_others {
                changes.put_settled(queue, id);
            }
            return;
        }
        lane.waiting.pop_front();
        lane.floor = id.0;
        if has_others {
            changes.raise_cursor(queue, lane.lane, lane.floor, id);
        }
        lane.advance(queue, changes);
    }
}

impl LaneIndex {
    fn is_open(&self, id: MessageId) -> bool {
        self.waiting.binary_search(&id).is_ok() && !self.settled.contains_key(&id)
    }

    fn restore(&mut self, id: MessageId) -> bool {
        let is_open = id.0 > self.floor && !self.settled.contains_key(&id);
        if is_open {
            self.waiting.push_back(id);
        }
        is_open
    }

    /// Moves the floor past what was settled out of order.
    fn advance(&mut self, queue: QueueId, changes: &mut Changes) {
        while let Some(first) = self.waiting.front()
            && self.settled.contains_key(first)
        {
            self.waiting.pop_front();
        }
        let bound = self.waiting.front().copied();
        while let Some(entry) = self.settled.first_entry()
            && bound.is_none_or(|bound| *entry.key() < bound)
        {
            let (id, has_row) = entry.remove_entry();
            self.floor = self.floor.max(id.0);
            if has_row {
                changes.remove_settled(queue, id);
                changes.raise_cursor(queue, self.lane, self.floor, id);
            }
        }
        if self.waiting.is_empty() && self.waiting.capacity() > WAITING_KEPT {
            self.waiting = VecDeque::new();
        }
    }
}

/// An empty queue keeps no more room than this.
const WAITING_KEPT: usize = 64;
