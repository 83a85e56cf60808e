//! The offline tools.

use tidewire::store::tools::{self, TransferError};
use tidewire::store::{
    InFlightRecord, Operation, Refusable, StoreError, SubscriptionRecord, WillRecord,
};
use tidewire_protocol::codec::{PacketId, QoS};

use super::support::{
    Directory, Open, message, open, put_message, received, receiver, retained, settle,
};

fn quiet(_: u64, _: u64) {}

fn fill(store: &mut Open) {
    let (one, two) = (store.session("one"), store.session("two"));
    let bridge = store.store.next_queue();
    let ids: Vec<_> = (0..6).map(|_| store.ids.next_id()).collect();
    let packet_id = PacketId::new(7).expect("not zero");
    store.commit(
        ids.iter()
            .map(|id| put_message(*id, &[0xFF, 1], &[one, two]))
            .collect(),
    );
    store.commit(vec![
        settle(one, ids[0]),
        settle(two, ids[3]),
        Operation::Move {
            id: ids[0],
            from: two,
            to: receiver(one),
        },
        Operation::PutSubscription {
            queue: one,
            filter: "a/#".into(),
            subscription: SubscriptionRecord {
                options: Default::default(),
                subscription_id: None,
            },
        },
        Operation::PutInFlight {
            queue: one,
            packet_id,
            in_flight: InFlightRecord {
                order: ids[5],
                qos: QoS::ExactlyOnce,
                message: Some(ids[0]),
            },
        },
        received(two, packet_id, Refusable::default()),
        Operation::PutNamedQueue {
            queue: bridge,
            name: "/bridge/b".into(),
        },
        Operation::PutBookmark {
            queue: bridge,
            name: "group/topic/0".into(),
            next: 9,
        },
        Operation::PutWill {
            queue: two,
            will: WillRecord {
                message: message("will", b"text"),
                delay_seconds: 1,
                expiry_seconds: None,
                due_at_ms: Some(60_000),
            },
        },
        Operation::PutDelayed {
            id: ids[4],
            due_at_ms: 60_000,
            message: message("later", b""),
        },
        retained("t/1", b"\"quoted\"\n", None),
        retained("t/2", &[0xFF], Some(3_600_000)),
    ]);
}

fn export(directory: &Directory) -> String {
    let mut out = Vec::new();
    tools::export(&directory.0, &mut out, &mut quiet).expect("exported");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn an_import_of_an_export_exports_the_same() {
    let (from, to) = (Directory::new(), Directory::new());
    let mut store = open(&from);
    fill(&mut store);
    let last = store.ids.next_id();
    drop(store);
    let lines = export(&from);
    let kinds = [
        "session",
        "subscription",
        "in_flight",
        "received",
        "bookmark",
        "will",
        "message",
        "delayed",
        "retained",
    ];
    for kind in kinds {
        assert!(lines.contains(&format!("\"kind\":\"{kind}\"")), "{kind}");
    }
    let count = tools::import(&to.0, &mut lines.as_bytes(), &mut quiet).expect("imported");
    assert_eq!(count, lines.lines().count() as u64);
    assert_eq!(export(&to), lines);
    tools::check(&to.0, &mut quiet).expect("no damage");
    let again = tools::import(&to.0, &mut lines.as_bytes(), &mut quiet);
    assert!(matches!(again, Err(TransferError::NotEmpty)));
    let mut store = open(&to);
    assert!(store.ids.next_id() > last);
    assert_eq!(store.recovered.sessions[0].waiting.len(), 6);
}

#[test]
fn an_unusable_line_is_named() {
    for (lines, expected) in [
        ("", "line 0: the export ends too early"),
        (
            "{\"kind\":\"store\",\"schema\":1}",
            "line 1: the export ends too early",
        ),
        (
            "{\"kind\":\"store\",\"schema\":1}\n{\"kind\":\"end\"}\n{\"kind\":\"end\"}",
            "line 3: there is something behind the end",
        ),
        ("nonsense", "line 1: expected"),
        (
            "{\"kind\":\"store\",\"schema\":9}",
            "line 1: schema version 9 is unknown",
        ),
        (
            "{\"kind\":\"store\",\"schema\":1}\n{\"kind\":\"session\"}",
            "line 2: it is no record",
        ),
    ] {
        let directory = Directory::new();
        let result = tools::import(&directory.0, &mut lines.as_bytes(), &mut quiet);
        let message = result.err().map(|error| error.to_string());
        assert!(message.is_some_and(|it| it.contains(expected)), "{lines}");
        // Not even a part is left: it would pass for a store.
        assert!(!directory.data().exists(), "{lines}");
        open(&directory);
    }
}

#[test]
fn an_import_that_is_killed_leaves_no_part_of_a_store() {
    let (from, to) = (Directory::new(), Directory::new());
    fill(&mut open(&from));
    let lines = export(&from);
    // As it is on disk while the last lines are still to come.
    let begun = to.0.join("creating");
    std::fs::create_dir_all(&begun).expect("made");
    std::fs::copy(from.data(), begun.join("data.mdb")).expect("copied");
    let mut info = tools::info(&to.0);
    assert!(matches!(info, Err(StoreError::Absent { .. })), "{info:?}");
    tools::import(&to.0, &mut lines.as_bytes(), &mut quiet).expect("imported");
    assert!(!begun.exists());
    assert_eq!(export(&to), lines);
    info = tools::info(&to.0);
    assert_eq!(info.expect("a store").rows("sessions"), 2);
}

#[test]
fn identifiers_go_on_behind_those_of_an_exported_store_that_holds_nothing() {
    let (from, to) = (Directory::new(), Directory::new());
    let mut store = open(&from);
    let queue = store.session("client");
    let id = store.ids.next_id();
    store.commit(vec![put_message(id, b"x", &[queue])]);
    store.commit(vec![settle(queue, id), Operation::RemoveSession { queue }]);
    drop(store);
    let lines = export(&from);
    // An empty store may be there already; its own identifiers are above.
    drop(open(&to));
    tools::import(&to.0, &mut lines.as_bytes(), &mut quiet).expect("imported");
    let mut store = open(&to);
    assert!(store.ids.next_id() > id);
    assert!(store.store.next_queue() > queue);
}

#[test]
fn a_check_finds_damage_that_no_page_shows() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let queue = store.session("client");
    let id = store.ids.next_id();
    store.commit(vec![put_message(id, &[0xAB; 50_000], &[queue])]);
    drop(store);
    tools::check(&directory.0, &mut quiet).expect("no damage");
    let mut data = std::fs::read(directory.data()).expect("readable");
    let run = [0xAB; 5_000];
    let at = data
        .windows(run.len())
        .position(|it| it == run)
        .expect("the payload");
    data[at + 4_500] = 0;
    std::fs::write(directory.data(), data).expect("writable");
    let error = tools::check(&directory.0, &mut quiet).expect_err("damaged");
    assert!(
        matches!(
            error,
            StoreError::Row {
                table: "messages",
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("its checksum is wrong"),
        "{error}"
    );
}

#[test]
fn compacting_makes_the_file_smaller_and_loses_nothing() {
    let directory = Directory::new();
    let mut store = open(&directory);
    fill(&mut store);
    let queue = store.session("client");
    let ids: Vec<_> = (0..2_000).map(|_| store.ids.next_id()).collect();
    store.commit(
        ids.iter()
            .map(|id| put_message(*id, &[1; 1_000], &[queue]))
            .collect(),
    );
    store.commit(ids.iter().map(|id| settle(queue, *id)).collect());
    drop(store);
    let lines = export(&directory);
    let (before, after) = tools::compact(&directory.0).expect("compacted");
    assert!(before > 2 << 20 && after < 1 << 20, "{before} {after}");
    assert_eq!(export(&directory), lines);
    open(&directory);
}

#[test]
fn retained_messages_are_listed_and_deleted_by_filter() {
    let directory = Directory::new();
    let mut store = open(&directory);
    store.commit(
        (0..5_000)
            .map(|it| retained(&format!("t/{it}"), b"x", None))
            .collect(),
    );
    store.commit(vec![retained("other", b"x", None)]);
    drop(store);
    assert_eq!(
        tools::delete_retained(&directory.0, "t/+").expect("deleted"),
        5_000
    );
    let mut left = Vec::new();
    tools::retained(&directory.0, "#", |it| left.push(it.topic().to_owned())).expect("listed");
    assert_eq!(left, ["other"]);
    tools::check(&directory.0, &mut quiet).expect("no damage");
}
