//! Cursors, exceptions and elision.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidewire::store::{MessageId, Operation, QueueId, tools};

use tidewire::clock::Clock;
use tidewire::config::{Limits, StoreConfig};

use super::support::{Directory, Open, config, open, put_message, receiver, settle, try_open};

#[test]
fn a_message_that_all_settle_in_its_own_batch_is_never_written() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let (one, two) = (store.session("one"), store.session("two"));
    let commits_before = store.store.status().commits;
    let mut operations = Vec::new();
    for _ in 0..100 {
        let id = store.ids.next_id();
        operations.push(put_message(id, b"x", &[one, two]));
        operations.push(settle(two, id));
        operations.push(settle(one, id));
    }
    store.commit(operations);
    assert_eq!(store.store.status().commits, commits_before);
    drop(store);
    let info = tools::info(&directory.0).expect("a store");
    assert_eq!(
        (
            info.rows("messages"),
            info.rows("cursors"),
            info.rows("settled")
        ),
        (0, 0, 0)
    );
}

#[test]
fn who_waits_for_each_commit_does_not_wait_for_the_interval() {
    let directory = Directory::new();
    let config = StoreConfig {
        commit_interval_milliseconds: 1_000,
        ..config(&directory.0)
    };
    let mut store = try_open(&config, &Limits::default()).expect("a store");
    let queue = store.session("one");
    let clock = Clock::start();
    let ids: Vec<_> = (0..20).map(|_| store.ids.next_id()).collect();
    for id in &ids {
        store.commit(vec![put_message(*id, b"x", &[queue])]);
    }
    assert!(clock.now_ms() < 10_000, "{} ms", clock.now_ms());
    // Nobody waits for settlements: they wait for company.
    let commits_before = store.store.status().commits;
    for id in ids {
        store.submit(vec![settle(queue, id)]);
    }
    let id = store.ids.next_id();
    store.commit(vec![put_message(id, b"x", &[queue])]);
    assert!(store.store.status().commits <= commits_before + 2);
}

#[test]
fn a_cursor_is_written_only_for_messages_that_others_wait_for() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let (one, two) = (store.session("one"), store.session("two"));
    let ids: Vec<_> = (0..5).map(|_| store.ids.next_id()).collect();
    store.commit(
        ids.iter()
            .map(|id| put_message(*id, b"x", &[one, two]))
            .collect(),
    );
    let lone = store.ids.next_id();
    store.commit(vec![put_message(lone, b"x", &[two])]);
    // In order, then out of order.
    store.commit(vec![settle(one, ids[0]), settle(one, ids[3])]);
    store.commit(vec![settle(two, lone)]);
    let mut store = store.reopen(&directory);
    assert_eq!(store.waiting(one), [ids[1], ids[2], ids[4]]);
    assert_eq!(store.waiting(two), &ids[..]);
    store.commit(vec![settle(one, ids[1]), settle(one, ids[2])]);
    drop(store);
    let info = tools::info(&directory.0).expect("a store");
    // The cursor of `one` passed its exception, and `two` settled nothing that stayed.
    assert_eq!(
        (
            info.rows("messages"),
            info.rows("cursors"),
            info.rows("settled")
        ),
        (5, 1, 0)
    );
}

#[test]
fn a_message_moves_to_another_queue_and_is_settled_there() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let (group, member) = (store.session("group"), store.session("member"));
    let ids: Vec<_> = (0..3).map(|_| store.ids.next_id()).collect();
    store.commit(
        ids.iter()
            .map(|id| put_message(*id, b"x", &[group]))
            .collect(),
    );
    let newer = store.ids.next_id();
    store.commit(vec![put_message(newer, b"x", &[member])]);
    store.commit(vec![settle(member, newer)]);
    store.commit(vec![Operation::Move {
        id: ids[1],
        from: group,
        to: receiver(member),
    }]);
    let mut store = store.reopen(&directory);
    assert_eq!(store.waiting(group), [ids[0], ids[2]]);
    assert_eq!(store.waiting(member), [ids[1]]);
    assert_eq!(store.load(member, &ids).len(), 1);
    store.commit(vec![settle(member, ids[1])]);
    let store = store.reopen(&directory);
    assert!(store.waiting(member).is_empty());
    assert_eq!(store.waiting(group), [ids[0], ids[2]]);
}

#[test]
fn a_purged_queue_is_empty_and_goes_on() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let (one, two) = (store.session("one"), store.session("two"));
    let ids: Vec<_> = (0..5_000).map(|_| store.ids.next_id()).collect();
    store.commit(
        ids.iter()
            .map(|id| put_message(*id, b"x", &[one, two]))
            .collect(),
    );
    store.commit(vec![Operation::Purge { queue: one }]);
    let later = store.ids.next_id();
    store.commit(vec![put_message(later, b"x", &[one])]);
    let mut store = store.reopen(&directory);
    assert_eq!(store.waiting(one), [later]);
    assert_eq!(store.waiting(two).len(), 5_000);
    store.commit(vec![Operation::Purge { queue: two }]);
    drop(store);
    let info = tools::info(&directory.0).expect("a store");
    assert_eq!(info.rows("messages"), 1);
}

#[test]
fn a_purge_covers_what_was_settled_out_of_order_before_the_start() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let (one, two) = (store.session("one"), store.session("two"));
    let ids: Vec<_> = (0..2).map(|_| store.ids.next_id()).collect();
    store.commit(
        ids.iter()
            .map(|id| put_message(*id, b"x", &[one, two]))
            .collect(),
    );
    store.commit(vec![settle(one, ids[1])]);
    let mut store = store.reopen(&directory);
    store.commit(vec![Operation::Purge { queue: one }]);
    let store = store.reopen(&directory);
    assert!(store.waiting(one).is_empty());
    assert_eq!(store.waiting(two), ids);
}

/// Who has not settled what, kept in the plainest way.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<QueueId, BTreeSet<MessageId>>,
}

#[derive(Clone, Debug)]
enum Act {
    Put(u8),
    Settle(usize, usize),
    Move(usize, usize, usize),
    Purge(usize),
    Remove(usize),
    Commit,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let any = || any::<usize>();
    prop_oneof![
        12 => (1u8..16).prop_map(Act::Put),
        20 => (any(), any()).prop_map(|(queue, message)| Act::Settle(queue, message)),
        3 => (any(), any(), any()).prop_map(|(from, to, message)| Act::Move(from, to, message)),
        1 => any().prop_map(Act::Purge),
        1 => any().prop_map(Act::Remove),
        6 => Just(Act::Commit),
        2 => Just(Act::Reopen),
    ]
}

/// Four queues that are always there: an ended one is replaced.
struct Run {
    directory: Directory,
    store: Open,
    queues: [QueueId; 4],
    model: Model,
    batch: Vec<Operation>,
}

impl Run {
    fn new() -> Self {
        let directory = Directory::new();
        let mut store = open(&directory);
        let queues = ["a", "b", "c", "d"].map(|name| store.session(name));
        let mut model = Model::default();
        for queue in queues {
            model.waiting.insert(queue, BTreeSet::new());
        }
        Self {
            directory,
            store,
            queues,
            model,
            batch: Vec::new(),
        }
    }

    fn pick(&self, queue: usize, message: usize) -> (QueueId, Option<MessageId>) {
        let queue = self.queues[queue % 4];
        let waiting = &self.model.waiting[&queue];
        let count = waiting.len();
        // Mostly near the front, as acknowledgements come.
        let at = if message.is_multiple_of(3) {
            message % count.max(1)
        } else {
            message % 2
        };
        (queue, waiting.iter().nth(at).copied())
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Put(bits) => {
                let id = self.store.ids.next_id();
                let queues: Vec<_> = (0..4)
                    .filter(|it| bits >> it & 1 == 1)
                    .map(|it| self.queues[it])
                    .collect();
                for queue in &queues {
                    self.model.waiting.entry(*queue).or_default().insert(id);
                }
                self.batch
                    .push(put_message(id, &id.0.to_be_bytes(), &queues));
            }
            Act::Settle(queue, message) => {
                let (queue, Some(id)) = self.pick(queue, message) else {
                    return;
                };
                self.model.waiting.entry(queue).or_default().remove(&id);
                self.batch.push(settle(queue, id));
                self.batch.push(settle(queue, id));
            }
            Act::Move(from, to, message) => {
                let (from, Some(id)) = self.pick(from, message) else {
                    return;
                };
                let to = self.queues[to % 4];
                if self.model.waiting[&to].contains(&id) {
                    return;
                }
                self.model.waiting.entry(from).or_default().remove(&id);
                self.model.waiting.entry(to).or_default().insert(id);
                let to = receiver(to);
                self.batch.push(Operation::Move { id, from, to });
            }
            Act::Purge(queue) => {
                let queue = self.queues[queue % 4];
                self.model.waiting.entry(queue).or_default().clear();
                self.batch.push(Operation::Purge { queue });
            }
            Act::Remove(queue) => {
                let at = queue % 4;
                let queue = self.queues[at];
                self.model.waiting.remove(&queue);
                self.batch.push(Operation::RemoveSession { queue });
                self.commit();
                self.queues[at] = self.store.session("new");
                self.model.waiting.insert(self.queues[at], BTreeSet::new());
            }
            Act::Commit => self.commit(),
            Act::Reopen => unreachable!("done by the caller"),
        }
    }

    fn commit(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.store.commit(batch);
    }

    fn reopen(mut self) -> Self {
        self.commit();
        self.store = self.store.reopen(&self.directory);
        for (queue, expected) in &self.model.waiting {
            let expected: Vec<_> = expected.iter().copied().collect();
            assert_eq!(self.store.waiting(*queue), expected, "{queue:?}");
        }
        let kept: BTreeSet<_> = self.model.waiting.values().flatten().collect();
        for queue in self.queues {
            let ids: Vec<_> = self.model.waiting[&queue].iter().copied().collect();
            let loaded = self.store.load(queue, &ids);
            assert_eq!(loaded.len(), ids.len());
            assert!(
                loaded
                    .iter()
                    .all(|it| it.message.payload() == it.id.0.to_be_bytes())
            );
        }
        self.store.store.close();
        let info = tools::info(&self.directory.0).expect("a store");
        assert_eq!(info.rows("messages"), kept.len() as u64);
        self.store = open(&self.directory);
        self
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn queues_are_what_a_plain_model_says(acts in proptest::collection::vec(act(), 1..150)) {
        let mut run = Run::new();
        for act in &acts {
            run = match act {
                Act::Reopen => run.reopen(),
                act => { run.act(act); run }
            };
        }
        run.reopen();
    }
}
