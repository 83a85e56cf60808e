//! Packets of all classes, valid and not, with the reason that each is refused for.

mod packet_table;

use packet_table::cases;
use tidewire_protocol::codec::{DecodeError, Packet, ProtocolVersion, Receiver, decode};
use tidewire_protocol::codec::{decode_connect, encode};

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
