//! Packets of the broker, from bytes.

use crate::client::{Packet, Publish};

/// First byte, and where the body of the first whole packet is.
pub(crate) fn split(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (length, length_bytes) = variable(bytes.get(1..)?)?;
    let end = 1 + length_bytes + length;
    (bytes.len() >= end).then_some((bytes[0], 1 + length_bytes, end))
}

fn variable(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

/// What a packet says.
pub(crate) fn parse(first: u8, body: &[u8], is_v5: bool) -> Packet {
    let number = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match first >> 4 {
        2 => Packet::ConnAck {
            present: body[0] == 1,
            reason: body[1],
        },
        3 => Packet::Publish(parse_publish(first, body, is_v5)),
        4..=7 => Packet::Ack {
            first,
            id: number(0),
            reason: body.get(2).copied().unwrap_or(0),
        },
        9 | 11 => {
            let skipped = if is_v5 { 1 + usize::from(body[2]) } else { 0 };
            Packet::Granted {
                id: number(0),
                reason: body.get(2 + skipped).copied().unwrap_or(0),
            }
        }
        13 => Packet::Pong,
        14 => Packet::Disconnect {
            reason: body.first().copied().unwrap_or(0),
        },
        other => panic!("packet type {other}"),
    }
}

fn parse_publish(first: u8, body: &[u8], is_v5: bool) -> Publish {
    let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let qos = first >> 1 & 3;
    let (id, mut rest) = match qos {
        0 => (0, &body[topic_end..]),
        _ => {
            let rest = &body[topic_end..];
            (u16::from_be_bytes([rest[0], rest[1]]), &rest[2..])
        }
    };
    let mut properties = Vec::new();
    if is_v5 {
        let (length, length_bytes) = variable(rest).unwrap();
        properties = rest[length_bytes..length_bytes + length].to_vec();
        rest = &rest[length_bytes + length..];
    }
    Publish {
        dup: first & 8 != 0,
        qos,
        retain: first & 1 != 0,
        id,
        topic: String::from_utf8(body[2..topic_end].to_vec()).unwrap(),
        payload: rest.to_vec(),
        properties,
    }
}
