//! Stores that cannot be used, and stores that fail.

use std::fs;
use std::process::{Command, Stdio};

use crate::client::{Client, Connect, Out, Packet};
use crate::program::{Directory, Program, command};

/// A directory with a store that holds a message.
fn with_a_message() -> Directory {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 1);
    broker.passing("writer").publish("a", 1, "kept");
    assert!(broker.stop().success());
    directory
}

/// Why the broker does not start.
fn refusal(directory: &Directory) -> String {
    match Program::try_start(directory, "") {
        Ok(_) => panic!("it has started"),
        Err(text) => {
            assert!(text.ends_with("(status Some(1))"), "{text}");
            text
        }
    }
}

#[test]
fn a_second_process_is_refused_and_the_first_goes_on() {
    let directory = with_a_message();
    let broker = Program::start(&directory);
    // Its log and configuration are another's.
    let second = Directory::new();
    std::os::unix::fs::symlink(directory.store(), second.store()).unwrap();
    let text = refusal(&second);
    assert!(text.contains("in use by another process"), "{text}");
    assert_eq!(broker.resume("reader").take(1), ["kept"]);
    // A killed process leaves no lock behind.
    let broker = broker.restart(&directory);
    broker.passing("witness").ping();
}

#[test]
fn a_store_that_is_damaged_foreign_or_gone_is_refused_and_left_as_it_is() {
    let directory = with_a_message();
    let data = directory.store().join("data.mdb");
    let whole = fs::read(&data).unwrap();
    let mut damaged = whole.clone();
    let end = damaged.len().min(8 * 4_096);
    damaged[2 * 4_096..end].fill(0xA5);
    let cases = [
        (damaged, "damaged"),
        (whole[..3 * 4_096].to_vec(), "truncated"),
        (b"something else".repeat(2_000), "not a store of Tidewire"),
        (Vec::new(), "missing or empty"),
    ];
    for (bytes, expected) in cases {
        fs::write(&data, &bytes).unwrap();
        let text = refusal(&directory);
        assert!(text.contains(expected), "{expected}: {text}");
        assert_eq!(fs::read(&data).unwrap(), bytes);
    }
    fs::remove_file(&data).unwrap();
    let text = refusal(&directory);
    assert!(text.contains("missing or empty"), "{text}");
    fs::write(&data, whole).unwrap();
    let broker = Program::start(&directory);
    assert_eq!(broker.resume("reader").take(1), ["kept"]);
}

#[test]
fn a_first_start_that_is_killed_on_the_way_is_no_obstacle_to_the_next() {
    let seen = [
        "tidewire.lock",
        "creating",
        "creating/lock.mdb",
        "creating/data.mdb",
        "data.mdb",
        "README",
    ];
    for name in seen {
        let directory = Directory::new();
        let store = directory.store();
        let mut first = Command::new(env!("CARGO_BIN_EXE_tidewire"))
            .args(["run", "--listen", "tcp://127.0.0.1:0", "--store"])
            .arg(&store)
            // How many rounds others are to run would pass for configuration.
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // As soon as the file is there; what is soon gone again may have been missed.
        let is_over = || store.join("README").exists();
        while !store.join(name).exists() && !is_over() {
            assert_eq!(first.try_wait().unwrap(), None);
        }
        first.kill().unwrap();
        first.wait().unwrap();
        let broker = Program::start(&directory);
        broker.leave_subscribed("reader", name, 1);
        assert!(!store.join("creating").exists(), "{name}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let directory = Directory::new();
    fs::write(directory.store(), "a file").unwrap();
    let text = refusal(&directory);
    assert!(text.contains("store"), "{text}");
    fs::remove_file(directory.store()).unwrap();
    // Nobody writes there, not even a superuser.
    std::os::unix::fs::symlink("/proc/sys", directory.store()).unwrap();
    let text = refusal(&directory);
    assert!(text.contains("store"), "{text}");
}

#[test]
fn a_failed_commit_ends_the_process_with_status_3_and_loses_nothing_acknowledged() {
    let directory = Directory::new();
    // A write beyond the limit fails with EFBIG, which nothing but the test does.
    let limit = "trap '' XFSZ; ulimit -f 4000; ";
    let mut broker = Program::start_in_shell(&directory, "", limit).unwrap();
    broker.leave_subscribed("reader", "a", 1);
    let mut writer = broker.passing("writer");
    let padding = "x".repeat(1_000);
    let mut acknowledged = 0;
    for number in 0..10_000 {
        if writer
            .try_send(&Out::new("a", 1, &format!("{number} {padding}")).encode(5))
            .is_none()
        {
            break;
        }
        match writer.next() {
            Some(Packet::Ack { reason: 0, .. }) => acknowledged += 1,
            None => break,
            Some(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(broker.ends().code(), Some(3));
    let log = broker.log();
    assert!(
        log.contains("a commit failed") && log.contains("The broker stops"),
        "{log}"
    );
    assert!(acknowledged > 100);
    let broker = Program::start(&directory);
    let mut reader = broker.resume("reader");
    let got = reader.take(acknowledged);
    let numbers = got.iter().map(|it| it.split(' ').next().unwrap());
    assert!(
        numbers
            .map(|it| it.parse::<usize>().unwrap())
            .eq(0..acknowledged)
    );
}

#[test]
fn a_stop_keeps_everything_and_memory_says_what_is_given_up() {
    let directory = with_a_message();
    let broker = Program::start(&directory);
    assert!(
        !broker.log().contains("nothing is stored"),
        "{}",
        broker.log()
    );
    let mut reader = broker.resume("reader");
    let message = reader.message();
    assert!(broker.stop().success());
    let broker = Program::start(&directory);
    let mut reader = broker.resume("reader");
    let again = reader.message();
    assert_eq!((again.id, again.text()), (message.id, "kept"));
    let memory = Directory::new();
    let lines = "[[listeners]]\nbind = \"127.0.0.1:0\"\n";
    let broker = Program::start_in_memory(&memory, lines);
    let log = broker.log();
    assert!(
        log.contains("WARN") && log.contains("nothing is stored"),
        "{log}"
    );
    let (_, is_present) = Client::connect(broker.address, &Connect::durable("reader"));
    assert!(!is_present);
}

/// A store as another version of the schema would leave it: the number is written over.
fn with_schema(directory: &Directory, version: u32) {
    let data = directory.store().join("data.mdb");
    let mut bytes = fs::read(&data).unwrap();
    let known = [&b"schema"[..], &1u32.to_be_bytes()].concat();
    let places: Vec<usize> = (0..bytes.len() - known.len())
        .filter(|at| bytes[*at..].starts_with(&known))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 6..at + 10].copy_from_slice(&version.to_be_bytes());
    }
    fs::write(&data, bytes).unwrap();
}

#[test]
fn a_store_of_another_schema_is_refused_and_told_what_to_do() {
    let directory = with_a_message();
    let data = directory.store().join("data.mdb");
    let whole = fs::read(&data).unwrap();
    let newer = "knows versions up to 1; use the program that wrote it, or a later one";
    for (version, expected) in [
        (2, newer),
        (0, "schema version 0, which this program cannot"),
    ] {
        with_schema(&directory, version);
        let before = fs::read(&data).unwrap();
        let text = refusal(&directory);
        assert!(text.contains(expected), "{text}");
        for tool in ["info", "check", "export", "compact"] {
            let output = command(&["store", tool, "DIR"], &directory.store());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{tool}");
            assert!(said.contains(expected), "{tool}: {said}");
        }
        assert_eq!(fs::read(&data).unwrap(), before);
        fs::write(&data, &whole).unwrap();
    }
    let broker = Program::start(&directory);
    assert_eq!(broker.resume("reader").take(1), ["kept"]);
}

#[test]
fn a_store_on_a_read_only_file_system_is_refused_and_left_as_it_is() {
    let directory = with_a_message();
    let data = directory.store().join("data.mdb");
    let whole = fs::read(&data).unwrap();
    let store = directory.store();
    let mount = format!(
        "exec unshare --map-root-user --mount sh -c 'mount --bind {0} {0} && \
         mount -o remount,ro,bind {0} && exec \"$0\" \"$@\"' \"$0\" \"$@\"; ",
        store.display()
    );
    let Err(text) = Program::start_in_shell(&directory, "", &mount) else {
        panic!("it has started");
    };
    if text.contains("unshare:") || text.contains("mount:") {
        eprintln!("no mounts here: another test stands for this one: {text}");
        return;
    }
    assert!(text.ends_with("(status Some(1))"), "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
    assert_eq!(fs::read(&data).unwrap(), whole);
    let broker = Program::start(&directory);
    assert_eq!(broker.resume("reader").take(1), ["kept"]);
}
