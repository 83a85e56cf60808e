//! No room: new messages are refused, and what is there can be delivered and deleted.

use tidewire::config::{Limits, StoreConfig};
use tidewire::store::tools;

use super::support::{Directory, Open, config, put_message, retained, settle, try_open};

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
