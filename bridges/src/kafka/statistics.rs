//! What librdkafka counts, as far as it is shown.

use std::collections::BTreeMap;

use rdkafka::Statistics;
use rdkafka::statistics::{Broker, Partition};
use serde_json::{Map, Value, json};

/// The numbers of one client, for the state of the bridge.
///
/// # Shape
/// `{"requests":31,"retries":0,"timeouts":0,"bytes_sent":4096,"bytes_received":512,"servers":{…}}`,
/// and what is waiting (producer) or not yet read (consumer).
pub(super) fn numbers(statistics: &Statistics) -> Value {
    let sum = |of: fn(&Broker) -> u64| statistics.brokers.values().map(of).sum::<u64>();
    let mut numbers = json!({
        "requests": statistics.tx,
        "retries": sum(|it| it.txretries),
        "timeouts": sum(|it| it.req_timeouts),
        "bytes_sent": statistics.tx_bytes,
        "bytes_received": statistics.rx_bytes,
        "servers": servers(statistics),
    });
    let own = match is_producer(statistics) {
        true => json!({
            "queue_messages": statistics.msg_cnt,
            "queue_bytes": statistics.msg_size,
        }),
        false => lag(statistics),
    };
    if let (Some(numbers), Value::Object(own)) = (numbers.as_object_mut(), own) {
        numbers.extend(own);
    }
    numbers
}

pub(super) fn is_producer(statistics: &Statistics) -> bool {
    statistics.client_type == "producer"
}

/// The longest that a server has made us wait, in milliseconds.
pub(super) fn throttle_ms(statistics: &Statistics) -> i64 {
    let waits = statistics.brokers.values().map(throttle_ms_of);
    waits.max().unwrap_or(0)
}

/// Servers by their names, of which those that are known by the configuration alone are left out.
fn servers(statistics: &Statistics) -> Map<String, Value> {
    let known = statistics.brokers.values().filter(|it| it.nodeid >= 0);
    let known: BTreeMap<i32, &Broker> = known.map(|it| (it.nodeid, it)).collect();
    let shown = known.values().take(SERVERS_MAX);
    shown.map(|it| (it.name.clone(), server(it))).collect()
}

fn server(broker: &Broker) -> Value {
    let rtt = broker.rtt.as_ref().filter(|it| it.cnt > 0);
    // Tenths are enough, and steady.
    let ms = |us: i64| Value::from((us / 100) as f64 / 10.0);
    json!({
        "connection": broker.state.to_ascii_lowercase(),
        "rtt_ms": rtt.map(|it| ms(it.avg)),
        "rtt_ms_p99": rtt.map(|it| ms(it.p99)),
        "throttle_ms": throttle_ms_of(broker),
        "requests_in_flight": broker.waitresp_cnt,
    })
}

fn throttle_ms_of(broker: &Broker) -> i64 {
    broker.throttle.as_ref().map_or(0, |it| it.max)
}

/// How many records of our partitions are there and not accepted here.
fn lag(statistics: &Statistics) -> Value {
    let topics = statistics.topics.values();
    let partitions = topics.flat_map(|topic| topic.partitions.values().map(move |it| (topic, it)));
    let ours = partitions.filter(|(_, it)| it.partition >= 0 && is_ours(it));
    let mut ours: Vec<(i64, String)> = ours
        .map(|(topic, it)| (it.consumer_lag_stored.max(0), name(&topic.topic, it)))
        .collect();
    ours.sort_unstable_by(|(lag, name), other| (other.0, name).cmp(&(*lag, &other.1)));
    let total: i64 = ours.iter().map(|it| it.0).sum();
    let count = ours.len();
    let worst = ours.into_iter().take(PARTITIONS_MAX);
    let worst: Map<String, Value> = worst.map(|(lag, name)| (name, lag.into())).collect();
    json!({ "partitions": count, "lag": total, "lag_by_partition": worst })
}

fn is_ours(partition: &Partition) -> bool {
    !matches!(
        partition.fetch_state.as_str(),
        "none" | "stopping" | "stopped"
    )
}

fn name(topic: &str, partition: &Partition) -> String {
    format!("{topic}/{}", partition.partition)
}

/// Servers that are shown, those with the lowest numbers first.
const SERVERS_MAX: usize = 32;
/// Partitions that are shown, those that are behind most.
const PARTITIONS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::statistics::{Topic, Window};

    fn partition(number: i32, lag: i64) -> (i32, Partition) {
        let partition = Partition {
            partition: number,
            fetch_state: "active".to_owned(),
            consumer_lag_stored: lag,
            ..Partition::default()
        };
        (number, partition)
    }

    #[test]
    fn partitions_that_are_behind_most_are_shown_and_all_are_counted() {
        let mut given_away = partition(41, 100);
        given_away.1.fetch_state = "stopped".to_owned();
        // Not ours, unknown, and nobody's.
        let others = [partition(-1, 100), partition(40, -1), given_away];
        let partitions = (0..40).map(|it| partition(it, i64::from(it)));
        let topic = Topic {
            topic: "t".to_owned(),
            partitions: partitions.chain(others).collect(),
            ..Topic::default()
        };
        let statistics = Statistics {
            client_type: "consumer".to_owned(),
            topics: [("t".to_owned(), topic)].into(),
            ..Statistics::default()
        };
        let numbers = numbers(&statistics);
        assert_eq!(numbers["partitions"], 41);
        assert_eq!(numbers["lag"], 780);
        let shown = numbers["lag_by_partition"].as_object().expect("an object");
        assert_eq!(shown.len(), PARTITIONS_MAX);
        assert_eq!(shown["t/39"], 39);
        assert!(!shown.contains_key("t/0"), "{shown:?}");
    }

    #[test]
    fn servers_have_round_trips_and_those_of_the_configuration_are_left_out() {
        let window = Window {
            avg: 1_234,
            p99: 5_678,
            max: 40,
            cnt: 1,
            ..Window::default()
        };
        let learned = Broker {
            name: "k1:9092/1".to_owned(),
            nodeid: 1,
            state: "UP".to_owned(),
            rtt: Some(window.clone()),
            throttle: Some(window),
            txretries: 2,
            ..Broker::default()
        };
        let configured = Broker {
            nodeid: -1,
            txretries: 3,
            ..Broker::default()
        };
        let brokers = [("a".to_owned(), learned), ("b".to_owned(), configured)];
        let statistics = Statistics {
            client_type: "producer".to_owned(),
            msg_cnt: 7,
            brokers: brokers.into(),
            ..Statistics::default()
        };
        let numbers = numbers(&statistics);
        assert_eq!(numbers["queue_messages"], 7);
        assert_eq!(numbers["retries"], 5);
        let server = json!({
            "connection": "up", "rtt_ms": 1.2, "rtt_ms_p99": 5.6, "throttle_ms": 40,
            "requests_in_flight": 0,
        });
        assert_eq!(numbers["servers"], json!({ "k1:9092/1": server }));
        assert_eq!(throttle_ms(&statistics), 40);
    }
}
