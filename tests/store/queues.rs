//! Cursors, exceptions and elision.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidewire::exchange::ShardId;
use tidewire::store::{
    Awaited, InFlightRecord, MessageId, Operation, QueueId, Report, Ticket, tools,
};
use tidewire_protocol::codec::{PacketId, QoS};

use tidewire::clock::Clock;
use tidewire::config::{Limits, StoreConfig};

use super::support::{Directory, Open, config, open, put_message, receiver, settle, try_open};

/// Rows of the messages, of the cursors and of the exceptions.
fn rows(directory: &Directory) -> (u64, u64, u64) {
    let info = tools::info(&directory.0).expect("a store");
    let [messages, cursors, settled] =
        ["messages", "cursors", "settled"].map(|table| info.rows(table));
    (messages, cursors, settled)
}

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
    assert_eq!(rows(&directory), (0, 0, 0));
}

#[test]
fn who_waits_for_each_commit_does_not_wait_for_the_interval() {
    let directory = Directory::new();
    let mut store = open_patient(&directory, 1_000);
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
    // The cursor of `one` passed its exception, and `two` settled nothing that stayed.
    assert_eq!(rows(&directory), (5, 1, 0));
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

fn sent(queue: QueueId, packet_id: u16, id: MessageId, qos: QoS) -> Operation {
    Operation::PutInFlight {
        queue,
        packet_id: PacketId::new(packet_id).expect("from 1"),
        in_flight: InFlightRecord {
            order: id,
            qos,
            message: Some(id),
        },
    }
}

fn freed(queue: QueueId, packet_id: u16) -> Operation {
    Operation::RemoveInFlight {
        queue,
        packet_id: PacketId::new(packet_id).expect("from 1"),
    }
}

/// Somebody is there and takes messages: the first of two still waits when this is over.
fn be_prompt(store: &mut Open, queues: &[QueueId]) -> MessageId {
    let ids = [store.ids.next_id(), store.ids.next_id()];
    for id in ids {
        store.commit(vec![put_message(id, b"x", queues)]);
    }
    let settled = queues.iter().map(|queue| settle(*queue, ids[1]));
    // The fence behind them has them written at once.
    store.submit(settled.collect());
    store.commit(Vec::new());
    ids[0]
}

const OTHER: ShardId = ShardId(1);

/// A store in which batches wait for so long for their receivers.
fn open_patient(directory: &Directory, interval_ms: u32) -> Open {
    let config = StoreConfig {
        commit_interval_milliseconds: interval_ms,
        ..config(&directory.0)
    };
    try_open(&config, &Limits::default()).expect("a store")
}

#[test]
fn what_a_prompt_receiver_settles_in_a_later_batch_is_not_written() {
    let directory = Directory::new();
    let mut store = open_patient(&directory, 60_000);
    let queue = store.session("one");
    let first = be_prompt(&mut store, &[queue]);
    let commits_before = store.store.status().commits;
    for _ in 0..100 {
        let id = store.ids.next_id();
        store.submit(vec![put_message(id, b"x", &[queue])]);
        store.commit(vec![settle(queue, id)]);
    }
    let status = store.store.status();
    assert_eq!((status.commits, status.pending_bytes), (commits_before, 0));
    let store = store.reopen(&directory);
    assert_eq!(store.waiting(queue), [first]);
}

#[test]
fn what_is_settled_in_the_batch_that_brought_it_is_not_written() {
    let directory = Directory::new();
    let mut store = open_patient(&directory, 60_000);
    let queue = store.session("one");
    let first = be_prompt(&mut store, &[queue]);
    let commits_before = store.store.status().commits;
    let id = store.ids.next_id();
    store.commit(vec![put_message(id, b"x", &[queue]), settle(queue, id)]);
    assert_eq!(store.store.status().commits, commits_before);
    let store = store.reopen(&directory);
    assert_eq!(store.waiting(queue), [first]);
}

#[test]
fn what_is_not_settled_in_time_is_written_and_answered() {
    let directory = Directory::new();
    let mut store = open_patient(&directory, 5);
    let (one, two) = (store.session("one"), store.session("two"));
    for _ in 0..4 {
        be_prompt(&mut store, &[one, two]);
        let id = store.ids.next_id();
        store.submit(vec![put_message(id, b"x", &[one, two])]);
        // Only one of them does, and the publisher is answered nevertheless.
        store.commit(vec![settle(one, id)]);
    }
    let store = store.reopen(&directory);
    assert_eq!(store.waiting(one).len(), 4);
    assert_eq!(store.waiting(two).len(), 8);
}

/// A store in which one batch waits for its receiver, and behind it one of another shard that is
/// settled; and what the first brought.
fn one_waits(directory: &Directory) -> (Open, QueueId, MessageId) {
    let mut store = open_patient(directory, 400);
    let queue = store.session("one");
    be_prompt(&mut store, &[queue]);
    let waiting = store.ids.next_id();
    store.submit(vec![put_message(waiting, b"x", &[queue])]);
    put_and_settle(&mut store, queue, Ticket(1));
    (store, queue, waiting)
}

fn put_and_settle(store: &mut Open, queue: QueueId, ticket: Ticket) {
    let id = store.ids.next_id();
    let batch = vec![put_message(id, b"x", &[queue]), settle(queue, id)];
    store.store.submit(OTHER, ticket, batch, Awaited::Answers);
}

/// The next report to each shard, in their order, but for batches that are only settled.
fn committed(store: &Open) -> Vec<(ShardId, Ticket)> {
    let reports = std::iter::repeat_with(|| match store.next_report_to() {
        (shard, Report::Committed { ticket, .. }) => Some((shard, ticket)),
        (_, Report::Settled { .. }) => None,
        other => unreachable!("{other:?}"),
    });
    let mut both: Vec<_> = reports.flatten().take(2).collect();
    both.sort_unstable();
    both
}

#[test]
fn a_batch_is_not_committed_before_what_other_shards_submitted_earlier() {
    let directory = Directory::new();
    let (mut store, queue, waiting) = one_waits(&directory);
    let commits_before = store.store.status().commits;
    let last = Ticket(store.ticket());
    assert_eq!(committed(&store), [(ShardId(0), last), (OTHER, Ticket(1))]);
    assert_eq!(store.store.status().commits, commits_before + 1);
    assert_eq!(store.load(queue, &[waiting]).len(), 1);
}

#[test]
fn a_settled_batch_is_answered_while_one_before_it_waits_for_its_receiver() {
    let directory = Directory::new();
    let (mut store, queue, waiting) = one_waits(&directory);
    let commits_before = store.store.status().commits;
    // The writer has told of its last commit, and is done with it.
    std::thread::sleep(std::time::Duration::from_millis(150));
    put_and_settle(&mut store, queue, Ticket(2));
    for number in 1..3 {
        let (shard, report) = store.next_report_to();
        let ticket = Ticket(number);
        assert!(shard == OTHER && matches!(report, Report::Settled { ticket: it } if it == ticket));
    }
    let last = store.submit(vec![settle(queue, waiting)]);
    for _ in 0..2 {
        let (shard, report) = store.next_report_to();
        // Whoever was answered need not be woken once more.
        let (number, is_awaited) = (if shard == OTHER { 2 } else { last.0 }, shard != OTHER);
        assert!(
            matches!(report, Report::Committed { ticket, is_awaited: it }
            if ticket == Ticket(number) && it == is_awaited)
        );
    }
    assert_eq!(store.store.status().commits, commits_before);
}

#[test]
fn a_packet_identifier_after_pubrec_is_freed_on_disk_too() {
    let directory = Directory::new();
    let mut store = open_patient(&directory, 20);
    let queue = store.session("one");
    let id = store.ids.next_id();
    store.commit(vec![
        put_message(id, b"x", &[queue]),
        sent(queue, 1, id, QoS::ExactlyOnce),
    ]);
    let released = Operation::PutInFlight {
        queue,
        packet_id: PacketId::new(1).expect("from 1"),
        in_flight: InFlightRecord {
            order: id,
            qos: QoS::ExactlyOnce,
            message: None,
        },
    };
    store.submit(vec![released, settle(queue, id)]);
    store.commit(vec![freed(queue, 1)]);
    let store = store.reopen(&directory);
    assert!(store.recovered.sessions[0].in_flight.is_empty());
}

/// Who has not settled what, kept in the plainest way.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<QueueId, BTreeSet<MessageId>>,
    /// Packet identifiers in use.
    in_flight: BTreeMap<(QueueId, u16), MessageId>,
}

#[derive(Clone, Debug)]
enum Act {
    Put(u8),
    Send(usize, usize),
    Settle(usize, usize),
    Move(usize, usize, usize),
    Purge(usize),
    Remove(usize),
    Submit,
    Commit,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let any = || any::<usize>();
    prop_oneof![
        12 => (1u8..16).prop_map(Act::Put),
        10 => (any(), any()).prop_map(|(queue, message)| Act::Send(queue, message)),
        20 => (any(), any()).prop_map(|(queue, message)| Act::Settle(queue, message)),
        10 => Just(Act::Submit),
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
    config: StoreConfig,
    store: Open,
    queues: [QueueId; 4],
    model: Model,
    batch: Vec<Operation>,
}

impl Run {
    fn new(interval_ms: u32) -> Self {
        let directory = Directory::new();
        let config = StoreConfig {
            commit_interval_milliseconds: interval_ms,
            ..config(&directory.0)
        };
        let mut store = try_open(&config, &Limits::default()).expect("a store");
        let queues = ["a", "b", "c", "d"].map(|name| store.session(name));
        let mut model = Model::default();
        for queue in queues {
            model.waiting.insert(queue, BTreeSet::new());
        }
        Self {
            directory,
            config,
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
                self.free(queue, id);
                self.batch.push(settle(queue, id));
                self.batch.push(settle(queue, id));
            }
            Act::Send(queue, message) => self.send(queue, message),
            Act::Move(from, to, message) => {
                let (from, Some(id)) = self.pick(from, message) else {
                    return;
                };
                let to = self.queues[to % 4];
                if self.model.waiting[&to].contains(&id) {
                    return;
                }
                self.model.waiting.entry(from).or_default().remove(&id);
                self.free(from, id);
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
                self.model.in_flight.retain(|it, _| it.0 != queue);
                self.batch.push(Operation::RemoveSession { queue });
                self.commit();
                self.queues[at] = self.store.session("new");
                self.model.waiting.insert(self.queues[at], BTreeSet::new());
            }
            Act::Submit => {
                let batch = std::mem::take(&mut self.batch);
                self.store.submit(batch);
            }
            Act::Commit => self.commit(),
            Act::Reopen => unreachable!("done by the caller"),
        }
    }

    fn send(&mut self, queue: usize, message: usize) {
        let (queue, Some(id)) = self.pick(queue, message) else {
            return;
        };
        let in_flight = &mut self.model.in_flight;
        if in_flight.iter().any(|it| it.0.0 == queue && *it.1 == id) {
            return;
        }
        // The lowest free one, so that identifiers are used again at once.
        let mut ids = (1..).filter(|it| !in_flight.contains_key(&(queue, *it)));
        let Some(packet_id) = ids.next().and_then(PacketId::new) else {
            return;
        };
        in_flight.insert((queue, packet_id.0.get()), id);
        self.batch.push(Operation::PutInFlight {
            queue,
            packet_id,
            in_flight: InFlightRecord {
                order: id,
                qos: QoS::AtLeastOnce,
                message: Some(id),
            },
        });
    }

    fn free(&mut self, queue: QueueId, id: MessageId) {
        let in_flight = &mut self.model.in_flight;
        let packet_id = in_flight
            .iter()
            .find(|it| it.0.0 == queue && *it.1 == id)
            .map(|it| it.0.1);
        if let Some(number) = packet_id {
            in_flight.remove(&(queue, number));
            let packet_id = PacketId::new(number).expect("from 1");
            self.batch
                .push(Operation::RemoveInFlight { queue, packet_id });
        }
    }

    fn commit(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.store.commit(batch);
    }

    fn reopen(mut self) -> Self {
        self.commit();
        self.store.store.close();
        drop(self.store);
        self.store = open(&self.directory);
        for (queue, expected) in &self.model.waiting {
            let expected: Vec<_> = expected.iter().copied().collect();
            assert_eq!(self.store.waiting(*queue), expected, "{queue:?}");
        }
        let sessions = self.store.recovered.sessions.iter();
        let in_flight: BTreeMap<_, _> = sessions
            .flat_map(|session| {
                let in_flight = session.in_flight.iter();
                in_flight.map(|(id, record)| ((session.queue, id.0.get()), record.order))
            })
            .collect();
        assert_eq!(in_flight, self.model.in_flight);
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
        self.store = try_open(&self.config, &Limits::default()).expect("a store");
        self
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn queues_are_what_a_plain_model_says(
        acts in proptest::collection::vec(act(), 1..150),
        interval_ms in prop_oneof![Just(0u32), Just(2), Just(50)],
    ) {
        let mut run = Run::new(interval_ms);
        for act in &acts {
            run = match act {
                Act::Reopen => run.reopen(),
                act => { run.act(act); run }
            };
        }
        run.reopen();
    }
}
