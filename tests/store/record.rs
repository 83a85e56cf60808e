//! What a preloaded shim has recorded of the data file, and what a power cut leaves of it.

use std::path::{Path, PathBuf};
use std::process::Command;

const PIECE: usize = 4_096;
/// By then the system has written something by itself.
const WRITES_KEPT_BACK: usize = 100;

/// One line of the record.
pub(crate) struct Record {
    pub(crate) kind: u8,
    offset: usize,
    pub(crate) bytes: Vec<u8>,
}

/// Whether a flush keeps what was written before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    Works,
    /// As with a disk that lies.
    DoesNothing,
}

/// Compiles the shim that records; answers what to preload.
pub(crate) fn recording_shim(directory: &Path) -> PathBuf {
    shim(directory, "tests/store/power_cut.c")
}

/// Compiles a shim; answers what to preload.
pub(crate) fn shim(directory: &Path, source: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let shim = directory.join("shim.so");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-pthread", "-o"])
        .args([&shim, &source])
        .status()
        .expect("a C compiler");
    assert!(status.success());
    shim
}

/// All lines but a last one that is not whole.
pub(crate) fn read(mut log: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((record, rest)) = split(log) {
        records.push(record);
        log = rest;
    }
    records
}

fn split(log: &[u8]) -> Option<(Record, &[u8])> {
    let (&kind, rest) = log.split_first()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_ne_bytes(*length)).expect("small");
    let (bytes, rest) = rest.split_at_checked(length)?;
    let offset = usize::try_from(u64::from_ne_bytes(*offset)).expect("small");
    let bytes = bytes.to_vec();
    Some((
        Record {
            kind,
            offset,
            bytes,
        },
        rest,
    ))
}

/// The file after a cut: it was `image`, then all this was written. Of what was not flushed a
/// random half is there, in any order. And how many pieces are lost.
pub(crate) fn cut(
    mut image: Vec<u8>,
    records: &[Record],
    flush: Flush,
    mut below: impl FnMut(usize) -> usize,
) -> (Vec<u8>, usize) {
    let mut unflushed: Vec<(usize, &[u8])> = Vec::new();
    for record in records {
        let works = flush == Flush::Works;
        match record.kind {
            b'S' if works => put(&mut image, record.offset, &record.bytes),
            b'W' | b'S' => {
                for (at, piece) in (0usize..).zip(record.bytes.chunks(PIECE)) {
                    unflushed.push((record.offset + at * PIECE, piece));
                }
            }
            b'F' if works => {
                for (offset, piece) in unflushed.drain(..) {
                    put(&mut image, offset, piece);
                }
            }
            _ => {}
        }
        let late = unflushed.len().saturating_sub(WRITES_KEPT_BACK);
        if !works {
            for (offset, piece) in unflushed.drain(..late) {
                put(&mut image, offset, piece);
            }
        }
    }
    let mut lost = 0;
    while !unflushed.is_empty() {
        let (offset, piece) = unflushed.swap_remove(below(unflushed.len()));
        if below(2) == 0 {
            put(&mut image, offset, piece);
        } else {
            lost += 1;
        }
    }
    (image, lost)
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}
