//! Mount points and the owners of sessions over restarts.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::client::{Client, Connect, Out};
use crate::program::{Directory, Program};

#[test]
fn a_session_under_a_mount_point_stays_under_it() {
    let directory = Directory::new();
    let lines = "[[listeners]]\nbind = \"127.0.0.1:0\"\nmount_point = \"tenant/\"\n";
    let broker = Program::start_with(&directory, lines);
    broker.leave_subscribed("reader", "a/+", 1);
    broker.leave_subscribed("member", "$share/g/a/+", 1);
    let mut writer = broker.passing("writer");
    writer.publish_as(&Out::retained("a/b", 1, "mounted"));
    let broker = broker.restart_with(&directory, lines);
    for id in ["reader", "member"] {
        let mut client = broker.resume(id);
        let message = client.message();
        assert_eq!((&*message.topic, message.text()), ("a/b", "mounted"));
        client.settle(&message);
        client.settled();
    }
    // Elsewhere it is another client, and the message has its whole topic.
    let broker = broker.restart(&directory);
    let (mut client, is_present) = Client::connect(broker.address, &Connect::durable("reader"));
    assert!(!is_present);
    client.subscribe("tenant/#", 1);
    assert_eq!(client.message().topic, "tenant/a/b");
}

#[test]
fn a_session_belongs_to_its_user_after_a_restart() {
    let directory = Directory::new();
    let users = directory.0.join("users");
    let path = users.to_str().unwrap();
    for (name, create) in [("alice", true), ("bob", false)] {
        let mut arguments = vec!["passwd", "--password-stdin"];
        arguments.extend(create.then_some("-c"));
        arguments.extend([path, name]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidewire"))
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"secret\n").unwrap();
        assert!(child.wait().unwrap().success());
    }
    let lines = format!("[auth]\npassword_file = \"{path}\"\n");
    let broker = Program::start_with(&directory, &lines);
    let of = |user: &str| Connect {
        user: Some((user.into(), "secret".into())),
        ..Connect::durable("device")
    };
    let (mut client, _) = Client::connect(broker.address, &of("alice"));
    client.subscribe("a", 1);
    client.disconnect(None);
    let broker = broker.restart_with(&directory, &lines);
    let (_, _, reason) = Client::try_connect(broker.address, &of("bob")).unwrap();
    assert_eq!(reason, 0x87);
    let (_, is_present) = Client::connect(broker.address, &of("alice"));
    assert!(is_present);
}
