//! The way out, in transactions.

use rdkafka::types::RDKafkaRespErr::*;
use rdkafka::types::{RDKafkaApiKey as Request, RDKafkaRespErr as Error};
use tidewire_bridges::{Class, Connector as _, Sink as _};

use crate::link::{
    assert_is, at_once, cluster, connect, deliver, numbers, outward, read, records, settled,
};

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
