//! Expired messages leave the queues in which they wait, a few thousand at a time.

use super::timers::Timer;
use super::{Key, Shard};
use crate::exchange::GroupId;

impl Shard {
    /// Sets a timer if something in the queue of a session expires and there is none.
    pub(super) fn watch_expiry(&mut self, key: Key, now_ms: u64) {
        let session = self.sessions.lookup_mut(key);
        let due_ms = session.and_then(|it| it.queue.arm_expiry(now_ms));
        self.watch(due_ms, Timer::QueueExpiry(key));
    }

    /// Sets a timer if something is due.
    pub(super) fn watch(&mut self, due_ms: Option<u64>, timer: Timer) {
        if let Some(due_ms) = due_ms {
            self.timers.add(due_ms, timer);
        }
    }

    /// As [`Shard::watch_expiry`], for a share group.
    pub(super) fn watch_expiry_of_group(&mut self, id: GroupId, now_ms: u64) {
        let group = self.groups.get_mut(&id);
        let due_ms = group.and_then(|it| it.waiting.arm_expiry(now_ms));
        self.watch(due_ms, Timer::GroupExpiry(id));
    }

    pub(super) fn drop_expired(&mut self, key: Key, now_ms: u64) {
        let Some(session) = self.sessions.lookup_mut(key) else {
            return;
        };
        let next_ms = session.queue.drop_expired(now_ms);
        self.settle_dropped(key);
        self.watch(next_ms, Timer::QueueExpiry(key));
    }

    pub(super) fn drop_expired_of_group(&mut self, id: GroupId, now_ms: u64) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let next_ms = group.waiting.drop_expired(now_ms);
        for stored in group.waiting.take_dropped() {
            self.settle_stored(Some(stored));
        }
        self.watch(next_ms, Timer::GroupExpiry(id));
    }
}
