//! Any bytes: no panic, and the answer fits the bytes.

use tidewire_protocol::codec::{Packet, decode, decode_connect};
use tidewire_protocol::topic::{DelayedTopic, Subscribable, Topic};

use super::{PACKET_BYTES_MAX, end_of_connection};

/// Decodes the bytes after the first; see [`end_of_connection`].
pub fn run(data: &[u8]) {
    let Some((&selector, bytes)) = data.split_first() else {
        return;
    };
    let (version, receiver) = end_of_connection(selector);
    let result = decode(bytes, version, receiver, PACKET_BYTES_MAX);
    if bytes.first() == Some(&0x10) {
        check_connect(bytes);
    }
    match &result {
        Ok(None) => {}
        Ok(Some((packet, size))) => {
            assert!((2..=bytes.len()).contains(size));
            let exact = decode(&bytes[..*size], version, receiver, PACKET_BYTES_MAX);
            assert_eq!(exact, result, "what follows a packet does not matter");
            let short = decode(&bytes[..size - 1], version, receiver, PACKET_BYTES_MAX);
            assert_eq!(short, Ok(None), "a packet cut short is incomplete");
            let small = decode(bytes, version, receiver, size - 1);
            assert!(small.is_err(), "above the maximum");
            check_topics(packet);
        }
        Err(error) => {
            assert!(error.reason().is_error());
            assert!(!error.to_string().is_empty());
            let longer = [bytes, &[0; 4]].concat();
            let later = decode(&longer, version, receiver, PACKET_BYTES_MAX);
            assert_eq!(later, result, "more bytes do not mend an error");
        }
    }
}

/// The first packet of a connection reads like any CONNECT.
fn check_connect(bytes: &[u8]) {
    use tidewire_protocol::codec::{ProtocolVersion, Receiver};
    let first = decode_connect(bytes, PACKET_BYTES_MAX);
    let any = decode(
        bytes,
        ProtocolVersion::V5,
        Receiver::Server,
        PACKET_BYTES_MAX,
    );
    match any {
        Ok(Some((Packet::Connect(connect), size))) => assert_eq!(first, Ok(Some((*connect, size)))),
        Ok(Some(other)) => unreachable!("{other:?} begins with 0x10"),
        Ok(None) => assert_eq!(first, Ok(None)),
        Err(error) => assert_eq!(first, Err(error)),
    }
}

/// The codec's checks of names agree with those of the topic types.
fn check_topics(packet: &Packet<'_>) {
    match packet {
        Packet::Publish(publish) => {
            assert!(publish.topic.is_empty() || Topic::parse(publish.topic, usize::MAX).is_ok());
            if let Some(response_topic) = publish.properties.response_topic {
                assert!(Topic::parse(response_topic, usize::MAX).is_ok());
            }
            if let Some(Ok(delayed)) = DelayedTopic::parse(publish.topic, 8) {
                assert!(publish.topic.ends_with(delayed.topic.as_str()));
            }
        }
        Packet::Subscribe(subscribe) => {
            for subscription in &subscribe.subscriptions {
                if let Ok(parsed) = Subscribable::parse(subscription.filter, 8) {
                    assert!(subscription.filter.ends_with(parsed.filter().as_str()));
                    assert!(parsed.filter().levels().count() <= 8);
                }
            }
        }
        _ => {}
    }
}
