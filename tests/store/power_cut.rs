//! Simulated power cuts: what was flushed is there, what was not is there in part.
//!
//! The writes and flushes of a process are recorded by a preloaded shim. At a random point of the
//! record an image is made: everything flushed, and a random half of the 4 KiB pieces written
//! since.
//! Not modelled: torn pieces, the size of the file, a disk that lies.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use super::kill::{CHILD, Said, UNFLUSHED, verify};
use super::record::{Flush, Record, cut, read, recording_shim};
use super::support::Directory;

const SEED: u64 = 0x5EED_CAFE_F00D;

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

/// What a store does that flushes each commit, or never.
fn recorded(rounds: u64, is_flushed: bool) -> Vec<Record> {
    let work = Directory::new();
    fs::create_dir_all(&work.0).expect("made");
    let log = work.0.join("log");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let name = "kill::child_that_writes_until_it_is_killed";
    command
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(CHILD, work.0.join("store"))
        .env("TIDEWIRE_TEST_STORE_ROUNDS", rounds.to_string())
        .env("LD_PRELOAD", recording_shim(&work.0))
        .env("POWER_CUT_LOG", &log);
    if !is_flushed {
        command.env(UNFLUSHED, "1");
    }
    assert!(command.output().expect("a child").status.success());
    read(&fs::read(log).expect("a log"))
}

fn said(records: &[Record]) -> Said {
    let text = records.iter().filter(|it| it.kind == b'A');
    let text: Vec<u8> = text.flat_map(|it| it.bytes.iter().copied()).collect();
    let mut said = Said::default();
    for line in String::from_utf8_lossy(&text).lines() {
        said.line(line);
    }
    said
}

/// Where the store was made: that is flushed in any case.
fn begun(records: &[Record]) -> usize {
    let is_begun = |it: &Record| it.kind == b'A' && it.bytes.starts_with(b"queues");
    records
        .iter()
        .position(is_begun)
        .expect("the store was made")
}

/// How many cuts of so many lost or damaged something; stops when `enough` did.
fn bad_cuts(records: &[Record], flush: Flush, cuts: usize, enough: usize, seed: u64) -> usize {
    let mut random = Random(seed);
    let begun = begun(records);
    let mut bad = 0;
    for _ in 0..cuts {
        let at = begun + 1 + random.below(records.len() - begun - 1);
        let records = &records[..at];
        let (image, _) = cut(Vec::new(), records, flush, |bound| random.below(bound));
        let directory = Directory::in_memory();
        fs::create_dir_all(&directory.0).expect("made");
        fs::write(directory.0.join("README"), "a store").expect("written");
        fs::write(directory.data(), image).expect("written");
        let said = said(records);
        let result = catch_unwind(AssertUnwindSafe(|| verify(&directory, &said)));
        bad += usize::from(result.is_err());
        if bad >= enough {
            break;
        }
    }
    bad
}

fn flushes(records: &[Record]) -> usize {
    let is_flush = |it: &&Record| matches!(it.kind, b'F' | b'S');
    records.iter().filter(is_flush).count()
}

#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let cuts = std::env::var("TIDEWIRE_TEST_POWER_CUTS").ok();
    let cuts: usize = cuts.and_then(|it| it.parse().ok()).unwrap_or(100);
    let records = recorded(160, true);
    assert!(flushes(&records) > 100, "{} seen", flushes(&records));
    let records = &*records;
    let bad = std::thread::scope(|scope| {
        let half = move |seed| bad_cuts(records, Flush::Works, cuts.div_ceil(2), 1, seed);
        let other = scope.spawn(move || half(0xC0_FFEE));
        half(SEED) + other.join().expect("no panic")
    });
    assert_eq!(bad, 0);
}

#[test]
fn the_power_cut_finds_a_store_that_does_not_flush() {
    let records = recorded(80, false);
    assert_eq!(flushes(&records[begun(&records)..]), 0);
    // The system writes by itself what is older: only the latest commits are at stake.
    assert!(bad_cuts(&records, Flush::DoesNothing, 60, 10, SEED) >= 10);
}
