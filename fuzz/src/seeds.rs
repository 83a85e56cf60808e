//! Where each target begins: the codec's tables of packets, and committed inputs in hex.

#[expect(dead_code, reason = "shared with the tests of the codec")]
#[path = "../../protocol/tests/packet_table/mod.rs"]
mod packet_table;

use std::fs;
use std::path::Path;

use packet_table::cases;

use crate::targets::{VERSIONS, selector};

/// The inputs that a target starts from.
///
/// # Errors
/// What is wrong with the line of the file of seeds.
pub fn of(target: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut seeds = match target {
        "decode" | "round_trip" | "differential" => packets(&[]),
        "chunking" => streams(),
        _ => Vec::new(),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let path = folder.join(format!("{target}.txt"));
    if let Ok(text) = fs::read_to_string(path) {
        for line in text.lines() {
            let digits = line.split('|').next().unwrap_or_default();
            if !digits.trim().is_empty() {
                seeds.push(hex(digits).ok_or_else(|| format!("not hex: {line}"))?);
            }
        }
    }
    Ok(seeds)
}

/// Every row of the tables: version and receiver, `prefix`, and the bytes.
fn packets(prefix: &[u8]) -> Vec<Vec<u8>> {
    let of_version = |version| {
        cases(version)
            .into_iter()
            .map(move |case| (selector(version, case.receiver), case.bytes))
    };
    VERSIONS
        .into_iter()
        .flat_map(of_version)
        .map(|(selector, bytes)| [&[selector], prefix, &bytes].concat())
        .collect()
}

/// All valid packets for one end of a connection in a row, in chunks of a few sizes.
fn streams() -> Vec<Vec<u8>> {
    let mut streams = packets(&[1, 3]);
    for version in VERSIONS {
        let valid = cases(version).into_iter().filter(|case| case.reason == 0);
        let (server, client): (Vec<_>, Vec<_>) =
            valid.partition(|case| case.receiver == tidewire_protocol::codec::Receiver::Server);
        for cases in [server, client].into_iter().filter(|it| !it.is_empty()) {
            let selector = selector(version, cases[0].receiver);
            let bytes = cases.iter().flat_map(|case| case.bytes.iter().copied());
            let stream: Vec<_> = [selector, 3, 1, 2, 9].into_iter().chain(bytes).collect();
            streams.push(stream);
        }
    }
    streams
}

/// Bytes from hex digits; white space is passed over.
pub fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|character| character.to_digit(16).and_then(|it| u8::try_from(it).ok()))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
