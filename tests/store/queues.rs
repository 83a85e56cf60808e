//! Cursors, exceptions and elision.

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
