//! Scenario connect: connections that are there and do nothing.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tidewire_protocol::codec::{Connect, Packet};
use tokio::task::JoinSet;

use super::Shared;
use super::process::Memory;
use super::progress::Progress;
use super::report::{Meter, Report, per_second};
use super::shape::root;
use super::subscriber::subscribe;
use crate::cli::arguments::BenchArguments;
use crate::cli::client::{ClientError, Connection};

/// Opens the connections, holds them, and fails when the server lost some.
pub(super) async fn measure(arguments: BenchArguments) -> Result<(), ClientError> {
    let shared = Shared::new(arguments, 0)?;
    let arguments = &shared.arguments;
    let mut report = Report::of(arguments);
    let memory = || arguments.pid.map(Memory::read).transpose();
    let empty = memory()?;
    let meter = Meter::start(arguments.pid)?;
    let start_us = shared.clock.now_us();
    let mut connections = open_all(&shared).await?;
    let elapsed_us = shared.clock.now_us() - start_us;
    let opened = connections.len() as u64;
    report.add("connections", opened);
    report.add("connections_per_second", per_second(opened, elapsed_us));
    let cost = meter.stop()?;
    tokio::time::sleep(SETTLE).await;
    let connected = memory()?;
    add_memory(&mut report, &CONNECTION_KEYS, empty.zip(connected), opened);
    let filters = u64::from(arguments.filters.unwrap_or(0));
    if filters > 0 {
        let start_us = shared.clock.now_us();
        subscribe_all(&shared, &mut connections).await?;
        let total = filters * opened;
        let rate = per_second(total, shared.clock.now_us() - start_us);
        report.add("subscriptions_per_connection", filters);
        report.add("subscriptions_per_second", rate);
        tokio::time::sleep(SETTLE).await;
        let subscribed = memory()?;
        add_memory(
            &mut report,
            &SUBSCRIPTION_KEYS,
            connected.zip(subscribed),
            total,
        );
    }
    let meter = Meter::start(arguments.pid)?;
    hold(&shared, &mut connections).await;
    let idle_cost = meter.stop()?;
    let lost = ping_all(&mut connections).await;
    report.add("held_seconds", arguments.seconds);
    report.add("lost_connections", lost as u64);
    if let Some((empty, held)) = empty.zip(memory()?) {
        report.add("server_rss_before_bytes", empty.rss_bytes);
        report.add("server_rss_held_bytes", held.rss_bytes);
    }
    if let Some(cpu_us) = cost.server_cpu_us() {
        let each = cpu_us as f64 / opened.max(1) as f64;
        report.add("server_cpu_us_per_connect", each);
    }
    if let Some(cpu_us) = idle_cost.server_cpu_us() {
        report.add("server_cpu_us_while_held", cpu_us);
    }
    report.add("generator_cpu_us", cost.generator_cpu_us());
    report.print(arguments.json)?;
    match lost {
        0 => Ok(()),
        lost => Err(ClientError::ConnectionsLost(lost)),
    }
}

async fn open_all(shared: &Rc<Shared>) -> Result<Vec<Connection>, ClientError> {
    let server = shared.dialer.server_address().await?;
    let clients = shared.arguments.clients;
    let mut progress = Progress::new("connecting, clients", u64::from(clients));
    let mut connections = Vec::with_capacity(clients as usize);
    let mut opening = JoinSet::new();
    for index in 0..clients {
        if opening.len() >= OPENING_MAX {
            take(&mut opening, &mut connections).await?;
            progress.show(connections.len() as u64);
        }
        let source = source(server, index, clients);
        opening.spawn_local(open(Rc::clone(shared), index, source));
    }
    while !opening.is_empty() {
        take(&mut opening, &mut connections).await?;
    }
    Ok(connections)
}

async fn take(
    opening: &mut JoinSet<Result<Connection, ClientError>>,
    connections: &mut Vec<Connection>,
) -> Result<(), ClientError> {
    if let Some(opened) = opening.join_next().await {
        connections.push(opened.map_err(io::Error::other)??);
    }
    Ok(())
}

async fn open(
    shared: Rc<Shared>,
    index: u32,
    source: Option<IpAddr>,
) -> Result<Connection, ClientError> {
    let id = format!("bench-{}-c{index}", std::process::id());
    let mut connect = Connect::new(shared.arguments.version, &id);
    connect.keep_alive_seconds = shared.arguments.keep_alive;
    let mut connection = shared.dialer.open(connect, source).await?;
    connection.shrink();
    Ok(connection)
}

/// Where connection `index` comes from, if it needs an address of its own: one address has about
/// 28,000 ports to one server, and only the loopback has as many addresses as it takes.
fn source(server: Option<SocketAddr>, index: u32, clients: u32) -> Option<IpAddr> {
    let is_loopback = server.is_some_and(|server| server.is_ipv4() && server.ip().is_loopback());
    if !is_loopback || clients <= CONNECTIONS_PER_ADDRESS {
        return None;
    }
    let [_, _, third, fourth] = (index / CONNECTIONS_PER_ADDRESS + 1).to_be_bytes();
    Some(Ipv4Addr::new(127, 0, third, fourth).into())
}

async fn subscribe_all(shared: &Shared, connections: &mut [Connection]) -> Result<(), ClientError> {
    let filters = shared.arguments.filters.unwrap_or(0);
    let mut progress = Progress::new("subscribing, clients", connections.len() as u64);
    for (index, connection) in (0u64..).zip(connections) {
        let own: Vec<String> = (0..filters)
            .map(|filter| format!("{}/idle{index}/{filter}", root()))
            .collect();
        subscribe(connection, &own, shared.arguments.qos).await?;
        connection.shrink();
        progress.show(index);
    }
    Ok(())
}

/// Waits, with a ping of each connection before half of its keep-alive is over.
async fn hold(shared: &Shared, connections: &mut [Connection]) {
    let hold_us = u64::from(shared.arguments.seconds) * 1_000_000;
    let end_us = shared.clock.now_us() + hold_us;
    let keep_alive = shared.arguments.keep_alive;
    let mut progress = Progress::new("holding, milliseconds", hold_us / 1_000);
    let mut waiting: VecDeque<_> = connections.iter_mut().collect();
    let each_us = match (keep_alive, waiting.len() as u64) {
        (0, _) | (_, 0) => hold_us.max(1),
        (seconds, clients) => (u64::from(seconds) * 500_000 / clients).max(1),
    };
    let mut due_us = shared.clock.now_us() + each_us;
    while shared.clock.now_us() < end_us {
        // A lost connection is counted when all are asked at the end.
        while keep_alive > 0 && due_us <= shared.clock.now_us() && due_us < end_us {
            if let Some(connection) = waiting.pop_front() {
                let _ = ping(connection).await;
                waiting.push_back(connection);
            }
            due_us += each_us;
        }
        tokio::time::sleep(STEP.min(Duration::from_micros(hold_us))).await;
        let left_us = end_us.saturating_sub(shared.clock.now_us());
        progress.show((hold_us - left_us.min(hold_us)) / 1_000);
    }
}

/// How many connections do not answer.
async fn ping_all(connections: &mut [Connection]) -> usize {
    let mut lost = 0;
    for connection in connections {
        let answer = tokio::time::timeout(PING_PATIENCE, ping(connection)).await;
        lost += usize::from(!matches!(answer, Ok(Ok(()))));
    }
    lost
}

async fn ping(connection: &mut Connection) -> Result<(), ClientError> {
    connection.queue(&Packet::PingReq)?;
    connection.flush().await?;
    loop {
        if let Some((packet, bytes)) = connection.packet()? {
            let is_answer = matches!(packet, Packet::PingResp);
            connection.consume(bytes);
            if is_answer {
                connection.shrink();
                return Ok(());
            }
        } else {
            connection.fill().await?;
        }
    }
}

fn add_memory(
    report: &mut Report,
    keys: &[&'static str; 2],
    around: Option<(Memory, Memory)>,
    count: u64,
) {
    if let Some((before, after)) = around {
        let each = |before: u64, after: u64| (after as f64 - before as f64) / count.max(1) as f64;
        report.add(keys[0], each(before.rss_bytes, after.rss_bytes));
        report.add(keys[1], each(before.pss_bytes, after.pss_bytes));
    }
}

/// Connections in the middle of their handshakes.
const OPENING_MAX: usize = 64;
const CONNECTIONS_PER_ADDRESS: u32 = 20_000;
/// Time for the server to give back what the handshakes needed.
const SETTLE: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(20);
const PING_PATIENCE: Duration = Duration::from_secs(10);
const CONNECTION_KEYS: [&str; 2] = [
    "server_rss_bytes_per_connection",
    "server_pss_bytes_per_connection",
];
const SUBSCRIPTION_KEYS: [&str; 2] = [
    "server_rss_bytes_per_subscription",
    "server_pss_bytes_per_subscription",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_connections_come_from_many_loopback_addresses() {
        let server: SocketAddr = "127.0.0.1:1883".parse().expect("valid");
        let last = |index| source(Some(server), index, 1_000_000).map(|it| it.to_string());
        assert_eq!(last(0).as_deref(), Some("127.0.0.1"));
        assert_eq!(last(19_999).as_deref(), Some("127.0.0.1"));
        assert_eq!(last(20_000).as_deref(), Some("127.0.0.2"));
        assert_eq!(last(999_999).as_deref(), Some("127.0.0.50"));
        assert_eq!(source(Some(server), 0, 20_000), None);
        let far: SocketAddr = "192.0.2.1:1883".parse().expect("valid");
        assert_eq!(source(Some(far), 50_000, 100_000), None);
    }
}
