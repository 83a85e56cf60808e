//! Which receivers are likely to settle a message before it would be written.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::id::QueueId;

/// Queues that have settled something; others are not waited for.
#[derive(Debug, Default)]
pub(super) struct PromptQueues {
    habits: HashMap<QueueId, Habit>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    is_prompt: bool,
    /// How often it was late lately.
    late_count: u32,
    late_at_us: u64,
    /// When it last settled something in time.
    settled_at_us: u64,
}

impl Habit {
    /// How long it is not waited for after it was late: the more often that was, the longer.
    fn penalty_us(self, patience_us: u64) -> u64 {
        patience_us << self.late_count.min(DOUBLINGS_MAX)
    }
}

impl PromptQueues {
    pub(super) fn contains(&self, queue: QueueId) -> bool {
        self.habits.get(&queue).is_some_and(|it| it.is_prompt)
    }

    /// It has settled a message that was written already: it is there, and may be faster.
    pub(super) fn settled_late(&mut self, queue: QueueId, now_us: u64, patience_us: u64) {
        let habit = self.habits.entry(queue).or_default();
        let is_free =
            habit.late_count == 0 || habit.late_at_us + habit.penalty_us(patience_us) <= now_us;
        habit.is_prompt |= is_free;
    }

    /// It has settled a message in time.
    pub(super) fn settled(&mut self, queue: QueueId, now_us: u64) {
        if let Some(habit) = self.habits.get_mut(&queue) {
            habit.settled_at_us = now_us;
        }
    }

    /// It has let a message wait for too long. If it has settled others since `busy_since_us`, it
    /// has much to do, and is no less worth waiting for.
    pub(super) fn was_late(
        &mut self,
        queue: QueueId,
        now_us: u64,
        patience_us: u64,
        busy_since_us: u64,
    ) {
        let Entry::Occupied(mut habit) = self.habits.entry(queue) else {
            return;
        };
        let habit = habit.get_mut();
        let forgotten_us = habit.late_at_us + habit.penalty_us(patience_us) * FORGOTTEN_AFTER;
        if !habit.is_prompt || habit.settled_at_us > busy_since_us {
            return;
        }
        *habit = Habit {
            is_prompt: false,
            late_count: match forgotten_us <= now_us {
                true => 1,
                false => habit.late_count + 1,
            },
            late_at_us: now_us,
            settled_at_us: habit.settled_at_us,
        };
    }

    /// It has ended.
    pub(super) fn remove(&mut self, queue: QueueId) {
        self.habits.remove(&queue);
    }
}

/// The longest penalty is so many doublings of the commit interval.
const DOUBLINGS_MAX: u32 = 10;
/// After so many penalties without being late again it begins anew.
const FORGOTTEN_AFTER: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE_US: u64 = 1_000;

    /// A queue that settles at once whatever it is sent late, over a second: how often it was
    /// waited for.
    fn waited_for(late_at_us: impl Fn(u64) -> bool) -> usize {
        let (mut queues, queue) = (PromptQueues::default(), QueueId::of(1));
        let mut count = 0;
        for now_us in (0..1_000_000).step_by(500) {
            if queues.contains(queue) {
                count += 1;
                if late_at_us(now_us) {
                    queues.was_late(queue, now_us, PATIENCE_US, now_us);
                }
            }
            queues.settled_late(queue, now_us, PATIENCE_US);
        }
        count
    }

    #[test]
    fn a_queue_that_is_always_late_is_soon_hardly_waited_for() {
        assert!((5..=12).contains(&waited_for(|_| true)));
    }

    #[test]
    fn a_queue_that_is_late_once_is_waited_for_again_soon() {
        assert!(waited_for(|now_us| now_us == 200_000) > 1_990);
    }

    #[test]
    fn a_queue_that_has_much_to_do_goes_on_being_waited_for() {
        let (mut queues, queue) = (PromptQueues::default(), QueueId::of(1));
        queues.settled_late(queue, 0, PATIENCE_US);
        queues.settled(queue, 2_500);
        queues.was_late(queue, 3_000, PATIENCE_US, 2_000);
        assert!(queues.contains(queue));
        queues.was_late(queue, 4_000, PATIENCE_US, 3_000);
        assert!(!queues.contains(queue));
    }

    #[test]
    fn a_queue_that_never_settles_is_not_waited_for() {
        let mut queues = PromptQueues::default();
        queues.was_late(QueueId::of(1), 0, PATIENCE_US, 0);
        assert!(!queues.contains(QueueId::of(1)));
        queues.settled_late(QueueId::of(1), 0, PATIENCE_US);
        assert!(queues.contains(QueueId::of(1)));
        queues.remove(QueueId::of(1));
        assert!(!queues.contains(QueueId::of(1)));
    }
}
