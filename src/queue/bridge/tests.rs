//! The queue in memory and with a store.

use super::*;
use crate::message::Header;

fn message(number: u64) -> Message {
    Message::new("t", &[], &number.to_le_bytes(), Header::default())
}

fn queue(messages_max: usize, lent_max: usize, overflow: QueueOverflow) -> BridgeQueue {
    let mut queue = BridgeQueue::default();
    let limits = BridgeQueueLimits {
        messages_max,
        lent_max,
        overflow,
        ..BridgeQueueLimits::default()
    };
    queue.open(limits, Arc::default());
    queue
}

fn fill(queue: &mut BridgeQueue, count: u64) {
    for number in 0..count {
        assert_eq!(push(queue, message(number), 0), Pushed::Queued);
    }
}

fn lend(queue: &mut BridgeQueue, committed: Ticket, now_ms: u64) -> Vec<Lent> {
    let mut lent = Vec::new();
    queue.lend(committed, now_ms, &mut lent);
    lent
}

fn sequences(lent: &[Lent]) -> Vec<u64> {
    lent.iter().map(|it| it.sequence).collect()
}

#[test]
fn what_is_lent_stays_until_it_is_settled_in_any_order() {
    let mut queue = queue(10, 2, QueueOverflow::DropOldest);
    fill(&mut queue, 4);
    assert_eq!(sequences(&lend(&mut queue, NONE, 0)), [1, 2]);
    assert!(lend(&mut queue, NONE, 0).is_empty());
    queue.settle(&[2]);
    assert_eq!(
        (queue.len(), sequences(&lend(&mut queue, NONE, 0))),
        (3, vec![3])
    );
    queue.settle(&[2, 3, 1]);
    assert_eq!(sequences(&lend(&mut queue, NONE, 0)), [4]);
    queue.settle(&[4]);
    assert!(queue.is_empty());
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn a_full_queue_drops_the_oldest_that_waits_and_then_drains() {
    let mut queue = queue(3, 1, QueueOverflow::DropOldest);
    fill(&mut queue, 3);
    lend(&mut queue, NONE, 0);
    assert_eq!(push(&mut queue, message(3), 0), Pushed::DroppedOldest(1));
    let mut drained = Vec::new();
    for sequence in 1..=3 {
        queue.settle(&[sequence]);
        drained.extend(lend(&mut queue, NONE, 0).into_iter().map(|it| it.message));
    }
    assert_eq!(drained, [message(2), message(3)]);
    assert_eq!(queue.metrics.dropped_overflow.value(), 1);
}

#[test]
fn a_queue_whose_messages_are_all_lent_drops_the_newest() {
    let mut queue = queue(1, 1, QueueOverflow::DropOldest);
    assert_eq!(push(&mut queue, message(0), 0), Pushed::Queued);
    lend(&mut queue, NONE, 0);
    assert_eq!(push(&mut queue, message(1), 0), Pushed::DroppedNewest);
}

#[test]
fn messages_that_waited_too_long_are_not_lent() {
    let mut queue = queue(9, 9, QueueOverflow::DropOldest);
    queue.limits.age_ms_max = Some(10);
    assert_eq!(push(&mut queue, message(0), 0), Pushed::Queued);
    assert_eq!(push(&mut queue, message(1), 5), Pushed::Queued);
    let lent = lend(&mut queue, NONE, 11);
    assert_eq!(lent.len(), 1);
    assert_eq!(lent[0].message, message(1));
    assert_eq!(queue.metrics.dropped_expired.value(), 1);
}

const NONE: Ticket = Ticket(0);

fn push(queue: &mut BridgeQueue, message: Message, now_ms: u64) -> Pushed {
    queue.push(message, None, NONE, now_ms)
}

fn durable(messages_max: usize, lent_max: usize) -> BridgeQueue {
    let mut queue = queue(messages_max, lent_max, QueueOverflow::DropOldest);
    queue.restore(QueueId::of(7), &BridgeRemains::default(), 0);
    queue
}

fn recovered(number: u64) -> RecoveredMessage {
    RecoveredMessage {
        id: MessageId(number),
        bytes: 8,
    }
}

fn left(numbers: std::ops::RangeInclusive<u64>) -> BridgeRemains {
    BridgeRemains {
        waiting: numbers.map(recovered).collect(),
        ..BridgeRemains::default()
    }
}

fn loaded(number: u64) -> Loaded {
    Loaded {
        id: MessageId(number),
        message: message(number),
        receiver: crate::store::Receiver {
            queue: QueueId::of(7),
            qos: tidewire_protocol::codec::QoS::AtLeastOnce,
            retain: false,
            subscription_ids: None,
        },
    }
}

fn ids(wanted: Option<Wanted>) -> Vec<u64> {
    match wanted {
        Some(Wanted::Messages(ids)) => ids.into_iter().map(|id| id.0).collect(),
        other => panic!("{other:?}"),
    }
}

fn done(queue: &mut BridgeQueue) -> Vec<u64> {
    queue.take_done().into_iter().map(|it| it.id.0).collect()
}

/// Everything in order, as a bridge takes it whose store answers at once.
fn drain(queue: &mut BridgeQueue, committed: Ticket) -> Vec<Message> {
    let mut drained = Vec::new();
    loop {
        let lent = lend(queue, committed, 0);
        let settled = sequences(&lent);
        drained.extend(lent.into_iter().map(|it| it.message));
        queue.settle(&settled);
        match queue.wanted(committed) {
            Some(Wanted::Messages(ids)) => {
                queue.end_load(ids.into_iter().map(|id| loaded(id.0)).collect());
            }
            Some(Wanted::Commit(_)) => return drained,
            None if settled.is_empty() => return drained,
            None => {}
        }
    }
}

#[test]
fn a_backlog_is_read_back_in_order_with_what_is_in_memory_between() {
    let mut queue = durable(10_000, 5);
    for number in 1..=4_000 {
        let stored = (number % 10 != 0).then_some(MessageId(number));
        queue.push(message(number), stored, Ticket(number / 100), 0);
    }
    let all: Vec<Message> = (1..=4_000).map(message).collect();
    let first = drain(&mut queue, Ticket(20));
    assert_eq!(first.len(), 2_100);
    queue.end_commit();
    let rest = drain(&mut queue, Ticket(40));
    assert_eq!([first, rest].concat(), all);
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
    assert_eq!(done(&mut queue).len(), 3_600);
}

#[test]
fn what_an_earlier_process_has_left_is_read_back_and_what_is_gone_is_passed_over() {
    let mut queue = queue(100, 100, QueueOverflow::DropOldest);
    queue.restore(QueueId::of(7), &left(1..=6), 0);
    assert!(lend(&mut queue, NONE, 0).is_empty());
    assert_eq!(ids(queue.wanted(NONE)), [1, 2, 3, 4, 5, 6]);
    assert_eq!(queue.wanted(NONE), None);
    // The answer ends behind the fifth for lack of room.
    queue.end_load([2, 4, 5].map(loaded).to_vec());
    let lent = lend(&mut queue, NONE, 0);
    assert_eq!(
        lent.iter().map(|it| it.message.clone()).collect::<Vec<_>>(),
        [2, 4, 5].map(message)
    );
    assert_eq!(ids(queue.wanted(NONE)), [6]);
    queue.end_load(Vec::new());
    assert_eq!(queue.len(), 3);
    queue.settle(&[1, 2, 3]);
    assert_eq!(done(&mut queue), [2, 4, 5]);
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
}

#[test]
fn what_a_full_durable_queue_drops_is_settled_even_while_it_is_read_back() {
    let mut queue = queue(4, 100, QueueOverflow::DropOldest);
    queue.restore(QueueId::of(7), &left(1..=4), 0);
    assert_eq!(ids(queue.wanted(NONE)), [1, 2, 3, 4]);
    for number in 5..=6 {
        let pushed = queue.push(message(number), Some(MessageId(number)), Ticket(1), 0);
        assert_eq!(pushed, Pushed::DroppedOldest(1));
    }
    assert_eq!(done(&mut queue), [1, 2]);
    queue.end_load([1, 2, 3, 4].map(loaded).to_vec());
    assert_eq!(drain(&mut queue, Ticket(1)), [3, 4, 5, 6].map(message));
    queue.limits.overflow = QueueOverflow::Reject;
    queue.limits.messages_max = 0;
    let pushed = queue.push(message(7), Some(MessageId(7)), Ticket(1), 0);
    assert_eq!(pushed, Pushed::Rejected);
    assert_eq!(done(&mut queue), [3, 4, 5, 6, 7]);
}

#[test]
fn a_message_of_qos_2_is_lent_once_it_is_committed() {
    let mut queue = durable(10, 10);
    let header = Header {
        qos: tidewire_protocol::codec::QoS::ExactlyOnce,
        ..Header::default()
    };
    let twice = Message::new("t", &[], b"", header);
    queue.push(twice, Some(MessageId(1)), Ticket(3), 0);
    queue.push(message(2), Some(MessageId(2)), Ticket(3), 0);
    assert!(lend(&mut queue, Ticket(2), 0).is_empty());
    assert_eq!(queue.wanted(Ticket(2)), Some(Wanted::Commit(Ticket(3))));
    queue.end_commit();
    assert_eq!(lend(&mut queue, Ticket(3), 0).len(), 2);
}

fn packet_id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

fn shown(operations: &[Operation]) -> Vec<String> {
    let show = |it: &Operation| match it {
        Operation::PutInFlight {
            packet_id,
            in_flight,
            ..
        } => format!(
            "put {} {:?}",
            packet_id.value(),
            in_flight.message.map(|it| it.0)
        ),
        Operation::RemoveInFlight { packet_id, .. } => format!("free {}", packet_id.value()),
        Operation::PutReceived { packet_id, .. } => format!("receive {}", packet_id.value()),
        Operation::RemoveReceived { packet_id, .. } => format!("forget {}", packet_id.value()),
        Operation::Settle { ids, .. } => format!("settle {}", ids.as_slice()[0].0),
        Operation::PutNamedQueue { name, .. } => format!("name {name}"),
        other => panic!("{other:?}"),
    };
    operations.iter().map(show).collect()
}

#[test]
fn an_exchange_at_qos_2_is_kept_from_publish_to_pubcomp() {
    let mut queue = durable(10, 10);
    queue.push(message(5), Some(MessageId(5)), NONE, 0);
    assert_eq!(sequences(&lend(&mut queue, NONE, 0)), [1]);
    let mut note = |note| shown(&queue.note(note, MessageId(99)));
    let (packet_id, sequence) = (packet_id(1), 1);
    let send = BridgeNote::Send {
        packet_id,
        sequence,
    };
    assert_eq!(note(send), ["put 1 Some(5)"]);
    let release = BridgeNote::Release {
        packet_id,
        sequence: Some(sequence),
    };
    assert_eq!(note(release), ["settle 5", "put 1 None"]);
    assert_eq!(note(BridgeNote::Complete(packet_id)), ["free 1"]);
    queue.settle(&[1]);
    assert_eq!(done(&mut queue), Vec::<u64>::new());
    assert!(queue.is_empty());
}

#[test]
fn what_was_in_flight_is_lent_first_in_its_order_and_a_new_session_forgets_it() {
    let in_flight = |id: u16, order, message: Option<u64>| {
        let record = InFlightRecord {
            order: MessageId(order),
            qos: tidewire_protocol::codec::QoS::ExactlyOnce,
            message: message.map(MessageId),
        };
        (packet_id(id), record)
    };
    let remains = BridgeRemains {
        in_flight: vec![
            in_flight(9, 20, Some(3)),
            in_flight(4, 21, Some(2)),
            in_flight(5, 22, None),
        ],
        received: vec![packet_id(8)],
        ..left(1..=4)
    };
    let mut queue = queue(100, 100, QueueOverflow::DropOldest);
    queue.restore(QueueId::of(7), &remains, 0);
    assert_eq!(ids(queue.wanted(NONE)), [3, 2, 1, 4]);
    queue.end_load([3, 2, 1, 4].map(loaded).to_vec());
    let lent = lend(&mut queue, NONE, 0);
    let sent = lent.iter().map(|it| it.sent_as.map(PacketId::value));
    assert_eq!(sent.collect::<Vec<_>>(), [Some(9), Some(4), None, None]);
    let name = "new".into();
    let mut shown = shown(&queue.note(BridgeNote::Begin { name }, MessageId(30)));
    shown.sort_unstable();
    assert_eq!(
        shown,
        ["forget 8", "free 4", "free 5", "free 9", "name new"]
    );
}
