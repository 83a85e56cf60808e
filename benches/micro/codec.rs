//! A read buffer of PUBLISH packets decoded, and deliveries encoded.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use tidewire_protocol::codec::{
    self, DeliveryHeader, Packet, PacketId, ProtocolVersion, Publish, PublishProperties, QoS,
    Receiver, UserProperties, encode_delivery,
};

const VERSIONS: [(&str, ProtocolVersion); 2] = [
    ("3.1.1", ProtocolVersion::V3_1_1),
    ("5.0", ProtocolVersion::V5),
];
const TOPIC: &str = "site/042/line/03/sensor/temperature";
const BUFFER_BYTES: usize = 64 * 1_024;
const PACKET_BYTES_MAX: usize = 1 << 20;

/// One read buffer full of packets.
pub(crate) fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, version) in VERSIONS {
        for payload in [64, 256] {
            let payload = vec![b'x'; payload];
            let packet = publish(&payload, PublishProperties::default());
            let (buffer, count) = filled_buffer(&packet, version);
            group.throughput(Throughput::Elements(count));
            let id = BenchmarkId::new(format!("{name} publish"), payload.len());
            group.bench_function(id, |bencher| {
                bencher.iter(|| decode_buffer(black_box(&buffer), version));
            });
        }
    }
    let pairs = [("source", "plant-7"), ("unit", "celsius")];
    let properties = PublishProperties {
        content_type: Some("application/json"),
        user_properties: UserProperties::from_pairs(&pairs),
        ..PublishProperties::default()
    };
    let packet = publish(&[b'x'; 64], properties);
    let (buffer, count) = filled_buffer(&packet, ProtocolVersion::V5);
    group.throughput(Throughput::Elements(count));
    group.bench_function("5.0 publish with properties", |bencher| {
        bencher.iter(|| decode_buffer(black_box(&buffer), ProtocolVersion::V5));
    });
    group.finish();
}

/// One delivery at a time, into a buffer that is there.
pub(crate) fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (name, version) in VERSIONS {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let payload = [b'x'; 64];
            let header = DeliveryHeader {
                dup: false,
                qos,
                retain: false,
                packet_id: PacketId::new(u16::from(qos != QoS::AtMostOnce)),
                topic_alias: None,
                message_expiry_seconds: None,
                subscription_ids: &[],
            };
            let mut out = Vec::with_capacity(BUFFER_BYTES);
            let id = BenchmarkId::new(format!("{name} delivery"), qos as u8);
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    out.clear();
                    encode_delivery(
                        &mut out,
                        version,
                        &header,
                        TOPIC.as_bytes(),
                        &[],
                        black_box(&payload),
                    )
                });
            });
        }
    }
    group.finish();
}

/// Decodes all packets, and looks at what a broker looks at.
fn decode_buffer(bytes: &[u8], version: ProtocolVersion) -> usize {
    let mut at = 0;
    let mut payload_bytes = 0;
    while let Ok(Some((packet, size))) =
        codec::decode(&bytes[at..], version, Receiver::Server, PACKET_BYTES_MAX)
    {
        if let Packet::Publish(publish) = &packet {
            payload_bytes += publish.payload.len();
        }
        at += size;
    }
    payload_bytes
}

fn publish<'a>(payload: &'a [u8], properties: PublishProperties<'a>) -> Packet<'a> {
    Packet::Publish(Publish {
        properties,
        ..Publish::new(TOPIC, payload)
    })
}

/// As many whole packets as fit, and their number.
fn filled_buffer(packet: &Packet<'_>, version: ProtocolVersion) -> (Vec<u8>, u64) {
    let mut one = Vec::new();
    let size = codec::encode(packet, version, &mut one).expect("a small packet");
    let count = BUFFER_BYTES / size;
    (one.repeat(count), count as u64)
}
