//! Scenario durable: messages for sessions that are away, and what they find when they return.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tidewire_protocol::codec::{Packet, PacketId, QoS};
use tokio::task::JoinSet;

use super::histogram::Histogram;
use super::process::written_bytes;
use super::progress::Progress;
use super::report::{Meter, Report, per_second};
use super::sender::{Sender, Stamp};
use super::shape::root;
use super::subscriber::{receipt, subscribe};
use super::{Shared, session_connect};
use crate::cli::arguments::BenchArguments;
use crate::cli::client::{ClientError, Connection, ack};

/// One run for each number of outstanding messages; fails when an acknowledged message did not come
/// or one came twice.
pub(super) async fn measure(mut arguments: BenchArguments) -> Result<(), ClientError> {
    if arguments.qos == QoS::AtMostOnce {
        arguments.qos = QoS::AtLeastOnce;
    }
    // The sessions that are away expire later; all others end with their connection.
    arguments.session_expiry = 0;
    let mut report = Report::of(&arguments);
    report.add("payload_bytes", arguments.payload);
    let (mut steps, mut lost, mut duplicate) = (Vec::new(), 0, 0);
    for &outstanding in &arguments.outstanding {
        let pairs = (arguments.clients / 2).clamp(1, outstanding);
        let shared = Shared::new(arguments.clone(), pairs)?;
        let mut step = Report::default();
        let result = run_step(&shared, pairs, outstanding, &mut step).await?;
        lost += result.lost;
        duplicate += result.duplicate;
        steps.push(step);
    }
    report.add("lost_messages", lost);
    report.add("duplicate_messages", duplicate);
    report.add_steps("steps", steps);
    report.print(arguments.json)?;
    match lost + duplicate {
        0 => Ok(()),
        _ => Err(ClientError::Unreliable { lost, duplicate }),
    }
}

/// What the publishers of one step have seen.
#[derive(Default)]
struct Published {
    /// Of each publisher, whether each message was acknowledged without an error.
    accepted: RefCell<Vec<Vec<bool>>>,
    latency_us: RefCell<Histogram>,
}

#[derive(Clone, Copy, Default)]
struct Drained {
    received: u64,
    lost: u64,
    duplicate: u64,
    out_of_order: u64,
}

async fn run_step(
    shared: &Rc<Shared>,
    pairs: u32,
    outstanding: u32,
    report: &mut Report,
) -> Result<Drained, ClientError> {
    let arguments = &shared.arguments;
    for index in 0..pairs {
        let mut connection = open_session(shared, index).await?;
        let filter = format!("{}/{index}", root());
        subscribe(&mut connection, &[filter], arguments.qos).await?;
        connection.close().await?;
    }
    let written = || arguments.pid.map(written_bytes).transpose();
    let written_before = written()?;
    let meter = Meter::start(arguments.pid)?;
    let start_us = shared.clock.now_us();
    let published = publish_all(shared, pairs, outstanding).await?;
    let elapsed_us = shared.clock.now_us() - start_us;
    let cost = meter.stop()?;
    let all: u64 = shared.loops.iter().map(|own| own.sent.get()).sum();
    let accepted = published.accepted.take();
    let acknowledged = accepted.iter().flatten().filter(|it| **it).count() as u64;
    report.add("outstanding_messages", outstanding);
    report.add("published_messages", all);
    report.add("acknowledged_messages", acknowledged);
    report.add(
        "acknowledged_messages_per_second",
        per_second(acknowledged, elapsed_us),
    );
    report.add_quantiles(ACKNOWLEDGE_KEYS, &published.latency_us.borrow());
    if let Some(cpu_us) = cost.server_cpu_us() {
        let each = cpu_us as f64 / acknowledged.max(1) as f64;
        report.add("server_cpu_us_per_acknowledged_message", each);
    }
    if let Some((before, after)) = written_before.zip(written()?) {
        let payload = acknowledged.max(1) as f64 * f64::from(arguments.payload);
        let each = (after - before) as f64 / payload;
        report.add("server_written_bytes_per_payload_byte", each);
    }
    let meter = Meter::start(arguments.pid)?;
    let start_us = shared.clock.now_us();
    let (drained, end_us) = drain_all(shared, &accepted).await?;
    let cost = meter.stop()?;
    report.add("drained_messages", drained.received);
    let rate = per_second(drained.received, end_us - start_us);
    report.add("drained_messages_per_second", rate);
    report.add("lost_messages", drained.lost);
    report.add("duplicate_messages", drained.duplicate);
    report.add("out_of_order_messages", drained.out_of_order);
    report.add_cost(&cost, drained.received);
    for index in 0..pairs {
        shared.open("d", index).await?.close().await?;
    }
    Ok(drained)
}

/// Opens the session that is away while messages are published; it is new or the one left.
async fn open_session(shared: &Shared, index: u32) -> Result<Connection, ClientError> {
    let id = session_id(index);
    let connect = session_connect(&shared.arguments, &id, SESSION_SECONDS);
    shared.dialer.open(connect, None).await
}

fn session_id(index: u32) -> String {
    format!("bench-{}-d{index}", std::process::id())
}

async fn publish_all(
    shared: &Rc<Shared>,
    pairs: u32,
    outstanding: u32,
) -> Result<Rc<Published>, ClientError> {
    let published = Rc::new(Published::default());
    published.accepted.replace(vec![Vec::new(); pairs as usize]);
    let mut tasks = JoinSet::new();
    let end_us = shared.clock.now_us() + u64::from(shared.arguments.seconds) * 1_000_000;
    for index in 0..pairs {
        let share = outstanding / pairs + u32::from(index < outstanding % pairs);
        let share = u16::try_from(share).unwrap_or(u16::MAX);
        let sender = Sender::open(shared, index, share).await?;
        let messages = shared.arguments.messages / u64::from(pairs);
        let publisher = Publisher {
            shared: Rc::clone(shared),
            published: Rc::clone(&published),
            sender,
            index,
            messages: messages.max(1),
            end_us,
        };
        tasks.spawn_local(publisher.run());
    }
    let mut progress = Progress::new("publishing, clients done", u64::from(pairs));
    let mut done = 0;
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(io::Error::other)??;
        done += 1;
        progress.show(done);
    }
    Ok(published)
}

/// Sends until time or messages are used up, and ends with the last acknowledgement.
struct Publisher {
    shared: Rc<Shared>,
    published: Rc<Published>,
    sender: Sender,
    index: u32,
    messages: u64,
    end_us: u64,
}

impl Publisher {
    async fn run(mut self) -> Result<(), ClientError> {
        // By packet identifier: which message waits, since when.
        let mut waiting = vec![(0, 0); usize::from(u16::MAX) + 1];
        let mut under_way = 0;
        loop {
            let now_us = self.shared.clock.now_us();
            let sent = &self.shared.loops[self.index as usize].sent;
            while now_us < self.end_us && sent.get() < self.messages && self.sender.room() > 0 {
                let sequence = sent.get();
                if let Some(id) = self.sender.queue_message(now_us) {
                    waiting[usize::from(id.value())] = (sequence, now_us);
                    under_way += 1;
                }
            }
            if under_way == 0 {
                return self.sender.connection.close().await;
            }
            self.sender.connection.flush().await?;
            tokio::time::timeout(PATIENCE, self.sender.connection.fill())
                .await
                .map_err(|_| ClientError::Silent)??;
            let now_us = self.shared.clock.now_us();
            let Published {
                accepted,
                latency_us,
            } = &*self.published;
            let own = &mut accepted.borrow_mut()[self.index as usize];
            own.resize(sent.get() as usize, false);
            let latency_us = &mut *latency_us.borrow_mut();
            self.sender.take_packets(|id: PacketId, is_accepted| {
                let (sequence, since_us) = waiting[usize::from(id.value())];
                own[sequence as usize] = is_accepted;
                latency_us.add(now_us - since_us);
                under_way -= 1;
            })?;
        }
    }
}

/// Returns to all sessions; what came, and when the last of it came.
async fn drain_all(
    shared: &Rc<Shared>,
    accepted: &[Vec<bool>],
) -> Result<(Drained, u64), ClientError> {
    let mut tasks = JoinSet::new();
    for (index, accepted) in (0..).zip(accepted) {
        tasks.spawn_local(drain(Rc::clone(shared), index, accepted.clone()));
    }
    let mut sum = Drained::default();
    let mut last_us = shared.clock.now_us();
    let mut progress = Progress::new("draining, clients done", accepted.len() as u64);
    let mut done = 0;
    while let Some(ended) = tasks.join_next().await {
        let (drained, end_us) = ended.map_err(io::Error::other)??;
        sum.received += drained.received;
        sum.lost += drained.lost;
        sum.duplicate += drained.duplicate;
        sum.out_of_order += drained.out_of_order;
        last_us = last_us.max(end_us);
        done += 1;
        progress.show(done);
    }
    Ok((sum, last_us))
}

/// Receives until nothing came for a while: duplicates come last.
async fn drain(
    shared: Rc<Shared>,
    index: u32,
    accepted: Vec<bool>,
) -> Result<(Drained, u64), ClientError> {
    let mut connection = open_session(&shared, index).await?;
    let mut came = vec![false; accepted.len()];
    let mut drained = Drained::default();
    let mut next = 0;
    let mut last_us = shared.clock.now_us();
    loop {
        while let Some((packet, bytes)) = connection.packet()? {
            let reply = match packet {
                Packet::Publish(publish) => {
                    let stamp = Stamp::read(publish.payload)?;
                    let known = came.get_mut(stamp.sequence as usize);
                    let before = known.filter(|_| stamp.publisher == index);
                    let before = before.ok_or(ClientError::Unexpected)?;
                    let is_new = !std::mem::replace(before, true);
                    drained.received += u64::from(is_new);
                    drained.duplicate += u64::from(!is_new);
                    drained.out_of_order += u64::from(is_new && stamp.sequence < next);
                    next = next.max(stamp.sequence + 1);
                    last_us = shared.clock.now_us();
                    receipt(&publish)
                }
                Packet::PubRel(release) => Some(Packet::PubComp(ack(release.packet_id))),
                _ => return Err(ClientError::Unexpected),
            };
            connection.consume(bytes);
            if let Some(reply) = reply {
                connection.queue(&reply)?;
            }
        }
        connection.flush().await?;
        // Cancel safe: unread bytes stay.
        match tokio::time::timeout(SILENCE, connection.fill()).await {
            Ok(filled) => filled?,
            Err(_) => break,
        }
    }
    connection.close().await?;
    let pairs = accepted.iter().zip(&came);
    drained.lost = pairs
        .filter(|(accepted, came)| **accepted && !**came)
        .count() as u64;
    Ok((drained, last_us))
}

const SESSION_SECONDS: u32 = 3_600;
/// How long an acknowledgement may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A session to which nothing came for this long has all it gets.
const SILENCE: Duration = Duration::from_secs(2);
const ACKNOWLEDGE_KEYS: [&str; 5] = [
    "acknowledge_p50_us",
    "acknowledge_p90_us",
    "acknowledge_p99_us",
    "acknowledge_p999_us",
    "acknowledge_max_us",
];
