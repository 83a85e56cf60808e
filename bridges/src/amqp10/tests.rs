//! The connector and servers that do what real ones are seldom made to do.

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::acceptor::{
    ConnectionAcceptor, LinkAcceptor, LinkEndpoint, ListenerConnectionHandle,
    ListenerSessionHandle, SaslAnonymousMechanism, SessionAcceptor,
};
use fe2o3_amqp::link::CreditMode;
use fe2o3_amqp::types::definitions::{Error, LinkError};
use fe2o3_amqp::types::messaging::{Body, Data, Outcome};
use fe2o3_amqp::types::primitives::Value;
use fe2o3_amqp::{Receiver, Sender};
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Amqp10Connector, Dialect, Mechanism, Node, Settings, Source};
use crate::{
    Class, Connector, Credentials, CredentialsSource, Dial, Failure, PortSink, Record, ServerOrder,
    Settled, Sink, Source as _,
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
    let (mut connector, server) = serve(settings, async |mut connection| {
        work(session(&mut connection).await).await;
    });
    let sink = connector.connect().await.unwrap().sink;
    (connector, sink, server)
}

/// A server with little room that takes one connection, and does this with it.
fn serve<W: Future<Output = ()> + Send + 'static>(
    settings: Settings,
    work: impl FnOnce(ListenerConnectionHandle) -> W + Send + 'static,
) -> (Amqp10Connector, JoinHandle<()>) {
    let (ours, theirs) = duplex(65_536);
    let server = tokio::spawn(async move {
        let acceptor = ConnectionAcceptor::builder()
            .container_id("server")
            .max_frame_size(512)
            .sasl_acceptor(SaslAnonymousMechanism {})
            .build();
        work(acceptor.accept(theirs).await.unwrap()).await;
    });
    let settings = Settings {
        dialect: Dialect::Plain,
        ..settings
    };
    (connected_by(settings, ours), server)
}

/// A connector whose first connection is this one.
pub(super) fn connected_by(settings: Settings, stream: DuplexStream) -> Amqp10Connector {
    Amqp10Connector::new(Settings {
        dial: Dial::once(stream),
        ..settings
    })
}

async fn session(connection: &mut ListenerConnectionHandle) -> ListenerSessionHandle {
    let acceptor = SessionAcceptor::builder().incoming_window(4).build();
    acceptor.accept(connection).await.unwrap()
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

pub(super) fn record(sequence: u64, payload: &str) -> Record {
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

async fn send_two_in_turn(sink: &mut PortSink) {
    for sequence in [1, 2] {
        sink.submit(vec![record(sequence, "x")]);
        assert_eq!(settled_all(sink, 1).await, [(sequence, None)]);
        // What the server says of the link comes after the outcome.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
    send_two_in_turn(&mut sink).await;
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
async fn a_server_that_never_answers_a_link_is_left() {
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
    let said = "the server does not answer the link to t";
    assert_eq!(failure.reason, said);
    connector.close().await;
    server.abort();
}

#[tokio::test]
async fn a_message_larger_than_frames_and_session_goes_in_parts_both_ways() {
    let settings = Settings {
        source: Some(Source {
            address: "q".into(),
            node: Node::Queue,
        }),
        ..settings()
    };
    // It sends back what comes.
    let (mut connector, server) = serve(settings, async |mut connection| {
        let mut out = session(&mut connection).await;
        let mut back = session(&mut connection).await;
        let mut sender = give(&mut back).await;
        let mut receiver = accept(&mut out, 0).await;
        for _ in 0..3 {
            let delivery = receiver.recv::<Body<Value>>().await.unwrap();
            let Body::Data(parts) = delivery.body() else {
                panic!("no bytes");
            };
            let data: Vec<Data> = parts.iter().cloned().collect();
            receiver.accept(&delivery).await.unwrap();
            let outcome = sender.send(data[0].clone()).await.unwrap();
            assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
        }
        let _ = receiver.recv::<Body<Value>>().await;
    });
    let mut connected = connector.connect().await.unwrap();
    let payloads = [70_000, 1, 3_000].map(|size| "x".repeat(size));
    let records = (0..)
        .zip(&payloads)
        .map(|(sequence, it)| record(sequence, it));
    connected.sink.submit(records.collect());
    let mut came = Vec::new();
    while came.len() < 3 {
        for it in connected.source.receive().await.unwrap() {
            came.push(it.record.payload);
            connected.source.accept(vec![it.receipt]);
        }
    }
    assert!(
        came.iter()
            .zip(&payloads)
            .all(|(came, sent)| came == sent.as_bytes())
    );
    let all = settled_all(&mut connected.sink, 3).await;
    assert_eq!(all, [(0, None), (1, None), (2, None)]);
    connector.close().await;
    server.abort();
}

async fn give(session: &mut ListenerSessionHandle) -> Sender {
    match LinkAcceptor::new().accept(session).await.unwrap() {
        LinkEndpoint::Sender(sender) => sender,
        LinkEndpoint::Receiver(_) => unreachable!("nothing is sent"),
    }
}

/// A message that a server gives its own number to.
async fn forward(sender: &mut Sender, text: &str) {
    let data = Data(text.as_bytes().to_vec().into());
    let outcome = timeout(PATIENCE, sender.send(data)).await;
    let outcome = outcome.expect("a verdict").unwrap();
    assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_link_on_the_way_in_that_was_idle_and_detached_goes_on_over_the_same_connection() {
    let settings = Settings {
        source: Some(Source {
            address: "q".into(),
            node: Node::Queue,
        }),
        // One message that is never settled would end it.
        credit: 1,
        ..settings()
    };
    let (mut connector, server) = serve(settings, async |mut connection| {
        let _out = session(&mut connection).await;
        let mut back = session(&mut connection).await;
        let idle = give(&mut back).await;
        // Less than that is a server that detaches at once.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let error = Error::new(LinkError::DetachForced, "idle".to_owned(), None);
        let _ = idle.detach_with_error(error).await;
        let mut sender = give(&mut back).await;
        for number in 0..5 {
            forward(&mut sender, &number.to_string()).await;
        }
    });
    let mut connected = connector.connect().await.unwrap();
    let mut came = Vec::new();
    while came.len() < 5 {
        for it in connected.source.receive().await.unwrap() {
            came.push(String::from_utf8_lossy(&it.record.payload).into_owned());
            connected.source.accept(vec![it.receipt]);
        }
    }
    assert_eq!(came, ["0", "1", "2", "3", "4"]);
    timeout(PATIENCE, server).await.unwrap().unwrap();
    connector.close().await;
}

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn credit_that_the_server_wants_back_is_given_back_and_given_again() {
    let (mut connector, mut sink, server) = served(async |mut session| {
        let mut receiver = accept(&mut session, 0).await;
        receiver.set_credit_mode(CreditMode::Manual);
        for _ in 0..2 {
            receiver.set_credit(5).await.unwrap();
            let delivery = receiver.recv::<Body<Value>>().await.unwrap();
            receiver.drain().await.unwrap();
            receiver.accept(&delivery).await.unwrap();
        }
        let _ = receiver.recv::<Body<Value>>().await;
    })
    .await;
    send_two_in_turn(&mut sink).await;
    connector.close().await;
    server.abort();
}
