//! Measurements, not checks of speed: `cargo test --profile quick --test store speed -- --ignored
//! --nocapture --test-threads 1`. What they assert is that nothing was lost on the way.

use std::collections::VecDeque;
use std::fs;

use tidewire::clock::Clock;
use tidewire::config::{Limits, StoreConfig};
use tidewire::store::{Load, MessageId, Operation, QueueId, Ticket};
use tidewire::{exchange::ShardId, store::RequestId};

use super::support::{
    Directory, Open, config, open, put_message, put_session, retained, settle, try_open,
};

fn memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|it| it.starts_with("RssAnon:"));
    let words = line.and_then(|it| it.split_whitespace().nth(1));
    words.and_then(|it| it.parse().ok()).unwrap_or(0)
}

fn sessions(store: &mut Open, count: usize) -> Vec<QueueId> {
    let queues: Vec<_> = (0..count).map(|_| store.store.next_queue()).collect();
    for queues in queues.chunks(1_000) {
        let put = |queue: &QueueId| put_session(*queue, &format!("client-{}", queue.number()));
        store.submit(queues.iter().map(put).collect());
    }
    store.commit(Vec::new());
    queues
}

/// `outstanding` messages wait for their commit; each is settled once it is committed.
fn closed_loop(fan_out: usize, outstanding: usize, total: usize, interval_ms: u32) {
    let directory = Directory::new();
    let config = StoreConfig {
        commit_interval_milliseconds: interval_ms,
        ..config(&directory.0)
    };
    let mut store = try_open(&config, &Limits::default()).expect("a store");
    let queues = sessions(&mut store, 1_000);
    let clock = Clock::start();
    let per_batch = (outstanding / 10).max(1);
    let mut waiting: VecDeque<(Ticket, u64, Vec<Operation>)> = VecDeque::new();
    let mut latencies = Vec::new();
    let mut settled = Vec::new();
    let mut published = 0;
    while published < total || !waiting.is_empty() {
        while published < total && waiting.len() * per_batch < outstanding {
            let mut batch: Vec<Operation> = std::mem::take(&mut settled);
            let mut later = Vec::new();
            for _ in 0..per_batch {
                let id = store.ids.next_id();
                let to: Vec<QueueId> = (0..fan_out)
                    .map(|it| queues[(published * 7 + it) % queues.len()])
                    .collect();
                batch.push(put_message(id, &[7; 256], &to));
                later.extend(to.iter().map(|queue| settle(*queue, id)));
                published += 1;
            }
            waiting.push_back((store.submit(batch), clock.now_us(), later));
        }
        let Some((ticket, since_us, later)) = waiting.pop_front() else {
            break;
        };
        store.wait_for(ticket);
        latencies.push(clock.now_us() - since_us);
        settled.extend(later);
    }
    let took_us = clock.now_us();
    store.commit(settled);
    let status = store.store.status();
    latencies.sort_unstable();
    let at = |part: usize| latencies[(latencies.len() - 1) * part / 100];
    println!(
        "fan-out {fan_out}, {outstanding} outstanding, interval {interval_ms} ms: {} msg/s, p50 {} \
         us, p99 {} us, {} commits",
        total as u64 * 1_000_000 / took_us.max(1),
        at(50),
        at(99),
        status.commits,
    );
    let store = store.reopen(&directory);
    assert!(
        store
            .recovered
            .sessions
            .iter()
            .all(|it| it.waiting.is_empty())
    );
}

#[test]
#[ignore = "a measurement"]
fn commits_per_second_and_their_latency() {
    for (fan_out, outstanding, total) in [
        (1, 1, 2_000),
        (1, 100, 100_000),
        (1, 1_000, 500_000),
        (10, 1_000, 200_000),
        (1, 10_000, 500_000),
    ] {
        closed_loop(fan_out, outstanding, total, 1);
    }
    closed_loop(1, 1, 2_000, 0);
    closed_loop(1, 1_000, 500_000, 0);
}

#[test]
#[ignore = "a measurement"]
fn recovery_of_a_million_messages_and_a_hundred_thousand_sessions() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let queues = sessions(&mut store, 100_000);
    let one = queues[0];
    let clock = Clock::start();
    for _ in 0..1_000 {
        let put = |it: usize, ids: &mut tidewire::store::MessageIds| {
            let to = if it.is_multiple_of(2) {
                one
            } else {
                queues[it % queues.len()]
            };
            put_message(ids.next_id(), &[7; 1_000], &[to])
        };
        let batch = (0..1_000).map(|it| put(it, &mut store.ids)).collect();
        let ticket = store.submit(batch);
        store.wait_for(ticket);
    }
    println!("written in {} ms", clock.now_ms());
    store.store.close();
    drop(store);
    let before_kib = memory_kib();
    let clock = Clock::start();
    let mut store = open(&directory);
    let memory = memory_kib().saturating_sub(before_kib);
    let size = fs::metadata(directory.data()).expect("there").len();
    println!(
        "opened in {} ms, {memory} KiB of memory, file {} MB",
        clock.now_ms(),
        size >> 20
    );
    let ids: Vec<MessageId> = store.waiting(one).to_vec();
    assert_eq!(ids.len(), 500_000);
    let clock = Clock::start();
    for ids in ids.chunks(250) {
        assert_eq!(store.load(one, ids).len(), ids.len());
    }
    println!("read back 500,000 in {} ms", clock.now_ms());
    let clock = Clock::start();
    store.commit(vec![Operation::RemoveSession { queue: one }]);
    println!(
        "ended a session with 500,000 messages in {} ms",
        clock.now_ms()
    );
}

#[test]
#[ignore = "a measurement"]
fn a_million_retained_messages() {
    let directory = Directory::new();
    let mut store = open(&directory);
    let clock = Clock::start();
    let before_kib = memory_kib();
    let topic = |it: usize| {
        let it = it.wrapping_mul(7_919) % 1_000_000;
        format!(
            "site/{:03}/line/{:02}/sensor/{:02}",
            it / 1_000,
            it % 1_000 / 10,
            it % 10
        )
    };
    for part in 0..1_000 {
        let put = |it: usize| retained(&topic(part * 1_000 + it), &[7; 64], None);
        store.commit((0..1_000).map(put).collect());
    }
    let memory = memory_kib().saturating_sub(before_kib);
    println!("written in {} ms, {memory} KiB of memory", clock.now_ms());
    assert_eq!(store.store.status().retained_count, 1_000_000);
    for (filter, expected) in [
        ("#", 1_000_000),
        ("site/042/#", 1_000),
        ("site/+/line/03/sensor/04", 1_000),
        ("+/+/+/+/+/nothing", 0),
    ] {
        let clock = Clock::start();
        let found = store.retained(filter, 256).len();
        println!("{filter}: {found} in {} ms", clock.now_ms());
        assert_eq!(found, expected);
    }
    let clock = Clock::start();
    for it in 0..10_000 {
        let load = Load::Retained {
            filter: topic(it).into(),
            after: None,
            count_max: 2,
        };
        store.store.load(ShardId(0), RequestId(it as u64), load);
        store.next_report();
    }
    println!("one topic: {} us", clock.now_us() / 10_000);
    drop(store);
    let clock = Clock::start();
    let store = open(&directory);
    println!("opened in {} ms", clock.now_ms());
    assert_eq!(store.recovered.retained_count, 1_000_000);
}
