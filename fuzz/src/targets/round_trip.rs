//! What is accepted survives encoding, in its version and on the delivery fast path.

use tidewire_protocol::codec::{
    DeliveryHeader, Packet, ProtocolVersion, Publish, PublishProperties, Receiver, decode,
    delivery_bytes, encode, encode_delivery, split_packet,
};

use super::{PACKET_BYTES_MAX, VERSIONS, end_of_connection};

/// Decodes the bytes after the first, encodes what they are and decodes that.
pub fn run(data: &[u8]) {
    let Some((&selector, bytes)) = data.split_first() else {
        return;
    };
    let (version, receiver) = end_of_connection(selector);
    let Ok(Some((packet, _))) = decode(bytes, version, receiver, PACKET_BYTES_MAX) else {
        return;
    };
    let mut out = vec![0xAA];
    let written = encode(&packet, version, &mut out).expect("what was read can be written");
    assert_eq!((written, out[0]), (out.len() - 1, 0xAA));
    let again = decode(&out[1..], version, receiver, PACKET_BYTES_MAX);
    assert_eq!(again, Ok(Some((packet.clone(), written))));
    let mut second = Vec::new();
    encode(&packet, version, &mut second).expect("as before");
    assert_eq!(second, out[1..], "encoding is a function of the packet");
    encode_in_all_versions(&packet);
    if let Packet::Publish(publish) = &packet {
        deliver(publish);
    }
}

/// An error leaves the buffer as it was, and success appends what was promised.
fn encode_in_all_versions(packet: &Packet<'_>) {
    for version in VERSIONS {
        let mut out = vec![1, 2];
        match encode(packet, version, &mut out) {
            Ok(size) => assert_eq!(size, out.len() - 2),
            Err(_) => assert_eq!(out, [1, 2]),
        }
    }
}

/// Sends a publish on to a subscriber of each version.
fn deliver(publish: &Publish<'_>) {
    if publish.topic.is_empty() {
        return;
    }
    let properties = &publish.properties;
    let ids: Vec<_> = properties.subscription_ids.iter().collect();
    let mut forwarded = Vec::new();
    properties.encode_forwarded(&mut forwarded);
    assert_eq!(properties.has_forwarded(), !forwarded.is_empty());
    for version in VERSIONS {
        let header = DeliveryHeader {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            packet_id: publish.packet_id,
            topic_alias: properties.topic_alias,
            message_expiry_seconds: properties.message_expiry_seconds,
            subscription_ids: &ids,
        };
        let (topic, payload) = (publish.topic.as_bytes(), publish.payload);
        let mut out = Vec::new();
        encode_delivery(&mut out, version, &header, topic, &forwarded, payload);
        let expected_bytes = delivery_bytes(version, &header, topic, &forwarded, payload);
        assert_eq!(out.len(), expected_bytes);
        assert_eq!(split_packet(&out), Some((&out[..], &[][..])));
        let mut expected = publish.clone();
        if version != ProtocolVersion::V5 {
            expected.properties = PublishProperties::default();
        }
        let delivered = decode(&out, version, Receiver::Client, PACKET_BYTES_MAX * 2);
        assert_eq!(
            delivered,
            Ok(Some((Packet::Publish(expected), expected_bytes)))
        );
    }
}
