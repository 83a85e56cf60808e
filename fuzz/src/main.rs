//! Runs the fuzz targets for some seconds each, two at once.
//!
//! Exit status: 0 if nothing was found, 1 if an input failed, 2 for wrong arguments.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};
use std::{env, fs, panic, process};

use tidewire_fuzz::engine::{self, Plan};
use tidewire_fuzz::seeds;
use tidewire_fuzz::targets::{TARGETS, Target};

const USAGE: &str = "\
usage: fuzz/run [--seconds N] [--seed N] [--jobs N] [TARGET..]
       fuzz/run --input FILE TARGET    runs one input, for instance one of fuzz/artifacts";

/// What the command line asks for.
struct Arguments {
    seconds: u64,
    seed: u64,
    jobs: usize,
    input: Option<PathBuf>,
    targets: Vec<(&'static str, Target)>,
}

fn main() -> ExitCode {
    let arguments = match parse(env::args().skip(1).collect()) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("fuzz: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let result = match (&arguments.input, &arguments.targets[..]) {
        (Some(path), [(_, target)]) => reproduce(path, *target),
        (Some(_), _) => Err("--input needs one target".to_owned()),
        (None, [(name, target)]) => run(name, *target, &arguments),
        (None, _) => run_all(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("fuzz: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: VecDeque<String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seconds: 20,
        // Any number will do, as long as it is another one each time.
        seed: RandomState::new().hash_one(0) >> 16,
        jobs: 2,
        input: None,
        targets: Vec::new(),
    };
    while let Some(word) = words.pop_front() {
        let mut value = || words.pop_front().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("not a number: {text}"));
        match word.as_str() {
            "--seconds" => arguments.seconds = number(value()?)?,
            "--seed" => arguments.seed = number(value()?)?,
            "--jobs" => arguments.jobs = number(value()?)?.clamp(1, 64) as usize,
            "--input" => arguments.input = Some(value()?.into()),
            name => match TARGETS.iter().find(|(known, _)| *known == name) {
                Some(target) => arguments.targets.push(*target),
                None => return Err(format!("no target {name}, there are {}", names())),
            },
        }
    }
    if arguments.targets.is_empty() {
        arguments.targets = TARGETS.to_vec();
    }
    Ok(arguments)
}

fn names() -> String {
    TARGETS.map(|(name, _)| name).join(", ")
}

fn reproduce(path: &Path, target: Target) -> Result<(), String> {
    let input = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    target(&input);
    println!("{}: nothing wrong", path.display());
    Ok(())
}

/// Runs the targets in processes of their own: the counters of coverage belong to a process.
fn run_all(arguments: &Arguments) -> Result<(), String> {
    check_engine()?;
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let mut waiting: VecDeque<_> = arguments.targets.iter().map(|(name, _)| *name).collect();
    let mut running: VecDeque<(&str, Child)> = VecDeque::new();
    let mut failed = Vec::new();
    while !waiting.is_empty() || !running.is_empty() {
        if running.len() < arguments.jobs
            && let Some(name) = waiting.pop_front()
        {
            let child = Command::new(&program)
                .args(["--seconds", &arguments.seconds.to_string()])
                .args(["--seed", &arguments.seed.to_string(), name])
                .spawn()
                .map_err(|error| error.to_string())?;
            running.push_back((name, child));
        } else if let Some((name, mut child)) = running.pop_front() {
            let status = child.wait().map_err(|error| error.to_string())?;
            if !status.success() {
                failed.push(name);
            }
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("FAILED: {}", failed.join(", "))),
    }
}

/// A fuzzer that finds nothing proves nothing: this one must find what is hidden behind four bytes.
fn check_engine() -> Result<(), String> {
    let wrong: Target = |data| {
        if let [b'Q', rest @ ..] = data
            && let [b'o', rest @ ..] = rest
            && let [b'S', rest @ ..] = rest
        {
            assert_ne!(rest.first(), Some(&b'3'));
        }
    };
    let plan = Plan {
        duration: Duration::from_secs(10),
        seed: 1,
        seeds: vec![vec![0; 4]],
    };
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = engine::fuzz(wrong, &plan, stopwatch(), save_hang);
    panic::set_hook(hook);
    match (outcome.failure.as_deref(), outcome.reached) {
        (Some(b"QoS3"), _) => Ok(()),
        (found, (_, 0)) => {
            eprintln!("fuzz: WARNING: built without coverage, inputs are blind ({found:02x?})");
            Ok(())
        }
        (found, _) => Err(format!("the engine does not work: it found {found:02x?}")),
    }
}

/// The time since now.
#[expect(
    clippy::disallowed_methods,
    reason = "a fuzzer runs for some seconds of real time"
)]
fn stopwatch() -> impl Fn() -> Duration {
    let start = Instant::now();
    move || start.elapsed()
}

fn run(name: &'static str, target: Target, arguments: &Arguments) -> Result<(), String> {
    let plan = Plan {
        duration: Duration::from_secs(arguments.seconds),
        seed: arguments.seed,
        seeds: seeds::of(name)?,
    };
    println!("{name}: {} seeds, --seed {}", plan.seeds.len(), plan.seed);
    let elapsed = stopwatch();
    let outcome = engine::fuzz(target, &plan, &elapsed, save_hang);
    let (reached, places) = outcome.reached;
    println!(
        "{name}: {} inputs in {:.0} s, {} kept, {reached} of {places} places reached",
        outcome.runs,
        elapsed().as_secs_f64(),
        outcome.corpus,
    );
    match outcome.failure {
        None => Ok(()),
        Some(input) => {
            let path = save(name, &input);
            Err(format!(
                "{name} failed; try again with: fuzz/run --input {} {name}",
                path.display()
            ))
        }
    }
}

/// Ends the process, since the thread that hangs cannot be stopped.
fn save_hang(input: &[u8]) {
    let path = save("hang", input);
    let seconds = engine::HANG.as_secs();
    eprintln!("fuzz: no end after {seconds} s on {}", path.display());
    process::exit(1);
}

/// Writes an input to `fuzz/artifacts`.
fn save(name: &str, input: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts");
    let hash = input.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let path = folder.join(format!("{name}-{hash:016x}"));
    if let Err(error) = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)) {
        eprintln!(
            "fuzz: {}: {error}; the input is {input:02x?}",
            path.display()
        );
    }
    path
}
