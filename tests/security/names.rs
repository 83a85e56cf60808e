//! Negative test 24: names that mean something in topics, patterns or logs.

use tidewire_protocol::codec::ReasonCode;

use super::broker::{Broker, users};
use super::client::{Q1, connect};

#[test]
fn a_client_id_with_a_meaning_widens_no_pattern() {
    let broker =
        Broker::start("user alice\ntopic #\npattern readwrite d/%c/#\npattern read %c/#\n");
    let mut alice = broker.login("alice", "alice");
    for client_id in [
        "+", "#", "x/y", "$SYS", ".*", "%c", "%u", "(a|b)", "^", "$share",
    ] {
        let mut client = broker.accepted(&connect(client_id));
        for topic in ["d/x/y", "d/other/z", "x/y", "secret"] {
            let reason = client.publish(topic, Q1);
            assert_eq!(reason, ReasonCode::NotAuthorized, "{client_id} {topic}");
        }
        // Wide filters are made where a part may be read; what comes is checked by topic.
        for filter in ["#", "d/#", "+/#", "$SYS/#", "d/+/z"] {
            client.subscribe(filter, Q1);
        }
        for topic in ["d/other/z", "secret/z", "x/y/z"] {
            alice.publish(topic, Q1);
        }
        assert_eq!(client.topics(), [""; 0], "{client_id}");
    }
    let mut plain = broker.anonymous("plain");
    assert!(!plain.publish("d/plain/y", Q1).is_error());
}

#[test]
fn a_user_name_with_a_meaning_widens_no_pattern() {
    let names = ["+", "a/b", ".*", "%u", "$SYS"];
    let broker = Broker::with("pattern readwrite u/%u/#\n", |config, files| {
        config.auth.password_file = Some(files.write("users", &users(&names)));
    });
    for name in names {
        let mut client = broker.login(name, &format!("client of {name}"));
        assert_eq!(
            client.publish("u/other/x", Q1),
            ReasonCode::NotAuthorized,
            "{name}"
        );
        client.subscribe("u/#", Q1);
        client.subscribe("$SYS/#", Q1);
    }
    let mut own = broker.login("%u", "c2");
    assert!(
        !own.publish("u/%u/x", Q1).is_error(),
        "a level as any other"
    );
}
