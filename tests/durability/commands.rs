//! `tidewire store` and `tidewire retained` on a store that a broker has written.

use std::process::Output;

use crate::client::{Client, Connect, Out, Will};
use crate::program::{Directory, Program, command};

fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{out}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    out.into_owned()
}

/// One of everything.
fn written() -> Directory {
    let directory = Directory::new();
    let broker = Program::start(&directory);
    broker.leave_subscribed("reader", "a", 2);
    broker.leave_subscribed("member", "$share/g/a", 1);
    let mut writer = broker.durable("writer");
    for number in 0..100 {
        writer.publish("a", 1 + number % 2, &number.to_string());
    }
    for topic in ["r/1", "r/2", "s/\u{fc}"] {
        writer.publish_as(&Out::retained(topic, 1, topic));
    }
    writer.publish("$delayed/600/a", 1, "later");
    let mut reader = broker.resume("reader");
    let first = reader.message();
    reader.settle(&first);
    reader.settled_behind_messages();
    let mut connect = Connect::durable("willing");
    connect.will = Some(Will {
        topic: "a".into(),
        payload: b"will".to_vec(),
        qos: 1,
        delay_seconds: 600,
    });
    Client::connect(broker.address, &connect).0.close();
    broker.durable("witness").settled();
    assert!(broker.stop().success());
    directory
}

/// The last message of the reader's is there.
fn verify(directory: &Directory) {
    let broker = Program::start(directory);
    let mut reader = broker.resume("reader");
    let expected: Vec<_> = (1..100).map(|it| it.to_string()).collect();
    assert_eq!(reader.take(99), expected);
    let mut member = broker.resume("member");
    let got = member.take(100);
    assert_eq!((&*got[0], &*got[99]), ("0", "99"));
    broker.resume("willing");
}

#[test]
fn info_and_check_say_what_is_there() {
    let directory = written();
    let info = text(&command(&["store", "info", "DIR"], &directory.store()));
    for line in [
        "sessions: 5",
        "retained: 3",
        "messages: 100",
        "delayed: 1",
        "wills: 1",
    ] {
        assert!(info.lines().any(|it| it == line), "{line}: {info}");
    }
    let check = text(&command(&["store", "check", "DIR"], &directory.store()));
    assert!(check.contains("no damage found"), "{check}");
    verify(&directory);
}

#[test]
fn an_export_can_be_imported_elsewhere() {
    let directory = written();
    let lines = directory.0.join("lines.json");
    let lines = lines.to_str().unwrap();
    text(&command(
        &["store", "export", "DIR", "--out", lines],
        &directory.store(),
    ));
    let copy = Directory::new();
    let said = text(&command(
        &["store", "import", "DIR", "--from", lines],
        &copy.store(),
    ));
    assert!(said.contains("lines imported"), "{said}");
    let info = |directory: &Directory| {
        let info = text(&command(&["store", "info", "DIR"], &directory.store()));
        let rows = info.lines().filter(|it| !it.contains("bytes"));
        rows.map(str::to_owned).collect::<Vec<_>>()
    };
    let count =
        |lines: &[String], name: &str| lines.iter().find(|it| it.starts_with(name)).cloned();
    for name in [
        "sessions",
        "messages",
        "retained",
        "delayed",
        "wills",
        "in_flight",
    ] {
        assert_eq!(count(&info(&copy), name), count(&info(&directory), name));
    }
    verify(&copy);
    verify(&directory);
    // A store that is there is not overwritten.
    let again = command(&["store", "import", "DIR", "--from", lines], &copy.store());
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn a_compacted_store_holds_the_same() {
    let directory = written();
    let said = text(&command(&["store", "compact", "DIR"], &directory.store()));
    assert!(said.contains("bytes before"), "{said}");
    verify(&directory);
}

#[test]
fn retained_messages_are_listed_and_deleted() {
    let directory = written();
    let store = directory.store();
    let list = |filter| {
        text(&command(
            &["retained", "list", filter, "--store", "DIR"],
            &store,
        ))
    };
    assert_eq!(list("#"), "r/1 3 bytes\nr/2 3 bytes\ns/\u{fc} 4 bytes\n");
    assert_eq!(list("+/1"), "r/1 3 bytes\n");
    let said = text(&command(
        &["retained", "delete", "r/+", "--store", "DIR"],
        &store,
    ));
    assert_eq!(said, "2 retained messages deleted\n");
    let broker = Program::start(&directory);
    let mut reader = broker.passing("witness");
    reader.subscribe("#", 0);
    assert_eq!(reader.message().topic, "s/\u{fc}");
    // Not while a broker has the store.
    for arguments in [
        &["retained", "list", "#", "--store", "DIR"][..],
        &["retained", "delete", "#", "--store", "DIR"],
        &["store", "info", "DIR"],
        &["store", "check", "DIR"],
        &["store", "export", "DIR"],
        &["store", "import", "DIR", "--from", "/dev/null"],
        &["store", "compact", "DIR"],
    ] {
        let output = command(arguments, &store);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("in use by another process"));
    }
}

#[test]
fn a_running_broker_is_asked_for_its_retained_messages() {
    let directory = written();
    let broker = Program::start(&directory);
    let port = broker.address.port().to_string();
    let retained = |verb, filter| {
        let arguments = ["retained", verb, filter, "-h", "127.0.0.1", "-p", &port];
        text(&command(&arguments, &directory.store()))
    };
    let list = |filter| {
        let said = retained("list", filter);
        let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let all = ["r/1 3 bytes", "r/2 3 bytes", "s/\u{fc} 4 bytes"];
    assert_eq!(list("#"), all);
    assert_eq!(list("+/1"), all[..1]);
    assert_eq!(retained("delete", "r/+"), "2 retained messages deleted\n");
    assert_eq!(list("#"), all[2..]);
    drop(broker);
    let arguments = ["retained", "list", "#", "--store", "DIR"];
    let said = text(&command(&arguments, &directory.store()));
    assert_eq!(said, "s/\u{fc} 4 bytes\n");
}

#[test]
fn what_is_no_store_is_refused() {
    let directory = Directory::new();
    for arguments in [
        &["store", "info", "DIR"][..],
        &["store", "check", "DIR"],
        &["store", "export", "DIR"],
        &["store", "compact", "DIR"],
        &["retained", "list", "#", "--store", "DIR"],
        &["retained", "list", "a/#/b", "--store", "DIR"],
    ] {
        let output = command(arguments, &directory.store());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(!output.stderr.is_empty());
        assert!(!directory.store().exists(), "{arguments:?}");
    }
}
