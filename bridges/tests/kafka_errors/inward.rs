//! The way in.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaApiKey as Request;
use rdkafka::types::RDKafkaRespErr::*;
use tidewire_bridges::kafka::{ConsumerSettings, KafkaConnector, Settings, Start};
use tidewire_bridges::{Class, Connector as _, Failure, Receipt, Record, Source as _};
use tokio::time::timeout;

use crate::link::{Cluster, PATIENCE, assert_is, at_once, cluster, connect, numbers, settings};

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

fn write(cluster: &Cluster, sequences: Range<u64>) {
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
