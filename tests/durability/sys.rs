//! What `$SYS` says about the store.

use std::collections::BTreeMap;

use crate::client::Out;
use crate::program::{Directory, Program};

#[test]
fn sys_topics_tell_what_the_store_does() {
    let directory = Directory::new();
    let broker = Program::start_with(&directory, "sys_interval_seconds = 1\n");
    broker.leave_subscribed("reader", "a", 1);
    let mut writer = broker.passing("writer");
    for _ in 0..10 {
        writer.publish("a", 1, "x");
    }
    writer.publish_as(&Out::retained("r", 1, "x"));
    let mut reader = broker.passing("sys");
    reader.subscribe("$SYS/broker/store/#", 0);
    let mut values = BTreeMap::new();
    // The second round at the latest was published after all that.
    for _ in 0..30 {
        let message = reader.message();
        values.insert(message.topic.clone(), message.text().to_owned());
    }
    let value = |name: &str| values[&format!("$SYS/broker/store/{name}")].as_str();
    assert!(value("commits").parse::<u64>().unwrap() >= 10);
    assert!(value("operations").parse::<u64>().unwrap() >= 11);
    assert!(value("used/bytes").parse::<u64>().unwrap() > 4_096);
    assert_eq!(value("pending/bytes"), "0");
    assert_eq!(value("is full"), "0");
    assert_eq!(value("is exhausted"), "0");
    for name in ["commit latency/mean", "commit latency/maximum"] {
        let number = value(name).strip_suffix(" microseconds").unwrap();
        assert!(number.parse::<u64>().unwrap() > 0);
    }
}
