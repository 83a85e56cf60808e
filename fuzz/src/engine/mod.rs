//! A small fuzzer: mutates inputs, keeps those that reach new code, saves the one that panics.
//!
//! Written because the stable toolchain must do: cargo-fuzz wants nightly by default and a C++
//! compiler, AFL and honggfuzz want system packages, LibAFL hundreds of crates. What makes them
//! find things is the feedback of coverage, and stable rustc can instrument (`fuzz/run` asks for
//! it); the rest is some hundred lines. Built without the flags it mutates blindly.

mod coverage;
mod mutate;
mod random;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{panic, thread};

use crate::targets::Target;
pub use coverage::Coverage;
pub use random::Random;

/// How long to run a target, and on what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When to stop.
    pub duration: Duration,
    /// What every random decision follows from, as far as time allows.
    pub seed: u64,
    /// Where to begin.
    pub seeds: Vec<Vec<u8>>,
}

/// What a run did.
#[derive(Debug)]
pub struct Outcome {
    /// Inputs tried.
    pub runs: u64,
    /// Inputs kept because each reached something new.
    pub corpus: usize,
    /// Instrumented places reached, of those there are; none without instrumentation.
    pub reached: (usize, usize),
    /// The input that failed, as short as could be found.
    pub failure: Option<Vec<u8>>,
}

/// Runs `target` until the time is over or an input fails; `now` is the time since the start.
///
/// `on_hang` gets an input that takes longer than [`HANG`], from another thread.
pub fn fuzz(
    target: Target,
    plan: &Plan,
    now: impl Fn() -> Duration,
    on_hang: fn(&[u8]),
) -> Outcome {
    let watched = Watched::start(on_hang);
    let mut fuzzer = Fuzzer {
        target,
        random: Random::new(plan.seed),
        coverage: Coverage::new(),
        corpus: Vec::new(),
        runs: 0,
        watched,
    };
    let mut failure = plan.seeds.iter().find(|seed| !fuzzer.run(seed)).cloned();
    if fuzzer.corpus.is_empty() {
        fuzzer.corpus = plan.seeds.clone();
    }
    if fuzzer.corpus.is_empty() {
        fuzzer.corpus.push(vec![0]);
    }
    while failure.is_none() && now() < plan.duration {
        failure = (0..RUNS_PER_LOOK).find_map(|_| fuzzer.step().err());
    }
    let failure = failure.map(|input| fuzzer.shorten(input));
    Outcome {
        runs: fuzzer.runs,
        corpus: fuzzer.corpus.len(),
        reached: fuzzer.coverage.reached(),
        failure,
    }
}

/// An input that takes longer fails.
pub const HANG: Duration = Duration::from_secs(10);
const RUNS_PER_LOOK: usize = 64;
const INPUT_BYTES_MAX: usize = 1_024;
const SHORTENING_RUNS_MAX: usize = 20_000;

struct Fuzzer {
    target: Target,
    random: Random,
    coverage: Coverage,
    corpus: Vec<Vec<u8>>,
    runs: u64,
    watched: Watched,
}

impl Fuzzer {
    /// Tries one new input; it is the error if it fails.
    fn step(&mut self) -> Result<(), Vec<u8>> {
        // New inputs are at the end, and are tried more.
        let count = self.corpus.len();
        let first = match self.random.below(2) {
            0 => 0,
            _ => count.saturating_sub(count / 8 + 1),
        };
        let mut input = self.corpus[first + self.random.below(count - first)].clone();
        let other = self.random.below(count);
        mutate::mutate(&mut input, &self.corpus[other], &mut self.random);
        input.truncate(INPUT_BYTES_MAX);
        match self.run(&input) {
            true => Ok(()),
            false => Err(input),
        }
    }

    /// Runs one input and keeps it if it reached something new; false if it panics.
    fn run(&mut self, input: &[u8]) -> bool {
        self.runs += 1;
        self.watched.begin(input);
        self.coverage.clear();
        let has_passed = catch_unwind(AssertUnwindSafe(|| (self.target)(input))).is_ok();
        self.watched.end();
        if has_passed && self.coverage.found_new() {
            self.corpus.push(input.to_vec());
        }
        has_passed
    }

    /// Leaves out parts of a failing input as long as it fails.
    fn shorten(&mut self, mut input: Vec<u8>) -> Vec<u8> {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let mut runs = 0;
        let mut part = input.len() / 2;
        while part > 0 {
            let mut at = 0;
            while at + part <= input.len() && runs < SHORTENING_RUNS_MAX {
                let shorter = [&input[..at], &input[at + part..]].concat();
                runs += 1;
                match self.run(&shorter) {
                    true => at += part,
                    false => input = shorter,
                }
            }
            part /= 2;
        }
        panic::set_hook(hook);
        input
    }
}

/// The input that runs now, watched from another thread that lives as long as the process.
struct Watched {
    current: Arc<Current>,
}

#[derive(Default)]
struct Current {
    /// Counts begins and ends: odd while an input runs.
    step: AtomicU64,
    input: Mutex<Vec<u8>>,
}

impl Watched {
    fn start(on_hang: fn(&[u8])) -> Self {
        let current = Arc::new(Current::default());
        let seen = Arc::clone(&current);
        thread::spawn(move || {
            loop {
                let before = seen.step.load(Ordering::Acquire);
                thread::sleep(HANG);
                if before % 2 == 1 && seen.step.load(Ordering::Acquire) == before {
                    on_hang(&seen.input());
                }
            }
        });
        Self { current }
    }

    fn begin(&self, input: &[u8]) {
        let mut current = self.current.input();
        current.clear();
        current.extend_from_slice(input);
        self.current.step.fetch_add(1, Ordering::Release);
    }

    fn end(&self) {
        self.current.step.fetch_add(1, Ordering::Release);
    }
}

impl Current {
    fn input(&self) -> MutexGuard<'_, Vec<u8>> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
