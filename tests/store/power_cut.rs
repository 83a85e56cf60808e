//! Simulated power cuts: what was flushed is there, what was not is there in part.
//!
//! The writes and flushes of a process are recorded by a preloaded shim. At a random point of the
//! record an image is made: everything flushed, and a random half of the 4 KiB pieces written
//! since.
//! Not modelled: torn pieces, the size of the file, a disk that lies.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kill::{CHILD, Said, verify};
use super::support::Directory;

const PIECE: usize = 4_096;

/// One line of the record.
struct Record {
    kind: u8,
    offset: usize,
    bytes: Vec<u8>,
}

/// Small, and the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("small")
    }
}

fn shim(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/power_cut.c");
    let shim = directory.join("power_cut.so");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-pthread", "-o"])
        .args([&shim, &source])
        .status()
        .expect("a C compiler");
    assert!(status.success());
    shim
}

fn recorded(rounds: u64, flushes_count: bool) -> Vec<Record> {
    let work = Directory::new();
    fs::create_dir_all(&work.0).expect("made");
    let log = work.0.join("log");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let name = "kill::child_that_writes_until_it_is_killed";
    command
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(CHILD, work.0.join("store"))
        .env("TIDEWIRE_TEST_STORE_ROUNDS", rounds.to_string())
        .env("LD_PRELOAD", shim(&work.0))
        .env("POWER_CUT_LOG", &log);
    if !flushes_count {
        command.env("POWER_CUT_IGNORES_FLUSHES", "1");
    }
    assert!(command.output().expect("a child").status.success());
    read(&fs::read(log).expect("a log"))
}

fn read(mut log: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((&kind, rest)) = log.split_first() {
        let (offset, rest) = rest.split_first_chunk::<8>().expect("an offset");
        let (length, rest) = rest.split_first_chunk::<8>().expect("a length");
        let length = usize::try_from(u64::from_ne_bytes(*length)).expect("small");
        let (bytes, rest) = rest.split_at(length);
        records.push(Record {
            kind,
            offset: usize::try_from(u64::from_ne_bytes(*offset)).expect("small"),
            bytes: bytes.to_vec(),
        });
        log = rest;
    }
    records
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}

/// The file after a cut, and what the process had said.
fn image(records: &[Record], random: &mut Random) -> (Vec<u8>, Said) {
    let mut image = Vec::new();
    let mut unflushed: Vec<(usize, &[u8])> = Vec::new();
    let mut text = Vec::new();
    for record in records {
        match record.kind {
            b'W' => {
                for (at, piece) in (0usize..).zip(record.bytes.chunks(PIECE)) {
                    unflushed.push((record.offset + at * PIECE, piece));
                }
            }
            b'S' => put(&mut image, record.offset, &record.bytes),
            b'F' => {
                for (offset, piece) in unflushed.drain(..) {
                    put(&mut image, offset, piece);
                }
            }
            _ => text.extend_from_slice(&record.bytes),
        }
    }
    while !unflushed.is_empty() {
        let (offset, piece) = unflushed.swap_remove(random.below(unflushed.len()));
        if random.next().is_multiple_of(2) {
            put(&mut image, offset, piece);
        }
    }
    let mut said = Said::default();
    for line in String::from_utf8_lossy(&text).lines() {
        said.line(line);
    }
    (image, said)
}

/// How many cuts of so many lost or damaged something; stops when `enough` did.
fn bad_cuts(records: &[Record], cuts: usize, enough: usize) -> usize {
    let mut random = Random(0x5EED_CAFE_F00D);
    let begun = records
        .iter()
        .position(|it| it.kind == b'A' && it.bytes.starts_with(b"queues"))
        .expect("the store was made");
    let mut bad = 0;
    for _ in 0..cuts {
        let cut = begun + 1 + random.below(records.len() - begun - 1);
        let (image, said) = image(&records[..cut], &mut random);
        let directory = Directory::new();
        fs::create_dir_all(&directory.0).expect("made");
        fs::write(directory.0.join("README"), "a store").expect("written");
        fs::write(directory.data(), image).expect("written");
        let result = catch_unwind(AssertUnwindSafe(|| verify(&directory, &said)));
        bad += usize::from(result.is_err());
        if bad >= enough {
            break;
        }
    }
    bad
}

#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let cuts = std::env::var("TIDEWIRE_TEST_POWER_CUTS").ok();
    let cuts = cuts.and_then(|it| it.parse().ok()).unwrap_or(60);
    let records = recorded(150, true);
    let flushes = records.iter().filter(|it| it.kind == b'F').count();
    assert!(flushes > 50, "{flushes} flushes seen");
    assert_eq!(bad_cuts(&records, cuts, 1), 0);
}

#[test]
fn the_power_cut_finds_a_store_that_does_not_flush() {
    let records = recorded(150, false);
    assert_eq!(bad_cuts(&records, 60, 1), 1);
}
