//! Where messages are received from, and which of these places is being asked.
//!
//! A proxy holds a question open until there is a message, so each place has a question of its own,
//! and more of them as long as answers are full. Together they ask for no more than there is room
//! for.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::session::Spot;
use super::wire::MessageQueue;

/// The places of a consumer.
#[derive(Debug, Default)]
pub(super) struct Polls {
    polls: BTreeMap<Spot, Poll>,
    /// Messages that open questions may bring.
    asked: usize,
}

/// What receives from one place.
#[derive(Debug)]
struct Poll {
    queue: MessageQueue,
    running: usize,
    /// How many questions may be open at once.
    running_max: usize,
    not_before: Option<Instant>,
}

/// A question that is to be asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) spot: Spot,
    pub(super) queue: MessageQueue,
    /// The most messages that it may bring.
    pub(super) asked: usize,
}

impl Polls {
    /// Receives from these places from now on.
    pub(super) fn follow(&mut self, spots: BTreeMap<Spot, MessageQueue>) {
        self.polls
            .retain(|spot, poll| poll.running > 0 || spots.contains_key(spot));
        for (spot, queue) in spots {
            self.polls.entry(spot).or_insert(Poll {
                queue,
                running: 0,
                running_max: 1,
                not_before: None,
            });
        }
    }

    /// The next question, if there is room for what it may bring.
    pub(super) fn next(&mut self, room: usize, now: Instant) -> Option<Question> {
        let asked = room.saturating_sub(self.asked).min(BATCH_MAX);
        let may_ask = |poll: &Poll| {
            poll.running < poll.running_max && poll.not_before.is_none_or(|it| it <= now)
        };
        let idle = self.polls.iter_mut().filter(|(_, poll)| may_ask(poll));
        let idle = idle.min_by_key(|(_, poll)| poll.running);
        let (spot, poll) = idle.filter(|_| asked > 0)?;
        poll.running += 1;
        self.asked += asked;
        Some(Question {
            spot: spot.clone(),
            queue: poll.queue.clone(),
            asked,
        })
    }

    /// A question for so many messages was answered with so many; after a refusal that may pass the
    /// place rests.
    pub(super) fn answered(
        &mut self,
        spot: &Spot,
        asked: usize,
        came: usize,
        rests_from: Option<Instant>,
    ) {
        self.asked -= asked;
        if let Some(poll) = self.polls.get_mut(spot) {
            poll.running -= 1;
            poll.running_max = match came {
                0 => 1,
                came if came == asked => (poll.running_max + 1).min(RUNNING_MAX),
                _ => poll.running_max,
            };
            poll.not_before = rests_from.map(|it| it + PAUSE);
        }
    }
}

/// After a refusal that may pass.
const PAUSE: Duration = Duration::from_secs(1);
/// Messages that one question may bring; servers refuse more than 32.
const BATCH_MAX: usize = 32;
/// Questions to one place at once.
const RUNNING_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn polls(topics: &[&str]) -> Polls {
        let mut polls = Polls::default();
        let spots = topics.iter().map(|topic| {
            let spot = ((*topic).to_owned(), "broker".to_owned());
            (spot, MessageQueue::default())
        });
        polls.follow(spots.collect());
        polls
    }

    #[test]
    fn each_place_is_asked_once_at_a_time_and_for_no_more_than_there_is_room_for() {
        let (mut polls, now) = (polls(&["a", "b", "c"]), Instant::now());
        let first = polls.next(40, now).unwrap();
        assert_eq!((&*first.spot.0, first.asked), ("a", 32));
        let second = polls.next(40, now).unwrap();
        assert_eq!((&*second.spot.0, second.asked), ("b", 8));
        assert!(polls.next(40, now).is_none());
        polls.answered(&first.spot, 32, 1, None);
        assert_eq!(polls.next(40, now).unwrap().spot, first.spot);
    }

    #[test]
    fn a_place_that_refuses_rests_and_the_others_are_asked() {
        let (mut polls, now) = (polls(&["a", "b"]), Instant::now());
        let first = polls.next(9, now).unwrap();
        polls.answered(&first.spot, first.asked, 0, Some(now));
        assert_eq!(polls.next(1, now).unwrap().spot.0, "b");
        assert!(polls.next(9, now).is_none());
        assert_eq!(polls.next(9, now + PAUSE).unwrap().spot, first.spot);
    }

    #[test]
    fn a_place_that_is_gone_is_asked_no_more() {
        let (mut polls, now) = (polls(&["a", "b"]), Instant::now());
        let first = polls.next(9, now).unwrap();
        polls.follow(BTreeMap::new());
        polls.answered(&first.spot, first.asked, 0, None);
        polls.follow(BTreeMap::new());
        assert!(polls.next(9, now).is_none());
    }

    #[test]
    fn a_place_is_asked_several_times_at_once_as_long_as_answers_are_full() {
        let (mut polls, now) = (polls(&["a"]), Instant::now());
        let open = |polls: &mut Polls| std::iter::from_fn(|| polls.next(9_999, now)).count();
        let spot = ("a".to_owned(), "broker".to_owned());
        assert_eq!(open(&mut polls), 1);
        for _ in 0..20 {
            polls.answered(&spot, 32, 32, None);
            open(&mut polls);
        }
        assert_eq!(polls.asked, 32 * RUNNING_MAX);
        for _ in 0..RUNNING_MAX {
            polls.answered(&spot, 32, 0, None);
        }
        assert_eq!((polls.asked, open(&mut polls)), (0, 1));
    }
}
