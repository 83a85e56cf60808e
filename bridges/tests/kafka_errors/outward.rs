//! The way out, record by record.

use rdkafka::types::RDKafkaApiKey as Request;
use rdkafka::types::RDKafkaRespErr::*;
use tidewire_bridges::{Class, Failure, Sink as _};

use crate::link::{
    assert_is, at_once, cluster, connect, deliver, numbers, outcome, outward, read, records,
    settled,
};

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
