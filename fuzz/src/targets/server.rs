//! Bridges against servers that say anything: connecting, sending and receiving come to an end, and
//! no record is settled twice.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use tidewire_bridges::amqp10::{self, Amqp10Connector, Dialect, Mechanism, Node};
use tidewire_bridges::amqp091::{self, Amqp091Connector, Declare};
use tidewire_bridges::{
    Connected, Connector, Credentials, CredentialsSource, Dial, Dialled, Failure, Record,
    ServerOrder, Sink, Source,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first byte is the dialect, the others are all that a server of AMQP 1.0 says.
pub fn amqp10(data: &[u8]) {
    let Some((dialect, speech)) = data.split_first() else {
        return;
    };
    let dialects = [
        Dialect::Artemis,
        Dialect::Plain,
        Dialect::RabbitMq3,
        Dialect::RabbitMq4,
    ];
    let settings = amqp10::Settings {
        name: "f".into(),
        servers: 1,
        order: ServerOrder::Failover,
        dial: dial(speech),
        credentials: CredentialsSource(Arc::new(|| Ok(Credentials::default()))),
        mechanism: Mechanism::Plain,
        host_name: None,
        dialect: dialects[usize::from(*dialect) % dialects.len()],
        exchange: "amq.topic".into(),
        target: Node::Topic,
        source: Some(amqp10::Source {
            address: "q".into(),
            node: Node::Queue,
        }),
        credit: 4,
        inflight_max: 3,
        links_max: 2,
        message_bytes_max: 0,
        priority: 4,
        deliveries_max: 3,
        idle_timeout: PATIENCE,
        connect_timeout: PATIENCE,
        ack_timeout: PATIENCE,
    };
    run(Amqp10Connector::new(settings));
}

/// All that a server of AMQP 0-9-1 says.
pub fn amqp091(data: &[u8]) {
    let settings = amqp091::Settings {
        name: "f".into(),
        servers: 1,
        order: ServerOrder::Failover,
        dial: dial(data),
        credentials: CredentialsSource(Arc::new(|| Ok(Credentials::default()))),
        virtual_host: "/".into(),
        declare: Declare::Nothing,
        exchange: "amq.topic".into(),
        mandatory: true,
        priority: None,
        queue: Some("q".into()),
        consumer_arguments: Vec::new(),
        prefetch: 4,
        inflight_max: 3,
        heartbeat_seconds: 10,
        connect_timeout: PATIENCE,
        ack_timeout: PATIENCE,
    };
    run(Amqp091Connector::new(settings));
}

/// Connects, sends and receives until the connection has ended.
fn run(mut connector: impl Connector) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("a runtime without sockets opens nothing");
    runtime.block_on(async {
        if let Ok(Connected {
            mut sink,
            mut source,
            ..
        }) = connector.connect().await
        {
            sink.submit(records());
            tokio::join!(settle(&mut sink), receive(&mut source));
        }
        connector.close().await;
    });
}

async fn settle(sink: &mut impl Sink) {
    let mut settled = HashSet::new();
    while let Ok(more) = sink.settled().await {
        for it in more {
            assert!(it.sequence < RECORDS, "nobody submitted {}", it.sequence);
            assert!(
                settled.insert(it.sequence),
                "settled twice: {}",
                it.sequence
            );
        }
    }
}

async fn receive(source: &mut impl Source) {
    let mut count = 0_usize;
    while let Ok(more) = source.receive().await {
        for it in more {
            count += 1;
            match count % 3 {
                0 => source.refuse(vec![it.receipt]),
                _ => source.accept(vec![it.receipt]),
            }
        }
    }
}

fn records() -> Vec<Record> {
    let topics = ["a/b", "c", "a/b"];
    let numbered = (0..RECORDS).zip(topics.iter().cycle());
    let record = |(sequence, topic): (u64, &&str)| Record {
        sequence,
        uid: Some(format!("id{sequence}").into()),
        topic: (*topic).to_owned(),
        // Some are larger than the smallest frame.
        payload: vec![b'x'; 300 * sequence as usize].into(),
        headers: vec![("k".into(), "v".into())],
        ..Record::default()
    };
    numbered.map(record).collect()
}

/// Opens a stream on which a server says this once.
fn dial(speech: &[u8]) -> Dial {
    let speech = Mutex::new(Some(Speech {
        bytes: speech.to_vec(),
        said: 0,
        is_turn: false,
    }));
    Dial(Arc::new(move |_| {
        let speech = speech.lock().ok().and_then(|mut it| it.take());
        Box::pin(async {
            let speech = speech.ok_or_else(|| Failure::retry("once"))?;
            Ok(Dialled {
                stream: Box::new(speech),
                remote: "speech".into(),
            })
        })
    }))
}

/// A server that hears nothing and says what it has to say, a little in each turn.
struct Speech {
    bytes: Vec<u8>,
    said: usize,
    is_turn: bool,
}

impl fmt::Debug for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.said, self.bytes.len())
    }
}

impl AsyncRead for Speech {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_turn = !self.is_turn;
        if self.is_turn {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let end = self
            .bytes
            .len()
            .min(self.said + TURN_BYTES.min(buffer.remaining()));
        buffer.put_slice(&self.bytes[self.said..end]);
        self.said = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Speech {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Longer than any input takes.
const PATIENCE: Duration = Duration::from_secs(30);
const RECORDS: u64 = 6;
/// What a server says at once.
const TURN_BYTES: usize = 40;
