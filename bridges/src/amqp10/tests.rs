//! The connector and servers that do what real ones are seldom made to do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fe2o3_amqp::Receiver;
use fe2o3_amqp::acceptor::{
    ConnectionAcceptor, LinkAcceptor, LinkEndpoint, ListenerSessionHandle, SaslAnonymousMechanism,
    SessionAcceptor,
};
use fe2o3_amqp::types::definitions::{Error, LinkError};
use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::primitives::Value;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::{Amqp10Connector, Dialect, Mechanism, Node, Settings};
use crate::{
    Class, Connector, Credentials, CredentialsSource, Dial, Dialled, Failure, PortSink, Record,
    ServerOrder, Settled, Sink,
};

/// Settings of a bridge without a server.
pub(super) fn settings() -> Settings {
    Settings {
        name: "b.n".into(),
        servers: 1,
        order: ServerOrder::Failover,
        dial: Dial(Arc::new(|_| {
            Box::pin(async { Err(Failure::retry("no server")) })
        })),
        credentials: CredentialsSource(Arc::new(|| Ok(Credentials::default()))),
        mechanism: Mechanism::Plain,
        host_name: None,
        dialect: Dialect::Artemis,
        exchange: "amq.topic".into(),
        target: Node::Topic,
        source: None,
        credit: 10,
        inflight_max: 10,
        links_max: 2,
        message_bytes_max: 0,
        priority: 4,
        deliveries_max: 0,
        idle_timeout: Duration::ZERO,
        connect_timeout: Duration::from_secs(5),
        ack_timeout: Duration::from_secs(5),
    }
}

/// The stream of the first connection to a server of ours.
fn dial(stream: DuplexStream) -> Dial {
    let stream = Mutex::new(Some(stream));
    Dial(Arc::new(move |_| {
        let stream = stream.lock().unwrap().take();
        Box::pin(async {
            let stream = stream.ok_or_else(|| Failure::retry("no second connection"))?;
            Ok(Dialled {
                stream: Box::new(stream),
                remote: "duplex".into(),
            })
        })
    }))
}

/// A server that takes one connection with one session, and does this with its links.
async fn served<W: Future<Output = ()> + Send + 'static>(
    work: impl FnOnce(ListenerSessionHandle) -> W + Send + 'static,
) -> (Amqp10Connector, PortSink, JoinHandle<()>) {
    served_by(settings(), work).await
}

/// The same with these settings.
async fn served_by<W: Future<Output = ()> + Send + 'static>(
    settings: Settings,
    work: impl FnOnce(ListenerSessionHandle) -> W + Send + 'static,
) -> (Amqp10Connector, PortSink, JoinHandle<()>) {
    let (ours, theirs) = duplex(65_536);
    let server = tokio::spawn(async move {
        let acceptor = ConnectionAcceptor::builder()
            .container_id("server")
            .sasl_acceptor(SaslAnonymousMechanism {})
            .build();
        let mut connection = acceptor.accept(theirs).await.unwrap();
        let session = SessionAcceptor::new()
            .accept(&mut connection)
            .await
            .unwrap();
        work(session).await;
    });
    let mut connector = Amqp10Connector::new(Settings {
        dial: dial(ours),
        dialect: Dialect::Plain,
        ..settings
    });
    let sink = connector.connect().await.unwrap().sink;
    (connector, sink, server)
}

async fn accept(session: &mut ListenerSessionHandle, max_message_size: u64) -> Receiver {
    let acceptor = LinkAcceptor::builder()
        .max_message_size(max_message_size)
        .build();
    match acceptor.accept(session).await.unwrap() {
        LinkEndpoint::Receiver(receiver) => receiver,
        LinkEndpoint::Sender(_) => unreachable!("nothing is received"),
    }
}

fn record(sequence: u64, payload: &str) -> Record {
    Record {
        sequence,
        topic: "t".into(),
        payload: payload.to_owned().into(),
        ..Record::default()
    }
}

/// The next so many records that are settled, and the class of the failure if there was one.
async fn settled_all(sink: &mut PortSink, count: usize) -> Vec<(u64, Option<Class>)> {
    let mut all = Vec::new();
    while all.len() < count {
        let settled = sink.settled().await.unwrap().into_iter();
        let class = |it: Settled| (it.sequence, it.result.err().map(|it| it.class));
        all.extend(settled.map(class));
    }
    all
}

#[tokio::test]
async fn a_message_larger_than_the_link_takes_is_poison_and_holds_up_nothing() {
    let (mut connector, mut sink, server) = served(async |mut session| {
        let mut receiver = accept(&mut session, 500).await;
        let delivery = receiver.recv::<Body<Value>>().await.unwrap();
        receiver.accept(&delivery).await.unwrap();
        let _ = receiver.recv::<Body<Value>>().await;
    })
    .await;
    sink.submit(vec![record(1, &"x".repeat(600)), record(2, "fits")]);
    let all = settled_all(&mut sink, 2).await;
    assert_eq!(all, [(1, Some(Class::Poison)), (2, None)]);
    connector.close().await;
    server.abort();
}

#[tokio::test]
async fn outcomes_of_the_server_settle_each_record_in_its_way() {
    let (mut connector, mut sink, server) = served(async |mut session| {
        let mut receiver = accept(&mut session, 0).await;
        for number in 0..3 {
            let delivery = receiver.recv::<Body<Value>>().await.unwrap();
            match number {
                0 => receiver.release(&delivery).await.unwrap(),
                1 => receiver.reject(&delivery, None).await.unwrap(),
                _ => receiver.accept(&delivery).await.unwrap(),
            }
        }
        let _ = receiver.recv::<Body<Value>>().await;
    })
    .await;
    sink.submit(vec![record(1, "a"), record(2, "b"), record(3, "c")]);
    let all = settled_all(&mut sink, 3).await;
    let expected = [(1, Some(Class::Retry)), (2, Some(Class::Poison)), (3, None)];
    assert_eq!(all, expected);
    connector.close().await;
    server.abort();
}

#[tokio::test]
async fn an_idle_link_that_was_detached_is_attached_again_over_the_same_connection() {
    let (mut connector, mut sink, server) = served(async |mut session| {
        for _ in 0..2 {
            let mut receiver = accept(&mut session, 0).await;
            let delivery = receiver.recv::<Body<Value>>().await.unwrap();
            receiver.accept(&delivery).await.unwrap();
            let error = Error::new(LinkError::DetachForced, "idle".to_owned(), None);
            let _ = receiver.detach_with_error(error).await;
        }
    })
    .await;
    for sequence in [1, 2] {
        sink.submit(vec![record(sequence, "x")]);
        assert_eq!(settled_all(&mut sink, 1).await, [(sequence, None)]);
        // The detach comes after the outcome.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    connector.close().await;
    server.abort();
}

#[tokio::test]
async fn a_link_that_is_detached_in_use_ends_the_connection_with_the_servers_words() {
    let (mut connector, mut sink, server) = served(async |mut session| {
        let mut receiver = accept(&mut session, 0).await;
        let _ = receiver.recv::<Body<Value>>().await.unwrap();
        let error = Error::new(LinkError::DetachForced, "upgrade".to_owned(), None);
        let _ = receiver.detach_with_error(error).await;
        std::future::pending::<()>().await;
    })
    .await;
    sink.submit(vec![record(1, "x")]);
    let failure = sink.settled().await.unwrap_err();
    assert_eq!(failure.class, Class::Retry);
    assert!(
        failure.reason.contains("amqp:link:detach-forced upgrade"),
        "{failure}"
    );
    connector.close().await;
    server.abort();
}

#[tokio::test]
async fn a_server_that_never_answers_a_link_is_left_like_one_that_acknowledges_nothing() {
    let settings = Settings {
        ack_timeout: Duration::from_secs(1),
        ..settings()
    };
    let (mut connector, mut sink, server) = served_by(settings, async |session| {
        let _session = session;
        std::future::pending::<()>().await;
    })
    .await;
    sink.submit(vec![record(1, "x")]);
    let failure = sink.settled().await.unwrap_err();
    assert_eq!(failure.class, Class::Retry);
    let said = "the server has acknowledged nothing for 1 s";
    assert_eq!(failure.reason, said);
    connector.close().await;
    server.abort();
}
