//! `tidewire bench`: load for a broker, and what arrives of it.
//!
//! One thread. In a closed loop a publisher has at most `--window` messages under way, each counted
//! until every subscriber it is for has it; what does not come for a second is given up and counted
//! as lost unless it comes later. On a schedule it sends whatever the server answers.

mod durable;
mod flow;
mod histogram;
mod idle;
mod process;
mod progress;
mod publisher;
mod report;
mod schedule;
mod sender;
mod shape;
mod subscriber;
mod track;

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use tidewire_protocol::codec::{Connect, ProtocolVersion};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::arguments::{BenchArguments, Scenario};
use super::client::{ClientError, Connection, Dialer, block_on};
use crate::clock::Clock;
use histogram::Histogram;
use track::Faults;

/// Applies the load and prints what was measured.
///
/// # Errors
/// A connection fails, or what must not be lost was.
pub fn run(arguments: &BenchArguments) -> Result<(), ClientError> {
    allow_many_files();
    let arguments = arguments.clone();
    block_on(LocalSet::new().run_until(async {
        match arguments.scenario {
            Scenario::Connect => idle::measure(arguments).await,
            Scenario::Durable => durable::measure(arguments).await,
            _ => flow::measure(arguments).await,
        }
    }))
}

/// What the tasks share.
struct Shared {
    arguments: BenchArguments,
    clock: Clock,
    dialer: Dialer,
    /// Messages delivered so far.
    delivered: Cell<u64>,
    /// The send times that are measured.
    measured_us: RefCell<Range<u64>>,
    /// Nothing new is sent in closed loops.
    is_over: Cell<bool>,
    latency_us: RefCell<Histogram>,
    /// How late scheduled messages were sent.
    lag_us: RefCell<Histogram>,
    faults: Faults,
    loops: Vec<Loop>,
}

/// What is known of one publisher's messages.
struct Loop {
    sent: Cell<u64>,
    /// Deliveries to all subscribers together.
    delivered: Cell<u64>,
    /// Deliveries that are not waited for any more.
    given_up: Cell<u64>,
    /// The first sequence after the warm-up.
    measured_from: Cell<u64>,
    /// The deliveries that the publisher waits for.
    wake_at: Cell<u64>,
    credit: Notify,
}

impl Shared {
    fn new(arguments: BenchArguments, publishers: u32) -> Result<Rc<Self>, ClientError> {
        Ok(Rc::new(Self {
            clock: Clock::start(),
            dialer: Dialer::new(
                &arguments.server.url(&arguments.credentials),
                &arguments.credentials,
            )?,
            delivered: Cell::new(0),
            measured_us: RefCell::new(u64::MAX..u64::MAX),
            is_over: Cell::new(false),
            latency_us: RefCell::default(),
            lag_us: RefCell::default(),
            faults: Faults::default(),
            loops: (0..publishers).map(|_| Loop::new()).collect(),
            arguments,
        }))
    }

    async fn open(&self, role: &str, index: u32) -> Result<Connection, ClientError> {
        let id = format!("bench-{}-{role}{index}", std::process::id());
        let connect = session_connect(&self.arguments, &id, self.arguments.session_expiry);
        self.dialer.open(connect, None).await
    }

    /// Ends the warm-up; the time at which it ended.
    fn start_measuring(&self) -> u64 {
        let now_us = self.clock.now_us();
        let end_us = now_us + u64::from(self.arguments.seconds) * 1_000_000;
        self.measured_us.replace(now_us..end_us);
        for own in &self.loops {
            own.measured_from.set(own.sent.get());
        }
        now_us
    }
}

impl Loop {
    fn new() -> Self {
        Self {
            sent: Cell::new(0),
            delivered: Cell::new(0),
            given_up: Cell::new(0),
            measured_from: Cell::new(u64::MAX),
            wake_at: Cell::new(u64::MAX),
            credit: Notify::new(),
        }
    }

    /// Wakes the publisher if enough has arrived for its next batch.
    fn wake(&self) {
        if self.delivered.get() + self.given_up.get() >= self.wake_at.get() {
            self.wake_at.set(u64::MAX);
            self.credit.notify_one();
        }
    }
}

/// A CONNECT for a new session, or one left by this process, that is kept for so long.
fn session_connect<'a>(
    arguments: &BenchArguments,
    client_id: &'a str,
    expiry_seconds: u32,
) -> Connect<'a> {
    let mut connect = Connect::new(arguments.version, client_id);
    connect.clean_start = expiry_seconds == 0;
    if arguments.version == ProtocolVersion::V5 && expiry_seconds > 0 {
        connect.properties.session_expiry_seconds = Some(expiry_seconds);
    }
    connect
}

/// As many open files as the system lets this process have; too few are an error when they lack.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    let _ = setrlimit(Resource::Nofile, limit);
}
