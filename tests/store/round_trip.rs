//! What was committed is there after the next start.

use std::num::NonZeroU32;

use tidewire::message::{Header, Message};
use tidewire::store::{
    Few, InFlightRecord, Lane, Operation, QueueId, Receiver, Refusable, Refusal, SessionRecord,
    SubscriptionRecord, WillRecord, tools,
};
use tidewire_protocol::codec::{ProtocolVersion, QoS, RetainHandling, SubscriptionOptions};

use super::support::{
    Directory, ids_of, message, open, packet_id, put_message, put_session, received, receiver,
    settle,
};

#[test]
fn a_session_comes_back_with_its_subscriptions_and_will() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let queue = store.session("client");
    let long_filter = format!("a/{}/#", "x".repeat(60_000));
    let subscription = SubscriptionRecord {
        options: SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::SendIfNew,
        },
        subscription_id: NonZeroU32::new(5),
    };
    let will = WillRecord {
        message: Message::new("will", &[1], b"gone", Header::default()),
        delay_seconds: 60,
        expiry_seconds: Some(9),
        due_at_ms: None,
    };
    let put = |filter: &str| Operation::PutSubscription {
        queue,
        filter: filter.into(),
        subscription,
    };
    let (first, second) = (put("$share/g/a/+"), put(&long_filter));
    let filter = "gone".into();
    let remove = Operation::RemoveSubscription { queue, filter };
    let put_will = Operation::PutWill {
        queue,
        will: will.clone(),
    };
    store.commit(vec![first, second, put("gone"), remove, put_will]);
    let store = store.reopen(&directory);
    let [session] = &store.recovered.sessions[..] else {
        panic!("one session expected")
    };
    let client_id = &*session.session.client_id;
    assert_eq!((session.queue, client_id), (queue, "client"));
    assert_eq!(session.session.user_name.as_deref(), Some("user"));
    let filters: Vec<&str> = session.subscriptions.iter().map(|(it, _)| &**it).collect();
    assert_eq!(filters, ["$share/g/a/+", &long_filter]);
    let records = session.subscriptions.iter().map(|(_, it)| *it);
    assert!(records.eq([subscription; 2]));
    assert_eq!(session.will, Some(will));
}

#[test]
fn packet_identifiers_come_back_in_the_order_of_sending() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let queue = store.session("client");
    let (first, second) = (store.ids.next_id(), store.ids.next_id());
    let in_flight = |message, order| InFlightRecord {
        order,
        qos: QoS::ExactlyOnce,
        message,
    };
    let sent_later = in_flight(Some(first), store.ids.next_id());
    let released = in_flight(None, second);
    let put_in_flight = |id, in_flight| Operation::PutInFlight {
        queue,
        packet_id: packet_id(id),
        in_flight,
    };
    store.commit(vec![
        put_message(first, b"1", &[queue]),
        put_message(second, b"2", &[queue]),
        put_in_flight(9, released),
        put_in_flight(3, sent_later),
        put_in_flight(10, sent_later),
        received(queue, packet_id(65_535), Refusable::default()),
        received(queue, packet_id(2), Refusable::default()),
    ]);
    store.commit(vec![
        Operation::RemoveInFlight {
            queue,
            packet_id: packet_id(10),
        },
        Operation::RemoveReceived {
            queue,
            packet_id: packet_id(2),
        },
    ]);
    let store = store.reopen(&directory);
    let session = &store.recovered.sessions[0];
    assert_eq!(ids_of(&session.waiting), [first, second]);
    let expected = [(packet_id(9), released), (packet_id(3), sent_later)];
    assert_eq!(session.in_flight, expected);
    assert_eq!(session.received, [packet_id(65_535)]);
}

#[test]
fn removing_a_session_leaves_no_row_behind() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let (queue, other) = (store.session("one"), store.session("other"));
    let ids: Vec<_> = (0..10_000).map(|_| store.ids.next_id()).collect();
    let mut operations: Vec<_> = ids
        .iter()
        .map(|id| put_message(*id, b"", &[queue]))
        .collect();
    let shared = store.ids.next_id();
    operations.push(put_message(shared, b"", &[queue, other]));
    operations.push(settle(queue, ids[5_000]));
    store.commit(operations);
    store.commit(vec![Operation::RemoveSession { queue }]);
    let store = store.reopen(&directory);
    assert_eq!(store.recovered.sessions.len(), 1);
    assert_eq!(store.waiting(other), [shared]);
    drop(store);
    let info = tools::info(&directory.0).expect("a store");
    assert_eq!((info.rows("messages"), info.rows("sessions")), (1, 1));
    assert_eq!((info.rows("cursors"), info.rows("settled")), (0, 0));
}

#[test]
fn messages_are_read_back_whole_and_in_order() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let queue = store.session("client");
    let subscription_ids = [1, 268_435_455].map(|id| NonZeroU32::new(id).expect("not zero"));
    let to = Receiver {
        queue,
        qos: QoS::ExactlyOnce,
        retain: true,
        subscription_ids: Some(subscription_ids.into()),
    };
    let large = vec![7; 100_000];
    let mut ids = Vec::new();
    for payload in [&b"small"[..], &large, b""] {
        let id = store.ids.next_id();
        let message = Message::new(
            "t/ö",
            &[3, 4],
            payload,
            Header {
                qos: QoS::ExactlyOnce,
                retain: true,
                expires_at_ms: None,
                publisher: 99,
                ..Header::default()
            },
        );
        store.commit(vec![Operation::PutMessage {
            id,
            message,
            receivers: Few::One(to.clone()),
            refusal: Refusal::First,
        }]);
        ids.push(id);
    }
    let mut store = store.reopen(&directory);
    let unknown = store.ids.next_id();
    let loaded = store.load(queue, &[ids[2], unknown, ids[1], ids[0]]);
    let payloads: Vec<_> = loaded.iter().map(|it| it.message.payload()).collect();
    assert_eq!(payloads, [&b""[..], &large, b"small"]);
    let first = &loaded[0];
    assert_eq!((first.id, &first.receiver), (ids[2], &to));
    assert_eq!(
        (first.message.topic(), first.message.forwarded()),
        ("t/ö", &[3, 4][..])
    );
    assert_eq!(
        (first.message.qos(), first.message.retain()),
        (QoS::ExactlyOnce, true)
    );
    assert_eq!(first.message.publisher(), 99);
}

#[test]
fn identifiers_never_restart_even_when_everything_is_gone() {
    let directory = Directory::new();
    let mut last_id = None;
    let mut last_queue = None;
    for _ in 0..3 {
        let mut store = open(&directory);
        let queue = store.session("client");
        let id = store.ids.next_id();
        assert!(Some(id) > last_id && Some(queue) > last_queue);
        store.commit(vec![put_message(id, b"", &[queue])]);
        store.commit(vec![settle(queue, id), Operation::RemoveSession { queue }]);
        (last_id, last_queue) = (Some(id), Some(queue));
    }
}

#[test]
fn delayed_messages_and_named_queues_come_back() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let queue = store.store.next_queue();
    let (delayed, gone, waiting) = (
        store.ids.next_id(),
        store.ids.next_id(),
        store.ids.next_id(),
    );
    let put_delayed = |id, due_at_ms| Operation::PutDelayed {
        id,
        due_at_ms,
        message: message("later", b"x"),
    };
    let put_bookmark = |name: &str, next| Operation::PutBookmark {
        queue,
        name: name.into(),
        next,
    };
    store.commit(vec![
        Operation::PutNamedQueue {
            queue,
            name: "$share/g/t".into(),
        },
        put_bookmark("g/t/0", 7),
        put_bookmark("g/t/1", u64::MAX),
        put_delayed(delayed, 3_600_000),
        put_delayed(gone, 0),
        put_message(waiting, b"", &[queue]),
    ]);
    store.commit(vec![
        Operation::RemoveDelayed { id: gone },
        put_bookmark("g/t/0", 6),
    ]);
    let mut store = store.reopen(&directory);
    let [found] = &store.recovered.delayed[..] else {
        panic!("one delayed message expected")
    };
    assert_eq!((found.id, found.message.topic()), (delayed, "later"));
    assert!(
        (3_500_000..=3_600_000).contains(&found.due_at_ms),
        "{}",
        found.due_at_ms
    );
    let [named] = &store.recovered.named_queues[..] else {
        panic!("one named queue expected")
    };
    assert_eq!((named.queue, &*named.name), (queue, "$share/g/t"));
    assert_eq!(ids_of(&named.waiting), [waiting]);
    // Its topic and its payload.
    assert_eq!(named.waiting[0].bytes, 3);
    let bookmarks = [("g/t/0".into(), 6), ("g/t/1".into(), u64::MAX)];
    assert_eq!(named.bookmarks, bookmarks);
    store.commit(vec![Operation::RemoveNamedQueue { queue }]);
    // A queue that is gone has none.
    store.commit(vec![put_bookmark("g/t/2", 1)]);
    let store = store.reopen(&directory);
    assert!(store.recovered.named_queues.is_empty());
    drop(store);
    let info = tools::info(&directory.0).expect("a store");
    assert_eq!(info.rows("bookmarks"), 0);
}

#[test]
fn what_expired_while_the_broker_was_down_is_gone() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let queue = store.session("client");
    let (over, lives) = (store.ids.next_id(), store.ids.next_id());
    let put = |id, expires_at_ms| Operation::PutMessage {
        id,
        message: Message::new(
            "t",
            &[],
            b"",
            Header {
                qos: QoS::AtLeastOnce,
                retain: false,
                expires_at_ms: Some(expires_at_ms),
                ..Header::default()
            },
        ),
        receivers: Few::One(receiver(queue)),
        refusal: Refusal::First,
    };
    let session = SessionRecord {
        client_id: "client".into(),
        version: ProtocolVersion::V3_1_1,
        expiry_seconds: 7,
        expires_at_ms: Some(0),
        user_name: None,
    };
    let ended = Operation::PutSession { queue, session };
    store.commit(vec![put(over, 1), put(lives, 3_600_000), ended]);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let store = store.reopen(&directory);
    assert_eq!(store.waiting(queue), [lives]);
    // Its time was over before this process began.
    assert_eq!(store.recovered.sessions[0].session.expires_at_ms, Some(0));
    drop(store);
    let info = tools::info(&directory.0).expect("a store");
    assert_eq!(info.rows("messages"), 1);
}

#[test]
fn several_lanes_keep_their_order_and_older_processes_come_first() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let queue = store.session("client");
    let mut expected = Vec::new();
    for _ in 0..2 {
        let mut lanes = [4, 1, 0].map(|lane| store.store.message_ids(Lane::new(lane)));
        let mut ids = Vec::new();
        for _ in 0..300 {
            for lane in &mut lanes {
                let id = lane.next_id();
                store.submit(vec![put_message(id, b"", &[queue])]);
                ids.push(id);
            }
        }
        store.commit(Vec::new());
        ids.sort();
        expected.extend(ids);
        store = store.reopen(&directory);
    }
    assert!(expected.is_sorted());
    assert_eq!(store.waiting(queue), expected);
}

#[test]
fn rows_of_a_queue_that_has_ended_are_not_written() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let queue = QueueId::of(4_711);
    let id = store.ids.next_id();
    store.commit(vec![
        put_message(id, b"", &[queue]),
        received(queue, packet_id(1), Refusable::default()),
        put_session(queue, "short"),
        received(queue, packet_id(1), Refusable::default()),
        Operation::RemoveSession { queue },
        settle(queue, id),
    ]);
    drop(store);
    let info = tools::info(&directory.0).expect("a store");
    let rows: Vec<_> = info.tables.iter().filter(|(_, rows)| *rows > 0).collect();
    // Schema version and the mark of queue ids and sequences.
    assert_eq!(rows, [&("meta", 3)]);
}
