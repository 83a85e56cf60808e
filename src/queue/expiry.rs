//! Takes expired messages out of a queue wherever they wait, some at a time.

use std::collections::VecDeque;

use super::{Queue, Stored, Waiting};

/// How far the search for expired messages is.
#[derive(Debug)]
pub(super) struct ExpirySweep {
    /// When the first of those expires that were not looked at; `u64::MAX` if none does.
    first_ms: u64,
    /// So many at the front were looked at.
    looked_at: u32,
    /// The owner has a timer.
    is_armed: bool,
}

impl Default for ExpirySweep {
    fn default() -> Self {
        Self {
            first_ms: u64::MAX,
            looked_at: 0,
            is_armed: false,
        }
    }
}

impl ExpirySweep {
    /// A message that expires then waits.
    pub(super) fn note(&mut self, expires_at_ms: Option<u64>) {
        self.first_ms = self.first_ms.min(expires_at_ms.unwrap_or(u64::MAX));
    }

    /// So many left before the place that the search has reached, or may have.
    pub(super) fn count_out(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.looked_at = self.looked_at.saturating_sub(count);
    }
}

impl Queue {
    /// When [`Queue::drop_expired`] has to be called, if that is not known already.
    pub fn arm_expiry(&mut self, now_ms: u64) -> Option<u64> {
        if self.sweep.is_armed || self.sweep.first_ms == u64::MAX {
            return None;
        }
        self.sweep.is_armed = true;
        Some(
            self.sweep
                .first_ms
                .clamp(now_ms + PAUSE_MS_MIN, now_ms + PAUSE_MS_MAX),
        )
    }

    /// Drops what has expired of the next few thousand messages; answers when to call again.
    pub fn drop_expired(&mut self, now_ms: u64) -> Option<u64> {
        self.sweep.is_armed = false;
        let ready = self.deliveries.len();
        let from = (self.sweep.looked_at as usize).min(self.len());
        if from == 0 {
            self.sweep.first_ms = u64::MAX;
        }
        let to = (from + LOOKED_AT_MAX).min(self.len());
        let dropped = self.drop_ready(from.min(ready), to.min(ready), now_ms)
            + self.drop_waiting(from.saturating_sub(ready), to.saturating_sub(ready), now_ms);
        let looked_at = to - dropped;
        if looked_at < self.len() {
            self.sweep.looked_at = u32::try_from(looked_at).unwrap_or(0);
            self.sweep.is_armed = true;
            return Some(now_ms + PACE_MS);
        }
        self.sweep.looked_at = 0;
        self.arm_expiry(now_ms)
    }

    fn drop_ready(&mut self, from: usize, to: usize, now_ms: u64) -> usize {
        let (sweep, bytes, dropped) = (&mut self.sweep, &mut self.bytes, &mut self.dropped);
        remove_between(&mut self.deliveries, from, to, |_, delivery| {
            let is_over = delivery.message.is_expired(now_ms);
            if is_over {
                *bytes -= delivery.message.bytes();
                dropped.extend(delivery.stored);
            } else {
                sweep.note(delivery.message.expires_at_ms());
            }
            is_over
        })
    }

    /// Those that the reader was asked for are on their way, and looked at when they are sent.
    fn drop_waiting(&mut self, from: usize, to: usize, now_ms: u64) -> usize {
        let Some(queue) = self.backlog.store() else {
            return 0;
        };
        let (sweep, bytes, dropped) = (&mut self.sweep, &mut self.bytes, &mut self.dropped);
        self.backlog.remove_between(from, to, |waiting| {
            let expires_at_ms = expires_at_ms(waiting);
            let is_over = expires_at_ms.is_some_and(|it| it <= now_ms);
            if !is_over {
                sweep.note(expires_at_ms);
                return false;
            }
            *bytes -= waiting.bytes as usize;
            dropped.push(Stored {
                queue,
                id: waiting.id,
                order: waiting.id,
            });
            true
        })
    }
}

/// Removes what `is_over` of the places from `from` to `to`, and answers how many those were.
pub(super) fn remove_between<T>(
    queue: &mut VecDeque<T>,
    from: usize,
    to: usize,
    mut is_over: impl FnMut(usize, &T) -> bool,
) -> usize {
    let mut kept = from;
    for at in from..to {
        if queue.get(at).is_some_and(|it| !is_over(at, it)) {
            queue.swap(kept, at);
            kept += 1;
        }
    }
    queue.drain(kept..to);
    to - kept
}

/// Seconds of the clock, rounded up; [`NEVER`] if it does not expire.
pub(super) fn seconds_of(expires_at_ms: Option<u64>) -> u32 {
    let seconds = expires_at_ms.map(|it| u32::try_from(it.div_ceil(1_000)));
    seconds.and_then(Result::ok).unwrap_or(NEVER)
}

fn expires_at_ms(waiting: &Waiting) -> Option<u64> {
    let seconds = waiting.expires_at_seconds;
    (seconds != NEVER).then_some(u64::from(seconds) * 1_000)
}

const NEVER: u32 = u32::MAX;
/// Messages looked at in one turn of the shard.
const LOOKED_AT_MAX: usize = 4_096;
/// Between two such turns.
const PACE_MS: u64 = 5;
/// From the end of a search to the next, so that many messages are dropped at once.
const PAUSE_MS_MIN: u64 = 1_000;
/// A search does not wait longer, whatever it knows.
const PAUSE_MS_MAX: u64 = 60_000;

#[cfg(test)]
mod tests {
    use tidewire_protocol::codec::QoS;

    use super::*;
    use crate::config::Limits;
    use crate::message::{Header, Message};
    use crate::queue::Delivery;
    use crate::store::{MessageId, QueueId, RecoveredMessage, Ticket};

    /// A message that expires at this second, or never.
    fn delivery(id: u64, expires_at_seconds: Option<u64>) -> Delivery {
        let header = Header {
            expires_at_ms: expires_at_seconds.map(|it| it * 1_000),
            ..Header::default()
        };
        let id = MessageId(id);
        Delivery {
            message: Message::new("a", &[], b"content", header),
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: None,
            group: None,
            stored: Some(Stored {
                queue: QueueId::of(7),
                id,
                order: id,
            }),
        }
    }

    /// Every third expires at 5 s, every fifth at 100 s; each hundred has a batch of its own.
    fn queue_of(count: u64) -> Queue {
        let limits = Limits {
            queue_messages_max: usize::MAX,
            queue_bytes_max: usize::MAX,
            ..Limits::default()
        };
        let mut queue = Queue::default();
        for id in 0..count {
            let seconds = match (id % 3, id % 5) {
                (0, _) => Some(5),
                (_, 0) => Some(100),
                _ => None,
            };
            queue.push(delivery(id, seconds), &limits, Ticket(id / 100 + 1));
        }
        queue
    }

    #[test]
    fn expired_messages_leave_wherever_they_wait_in_bounded_turns() {
        let count = 30_000;
        let mut queue = queue_of(count);
        assert_eq!(queue.arm_expiry(0), Some(5_000));
        assert_eq!(queue.arm_expiry(0), None);
        let mut now_ms = 5_000;
        let mut turns = 0;
        let mut dropped = Vec::new();
        while let Some(next_ms) = queue.drop_expired(now_ms) {
            let part = queue.take_dropped();
            assert!(part.len() <= LOOKED_AT_MAX);
            dropped.extend(part.into_iter().map(|it| it.id.0));
            turns += 1;
            if next_ms > now_ms + PACE_MS {
                assert_eq!(next_ms, now_ms + PAUSE_MS_MAX);
                break;
            }
            now_ms = next_ms;
        }
        assert!(turns >= 7, "{turns} turns");
        let expected: Vec<u64> = (0..count).filter(|id| id % 3 == 0).collect();
        assert_eq!(dropped, expected);
        assert_eq!(queue.len() as u64, count - count / 3);
        // What is left can be read back behind the batches that brought it.
        while queue.next(now_ms).is_some() {}
        let (ids, fence) = queue.to_load(Ticket(2)).expect("a backlog");
        assert_eq!(fence, Ticket(1));
        assert!(ids.iter().all(|it| it.0 < 200 && it.0 % 3 != 0));
        assert_eq!(ids[0], MessageId(64));
    }

    #[test]
    fn what_moves_up_while_a_search_goes_on_is_looked_at_too() {
        let count = 10_000;
        let mut queue = queue_of(count);
        queue.arm_expiry(0);
        let mut next_ms = queue.drop_expired(5_000);
        let sent = std::iter::from_fn(|| queue.next(5_000)).count() as u64;
        assert!(sent > 40, "{sent}");
        while let Some(now_ms) = next_ms.filter(|it| *it < 6_000) {
            next_ms = queue.drop_expired(now_ms);
        }
        let expired = count.div_ceil(3);
        assert_eq!(queue.len() as u64, count - expired - sent);
    }

    #[test]
    fn what_was_being_read_back_during_a_search_expires_too() {
        let mut queue = Queue::default();
        let messages = (1..=3).map(|id| RecoveredMessage {
            id: MessageId(id),
            bytes: 8,
        });
        let expiring = [(MessageId(1), 9_000), (MessageId(3), 5_000)];
        queue.restore(QueueId::of(7), messages, &expiring);
        assert_eq!(queue.arm_expiry(0), Some(5_000));
        queue.begin_load(2);
        assert_eq!(queue.drop_expired(5_000), None);
        queue.end_load(vec![delivery(1, Some(9)), delivery(2, None)]);
        assert_eq!(queue.arm_expiry(5_000), Some(9_000));
        queue.drop_expired(9_000);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn what_a_group_gets_back_after_a_search_expires_too() {
        let mut queue = Queue::default();
        let limits = Limits::default();
        queue.push(delivery(1, Some(9)), &limits, Ticket(1));
        queue.arm_expiry(0);
        let lent = queue.next(0).expect("a message");
        assert_eq!(queue.drop_expired(5_000), None);
        queue.push_front(vec![lent]);
        assert_eq!(queue.arm_expiry(5_000), Some(9_000));
    }

    #[test]
    fn a_queue_without_expiry_is_never_looked_through() {
        let mut queue = Queue::default();
        queue.push(delivery(1, None), &Limits::default(), Ticket(1));
        assert_eq!(queue.arm_expiry(0), None);
        assert_eq!(queue.drop_expired(0), None);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn what_an_earlier_process_has_left_expires_too() {
        let mut queue = Queue::default();
        let messages = (1..=4).map(|id| RecoveredMessage {
            id: MessageId(id),
            bytes: 8,
        });
        let expiring = [(MessageId(2), 3_000), (MessageId(4), 9_000)];
        queue.restore(QueueId::of(7), messages, &expiring);
        assert_eq!(queue.arm_expiry(0), Some(3_000));
        assert_eq!(queue.drop_expired(3_000), Some(9_000));
        assert_eq!(queue.take_dropped().len(), 1);
        assert_eq!(queue.drop_expired(9_000), None);
        let (ids, _) = queue.to_load(Ticket(0)).expect("a backlog");
        assert_eq!(ids, [MessageId(1), MessageId(3)]);
    }
}
