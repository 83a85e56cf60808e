//! Properties of messages that go from one node of ours through another server to a second node.

use tidewire_protocol::codec::{PublishProperties, UserProperties};

use crate::client::{Client, Message, Q1};
use crate::federation::wait_until_up;
use crate::process::{Broker, free_port};

/// What the first node sends.
pub(crate) const OUT: &str = "[[bridges.out]]\nfilters = [\"mirror/#\"]\n\
     priority = \"{prop:urgency|default('3')}\"\ntimestamp_ms = \"{json:/at}\"";
/// What the second node receives.
pub(crate) const BACK: &str = "[[bridges.in]]\nfilters = [\"mirror/#\"]\ntopic = \"back/{2..}\"\n\
     user_properties_add = [\"id={message_id}\", \"urgent={priority}\", \"made={timestamp_ms}\"]";

/// Two nodes.
pub(crate) struct Mirror {
    ours: Broker,
    theirs: Broker,
}

impl Mirror {
    pub(crate) fn new(ours: &str, theirs: &str) -> Self {
        let ours = format!("node = \"n1\"\n{ours}");
        let [ours, theirs] = [&*ours, theirs].map(|it| Broker::tidewire(free_port(), it));
        wait_until_up(&ours);
        wait_until_up(&theirs);
        Self { ours, theirs }
    }

    pub(crate) fn shows_everything(&self) {
        let mut receiver = Client::connect(&self.theirs, "receiver");
        receiver.subscribe("back/#");
        let mut sender = Client::connect(&self.ours, "sender");
        for (correlation, urgency) in [(&b"id-1"[..], "9"), (b"\xff\0", "0")] {
            let pairs = [("a", "b"), ("a", "c"), ("urgency", urgency), ("e", "")];
            let properties = PublishProperties {
                content_type: Some("text/plain"),
                response_topic: Some("answers/1"),
                correlation_data: Some(correlation),
                message_expiry_seconds: Some(60),
                user_properties: UserProperties::from_pairs(&pairs),
                ..PublishProperties::default()
            };
            sender.publish_with("mirror/x.y/1", PAYLOAD, Q1, false, &properties);
            let got = receiver.expect("back/x.y/1", PAYLOAD);
            assert_eq!(got.qos, Q1);
            assert_eq!(got.content_type.as_deref(), Some("text/plain"));
            assert_eq!(got.response_topic.as_deref(), Some("answers/1"));
            assert_eq!(got.correlation_data.as_deref(), Some(correlation));
            assert!((30..=60).contains(&got.expiry_seconds.expect("an expiry")));
            assert_eq!(values(&got, "a"), ["b", "c"]);
            assert_eq!(values(&got, "e"), [""]);
            assert_eq!(values(&got, "urgent"), [urgency]);
            assert_eq!(values(&got, "made"), ["1700000000000"]);
            let ids = values(&got, "id");
            assert!(ids.len() == 1 && ids[0].starts_with("n1.up."), "{got:?}");
        }
        sender.publish("mirror/plain", PAYLOAD, Q1);
        assert_eq!(values(&receiver.next(), "urgent"), ["3"]);
    }
}

fn values<'a>(message: &'a Message, name: &str) -> Vec<&'a str> {
    let pairs = message.headers.iter().filter(|it| it.0 == name);
    pairs.map(|it| &*it.1).collect()
}

const PAYLOAD: &str = r#"{"at":1700000000000}"#;
