//! Topics looked up among a million filters, with and without the cache.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use tidewire::exchange::{Binding, Destination, Exchange, ReceiverId, RouteCache, ShardId};
use tidewire_protocol::codec::{ProtocolVersion, QoS};
use tidewire_protocol::topic::TopicFilter;

const FILTERS: u32 = 1_000_000;
const TOPICS: u32 = 200_000;

/// 70 of 100 filters are exact, the rest has a `+` or ends in `#`.
pub(crate) fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route at a million filters");
    group.throughput(Throughput::Elements(1));
    let exchange = Exchange::new();
    for number in 0..FILTERS {
        let text = filter(number);
        let filter = TopicFilter::parse(&text, 16).expect("a valid filter");
        exchange.bind(filter, binding(number));
    }
    assert_eq!(exchange.filter_count(), FILTERS as usize);
    let topics: Vec<String> = (0..TOPICS).map(|number| topic(scattered(number))).collect();
    let mut next = topics.iter().cycle();
    group.bench_function("trie, other topics each time", |bencher| {
        let mut cache = RouteCache::new(1);
        bencher.iter(|| exchange.route(next.next().map_or("", String::as_str), &mut cache));
    });
    let known: Vec<&String> = topics.iter().take(1_000).collect();
    let mut next = known.iter().cycle();
    group.bench_function("cache, a thousand topics", |bencher| {
        let mut cache = RouteCache::new(10_000);
        bencher.iter(|| exchange.route(next.next().map_or("", |topic| topic), &mut cache));
    });
    group.bench_function("bind and unbind", |bencher| {
        let filter = TopicFilter::parse("site/0001/+/new", 16).expect("a valid filter");
        let binding = binding(FILTERS);
        bencher.iter(|| {
            exchange.bind(black_box(filter), binding);
            exchange.unbind(filter, binding.destination)
        });
    });
    group.finish();
}

/// Another of the filters' numbers for each number, far from its neighbours'.
fn scattered(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761) % FILTERS
}

fn topic(number: u32) -> String {
    let (site, line, sensor) = (number % 1_000, number / 1_000 % 40, number / 40_000);
    format!("site/{site:04}/line/{line:02}/sensor/{sensor}")
}

fn filter(number: u32) -> String {
    let (site, line, sensor) = (number % 1_000, number / 1_000 % 40, number / 40_000);
    match number % 10 {
        0 => format!("site/{site:04}/+/{line:02}/sensor/{sensor}"),
        1 => format!("site/{site:04}/line/{line:02}/sensor/{sensor}/#"),
        2 => format!("site/+/line/{line:02}/sensor/{number}"),
        _ => topic(number),
    }
}

fn binding(number: u32) -> Binding {
    Binding {
        destination: Destination::Session(ReceiverId {
            shard: ShardId(0),
            slot: number,
            generation: 0,
        }),
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        subscription_id: None,
        version: ProtocolVersion::V5,
        is_checked: false,
        store: None,
    }
}
