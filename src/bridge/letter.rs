//! Dead letters: messages that do not cross, with the reason written on them.

use tidewire_bridges::Record;
use tidewire_bridges::mqtt::encode_properties;
use tidewire_protocol::codec::{PublishProperties, QoS, UserProperties};

use crate::message::{Header, Message};

/// Why a message does not cross a bridge, and where it goes instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter<'a> {
    /// The topic of dead letters.
    pub(super) to: &'a str,
    pub(super) bridge: &'a str,
    pub(super) reason: &'a str,
    /// Of the bridge: it is not to come back to it.
    pub(super) publisher: u64,
}

impl Letter<'_> {
    /// A message of ours that was not to be passed on.
    pub(super) fn of(&self, message: &Message) -> Message {
        let forwarded = message.forwarded().to_vec();
        let topic = message.topic();
        self.with(topic, forwarded, message.payload(), message.qos())
    }

    /// A record from over there that is nothing here.
    pub(super) fn of_record(&self, record: &Record) -> Message {
        let mut forwarded = Vec::new();
        encode_properties(record, &mut forwarded);
        self.with(&record.topic, forwarded, &record.payload, record.qos)
    }

    fn with(&self, topic: &str, mut forwarded: Vec<u8>, payload: &[u8], qos: QoS) -> Message {
        let pairs = [
            ("tidewire-bridge", self.bridge),
            ("tidewire-topic", topic),
            ("tidewire-error", self.reason),
        ];
        let properties = PublishProperties {
            user_properties: UserProperties::from_pairs(&pairs),
            ..PublishProperties::default()
        };
        properties.encode_forwarded(&mut forwarded);
        let header = Header {
            qos,
            publisher: self.publisher,
            ..Header::default()
        };
        Message::new(self.to, &forwarded, payload, header)
    }
}
