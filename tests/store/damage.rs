//! A store that cannot be trusted is refused, and left as it is.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};

use tidewire::config::{Limits, StoreConfig};
use tidewire::store::{StoreError, tools};

use super::support::{Directory, config, open, put_message, retained, settle, try_open};

const PAGE: u64 = 4_096;

/// A store with a few hundred pages, some of them free, some of large values.
fn filled() -> Directory {
    let directory = Directory::new();
    let mut store = open(&directory);
    let queue = store.session("client");
    for round in 0..20 {
        let ids: Vec<_> = (0..100).map(|_| store.ids.next_id()).collect();
        store.commit(
            ids.iter()
                .map(|id| put_message(*id, &[round; 300], &[queue]))
                .collect(),
        );
        store.commit(ids.iter().step_by(2).map(|id| settle(queue, *id)).collect());
        let id = store.ids.next_id();
        store.commit(vec![put_message(id, &[round; 20_000], &[queue])]);
        store.commit(vec![retained(&format!("t/{round}"), b"x", None)]);
    }
    drop(store);
    directory
}

fn refusal(directory: &Directory) -> StoreError {
    let before = fs::read(directory.data()).unwrap_or_default();
    let opened = try_open(&config(&directory.0), &Limits::default());
    let error = opened.err().expect("the store must be refused");
    let after = fs::read(directory.data()).unwrap_or_default();
    assert!(before == after, "the file was changed: {error}");
    let message = error.to_string();
    assert!(
        message.starts_with(&*directory.0.to_string_lossy()),
        "{message}"
    );
    error
}

#[test]
fn a_whole_store_opens() {
    let directory = filled();
    let store = open(&directory);
    assert_eq!(store.recovered.sessions[0].waiting.len(), 1_020);
    assert_eq!(store.recovered.retained_count, 20);
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let directory = filled();
    let whole = fs::read(directory.data()).expect("readable");
    let mut refused = 0;
    let step = whole.len() / 40;
    for length in (1..whole.len()).step_by(step) {
        fs::write(directory.data(), &whole[..length]).expect("writable");
        let error = refusal(&directory);
        let is_named = matches!(
            error,
            StoreError::Truncated { .. } | StoreError::Foreign { .. }
        );
        assert!(is_named, "{length}: {error}");
        refused += 1;
    }
    assert!(refused >= 40);
    fs::write(directory.data(), &whole).expect("writable");
    open(&directory);
}

#[test]
fn an_empty_or_missing_file_is_no_empty_store() {
    let directory = filled();
    fs::write(directory.data(), b"").expect("writable");
    assert!(matches!(refusal(&directory), StoreError::Missing { .. }));
    fs::remove_file(directory.data()).expect("removable");
    assert!(matches!(refusal(&directory), StoreError::Missing { .. }));
    assert!(matches!(
        tools::info(&directory.0),
        Err(StoreError::Missing { .. })
    ));
    // Whoever takes the note away does not make it a beginning.
    fs::remove_file(directory.0.join("README")).expect("removable");
    assert!(matches!(refusal(&directory), StoreError::Missing { .. }));
    fs::write(directory.data(), b"").expect("writable");
    assert!(matches!(refusal(&directory), StoreError::Missing { .. }));
    let nothing = Directory::new();
    assert!(matches!(
        tools::info(&nothing.0),
        Err(StoreError::Absent { .. })
    ));
    assert!(!nothing.0.exists());
}

#[test]
fn a_zeroed_or_foreign_file_is_refused() {
    let directory = filled();
    let whole = fs::read(directory.data()).expect("readable");
    for content in [vec![0; whole.len()], vec![b'x'; 100_000], b"short".to_vec()] {
        fs::write(directory.data(), content).expect("writable");
        assert!(matches!(refusal(&directory), StoreError::Foreign { .. }));
    }
    let mut other_version = whole;
    other_version[20] ^= 0x40;
    fs::write(directory.data(), other_version).expect("writable");
    assert!(
        refusal(&directory)
            .to_string()
            .contains("another version of the LMDB format")
    );
}

#[test]
fn a_damaged_page_in_use_is_refused_or_harmless_but_never_a_crash() {
    let directory = filled();
    let whole = fs::read(directory.data()).expect("readable");
    let pages = whole.len() as u64 / PAGE;
    let mut refused = 0;
    for page in 2..pages {
        for damage in [vec![0; PAGE as usize], vec![0xA5; PAGE as usize]] {
            fs::write(directory.data(), &whole).expect("writable");
            let file = OpenOptions::new()
                .write(true)
                .open(directory.data())
                .expect("open");
            file.write_all_at(&damage, page * PAGE).expect("written");
            // Free pages and the middle of large values do not matter at start.
            match try_open(&config(&directory.0), &Limits::default()) {
                Err(StoreError::Page { .. }) => refused += 1,
                Err(other) => panic!("page {page}: {other}"),
                Ok(mut store) => {
                    let session = &store.recovered.sessions[0];
                    let (queue, ids) = (session.queue, session.waiting.clone());
                    assert_eq!(ids.len(), 1_020);
                    let id = store.ids.next_id();
                    store.commit(vec![put_message(id, b"x", &[queue])]);
                }
            }
        }
    }
    assert!(refused > 50, "{refused} of {pages} pages");
}

#[test]
fn a_newer_schema_is_refused_and_an_older_one_named() {
    let directory = filled();
    let whole = fs::read(directory.data()).expect("readable");
    let name = b"schema";
    for (version, text) in [(2u32, "knows versions up to 1"), (0, "schema version 0")] {
        let mut changed = whole.clone();
        let mut found = 0;
        for at in 0..changed.len() - 10 {
            if changed[at..].starts_with(name) && changed[at + 6..at + 10] == 1u32.to_be_bytes() {
                changed[at + 6..at + 10].copy_from_slice(&version.to_be_bytes());
                found += 1;
            }
        }
        assert!(found > 0);
        fs::write(directory.data(), changed).expect("writable");
        let message = refusal(&directory).to_string();
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn a_second_process_is_refused_by_name() {
    let directory = Directory::new();
    let store = open(&directory);
    let error = refusal(&directory).to_string();
    let expected = format!("in use by another process (process {})", std::process::id());
    assert!(error.contains(&expected), "{error}");
    drop(store);
    open(&directory);
}

#[test]
fn the_directory_is_private_to_its_owner() {
    let directory = Directory::new();
    fs::create_dir_all(&directory.0).expect("made");
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o755)).expect("set");
    let _store = open(&directory);
    let mode = fs::metadata(&directory.0)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_directory_that_others_use_too_is_refused_and_left_as_it_is() {
    let directory = Directory::new();
    fs::create_dir_all(&directory.0).expect("made");
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o1777)).expect("set");
    fs::write(directory.0.join("notes"), b"of others").expect("writable");
    let error = refusal(&directory);
    assert!(matches!(&error, StoreError::Shared { name, mode: 0o1777, .. } if name == "notes"));
    assert!(error.to_string().contains("(mode 1777)"), "{error}");
    assert_eq!(fs::read_dir(&directory.0).expect("readable").count(), 1);
    let mode = fs::metadata(&directory.0)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o1777);
    // Private already, it may hold what its owner likes.
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o700)).expect("set");
    open(&directory);
}

/// What a process leaves that is killed while it makes the first store.
fn begun(number: usize) -> Directory {
    let (directory, whole) = (Directory::new(), Directory::new());
    open(&whole);
    let place = directory.0.join("creating");
    fs::create_dir_all(&place).expect("made");
    if number > 0 {
        fs::write(place.join("lock.mdb"), b"").expect("writable");
    }
    match number {
        2 => fs::write(place.join("data.mdb"), b"").expect("writable"),
        3 => fs::write(place.join("data.mdb"), [0; 4_096]).expect("writable"),
        4 => drop(fs::copy(whole.data(), place.join("data.mdb")).expect("copied")),
        // It was just moved to its place.
        5 => drop(fs::copy(whole.data(), directory.data()).expect("copied")),
        _ => {}
    }
    directory
}

#[test]
fn a_first_start_that_was_killed_on_the_way_begins_anew() {
    for number in 0..6 {
        let directory = begun(number);
        let mut store = open(&directory);
        let queue = store.session("client");
        let id = store.ids.next_id();
        store.commit(vec![put_message(id, b"x", &[queue])]);
        let store = store.reopen(&directory);
        assert_eq!(store.waiting(queue), [id], "{number}");
        assert!(!directory.0.join("creating").exists(), "{number}");
    }
}

#[test]
fn what_is_being_made_is_no_excuse_for_a_store_that_is_gone() {
    let directory = filled();
    fs::create_dir_all(directory.0.join("creating")).expect("made");
    fs::remove_file(directory.data()).expect("removable");
    assert!(matches!(refusal(&directory), StoreError::Missing { .. }));
    // Without the mark LMDB's lock file tells the same.
    fs::remove_file(directory.0.join("README")).expect("removable");
    assert!(matches!(refusal(&directory), StoreError::Missing { .. }));
}

#[test]
fn an_lmdb_file_without_tables_is_another_programs() {
    let directory = filled();
    let mut data = fs::read(directory.data()).expect("readable");
    // The roots of the main tree, in both meta pages: none.
    for page in [0, PAGE as usize] {
        data[page + 128..page + 136].fill(0xFF);
    }
    fs::remove_dir_all(&directory.0).expect("removable");
    fs::create_dir_all(&directory.0).expect("made");
    fs::write(directory.data(), &data).expect("writable");
    assert!(matches!(refusal(&directory), StoreError::Foreign { .. }));
    assert_eq!(fs::read(directory.data()).expect("readable"), data);
}

#[test]
fn a_place_that_cannot_be_written_is_refused_with_its_name() {
    let directory = Directory::new();
    fs::write(&directory.0, b"a file").expect("writable");
    let below = StoreConfig {
        directory: directory.0.join("below"),
        ..config(&directory.0)
    };
    let error = try_open(&below, &Limits::default())
        .err()
        .expect("refused")
        .to_string();
    assert!(
        error.contains("below: the directory cannot be made: "),
        "{error}"
    );
    fs::remove_file(&directory.0).expect("removable");
}
