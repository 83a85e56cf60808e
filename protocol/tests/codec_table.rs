//! Packets of all classes, valid and not, with the reason that each is refused for.
//!
//! A row is: receiver (S or C), expected reason (`ok` or hex), first byte, body, `|`, name. In the
//! body `s:x` is a string with its length, `'x` plain characters, `{ … }` a block behind a one-byte
//! length, `*300:` repeats the next token, and all else hex.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use tidewire_protocol::codec::{DecodeError, Packet, ProtocolVersion, Receiver, decode};
use tidewire_protocol::codec::{decode_connect, encode};

/// One row.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) receiver: Receiver,
    /// Zero if the packet is valid.
    pub(crate) reason: u8,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn cases(version: ProtocolVersion) -> Vec<Case> {
    let table = match version {
        ProtocolVersion::V3_1 => V3_1,
        ProtocolVersion::V3_1_1 => V3_1_1,
        ProtocolVersion::V5 => V5,
    };
    table
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(case)
        .collect()
}

fn case(line: &str) -> Case {
    let (row, name) = line.split_once('|').expect("a name");
    let mut tokens = row.split_whitespace();
    let receiver = if tokens.next() == Some("S") {
        Receiver::Server
    } else {
        Receiver::Client
    };
    let reason = match tokens.next().expect("a reason") {
        "ok" => 0,
        reason => u8::from_str_radix(reason, 16).expect("a hex reason"),
    };
    let mut bytes = hex(tokens.next().expect("a first byte"));
    let mut blocks = vec![Vec::new()];
    let mut repeat = 1;
    for token in tokens {
        let field = match token {
            "{" => {
                blocks.push(Vec::new());
                continue;
            }
            "}" => {
                let block = blocks.pop().expect("an open block");
                [length(block.len()), block].concat()
            }
            _ if token.starts_with('*') => {
                repeat = token.trim_matches(['*', ':']).parse().expect("a number");
                continue;
            }
            _ => match (token.strip_prefix("s:"), token.strip_prefix('\'')) {
                (Some(text), _) => [
                    &u16::try_from(text.len()).unwrap().to_be_bytes(),
                    text.as_bytes(),
                ]
                .concat(),
                (_, Some(text)) => text.as_bytes().to_vec(),
                _ => hex(token),
            },
        };
        blocks
            .last_mut()
            .expect("a block")
            .extend(field.repeat(repeat));
        repeat = 1;
    }
    let body = blocks.pop().expect("the body");
    assert!(blocks.is_empty(), "open block in {name}");
    bytes.extend(length(body.len()));
    bytes.extend(body);
    Case {
        name: name.trim().to_owned(),
        receiver,
        reason,
        bytes,
    }
}

fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect(digits))
        .collect()
}

fn length(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value % 128) as u8;
        value /= 128;
        bytes.push(if value > 0 { byte | 128 } else { byte });
        if value == 0 {
            return bytes;
        }
    }
}

const MAX: usize = 1 << 20;

fn check(version: ProtocolVersion) {
    let mut failures = Vec::new();
    for case in cases(version) {
        let result = decode(&case.bytes, version, case.receiver, MAX);
        let is_expected = match &result {
            Ok(Some((_, size))) => case.reason == 0 && *size == case.bytes.len(),
            Ok(None) => false,
            Err(error) => error.reason() as u8 == case.reason,
        };
        if !is_expected {
            failures.push(format!(
                "{} {:02x?} gives {result:?}",
                case.name, case.bytes
            ));
        }
        if case.bytes[0] == 0x10 && case.receiver == Receiver::Server {
            let first = decode_connect(&case.bytes, MAX);
            let packet = result.map(|found| match found {
                Some((Packet::Connect(connect), size)) => Some((*connect, size)),
                _ => None,
            });
            assert_eq!(first, packet, "{}", case.name);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_3_1_case_is_accepted_or_refused_for_its_reason() {
    check(ProtocolVersion::V3_1);
}

#[test]
fn every_3_1_1_case_is_accepted_or_refused_for_its_reason() {
    assert!(cases(ProtocolVersion::V3_1_1).len() >= 60);
    check(ProtocolVersion::V3_1_1);
}

#[test]
fn every_5_0_case_is_accepted_or_refused_for_its_reason() {
    assert!(cases(ProtocolVersion::V5).len() >= 110);
    check(ProtocolVersion::V5);
}

#[test]
fn valid_packets_are_incomplete_at_every_shorter_length_and_survive_encoding() {
    for version in [
        ProtocolVersion::V3_1,
        ProtocolVersion::V3_1_1,
        ProtocolVersion::V5,
    ] {
        for case in cases(version).iter().filter(|case| case.reason == 0) {
            for end in 0..case.bytes.len() {
                let result = decode(&case.bytes[..end], version, case.receiver, MAX);
                assert_eq!(result, Ok(None), "{} cut at {end}", case.name);
            }
            let (packet, _) = decode(&case.bytes, version, case.receiver, MAX)
                .unwrap()
                .unwrap();
            let mut out = vec![0xAA];
            let size = encode(&packet, version, &mut out).unwrap();
            assert_eq!(size, out.len() - 1);
            let (again, _) = decode(&out[1..], version, case.receiver, MAX)
                .unwrap()
                .unwrap();
            assert_eq!(again, packet, "{}", case.name);
        }
    }
}

#[test]
fn a_body_cut_short_with_its_length_corrected_never_panics() {
    for version in [
        ProtocolVersion::V3_1,
        ProtocolVersion::V3_1_1,
        ProtocolVersion::V5,
    ] {
        for case in cases(version).iter().filter(|case| case.bytes[1] < 0x80) {
            for end in 2..case.bytes.len() {
                let mut bytes = case.bytes[..end].to_vec();
                bytes[1] = u8::try_from(end - 2).unwrap();
                assert_ne!(decode(&bytes, version, case.receiver, MAX), Ok(None));
            }
        }
    }
}

#[test]
fn the_header_alone_decides_type_flags_direction_and_size() {
    let server = |bytes| decode(bytes, ProtocolVersion::V5, Receiver::Server, 100).unwrap_err();
    assert!(matches!(
        server(&[0x00]),
        DecodeError::ReservedPacketType { packet_type: 0 }
    ));
    assert!(matches!(
        server(&[0x36]),
        DecodeError::QoSInvalid { bits: 3 }
    ));
    assert!(matches!(
        server(&[0x20]),
        DecodeError::WrongDirection { .. }
    ));
    assert!(matches!(
        server(&[0x60]),
        DecodeError::FixedHeaderFlags { flags: 0, .. }
    ));
    let too_large = DecodeError::PacketTooLarge {
        bytes: 101,
        bytes_max: 100,
    };
    assert_eq!(server(&[0x30, 99]), too_large);
    assert_eq!(too_large.reason() as u8, 0x95);
    assert_eq!(
        decode(&[0x30, 98], ProtocolVersion::V5, Receiver::Server, 100),
        Ok(None)
    );
    assert_eq!(
        server(&[0x30, 0x80, 0x80, 0x80, 0x80]),
        DecodeError::VariableByteIntegerTooLong
    );
    assert_eq!(
        server(&[0xC0, 0x80, 0x00]),
        DecodeError::VariableByteIntegerNotMinimal { value: 0 }
    );
    let other = decode_connect(&[0x30], 100).unwrap_err();
    assert_eq!(other, DecodeError::ConnectExpected { first_byte: 0x30 });
    assert_eq!(decode_connect(&[0x10], 100), Ok(None));
}

const V3_1: &str = "
S ok 10 s:MQIsdp 03 02 003c s:c             | connect
S ok 10 s:MQIsdp 83 02 003c s:c             | connect of a bridge
S ok 10 s:MQIsdp 03 02 003c s:123456789012345678901234567890 | client id above 23 characters
S ok 10 s:MQIsdp 03 c2 003c s:c             | user name and password flags without fields
S ok 10 s:MQIsdp 03 c2 003c s:c s:u         | password flag without field
S 85 10 s:MQIsdp 03 02 003c 0000            | empty client id
S 84 10 s:MQIsdp 04 02 003c s:c             | level of 3.1.1 with the name of 3.1
S 84 10 s:MQTT 03 02 003c s:c               | level of 3.1 with the name of 3.1.1
S ok 8a 0001 s:a 01                         | repeated subscribe
S ok aa 0001 s:a                            | repeated unsubscribe
S ok 6a 0001                                | repeated pubrel
S 81 60 0001                                | pubrel without its flags
C ok 20 ff00                                | connack with unused byte
S 81 f0                                     | auth
";

const V3_1_1: &str = "
S ok 10 s:MQTT 04 02 003c s:c               | connect
S ok 10 s:MQTT 84 02 003c s:c               | connect of a bridge
S ok 10 s:MQTT 04 02 0000 0000              | empty client id with clean session
S ok 10 s:MQTT 04 00 0000 0000              | empty client id without, answered by the broker
S ok 10 s:MQTT 04 f6 003c s:c s:w s:m s:u s:p | all fields
S ok 10 s:MQTT 04 0e 003c s:c s:w 0000      | empty will payload
S ok 10 s:MQTT 04 82 003c s:c s:u           | user name alone
S 84 10 s:MQTT 06 02 003c s:c               | unknown level
S 84 10 s:MQTT 85 02 003c s:c               | level 5 of a bridge
S 84 10 s:MQTX 04 02 003c s:c               | unknown name
S 81 10 s:MQTT 04 03 003c s:c               | reserved connect flag
S 81 10 s:MQTT 04 0a 003c s:c               | will qos without will
S 81 10 s:MQTT 04 22 003c s:c               | will retain without will
S 81 10 s:MQTT 04 1e 003c s:c s:w s:m       | will qos 3
S 81 10 s:MQTT 04 42 003c s:c s:p           | password without user name
S 81 10 s:MQTT 04 82 003c s:c               | user name missing
S 81 10 s:MQTT 04 02 003c s:c 00            | trailing byte
S 81 10 s:MQTT 04 02 003c 0001 ff           | client id not UTF-8
S 81 10 s:MQTT 04 02 003c 0001 00           | client id with U+0000
S 90 10 s:MQTT 04 06 003c s:c s:w/# s:m     | will topic with wildcard
S 81 10 s:MQTT 04 06 003c s:c 0000 s:m      | empty will topic
S 81 10 s:MQTT 04 02 00                     | cut in keep alive
S 81 11 s:MQTT 04 02 003c s:c               | connect flags in the fixed header
C 82 10 s:MQTT 04 02 003c s:c               | connect to a client
C ok 20 0000                                | connack
C ok 20 0100                                | connack with session
C ok 20 0005                                | connack, not authorized
C 81 20 0200                                | connack with reserved flag
C 81 20 0105                                | connack with session and error
C 82 20 0006                                | connack with unknown return code
C 81 20 000000                              | connack with trailing byte
S 82 20 0000                                | connack to a server
S ok 30 s:a/b 'payload                      | publish
S ok 31 s:a                                 | publish retained and empty
S ok 32 s:a 0001 'x                         | publish qos 1
S ok 3d s:a ffff 'x                         | publish qos 2, dup, retain
S 81 36 s:a 0001 'x                         | publish qos 3
S 81 38 s:a 'x                              | publish qos 0 with dup
S 82 32 s:a 0000 'x                         | publish with packet id 0
S 81 32 s:a 00                              | publish cut in the packet id
S 81 30 0000 'x                             | publish without topic
S 90 30 s:a/+ 'x                            | publish to a plus
S 90 30 s:a/# 'x                            | publish to a hash
S 81 30 0001 00 'x                          | publish to U+0000
S 81 30 0002 c328 'x                        | publish topic not UTF-8
S 81 30 0003 eda080 'x                      | publish topic with a surrogate
S 81 30 0005 'a                             | publish topic crosses the end
S ok 40 0001                                | puback
S ok 50 0001                                | pubrec
S ok 62 0001                                | pubrel
S ok 70 0001                                | pubcomp
S 82 40 0000                                | puback 0
S 81 40 000100                              | puback with trailing byte
S 81 40 00                                  | puback cut
S 81 41 0001                                | puback with flags
S 81 60 0001                                | pubrel without flags
S 81 6a 0001                                | pubrel with dup
S ok 82 0001 s:a 00                         | subscribe
S ok 82 0001 s:a/+ 01 s:# 02                | subscribe to two
S 81 80 0001 s:a 00                         | subscribe without flags
S 82 82 0000 s:a 00                         | subscribe 0
S 82 82 0001                                | subscribe without filters
S 81 82 0001 s:a                            | subscribe without options
S 81 82 0001 s:a 03                         | subscribe qos 3
S 81 82 0001 s:a 04                         | subscribe with reserved bits
S 81 82 0001 0000 00                        | subscribe to nothing
S 81 82 0001 0001 ff 00                     | subscribe filter not UTF-8
S 81 82 0001 0001 00 00                     | subscribe filter with U+0000
C 82 82 0001 s:a 00                         | subscribe to a client
C ok 90 0001 00010280                       | suback
C 82 90 0001 03                             | suback with unknown code
C 82 90 0001 81                             | suback with a code of 5.0
C 82 90 0001                                | suback without codes
S 82 90 0001 00                             | suback to a server
S ok a2 0001 s:a s:b/#                      | unsubscribe
S 81 a0 0001 s:a                            | unsubscribe without flags
S 82 a2 0000 s:a                            | unsubscribe 0
S 82 a2 0001                                | unsubscribe without filters
S 81 a2 0001 0000                           | unsubscribe from nothing
C ok b0 0001                                | unsuback
C 81 b0 0001 00                             | unsuback with a reason
S ok c0                                     | pingreq
S 81 c0 00                                  | pingreq with a body
S 81 c1                                     | pingreq with flags
S 82 d0                                     | pingresp to a server
C ok d0                                     | pingresp
C 82 c0                                     | pingreq to a client
S ok e0                                     | disconnect
S 81 e0 00                                  | disconnect with reason
C 82 e0                                     | disconnect to a client
S 81 00                                     | packet type 0
S 81 f0                                     | auth
";

const V5: &str = include_str!("codec_table_v5.txt");
