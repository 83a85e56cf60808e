//! Connections to a mock cluster, what is sent over them, and what lies there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidewire_bridges::kafka::{ExactlyOnce, KafkaConnector, KafkaSink, ProducerSettings, Settings};
use tidewire_bridges::{
    Class, Connected, Connector as _, Credentials, CredentialsSource, Failure, Note, PortSource,
    Record, Settled, Sink as _,
};
use tokio::time::timeout;

pub(crate) type Cluster = MockCluster<'static, DefaultProducerContext>;
pub(crate) type Link = Connected<KafkaSink, PortSource>;

pub(crate) fn cluster(servers: i32) -> Cluster {
    let cluster = MockCluster::new(servers).expect("a cluster");
    for topic in ["required", "other", "cursor", "in"] {
        cluster.create_topic(topic, 1, servers).expect("a topic");
    }
    cluster
}

pub(crate) fn settings(cluster: &Cluster) -> Settings {
    Settings {
        name: "test".to_owned(),
        servers: cluster.bootstrap_servers(),
        tls: None,
        credentials: CredentialsSource(Arc::new(|| Ok(Credentials::default()))),
        sasl_mechanism: "PLAIN".to_owned(),
        tokens: None,
        connect_timeout: PATIENCE,
        ack_timeout: PATIENCE,
        statistics_interval: Duration::from_millis(200),
        producer: None,
        consumer: None,
    }
}

pub(crate) fn outward(cluster: &Cluster, exactly_once: bool) -> KafkaConnector {
    let producer = ProducerSettings {
        topics: BTreeSet::from(["required".to_owned()]),
        acks: "all".to_owned(),
        is_idempotent: true,
        compression: "none".to_owned(),
        partitioner: "murmur2_random".to_owned(),
        linger_ms: 5,
        batch_messages_max: 10_000,
        batch_bytes_max: 900_000,
        message_bytes_max: 1_000_000,
        inflight_max: 1_000,
        creates_topics: false,
        has_tombstones: true,
        exactly_once: exactly_once.then(|| {
            Arc::new(ExactlyOnce {
                transactional_id: "id".to_owned(),
                cursor_topic: "cursor".to_owned(),
            })
        }),
    };
    KafkaConnector::new(Settings {
        producer: Some(Arc::new(producer)),
        ..settings(cluster)
    })
}

pub(crate) fn records(topic: &str, sequences: std::ops::Range<u64>) -> Vec<Record> {
    let record = |sequence: u64| Record {
        sequence,
        topic: topic.to_owned(),
        payload: sequence.to_string().into(),
        ..Record::default()
    };
    sequences.map(record).collect()
}

pub(crate) async fn connect(connector: &mut KafkaConnector) -> Result<Link, Failure> {
    let connected = timeout(2 * PATIENCE, connector.connect()).await;
    connected.expect("an answer in time")
}

/// The next outcomes; notes are kept at once.
pub(crate) async fn settled(link: &mut Link) -> Result<Vec<Settled>, Failure> {
    loop {
        let settled = timeout(2 * PATIENCE, link.sink.settled()).await;
        let settled = settled.expect("an outcome in time")?;
        let notes: Vec<Note> = link.sink.take_notes();
        if !notes.is_empty() {
            link.sink.keep(notes.len());
        }
        if !settled.is_empty() {
            return Ok(settled);
        }
    }
}

/// Sends, and sends again what is to be, until everything is there, over as many connections as it
/// takes; answers the failures of connections.
pub(crate) async fn deliver(connector: &mut KafkaConnector, records: Vec<Record>) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut left = records;
    while !left.is_empty() {
        assert!(failures.len() < 5, "{failures:?}");
        let mut link = match connect(connector).await {
            Ok(link) => link,
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        link.sink.submit(left.clone());
        while !left.is_empty() {
            match settled(&mut link).await {
                Err(failure) => {
                    failures.push(failure);
                    break;
                }
                Ok(outcomes) => {
                    let (done, again): (Vec<_>, Vec<_>) =
                        outcomes.into_iter().partition(|it| it.result.is_ok());
                    left.retain(|it| done.iter().all(|done| done.sequence != it.sequence));
                    let is_again = |it: &&Record| again.iter().any(|o| o.sequence == it.sequence);
                    let again: Vec<Record> = left.iter().filter(is_again).cloned().collect();
                    if !again.is_empty() {
                        link.sink.submit(again);
                    }
                }
            }
        }
    }
    connector.close().await;
    failures
}

/// The outcome of one record.
pub(crate) async fn outcome(connector: &mut KafkaConnector, topic: &str) -> Result<(), Failure> {
    let mut link = connect(connector).await?;
    link.sink.submit(records(topic, 1..2));
    let mut settled = settled(&mut link).await?;
    settled.pop().expect("an outcome").result
}

/// All that is committed in a topic.
pub(crate) fn read(cluster: &Cluster, topic: &str) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "reader")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    let put = list.add_partition_offset(topic, 0, Offset::Beginning);
    put.expect("a place");
    consumer.assign(&list).expect("assigned");
    let mut all = Vec::new();
    loop {
        match consumer.poll(PATIENCE).expect("an answer in time") {
            Ok(message) => {
                let payload = message.payload().expect("a payload");
                all.push(String::from_utf8_lossy(payload).into_owned());
            }
            Err(KafkaError::PartitionEOF(_)) => return all,
            // A server that is down.
            Err(error) => println!("{error}"),
        }
    }
}

/// Checks cases at the same time, since most of it is waiting.
pub(crate) fn at_once<C: Copy + Send + Sync>(
    cases: &[C],
    check: impl AsyncFn(C) + Copy + Send + Sync,
) {
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.expect("a runtime").block_on(check(*case));
            });
        }
    });
}

pub(crate) fn numbers(sequences: std::ops::Range<u64>) -> Vec<String> {
    sequences.map(|it| it.to_string()).collect()
}

pub(crate) fn assert_is(failure: &Failure, class: Class, words: &str) {
    assert_eq!(failure.class, class, "{failure}");
    assert!(failure.reason.contains(words), "{failure}\nnot: {words}");
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
