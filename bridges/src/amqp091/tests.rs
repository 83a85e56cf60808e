//! The connector and a server that says, frame by frame, what a real one is seldom made to say.

use amq_protocol::protocol::channel;
use amq_protocol::protocol::connection::{self, AMQPMethod as Connection};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;

use super::frame::{Frame, Outbox, decode};
use super::wire::FRAME_BYTES_MAX;
use super::*;
use crate::{Class, Credentials, CredentialsSource, Dial, Record, ServerOrder, Sink, Source as _};

#[test]
fn what_somebody_has_to_mend_is_told_from_what_passes() {
    let missing = failure_of(404, "NOT_FOUND - no queue 'x'");
    assert_eq!(missing.class, Class::Refused);
    assert_eq!(
        missing.reason,
        "refused by the server: 404 NOT_FOUND - no queue 'x'"
    );
    let stopped = failure_of(320, "CONNECTION_FORCED - broker forced connection closure");
    assert_eq!(stopped.class, Class::Retry);
}

/// Settings of a bridge that only publishes, to this server.
fn settings(stream: DuplexStream) -> Settings {
    Settings {
        name: "b.n".into(),
        servers: 1,
        order: ServerOrder::Failover,
        dial: Dial::once(stream),
        credentials: CredentialsSource(Arc::new(|| Ok(Credentials::default()))),
        virtual_host: "/".into(),
        declare: Declare::Nothing,
        exchange: "amq.topic".into(),
        mandatory: false,
        priority: None,
        queue: None,
        consumer_arguments: Vec::new(),
        prefetch: 10,
        inflight_max: 10,
        heartbeat_seconds: HEARTBEAT_SECONDS,
        connect_timeout: Duration::from_secs(5),
        ack_timeout: Duration::from_secs(60),
    }
}

/// The other end of the stream.
struct Server {
    stream: DuplexStream,
    out: Outbox,
    input: BytesMut,
}

impl Server {
    async fn say(&mut self, channel: u16, method: AMQPClass) {
        self.out.method(channel, method).unwrap();
        self.tell().await;
    }

    async fn tell(&mut self) {
        let said = std::mem::take(&mut self.out.bytes);
        self.stream.write_all(&said).await.unwrap();
    }

    /// Everything that a client waits for until it may publish.
    async fn greet(&mut self) {
        let start = Connection::Start(connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: Default::default(),
            mechanisms: "PLAIN".into(),
            locales: "en_US".into(),
        });
        let tune = Connection::Tune(connection::Tune {
            channel_max: 0,
            frame_max: 0,
            heartbeat: HEARTBEAT_SECONDS,
        });
        let opened = Connection::OpenOk(connection::OpenOk {});
        for method in [start, tune, opened] {
            self.say(0, AMQPClass::Connection(method)).await;
        }
        let opened = channel::AMQPMethod::OpenOk(channel::OpenOk {});
        self.say(OUT, AMQPClass::Channel(opened)).await;
        let selected = confirm::AMQPMethod::SelectOk(confirm::SelectOk {});
        self.say(OUT, AMQPClass::Confirm(selected)).await;
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).await.unwrap();
        assert_eq!(header, *b"AMQP\0\0\x09\x01");
    }

    async fn hear(&mut self) -> Frame {
        loop {
            if let Some((_, frame)) = decode(&mut self.input, FRAME_BYTES_MAX).unwrap() {
                return frame;
            }
            let count = self.stream.read_buf(&mut self.input).await.unwrap();
            assert!(count > 0, "the client is gone");
        }
    }

    /// Reads until a message begins.
    async fn hear_of_a_message(&mut self) {
        while !matches!(
            self.hear().await,
            Frame::Method(AMQPClass::Basic(basic::AMQPMethod::Publish(_)))
        ) {}
    }

    /// For so many seconds it is there, but reads nothing.
    async fn only_lives(&mut self, seconds: u16) {
        for _ in 0..seconds {
            sleep(Duration::from_secs(1)).await;
            self.out.heartbeat();
            self.tell().await;
        }
    }
}

/// A connector, and a server whose stream has room for little.
fn with_server() -> (Amqp091Connector, Server) {
    let (ours, theirs) = duplex(1_024);
    let server = Server {
        stream: theirs,
        out: Outbox::new(FRAME_BYTES_MAX),
        input: BytesMut::new(),
    };
    (Amqp091Connector::new(settings(ours)), server)
}

fn large_record() -> Record {
    Record {
        sequence: 1,
        topic: "t".into(),
        payload: vec![b'x'; 100_000].into(),
        ..Record::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_blocked_us_may_take_nothing_for_as_long_as_it_wants() {
    let (mut connector, mut server) = with_server();
    let server = tokio::spawn(async move {
        server.greet().await;
        server.hear_of_a_message().await;
        let blocked = Connection::Blocked(connection::Blocked {
            reason: "low on disk".into(),
        });
        server.say(0, AMQPClass::Connection(blocked)).await;
        server.only_lives(20 * HEARTBEAT_SECONDS).await;
        let unblocked = Connection::Unblocked(connection::Unblocked {});
        server.say(0, AMQPClass::Connection(unblocked)).await;
        while !matches!(server.hear().await, Frame::Body(_)) {}
        let ack = basic::AMQPMethod::Ack(basic::Ack {
            delivery_tag: 1,
            multiple: false,
        });
        server.say(OUT, AMQPClass::Basic(ack)).await;
        server
    });
    let mut connected = connector.connect().await.unwrap();
    connected.sink.submit(vec![large_record()]);
    let settled = connected.sink.settled().await.unwrap();
    assert_eq!((settled[0].sequence, &settled[0].result), (1, &Ok(())));
    let troubles = connected.source.troubles();
    assert_eq!(troubles, ["blocked by the server: low on disk"]);
    assert!(connected.source.has_recovered());
    drop(server.await.unwrap());
    connector.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_nothing_and_does_not_say_why_is_left() {
    let (mut connector, mut server) = with_server();
    let server = tokio::spawn(async move {
        server.greet().await;
        server.hear_of_a_message().await;
        server.only_lives(20 * HEARTBEAT_SECONDS).await;
    });
    let mut connected = connector.connect().await.unwrap();
    connected.sink.submit(vec![large_record()]);
    let failure = connected.sink.settled().await.unwrap_err();
    assert_eq!(failure.class, Class::Retry);
    assert!(failure.reason.contains("takes nothing"), "{failure}");
    connector.close().await;
    server.abort();
}

const HEARTBEAT_SECONDS: u16 = 2;
