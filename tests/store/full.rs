//! No room: new messages are refused, and what is there can be delivered and deleted.

use tidewire::config::{Limits, StoreConfig};
use tidewire::store::{
    MessageId, Operation, QueueId, Refusable, Report, SubscriptionRecord, tools,
};
use tidewire_protocol::codec::SubscriptionOptions;

use super::support::{
    Directory, Open, config, message, packet_id, put_message, received, retained, settle, try_open,
};

fn small(directory: &Directory) -> Open {
    let config = StoreConfig {
        map_bytes_max: 2 << 20,
        ..config(&directory.0)
    };
    try_open(&config, &Limits::default()).expect("a store")
}

#[test]
fn a_nearly_full_map_says_so_and_can_be_drained() {
    let directory = Directory::new();
    let mut store = small(&directory);
    let queue = store.session("client");
    let mut ids = Vec::new();
    while !store.store.is_full() {
        let id = store.ids.next_id();
        store.commit(vec![put_message(id, &[1; 1_000], &[queue])]);
        ids.push(id);
        assert!(ids.len() < 10_000);
    }
    assert!(store.refused.is_empty() && ids.len() > 1_000);
    for id in &ids {
        store.commit(vec![settle(queue, *id)]);
    }
    assert!(!store.store.is_full());
    assert!(store.refused.is_empty());
    drop(store);
    assert_eq!(
        tools::info(&directory.0).expect("a store").rows("messages"),
        0
    );
}

#[test]
fn what_finds_no_room_is_refused_and_the_rest_of_its_commit_stays() {
    let directory = Directory::new();
    let mut store = small(&directory);
    let (one, two) = (store.session("one"), store.session("two"));
    let kept = store.ids.next_id();
    let settled = store.ids.next_id();
    store.commit(vec![
        put_message(kept, b"", &[one]),
        put_message(settled, b"", &[one, two]),
    ]);
    let id = store.ids.next_id();
    store.commit(vec![
        put_message(id, &[1; 3 << 20], &[one, two]),
        retained("t", &[1; 3 << 20], None),
        settle(one, settled),
    ]);
    assert_eq!(store.refused, [id]);
    assert_eq!(store.refused_topics, ["t".into()]);
    // The next is not harmed.
    let later = store.ids.next_id();
    store.commit(vec![put_message(later, b"", &[two])]);
    assert!(store.retained("#", 10).is_empty());
    let store = store.reopen(&directory);
    assert_eq!(store.waiting(one), [kept]);
    assert_eq!(store.waiting(two), [settled, later]);
}

#[test]
fn a_retained_message_that_was_cleared_stays_so_if_the_next_one_is_refused() {
    let directory = Directory::new();
    let mut store = small(&directory);
    let publisher = store.session("publisher");
    store.commit(vec![
        retained("t", b"old", None),
        retained("u", b"old", None),
    ]);
    let clear = Operation::ClearRetained { topic: "t".into() };
    let with = Refusable {
        message: None,
        retained: Some(message("t", b"")),
    };
    store.commit(vec![
        retained("t", b"short-lived", None),
        received(publisher, packet_id(1), with),
        clear,
        retained("t", &[1; 3 << 20], None),
        retained("u", &[1; 3 << 20], None),
    ]);
    assert_eq!(store.refused_topics, ["t".into(), "u".into()]);
    let found = store.retained("#", 10);
    let found: Vec<_> = found.iter().map(|it| (it.topic(), it.payload())).collect();
    assert_eq!(found, [("u", &b"old"[..])]);
    let store = store.reopen(&directory);
    assert_eq!(store.recovered.sessions[0].received, [packet_id(1)]);
}

#[test]
fn the_identifier_of_a_message_that_is_refused_is_not_kept_in_the_same_commit() {
    let directory = Directory::new();
    let mut store = small(&directory);
    let (publisher, queue) = (store.session("publisher"), store.session("client"));
    let received = |number, message, retained| {
        let with = Refusable { message, retained };
        received(publisher, packet_id(number), with)
    };
    let before = store.ids.next_id();
    store.commit(vec![
        put_message(before, b"", &[queue]),
        received(1, Some(before), None),
        received(2, None, None),
    ]);
    let id = store.ids.next_id();
    let latest = retained("t", &[1; 3 << 20], None);
    let Operation::SetRetained { message, .. } = latest.clone() else {
        unreachable!("a retained message")
    };
    store.commit(vec![
        put_message(id, &[1; 3 << 20], &[queue]),
        latest,
        // Free again, and taken for the next message.
        Operation::RemoveReceived {
            queue: publisher,
            packet_id: packet_id(2),
        },
        received(2, Some(id), None),
        received(3, None, Some(message)),
        received(4, None, None),
    ]);
    assert_eq!(store.refused, [id]);
    let store = store.reopen(&directory);
    let mut sessions = store.recovered.sessions.iter();
    let session = sessions.find(|it| it.queue == publisher).expect("there");
    assert_eq!(session.received, [packet_id(1), packet_id(4)]);
}

/// Subscriptions of half a page, which nobody refuses.
fn subscriptions(queue: QueueId, number: usize) -> Vec<Operation> {
    let put = |number| Operation::PutSubscription {
        queue,
        filter: format!("{number:06}/{}", "x".repeat(390)).into(),
        subscription: SubscriptionRecord {
            options: SubscriptionOptions::default(),
            subscription_id: None,
        },
    };
    (number * 10..number * 10 + 10).map(put).collect()
}

/// How many of these fit, and what is said then.
fn crowd(store: &mut Open, queue: QueueId, count_max: usize) -> (usize, Option<String>) {
    for number in 0..count_max {
        store.submit(subscriptions(queue, number));
        match store.next_report() {
            Report::Committed { .. } => {}
            Report::Failed { error } => return (number, Some(error.to_string())),
            other => unreachable!("{other:?}"),
        }
    }
    (count_max, None)
}

/// A store with messages for one session, scattered over all pages.
fn with_messages(directory: &Directory) -> (Open, QueueId, Vec<MessageId>) {
    let mut store = small(directory);
    let queue = store.session("client");
    let ids: Vec<_> = (0..4_000).map(|_| store.ids.next_id()).collect();
    for ids in ids.chunks(100) {
        let put = ids.iter().map(|id| put_message(*id, &[1; 300], &[queue]));
        store.commit(put.collect());
    }
    (store, queue, ids)
}

#[test]
fn what_nobody_can_refuse_ends_the_store_and_a_start_has_room_for_deletes_again() {
    let directory = Directory::new();
    let (mut store, queue, ids) = with_messages(&directory);
    let (fitting, said) = crowd(&mut store, queue, 10_000);
    let said = said.expect("a failure");
    assert!(said.contains("raise store.map_bytes_max"), "{said}");
    store.store.close();
    drop(store);
    let mut store = small(&directory);
    let session = &store.recovered.sessions[0];
    assert_eq!(session.subscriptions.len(), fitting * 10);
    assert_eq!(store.waiting(queue), ids);
    assert!(store.store.is_full() && store.store.is_exhausted());
    store.commit(ids.iter().map(|id| settle(queue, *id)).collect());
    drop(store);
    // Almost as many, and then everything is settled at once, in what little room is left.
    let directory = Directory::new();
    let (mut store, queue, ids) = with_messages(&directory);
    let fewer = fitting - 40;
    assert_eq!(crowd(&mut store, queue, fewer), (fewer, None));
    assert!(store.store.is_exhausted());
    // One of each page: all pages are copied before one is free.
    let of_each_page = ids.iter().step_by(8);
    store.commit(of_each_page.map(|id| settle(queue, *id)).collect());
    store.commit(ids.iter().map(|id| settle(queue, *id)).collect());
    assert!(store.refused.is_empty());
    drop(store);
    let info = tools::info(&directory.0).expect("a store");
    assert_eq!(info.rows("messages"), 0);
}

#[test]
fn below_the_watermark_of_the_disk_durable_publishes_are_refused() {
    let directory = Directory::new();
    let config = StoreConfig {
        disk_free_bytes_min: u64::MAX,
        ..config(&directory.0)
    };
    let mut store = try_open(&config, &Limits::default()).expect("a store");
    let queue = store.session("client");
    assert!(store.store.is_full());
    let id = store.ids.next_id();
    store.commit(vec![put_message(id, b"", &[queue])]);
    store.commit(vec![settle(queue, id)]);
    assert!(store.refused.is_empty());
}
