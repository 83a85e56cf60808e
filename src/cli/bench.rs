//! `tidewire bench`: load in a closed loop, and what arrives of it.
//!
//! One thread. A publisher has at most `--window` messages under way, each counted until every
//! subscriber it is for has it; what does not come for a second is given up and counted as lost
//! unless it comes later.

mod report;
mod worker;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};

use super::arguments::{BenchArguments, Scenario};
use super::client::{ClientError, block_on};
use crate::clock::Clock;
use report::{Process, Report};
use worker::{Count, Histogram, Publisher, Subscriber, Tracks};

/// What the tasks share.
struct Shared {
    arguments: BenchArguments,
    clock: Clock,
    /// Messages delivered so far.
    delivered: Cell<u64>,
    is_measuring: Cell<bool>,
    is_over: Cell<bool>,
    latency_us: std::cell::RefCell<Histogram>,
    loops: Vec<Loop>,
}

/// The closed loop of one publisher.
#[derive(Default)]
struct Loop {
    sent: Cell<u64>,
    /// Deliveries to all subscribers together.
    delivered: Cell<u64>,
    credit: Notify,
}

/// Applies the load and prints what was measured.
///
/// # Errors
/// A connection fails.
pub fn run(arguments: &BenchArguments) -> Result<(), ClientError> {
    block_on(LocalSet::new().run_until(measure(arguments.clone())))
}

async fn measure(arguments: BenchArguments) -> Result<(), ClientError> {
    let clients = arguments.clients;
    let (publishers, subscribers) = match arguments.scenario {
        Scenario::Pairs => (clients / 2, clients / 2),
        Scenario::FanIn => (clients, 1),
        Scenario::FanOut => (1, clients),
    };
    let fan_out = match arguments.scenario {
        Scenario::FanOut => u64::from(clients),
        _ => 1,
    };
    let shared = Rc::new(Shared {
        clock: Clock::start(),
        delivered: Cell::new(0),
        is_measuring: Cell::new(false),
        is_over: Cell::new(false),
        latency_us: std::cell::RefCell::new(Histogram::default()),
        loops: (0..publishers).map(|_| Loop::default()).collect(),
        arguments,
    });
    let count = Rc::new(Count::default());
    let mut reading = JoinSet::new();
    let tracks = start_readers(&shared, &count, subscribers, &mut reading).await?;
    let mut writing = JoinSet::new();
    for index in 0..publishers {
        let publisher = Publisher::open(Rc::clone(&shared), index, fan_out).await?;
        writing.spawn_local(publisher.run());
    }
    let arguments = &shared.arguments;
    wait(&mut reading, &mut writing, arguments.warm_up).await?;
    let process = arguments.pid.map(Process::read).transpose()?;
    let (start_us, before) = (shared.clock.now_us(), shared.delivered.get());
    shared.is_measuring.set(true);
    wait(&mut reading, &mut writing, arguments.seconds).await?;
    shared.is_measuring.set(false);
    let elapsed_us = shared.clock.now_us() - start_us;
    let delivered = shared.delivered.get() - before;
    let after = arguments.pid.map(Process::read).transpose()?;
    shared.is_over.set(true);
    drain(&shared).await;
    let sent_to = |index: u32| shared.loops[index as usize].sent.get();
    let lost = tracks.iter().map(|track| track.lost(sent_to)).sum();
    let latency = shared.latency_us.borrow();
    let report = Report {
        arguments,
        delivered,
        elapsed_us,
        lost,
        duplicate: count.duplicate.get(),
        out_of_order: count.out_of_order.get(),
        latency_us: [0.5, 0.99, 0.999, 1.0].map(|part| latency.quantile(part)),
        process: process.zip(after),
    };
    report.print()?;
    Ok(())
}

/// Connects and subscribes the subscribers, and returns what they will have received.
async fn start_readers(
    shared: &Rc<Shared>,
    count: &Rc<Count>,
    subscribers: u32,
    reading: &mut JoinSet<Result<(), ClientError>>,
) -> Result<Vec<Rc<Tracks>>, ClientError> {
    let publishers = shared.arguments.clients;
    let mut all = Vec::new();
    for index in 0..subscribers {
        let sources = match shared.arguments.scenario {
            Scenario::Pairs => index..index + 1,
            Scenario::FanIn => 0..publishers,
            Scenario::FanOut => 0..1,
        };
        let subscriber = Subscriber::open(Rc::clone(shared), Rc::clone(count), sources).await?;
        all.push(subscriber.tracks());
        reading.spawn_local(subscriber.run());
    }
    Ok(all)
}

/// Sleeps while the tasks work; the first that ends badly ends the measurement.
async fn wait(
    reading: &mut JoinSet<Result<(), ClientError>>,
    writing: &mut JoinSet<Result<(), ClientError>>,
    seconds: u32,
) -> Result<(), ClientError> {
    let time = tokio::time::sleep(Duration::from_secs(seconds.into()));
    // Cancel safe: `join_next` loses no result, `sleep` holds none.
    let ended = tokio::select! {
        () = time => return Ok(()),
        Some(ended) = reading.join_next() => ended,
        Some(ended) = writing.join_next() => ended,
    };
    ended.map_err(std::io::Error::other)??;
    Err(ClientError::Closed)
}

/// Lets what is under way arrive: until nothing came for a second.
async fn drain(shared: &Shared) {
    loop {
        let before = shared.delivered.get();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if shared.delivered.get() == before {
            return;
        }
    }
}
