//! Power cuts of the whole broker under load: the process is killed, and of what it wrote since its
//! last flush only a random half is there, in any order.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use crate::kill::{Parties, check_nothing_waits};
use crate::party::Random;
use crate::program::{Directory, Program};
use crate::record::{Flush, cut, read, recording_shim};

/// Seldom idle.
const LINES: &str = "[store]\ncommit_interval_milliseconds = 0\n";

/// A broker whose writes are recorded.
struct Recorded {
    directory: Directory,
    shim: PathBuf,
    /// The data file when the broker was started.
    image: Vec<u8>,
}

impl Recorded {
    fn new() -> Self {
        let directory = Directory::new();
        Self {
            shim: recording_shim(&directory.0),
            directory,
            image: Vec::new(),
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.0.join("writes")
    }

    fn start(&self) -> Program {
        let (log, shim) = (self.log(), self.shim.display());
        let _ = fs::remove_file(&log);
        let log = log.display();
        let setup = format!("export POWER_CUT_LOG='{log}' LD_PRELOAD='{shim}'; ");
        Program::start_in_shell(&self.directory, LINES, &setup)
            .unwrap_or_else(|text| panic!("no start: {text}"))
    }

    /// The broker is dead; answers how many pieces of what it wrote are lost.
    fn cut(&mut self, flush: Flush, random: &mut Random) -> usize {
        let records = read(&fs::read(self.log()).unwrap());
        let below = |bound: usize| {
            let bound = u64::try_from(bound).unwrap();
            usize::try_from(random.below(bound)).unwrap()
        };
        let before = std::mem::take(&mut self.image);
        let (image, lost) = cut(before, &records, flush, below);
        fs::write(self.directory.store().join("data.mdb"), &image).unwrap();
        self.image = image;
        lost
    }
}

/// Cuts, and checks after each; answers how many messages that were, and how many cuts lost pieces.
fn cuts(count: u64, flush: Flush, patience: Duration) -> (u64, u64) {
    let seed = std::env::var("TIDEWIRE_TEST_SEED").ok();
    let mut random = Random::new(seed.and_then(|it| it.parse().ok()).unwrap_or(1));
    let mut recorded = Recorded::new();
    let mut broker = recorded.start();
    let mut parties = Parties::new(&broker);
    parties.patience = patience;
    let mut lossy = 0;
    for round in 0..count {
        parties.work_until_killed(broker, &mut random);
        // The first leaves a store that is whole in any case.
        let flush = if round == 0 { Flush::Works } else { flush };
        lossy += u64::from(recorded.cut(flush, &mut random) > 0);
        broker = recorded.start();
        parties.drain(&broker, &mut random);
        parties.check(&broker, round);
    }
    check_nothing_waits(&broker);
    (parties.published(), lossy)
}

#[test]
fn nothing_acknowledged_is_lost_and_qos_2_is_exactly_once_over_power_cuts() {
    let count = std::env::var("TIDEWIRE_TEST_POWER_CUTS").ok();
    let count = count.and_then(|it| it.parse().ok()).unwrap_or(8);
    let (published, lossy) = cuts(count, Flush::Works, Duration::from_secs(20));
    assert!(published > count * 20, "{published} published");
    assert!(lossy > 0, "no cut came while something was being written");
    eprintln!("{count} cuts, {lossy} of them lost writes, {published} messages");
}

#[test]
fn the_power_cuts_find_a_broker_whose_disk_does_not_flush() {
    let patience = Duration::from_secs(1);
    let result = catch_unwind(AssertUnwindSafe(|| cuts(20, Flush::DoesNothing, patience)));
    assert!(result.is_err(), "twenty cuts without flushes did no harm");
}
