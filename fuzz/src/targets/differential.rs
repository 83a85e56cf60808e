//! Two published codecs beside ours.
//!
//! What we accept they must accept, and read from our bytes what they read from the original; when
//! they write what they read, it must still be what we read. They accept far more than we do, so
//! the reverse is not asked. The exceptions are listed where they are made.

use bytes::BytesMut;
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use tidewire_protocol::codec::{Packet, ProtocolVersion, ReasonCode, Receiver, decode, encode};
use tidewire_protocol::topic::Subscribable;

use super::{PACKET_BYTES_MAX, end_of_connection};

/// Decodes the bytes after the first with all three codecs.
pub fn run(data: &[u8]) {
    let Some((&selector, bytes)) = data.split_first() else {
        return;
    };
    let (version, receiver) = end_of_connection(selector);
    let Ok(Some((packet, size))) = decode(bytes, version, receiver, PACKET_BYTES_MAX) else {
        return;
    };
    // The others know neither 3.1 nor the bridges of mosquitto, and tell the version of a CONNECT
    // beforehand.
    if version == ProtocolVersion::V3_1 {
        return;
    }
    if let Packet::Connect(connect) = &packet
        && (connect.is_bridge || connect.version != version)
    {
        return;
    }
    let mut written = Vec::new();
    encode(&packet, version, &mut written).expect("what was read can be written");
    let ours = Ours {
        packet: &packet,
        version,
        receiver,
    };
    ours.compare_with_mqttbytes(&bytes[..size], &written);
    ours.compare_with_mqtt_protocol_core(&bytes[..size]);
    ours.compare_with_mqtt_protocol_core(&written);
}

/// A packet that we read.
struct Ours<'a> {
    packet: &'a Packet<'a>,
    version: ProtocolVersion,
    receiver: Receiver,
}

impl Ours<'_> {
    fn compare_with_mqttbytes(&self, original: &[u8], written: &[u8]) {
        if self.is_beyond_mqttbytes(original) {
            return;
        }
        if self.version == ProtocolVersion::V5 {
            let theirs = [original, written].map(|bytes| {
                mqttbytes::v5::read(&mut BytesMut::from(bytes), PACKET_BYTES_MAX)
                    .unwrap_or_else(|error| panic!("mqttbytes refuses {bytes:02x?}: {error:?}"))
            });
            assert_eq!(theirs[0], theirs[1], "mqttbytes on {original:02x?}");
            // The rest it writes without the length of missing properties.
            if let mqttbytes::v5::Packet::Publish(theirs) = &theirs[0] {
                let mut out = BytesMut::new();
                theirs.write(&mut out).expect("what it read can be written");
                self.expect("mqttbytes", original, &out);
            }
        } else {
            let theirs = [original, written].map(|bytes| {
                mqttbytes::v4::read(&mut BytesMut::from(bytes), PACKET_BYTES_MAX)
                    .unwrap_or_else(|error| panic!("mqttbytes refuses {bytes:02x?}: {error:?}"))
            });
            assert_eq!(theirs[0], theirs[1], "mqttbytes on {original:02x?}");
            let mut out = BytesMut::new();
            write_v4(&theirs[0], &mut out).expect("what it read can be written");
            self.expect("mqttbytes", original, &out);
        }
    }

    fn compare_with_mqtt_protocol_core(&self, bytes: &[u8]) {
        if self.is_beyond_mqtt_protocol_core() {
            return;
        }
        match self.through_mqtt_protocol_core(bytes) {
            Ok(again) => self.expect("mqtt-protocol-core", bytes, &again),
            Err(error) => panic!("mqtt-protocol-core refuses {bytes:02x?}: {error:?}"),
        }
    }

    fn expect(&self, codec: &str, bytes: &[u8], again: &[u8]) {
        let read = decode(again, self.version, self.receiver, PACKET_BYTES_MAX * 2);
        let expected = Ok(Some((self.packet.clone(), again.len())));
        assert_eq!(
            read, expected,
            "{codec} wrote {again:02x?} for {bytes:02x?}"
        );
    }

    /// What mqttbytes 0.6 cannot read, or reads and writes as something else.
    fn is_beyond_mqttbytes(&self, bytes: &[u8]) -> bool {
        let is_v5 = self.version == ProtocolVersion::V5;
        match self.packet {
            // It has no AUTH.
            Packet::Auth(_) => true,
            // It takes passwords for strings, and empty ones and empty names for none.
            Packet::Connect(connect) => {
                connect.user_name == Some("")
                    || connect.password.is_some_and(|password| {
                        password.is_empty() || str::from_utf8(password).is_err()
                    })
            }
            // It needs the reason and the property length, and misses one reason.
            Packet::Disconnect(disconnect) => {
                is_v5 && (bytes[1] < 2 || disconnect.reason == ReasonCode::BadAuthenticationMethod)
            }
            // It counts the bytes of identifiers wrongly, so that others become the payload.
            Packet::Publish(publish) => !publish.properties.subscription_ids.is_empty(),
            // It prints each to standard error.
            Packet::Unsubscribe(_) => is_v5,
            _ => false,
        }
    }

    /// What mqtt-protocol-core 0.7 refuses though the specification has it.
    fn is_beyond_mqtt_protocol_core(&self) -> bool {
        match self.packet {
            // It wants a user name with each password in 5.0 too.
            Packet::Connect(connect) => connect.password.is_some() && connect.user_name.is_none(),
            // It checks shares while it reads; we answer each filter with a reason of its own.
            Packet::Subscribe(it) => it.subscriptions.iter().any(|it| !is_filter(it.filter)),
            Packet::Unsubscribe(it) => it.filters.iter().any(|filter| !is_filter(filter)),
            // As the table of section 3.14.2.1 misses it; that of section 2.4 has it.
            Packet::Disconnect(it) => it.reason == ReasonCode::BadAuthenticationMethod,
            _ => false,
        }
    }

    fn through_mqtt_protocol_core(&self, bytes: &[u8]) -> Result<Vec<u8>, MqttError> {
        let length_bytes = bytes[1..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
        let body = &bytes[1 + length_bytes..];
        if self.version == ProtocolVersion::V5 {
            read_v5_0(bytes[0], body)
        } else {
            read_v3_1_1(bytes[0], body)
        }
    }
}

fn is_filter(text: &str) -> bool {
    Subscribable::parse(text, usize::MAX).is_ok()
}

fn write_v4(packet: &mqttbytes::v4::Packet, out: &mut BytesMut) -> Result<usize, mqttbytes::Error> {
    use mqttbytes::v4::{Disconnect, Packet, PingReq, PingResp};
    match packet {
        Packet::Connect(packet) => packet.write(out),
        Packet::ConnAck(packet) => packet.write(out),
        Packet::Publish(packet) => packet.write(out),
        Packet::PubAck(packet) => packet.write(out),
        Packet::PubRec(packet) => packet.write(out),
        Packet::PubRel(packet) => packet.write(out),
        Packet::PubComp(packet) => packet.write(out),
        Packet::Subscribe(packet) => packet.write(out),
        Packet::SubAck(packet) => packet.write(out),
        Packet::Unsubscribe(packet) => packet.write(out),
        Packet::UnsubAck(packet) => packet.write(out),
        Packet::PingReq => PingReq.write(out),
        Packet::PingResp => PingResp.write(out),
        Packet::Disconnect => Disconnect.write(out),
    }
}

/// Reads the body of a packet and writes the packet.
fn read_v3_1_1(first: u8, body: &[u8]) -> Result<Vec<u8>, MqttError> {
    Ok(match first >> 4 {
        1 => v3_1_1::Connect::parse(body)?.0.to_continuous_buffer(),
        2 => v3_1_1::Connack::parse(body)?.0.to_continuous_buffer(),
        3 => v3_1_1::Publish::parse(first & 0x0F, body.into())?
            .0
            .to_continuous_buffer(),
        4 => v3_1_1::Puback::parse(body)?.0.to_continuous_buffer(),
        5 => v3_1_1::Pubrec::parse(body)?.0.to_continuous_buffer(),
        6 => v3_1_1::Pubrel::parse(body)?.0.to_continuous_buffer(),
        7 => v3_1_1::Pubcomp::parse(body)?.0.to_continuous_buffer(),
        8 => v3_1_1::Subscribe::parse(body)?.0.to_continuous_buffer(),
        9 => v3_1_1::Suback::parse(body)?.0.to_continuous_buffer(),
        10 => v3_1_1::Unsubscribe::parse(body)?.0.to_continuous_buffer(),
        11 => v3_1_1::Unsuback::parse(body)?.0.to_continuous_buffer(),
        12 => v3_1_1::Pingreq::parse(body)?.0.to_continuous_buffer(),
        13 => v3_1_1::Pingresp::parse(body)?.0.to_continuous_buffer(),
        _ => v3_1_1::Disconnect::parse(body)?.0.to_continuous_buffer(),
    })
}

/// Reads the body of a packet and writes the packet.
fn read_v5_0(first: u8, body: &[u8]) -> Result<Vec<u8>, MqttError> {
    Ok(match first >> 4 {
        1 => v5_0::Connect::parse(body)?.0.to_continuous_buffer(),
        2 => v5_0::Connack::parse(body)?.0.to_continuous_buffer(),
        3 => v5_0::Publish::parse(first & 0x0F, body.into())?
            .0
            .to_continuous_buffer(),
        4 => v5_0::Puback::parse(body)?.0.to_continuous_buffer(),
        5 => v5_0::Pubrec::parse(body)?.0.to_continuous_buffer(),
        6 => v5_0::Pubrel::parse(body)?.0.to_continuous_buffer(),
        7 => v5_0::Pubcomp::parse(body)?.0.to_continuous_buffer(),
        8 => v5_0::Subscribe::parse(body)?.0.to_continuous_buffer(),
        9 => v5_0::Suback::parse(body)?.0.to_continuous_buffer(),
        10 => v5_0::Unsubscribe::parse(body)?.0.to_continuous_buffer(),
        11 => v5_0::Unsuback::parse(body)?.0.to_continuous_buffer(),
        12 => v5_0::Pingreq::parse(body)?.0.to_continuous_buffer(),
        13 => v5_0::Pingresp::parse(body)?.0.to_continuous_buffer(),
        14 => v5_0::Disconnect::parse(body)?.0.to_continuous_buffer(),
        _ => v5_0::Auth::parse(body)?.0.to_continuous_buffer(),
    })
}
