//! Kafka's errors, from librdkafka's own mock cluster: each ends in its class, and nothing is lost
//! or repeated on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey as Request, RDKafkaRespErr as Error};
use tidewire_bridges::kafka::{
    ConsumerSettings, ExactlyOnce, KafkaConnector, KafkaSink, ProducerSettings, Settings, Start,
};
use tidewire_bridges::{
    Class, Connected, Connector as _, Credentials, CredentialsSource, Failure, Note, PortSource,
    Receipt, Record, Settled, Sink as _, Source as _,
};
use tokio::time::timeout;

use Error::*;

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Link = Connected<KafkaSink, PortSource>;

fn cluster(servers: i32) -> Cluster {
    let cluster = MockCluster::new(servers).expect("a cluster");
    for topic in ["required", "other", "cursor", "in"] {
        cluster.create_topic(topic, 1, servers).expect("a topic");
    }
    cluster
}

fn settings(cluster: &Cluster) -> Settings {
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

fn outward(cluster: &Cluster, exactly_once: bool) -> KafkaConnector {
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

fn inward(cluster: &Cluster) -> KafkaConnector {
    let consumer = ConsumerSettings {
        topics: vec!["in".to_owned()],
        group: "group".to_owned(),
        start: Start::Earliest,
        isolation: "read_committed".to_owned(),
        unaccepted_max: 1_000,
    };
    KafkaConnector::new(Settings {
        consumer: Some(Arc::new(consumer)),
        ..settings(cluster)
    })
}

fn records(topic: &str, sequences: std::ops::Range<u64>) -> Vec<Record> {
    let record = |sequence: u64| Record {
        sequence,
        topic: topic.to_owned(),
        payload: sequence.to_string().into(),
        ..Record::default()
    };
    sequences.map(record).collect()
}

async fn connect(connector: &mut KafkaConnector) -> Result<Link, Failure> {
    let connected = timeout(2 * PATIENCE, connector.connect()).await;
    connected.expect("an answer in time")
}

/// The next outcomes; notes are kept at once.
async fn settled(link: &mut Link) -> Result<Vec<Settled>, Failure> {
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
async fn deliver(connector: &mut KafkaConnector, records: Vec<Record>) -> Vec<Failure> {
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
async fn outcome(connector: &mut KafkaConnector, topic: &str) -> Result<(), Failure> {
    let mut link = connect(connector).await?;
    link.sink.submit(records(topic, 1..2));
    let mut settled = settled(&mut link).await?;
    settled.pop().expect("an outcome").result
}

/// All that is committed in a topic.
fn read(cluster: &Cluster, topic: &str) -> Vec<String> {
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
fn at_once<C: Copy + Send + Sync>(cases: &[C], check: impl AsyncFn(C) + Copy + Send + Sync) {
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

fn numbers(sequences: std::ops::Range<u64>) -> Vec<String> {
    sequences.map(|it| it.to_string()).collect()
}

fn assert_is(failure: &Failure, class: Class, words: &str) {
    assert_eq!(failure.class, class, "{failure}");
    assert!(failure.reason.contains(words), "{failure}\nnot: {words}");
}

#[tokio::test]
async fn errors_that_pass_hold_up_and_neither_lose_nor_repeat() {
    let passing = [
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    let cluster = cluster(1);
    let mut connector = outward(&cluster, false);
    let mut next = 1;
    for error in passing {
        cluster.request_errors(Request::Produce, &[error, error]);
        let failures = deliver(&mut connector, records("required", next..next + 20)).await;
        assert_eq!(failures, [], "{error:?}");
        next += 20;
    }
    assert_eq!(read(&cluster, "required"), numbers(1..next));
}

#[tokio::test]
async fn a_leader_that_goes_away_loses_and_repeats_nothing() {
    let cluster = cluster(3);
    cluster
        .partition_leader("required", 0, Some(1))
        .expect("a leader");
    let mut connector = outward(&cluster, false);
    let mut link = connect(&mut connector).await.expect("connected");
    link.sink.submit(records("required", 1..500));
    cluster.broker_down(1).expect("down");
    link.sink.submit(records("required", 500..1_000));
    cluster
        .partition_leader("required", 0, Some(2))
        .expect("a leader");
    let mut done = 0;
    while done < 999 {
        let outcomes = settled(&mut link).await.expect("outcomes");
        assert!(outcomes.iter().all(|it| it.result.is_ok()), "{outcomes:?}");
        done += outcomes.len();
    }
    assert_eq!(read(&cluster, "required"), numbers(1..1_000));
}

#[test]
fn a_record_that_is_refused_is_poison_or_ends_the_connection_where_nothing_else_would_do() {
    use Class::{Poison, Refused};
    let cases = [
        (
            RD_KAFKA_RESP_ERR_INVALID_RECORD,
            "required",
            Poison,
            "87 InvalidRecord",
        ),
        (
            RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
            "required",
            Poison,
            "44 PolicyViolation",
        ),
        (
            RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            "other",
            Poison,
            "29 TopicAuth",
        ),
        (
            RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            "required",
            Refused,
            "29 TopicAuth",
        ),
        (
            RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE,
            "required",
            Refused,
            "76 Unsupp",
        ),
    ];
    at_once(&cases, async |(error, topic, class, words)| {
        let cluster = cluster(1);
        cluster.request_errors(Request::Produce, &[error]);
        let mut connector = outward(&cluster, false);
        let refused = outcome(&mut connector, topic).await;
        assert_is(&refused.expect_err("a refusal"), class, words);
        // Once somebody has mended it, everything is there once.
        assert_eq!(deliver(&mut connector, records(topic, 1..21)).await, []);
        assert_eq!(read(&cluster, topic), numbers(1..21), "{error:?}");
    });
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_sent_one_by_one() {
    let cluster = cluster(1);
    cluster.request_errors(Request::Produce, &[RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let mut connector = outward(&cluster, false);
    let failures = deliver(&mut connector, records("required", 1..6)).await;
    assert_eq!(failures, []);
    assert_eq!(read(&cluster, "required"), numbers(1..6));
    // What is too large by itself as well is poison.
    let error = RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    cluster.request_errors(Request::Produce, &[error, error]);
    let mut link = connect(&mut connector).await.expect("connected");
    for class in [Class::Retry, Class::Poison] {
        link.sink.submit(records("required", 9..10));
        let outcome = settled(&mut link).await.expect("an outcome").remove(0);
        assert_is(
            &outcome.result.expect_err("a refusal"),
            class,
            "10 MessageSizeTooLarge",
        );
    }
}

#[tokio::test]
async fn a_producer_that_cannot_begin_says_why_in_the_servers_words() {
    let cluster = cluster(1);
    let passing = [RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 2];
    cluster.request_errors(Request::InitProducerId, &passing);
    let mut connector = outward(&cluster, false);
    assert_eq!(deliver(&mut connector, records("required", 1..3)).await, []);
    let refusal = [RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED];
    cluster.request_errors(Request::InitProducerId, &refusal);
    let failures = deliver(&mut connector, records("required", 3..5)).await;
    assert_is(
        &failures[0],
        Class::Refused,
        "31 ClusterAuthorizationFailed",
    );
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(read(&cluster, "required"), numbers(1..5));
}

#[tokio::test]
async fn sequence_errors_end_in_a_new_producer_and_lose_nothing() {
    for error in [
        RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
    ] {
        let cluster = cluster(1);
        cluster.request_errors(Request::Produce, &[error]);
        let mut connector = outward(&cluster, false);
        let failures = deliver(&mut connector, records("required", 1..21)).await;
        let is_new = |it: &Failure| it.class == Class::Retry;
        assert!(
            failures.iter().all(is_new) && failures.len() < 2,
            "{failures:?}"
        );
        assert_eq!(read(&cluster, "required"), numbers(1..21), "{error:?}");
    }
}

#[test]
fn transactions_that_fail_are_undone_and_sent_once() {
    at_once(OF_TRANSACTIONS, async |(request, error, wanted)| {
        let mut attempts = 0;
        let (cluster, failures) = loop {
            let cluster = cluster(1);
            cluster.request_errors(request, &[error]);
            let mut connector = outward(&cluster, true);
            let failures = deliver(&mut connector, records("required", 1..21)).await;
            attempts += 1;
            // A busy machine may be too slow for librdkafka to hear of the error in time.
            let is_late = failures.iter().any(|it| it.reason.contains("-185"));
            if !is_late || attempts == 3 {
                break (cluster, failures);
            }
        };
        let what = format!("{request:?} {error:?}: {failures:?}");
        assert_eq!(failures.len(), usize::from(wanted.is_some()), "{what}");
        if let Some((class, words)) = wanted {
            assert_is(&failures[0], class, words);
        }
        // The mock shows what was undone as well: a cursor without its records.
        if !matches!(request, Request::Produce) {
            assert_eq!(read(&cluster, "required"), numbers(1..21), "{what}");
        }
    });
}

#[tokio::test]
async fn a_topic_that_a_transaction_may_not_write_to_holds_up_no_other() {
    let cluster = cluster(1);
    let mut connector = outward(&cluster, true);
    let mut link = connect(&mut connector).await.expect("connected");
    link.sink.submit(records("other", 1..2));
    let first = settled(&mut link).await.expect("an outcome").remove(0);
    assert_eq!(first.result, Ok(()));
    let refusal = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.topic_error("other", refusal).expect("an error");
    let mut mixed = records("required", 2..6);
    mixed[1].topic = "other".to_owned();
    link.sink.submit(mixed);
    let mut ends = Vec::new();
    while ends.len() < 4 {
        ends.extend(settled(&mut link).await.expect("outcomes"));
    }
    ends.sort_by_key(|it| it.sequence);
    let refused = ends.remove(1).result.expect_err("a refusal");
    assert_is(&refused, Class::Poison, "29 TopicAuthorizationFailed");
    assert!(ends.iter().all(|it| it.result.is_ok()), "{ends:?}");
    assert_eq!(read(&cluster, "required"), ["2", "4", "5"]);
    connector.close().await;
}

#[test]
fn reading_goes_on_or_ends_in_the_servers_words() {
    use Class::Refused;
    let cases = [
        (
            Request::Fetch,
            RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            None,
        ),
        (Request::Fetch, RD_KAFKA_RESP_ERR__TRANSPORT, None),
        (
            Request::Fetch,
            RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            Some((Refused, "29 TopicAuthorizationFailed")),
        ),
        (
            Request::JoinGroup,
            RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            None,
        ),
        (
            Request::JoinGroup,
            RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
            Some((Refused, "30 GroupAuthorizationFailed")),
        ),
        (
            Request::OffsetCommit,
            RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
            Some((Refused, "30 GroupAuthorizationFailed")),
        ),
        (
            Request::OffsetCommit,
            RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            None,
        ),
    ];
    at_once(&cases, async |(request, error, wanted)| {
        let cluster = cluster(1);
        write(&cluster, 1..21);
        cluster.request_errors(request, &[error]);
        let mut connector = inward(&cluster);
        let (got, failures) = receive(&mut connector, 20).await;
        let what = format!("{request:?} {error:?}: {failures:?}");
        assert_eq!(got, numbers(1..21), "{what}");
        assert_eq!(failures.len(), usize::from(wanted.is_some()), "{what}");
        if let Some((class, words)) = wanted {
            assert_is(&failures[0], class, words);
        }
    });
}

/// Receives and accepts so many records over as many connections as it takes, and what comes in the
/// two seconds after; answers the failures of connections.
async fn receive(connector: &mut KafkaConnector, count: usize) -> (Vec<String>, Vec<Failure>) {
    let (mut got, mut failures) = (Vec::new(), Vec::new());
    'connections: loop {
        assert!(failures.len() < 5, "{failures:?}");
        let mut link = match connect(connector).await {
            Ok(link) => link,
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        loop {
            let is_enough = got.len() >= count;
            let patience = if is_enough { 2 } else { 2 * PATIENCE.as_secs() };
            let received = timeout(Duration::from_secs(patience), link.source.receive()).await;
            let Ok(received) = received else {
                assert!(is_enough, "{got:?}");
                break 'connections;
            };
            match received {
                Err(failure) => {
                    failures.push(failure);
                    continue 'connections;
                }
                Ok(received) => {
                    let receipts: Vec<Receipt> = received.iter().map(|it| it.receipt).collect();
                    let text = |it: &Record| String::from_utf8_lossy(&it.payload).into_owned();
                    got.extend(received.iter().map(|it| text(&it.record)));
                    link.source.accept(receipts);
                }
            }
        }
    }
    connector.close().await;
    (got, failures)
}

fn write(cluster: &Cluster, sequences: std::ops::Range<u64>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .create()
        .expect("a producer");
    for sequence in sequences {
        let text = sequence.to_string();
        let record: BaseRecord<'_, str, str> = BaseRecord::to("in").payload(&text);
        assert!(producer.send(record).is_ok());
    }
    producer.flush(PATIENCE).expect("sent");
}

/// What a connection ends with.
type End = (Class, &'static str);

/// Which request fails how in a transaction, and what the connection ends with, if it does.
const OF_TRANSACTIONS: &[(Request, Error, Option<End>)] = &[
    (
        Request::EndTxn,
        RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        None,
    ),
    (Request::EndTxn, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, None),
    (
        Request::EndTxn,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        Some((Class::Refused, "-144 Fenced")),
    ),
    (
        Request::EndTxn,
        RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
        Some((Class::Refused, "-144 Fenced")),
    ),
    (
        Request::EndTxn,
        RD_KAFKA_RESP_ERR_INVALID_TXN_STATE,
        Some((Class::Retry, "48 Invalid")),
    ),
    (
        Request::InitProducerId,
        RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
        Some((Class::Refused, "-144 Fenced")),
    ),
    (
        Request::InitProducerId,
        RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        Some((Class::Refused, "53 TransactionalIdAuthorizationFailed")),
    ),
    (
        Request::AddPartitionsToTxn,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        Some((Class::Refused, "29 TopicAuthorizationFailed")),
    ),
    (
        Request::AddPartitionsToTxn,
        RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
        None,
    ),
    (
        Request::Produce,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        None,
    ),
    (
        Request::Produce,
        RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        Some((Class::Retry, "45 OutOfOrderSequenceNumber")),
    ),
    (
        Request::Produce,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        Some((Class::Refused, "-144 Fenced")),
    ),
];

const PATIENCE: Duration = Duration::from_secs(20);
