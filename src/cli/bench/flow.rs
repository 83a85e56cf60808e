//! The scenarios in which messages flow from publishers to subscribers that are there.

use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use tidewire_protocol::codec::QoS;
use tokio::task::JoinSet;

use super::Shared;
use super::process::Memory;
use super::progress::Progress;
use super::publisher::{run_loop, run_schedule};
use super::report::{Meter, Report, per_second};
use super::schedule::Schedule;
use super::sender::Sender;
use super::shape::Shape;
use super::subscriber::Subscriber;
use super::track::Tracks;
use crate::cli::arguments::{BenchArguments, Scenario};
use crate::cli::client::ClientError;

type Tasks = JoinSet<Result<(), ClientError>>;

/// Applies the load, prints what was measured, and fails when messages above QoS 0 were lost or
/// came twice.
pub(super) async fn measure(arguments: BenchArguments) -> Result<(), ClientError> {
    let shape = Shape::of(&arguments);
    let shared = Shared::new(arguments, shape.publishers)?;
    let arguments = &shared.arguments;
    let mut report = Report::of(arguments);
    report.add("payload_bytes", arguments.payload);
    let mut tasks = Tasks::new();
    let tracks = start_subscribers(&shared, &shape, &mut tasks, &mut report).await?;
    start_publishers(&shared, &shape, &mut tasks).await?;
    tasks.spawn_local(give_up_lost(Rc::clone(&shared), shape.fan_out));
    wait(&mut tasks, arguments.warm_up, "warming up, seconds").await?;
    let meter = Meter::start(arguments.pid)?;
    let before = shared.delivered.get();
    let start_us = shared.start_measuring();
    wait(&mut tasks, arguments.seconds, "measuring, seconds").await?;
    let elapsed_us = shared.clock.now_us() - start_us;
    let delivered = shared.delivered.get() - before;
    let cost = meter.stop()?;
    shared.is_over.set(true);
    drain(&shared).await;
    let measured = |index: u32| {
        let own = &shared.loops[index as usize];
        own.measured_from.get()..own.sent.get()
    };
    let lost = tracks.iter().map(|tracks| tracks.lost(measured)).sum();
    let duplicate = shared.faults.duplicate.get();
    report.add("measured_seconds", elapsed_us as f64 / 1e6);
    report.add("delivered_messages", delivered);
    report.add(
        "delivered_messages_per_second",
        per_second(delivered, elapsed_us),
    );
    let sent: u64 = (0..shape.publishers)
        .map(|index| measured(index).count() as u64)
        .sum();
    report.add("expected_messages", sent * shape.fan_out);
    report.add("lost_messages", lost);
    report.add("duplicate_messages", duplicate);
    report.add("out_of_order_messages", shared.faults.out_of_order.get());
    report.add_quantiles(LATENCY_KEYS, &shared.latency_us.borrow());
    if arguments.scenario == Scenario::Rate {
        report_lag(&shared, &mut report, sent)?;
    }
    report.add_cost(&cost, delivered);
    report.print(arguments.json)?;
    match arguments.qos {
        QoS::AtMostOnce => Ok(()),
        _ if lost + duplicate == 0 => Ok(()),
        _ => Err(ClientError::Unreliable { lost, duplicate }),
    }
}

/// Connects and subscribes the subscribers, and returns what they will have received.
async fn start_subscribers(
    shared: &Rc<Shared>,
    shape: &Shape,
    tasks: &mut Tasks,
    report: &mut Report,
) -> Result<Vec<Rc<Tracks>>, ClientError> {
    let mut subscribers = Vec::new();
    for index in 0..shape.subscribers {
        subscribers.push(Subscriber::open(shared, index).await?);
    }
    let pid = shared.arguments.pid;
    let is_wildcards = shared.arguments.scenario == Scenario::Wildcards;
    let memory = || match is_wildcards {
        true => pid.map(Memory::read).transpose(),
        false => Ok(None),
    };
    let before = memory()?;
    let start_us = shared.clock.now_us();
    let mut progress = Progress::new("subscribing, clients", u64::from(shape.subscribers));
    let mut filters = 0;
    for (done, subscriber) in (1..).zip(&mut subscribers) {
        filters += subscriber.subscribe().await?;
        progress.show(done);
    }
    if is_wildcards {
        let elapsed_us = shared.clock.now_us() - start_us;
        report.add("filters", filters);
        report.add(
            "subscribed_filters_per_second",
            per_second(filters, elapsed_us),
        );
        if let Some((before, after)) = before.zip(memory()?) {
            let each = after.rss_bytes.saturating_sub(before.rss_bytes) as f64 / filters as f64;
            report.add("server_rss_bytes_per_filter", each);
        }
    }
    let tracks = subscribers.iter().map(Subscriber::tracks).collect();
    for subscriber in subscribers {
        tasks.spawn_local(subscriber.run());
    }
    Ok(tracks)
}

async fn start_publishers(
    shared: &Rc<Shared>,
    shape: &Shape,
    tasks: &mut Tasks,
) -> Result<(), ClientError> {
    let is_rate = shared.arguments.scenario == Scenario::Rate;
    // Scheduled messages may pile up behind acknowledgements; their number is not the load.
    let window = match is_rate {
        true => u16::MAX,
        false => shared.arguments.window,
    };
    let mut senders = Vec::new();
    for index in 0..shape.publishers {
        senders.push(Sender::open(shared, index, window).await?);
    }
    let start_us = shared.clock.now_us();
    for (index, sender) in (0..).zip(senders) {
        let own = Rc::clone(shared);
        if is_rate {
            let schedule = Schedule {
                start_us,
                rate: u64::from(shared.arguments.rate),
                publishers: u64::from(shape.publishers),
                publisher: u64::from(index),
            };
            tasks.spawn_local(run_schedule(own, sender, index, schedule));
        } else {
            tasks.spawn_local(run_loop(own, sender, index, shape.fan_out));
        }
    }
    Ok(())
}

fn report_lag(shared: &Shared, report: &mut Report, sent: u64) -> io::Result<()> {
    let lag = shared.lag_us.borrow();
    let due = u64::from(shared.arguments.rate) * u64::from(shared.arguments.seconds);
    report.add("scheduled_messages_per_second", shared.arguments.rate);
    report.add("unsent_messages", due.saturating_sub(sent.max(lag.total())));
    report.add_quantiles(LAG_KEYS, &lag);
    let late_us = lag.quantile(0.99);
    // Two rounds of a publisher may fall on either side of the window's ends.
    let slack = u64::from(shared.arguments.clients) + due / 100;
    if late_us > LAG_US_MAX || lag.total() + slack < due {
        writeln!(
            io::stderr(),
            "warning: the schedule was not kept: {} of {due} messages sent, the latest hundredth \
             {late_us} us late or more; the latencies include this",
            lag.total()
        )?;
    }
    Ok(())
}

/// Sleeps while the tasks work; the first that ends badly ends the measurement.
async fn wait(tasks: &mut Tasks, seconds: u32, what: &'static str) -> Result<(), ClientError> {
    let mut progress = Progress::new(what, u64::from(seconds));
    let show = async {
        // Steps that add up: a late step does not delay the end.
        let mut steps = tokio::time::interval(Duration::from_secs(1));
        for second in 0..=seconds {
            steps.tick().await;
            progress.show(u64::from(second));
        }
    };
    // Cancel safe: `join_next` loses no result, the steps hold none.
    let ended = tokio::select! {
        () = show => return Ok(()),
        Some(ended) = tasks.join_next() => ended,
    };
    ended.map_err(io::Error::other)??;
    Err(ClientError::Closed)
}

/// Gives up what has not come for a second, so that a loop with losses goes on.
async fn give_up_lost(shared: Rc<Shared>, fan_out: u64) -> Result<(), ClientError> {
    let mut seen: Vec<u64> = vec![u64::MAX; shared.loops.len()];
    loop {
        tokio::time::sleep(PATIENCE).await;
        for (own, seen) in shared.loops.iter().zip(&mut seen) {
            let delivered = own.delivered.get();
            let due = own.sent.get() * fan_out;
            if std::mem::replace(seen, delivered) == delivered && due > delivered {
                own.given_up.set(due - delivered);
                own.credit.notify_one();
            }
        }
    }
}

/// Lets what is under way arrive: until nothing came for a second.
async fn drain(shared: &Shared) {
    let mut before = u64::MAX;
    while std::mem::replace(&mut before, shared.delivered.get()) != shared.delivered.get() {
        tokio::time::sleep(PATIENCE).await;
    }
}

const PATIENCE: Duration = Duration::from_secs(1);
/// A schedule whose 99th percentile is later than this was not kept.
const LAG_US_MAX: u64 = 2_000;
const LATENCY_KEYS: [&str; 5] = [
    "latency_p50_us",
    "latency_p90_us",
    "latency_p99_us",
    "latency_p999_us",
    "latency_max_us",
];
const LAG_KEYS: [&str; 5] = [
    "schedule_lag_p50_us",
    "schedule_lag_p90_us",
    "schedule_lag_p99_us",
    "schedule_lag_p999_us",
    "schedule_lag_max_us",
];
