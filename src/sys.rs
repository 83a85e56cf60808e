//! The `$SYS` topics, with mosquitto's names.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::message::{Header, Message};
use crate::metrics::{Counter, ShardMetrics, sum};
use crate::net::driver::Driver;
use crate::shard::Shared;
use crate::store::Status;

/// Publishes the state of the broker at every interval. Never ends.
pub(crate) async fn run(
    driver: Rc<Driver>,
    shared: Arc<Shared>,
    metrics: Arc<[Arc<ShardMetrics>]>,
) {
    let interval = Duration::from_secs(u64::from(shared.config.sys_interval_seconds));
    let mut loads = Loads::default();
    let mut connected_max = 0;
    loop {
        let now_ms = driver.clock.now_ms();
        let mut topics = state(&shared, &metrics, now_ms);
        connected_max = connected_max.max(sum(&metrics, |it| &it.connections));
        topics.push(("clients/maximum", connected_max.to_string()));
        topics.extend(loads.update(&metrics, interval.as_secs_f64()));
        for (topic, value) in topics {
            let message = Message::new(
                &format!("$SYS/broker/{topic}"),
                &[],
                value.as_bytes(),
                Header {
                    retain: true,
                    ..Header::default()
                },
            );
            driver.shard.borrow_mut().publish_message(&message, now_ms);
        }
        driver.schedule_flush();
        tokio::time::sleep(interval).await;
    }
}

fn state(
    shared: &Shared,
    metrics: &[Arc<ShardMetrics>],
    now_ms: u64,
) -> Vec<(&'static str, String)> {
    let connected = sum(metrics, |it| &it.connections);
    let sessions = sum(metrics, |it| &it.sessions);
    let store = shared.store.status();
    let retained = shared.retained.count() as u64 + store.retained_count;
    let retained_bytes = shared.retained.bytes() as u64 + store.retained_bytes;
    let mut topics = vec![
        ("version", format!("tidewire {}", env!("CARGO_PKG_VERSION"))),
        ("uptime", format!("{} seconds", now_ms / 1_000)),
        ("clients/total", sessions.to_string()),
        ("clients/connected", connected.to_string()),
        ("clients/active", connected.to_string()),
        (
            "clients/disconnected",
            sessions.saturating_sub(connected).to_string(),
        ),
        (
            "clients/inactive",
            sessions.saturating_sub(connected).to_string(),
        ),
        ("retained messages/count", retained.to_string()),
        ("store/messages/count", retained.to_string()),
        ("messages/stored", retained.to_string()),
        ("store/messages/bytes", retained_bytes.to_string()),
    ];
    if shared.store.is_durable() {
        topics.extend(store_state(&store));
    }
    let counted = COUNTERS.map(|(topic, counter)| (topic, sum(metrics, counter).to_string()));
    topics.extend(counted);
    topics
}

/// What a durable store does, and whether it has room.
fn store_state(store: &Status) -> [(&'static str, String); 8] {
    let mean_us = store.commit_us_total.checked_div(store.commits);
    [
        ("store/commits", store.commits.to_string()),
        ("store/operations", store.operations.to_string()),
        (
            "store/commit latency/mean",
            format!("{} microseconds", mean_us.unwrap_or(0)),
        ),
        (
            "store/commit latency/maximum",
            format!("{} microseconds", store.commit_us_max),
        ),
        ("store/pending/bytes", store.pending_bytes.to_string()),
        ("store/used/bytes", store.used_bytes.to_string()),
        ("store/is full", u8::from(store.is_full).to_string()),
        (
            "store/is exhausted",
            u8::from(store.is_exhausted).to_string(),
        ),
    ]
}

type CounterOf = fn(&ShardMetrics) -> &Counter;

/// Topics that show the sum of one counter.
const COUNTERS: [(&str, CounterOf); 13] = [
    ("connections/refused", |it| &it.connections_refused),
    ("messages/received", |it| &it.messages_received),
    ("messages/sent", |it| &it.messages_sent),
    ("publish/messages/received", |it| &it.publishes_received),
    ("publish/messages/sent", |it| &it.publishes_sent),
    ("publish/bytes/received", |it| &it.publish_bytes_received),
    ("publish/bytes/sent", |it| &it.publish_bytes_sent),
    ("clients/expired", |it| &it.sessions_expired),
    ("shared_subscriptions/count", |it| &it.shared_subscriptions),
    ("publish/messages/dropped", |it| &it.messages_dropped),
    ("bytes/received", |it| &it.bytes_received),
    ("bytes/sent", |it| &it.bytes_sent),
    ("subscriptions/count", |it| &it.subscriptions),
];

/// Moving averages per minute over 1, 5 and 15 minutes.
#[derive(Default)]
struct Loads {
    averages: [[f64; 3]; 8],
    last: [u64; 8],
}

impl Loads {
    fn update(
        &mut self,
        metrics: &[Arc<ShardMetrics>],
        interval_seconds: f64,
    ) -> Vec<(&'static str, String)> {
        let totals = [
            sum(metrics, |it| &it.messages_received),
            sum(metrics, |it| &it.messages_sent),
            sum(metrics, |it| &it.messages_dropped),
            sum(metrics, |it| &it.connects),
            sum(metrics, |it| &it.publishes_received),
            sum(metrics, |it| &it.publishes_sent),
            sum(metrics, |it| &it.bytes_received),
            sum(metrics, |it| &it.bytes_sent),
        ];
        let mut topics = Vec::new();
        for (index, (names, total)) in LOAD_TOPICS.iter().zip(totals).enumerate() {
            let (Some(averages), Some(last)) =
                (self.averages.get_mut(index), self.last.get_mut(index))
            else {
                continue;
            };
            let per_minute = total.saturating_sub(*last) as f64 * 60.0 / interval_seconds;
            *last = total;
            for ((average, minutes), name) in averages.iter_mut().zip([1.0, 5.0, 15.0]).zip(names) {
                let weight = (-interval_seconds / (60.0 * minutes)).exp();
                *average = per_minute + weight * (*average - per_minute);
                topics.push((*name, format!("{average:.2}")));
            }
        }
        topics
    }
}

const LOAD_TOPICS: [[&str; 3]; 8] = [
    [
        "load/messages/received/1min",
        "load/messages/received/5min",
        "load/messages/received/15min",
    ],
    [
        "load/messages/sent/1min",
        "load/messages/sent/5min",
        "load/messages/sent/15min",
    ],
    [
        "load/publish/dropped/1min",
        "load/publish/dropped/5min",
        "load/publish/dropped/15min",
    ],
    [
        "load/connections/1min",
        "load/connections/5min",
        "load/connections/15min",
    ],
    [
        "load/publish/received/1min",
        "load/publish/received/5min",
        "load/publish/received/15min",
    ],
    [
        "load/publish/sent/1min",
        "load/publish/sent/5min",
        "load/publish/sent/15min",
    ],
    [
        "load/bytes/received/1min",
        "load/bytes/received/5min",
        "load/bytes/received/15min",
    ],
    [
        "load/bytes/sent/1min",
        "load/bytes/sent/5min",
        "load/bytes/sent/15min",
    ],
];
