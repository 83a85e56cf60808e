//! The connector and a server that says, frame by frame, what no library can be made to say.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::encoder::{Encoder, Fields};
use super::frame::{self, Kind};
use super::performative::code;
use super::tests::{connected_by, record, settings};
use super::value::{Value, take};
use super::{Dialect, Node, Settings, Source};
use crate::{Class, Connector, Sink, Source as _};

/// A frame of a kind and over a channel.
fn frame(kind: Kind, channel: u16, code: u64, fields: impl FnOnce(&mut Fields<'_>)) -> Vec<u8> {
    let mut frame = Vec::new();
    let begin = frame::begin(&mut frame, kind, channel);
    Encoder(&mut frame).composite(code, fields);
    frame::end(&mut frame, begin);
    frame
}

/// What every server says first: anybody is let in, and has sessions over so many channels.
fn greeting(channels: u16) -> Vec<u8> {
    let mechanisms = frame(Kind::Sasl, 0, code::SASL_MECHANISMS, |fields| {
        fields.some(|it| it.symbols_of("ANONYMOUS"));
    });
    let outcome = frame(Kind::Sasl, 0, code::SASL_OUTCOME, |fields| {
        fields.some(|it| it.ubyte(0))
    });
    let open = frame(Kind::Amqp, 0, code::OPEN, |fields| {
        fields.some(|it| it.string("server"))
    });
    let begin = |channel| {
        frame(Kind::Amqp, channel, code::BEGIN, |fields| {
            fields.some(|it| it.ushort(channel));
            fields.some(|it| it.uint(FIRST_ID));
            fields.some(|it| it.uint(100));
            fields.some(|it| it.uint(100));
        })
    };
    let begins: Vec<u8> = (0..channels).flat_map(begin).collect();
    let (sasl, amqp) = (b"AMQP\x03\x01\x00\x00", b"AMQP\x00\x01\x00\x00");
    [&sasl[..], &mechanisms, &outcome, amqp, &open, &begins].concat()
}

/// The answer to a link, which is granted if there is a target.
fn attach(name: &str, has_target: bool) -> Vec<u8> {
    frame(Kind::Amqp, 0, code::ATTACH, |fields| {
        fields.some(|it| it.string(name));
        fields.some(|it| it.uint(0));
        fields.some(|it| it.bool(true));
        fields.none(2);
        fields.some(|it| it.composite(code::SOURCE, |_| {}));
        if has_target {
            fields.some(|it| it.composite(code::TARGET, |_| {}));
        }
    })
}

fn detach(condition: &str) -> Vec<u8> {
    frame(Kind::Amqp, 0, code::DETACH, |fields| {
        fields.some(|it| it.uint(0));
        fields.some(|it| it.bool(true));
        fields.some(|it| {
            it.composite(code::ERROR, |fields| fields.some(|it| it.symbol(condition)));
        });
    })
}

/// Soon after which numbers begin anew.
const FIRST_ID: u32 = u32::MAX - 1;

/// A message of nothing but a payload, with this number.
fn message(delivery_id: u32) -> Vec<u8> {
    let mut body = frame(Kind::Amqp, 1, code::TRANSFER, |fields| {
        fields.some(|it| it.uint(0));
        fields.some(|it| it.uint(delivery_id));
        fields.some(|it| it.binary(&delivery_id.to_be_bytes()));
        fields.some(|it| it.uint(0));
    });
    let mut out = Encoder(&mut body);
    out.descriptor(code::DATA);
    out.binary(b"x");
    frame::end(&mut body, 0);
    body
}

/// The flows of a link that were heard: next-incoming-id, delivery-count and credit.
fn flows(heard: &[u8]) -> Vec<[Value<'_>; 3]> {
    let mut flows = Vec::new();
    let mut rest = heard;
    while let Some(head) = rest.first_chunk::<4>() {
        let size = match head {
            // The headers of the protocols are not frames.
            b"AMQP" => 8,
            size => u32::from_be_bytes(*size) as usize,
        };
        let Some((frame, behind)) = rest.split_at_checked(size) else {
            break;
        };
        rest = behind;
        if let Ok(flow) = take(&mut &frame[8..])
            && let Ok(Some(mut fields)) = flow.composite(code::FLOW)
        {
            let mut all = Vec::new();
            (0..7).for_each(|_| all.push(fields.field().unwrap()));
            flows.push([all[0], all[5], all[6]]);
        }
    }
    flows
}

/// A server that gives two messages at a time; answers the flows that it was told.
async fn counts_along(stream: &mut DuplexStream) -> Vec<u8> {
    stream.write_all(&greeting(2)).await.unwrap();
    let granted = frame(Kind::Amqp, 1, code::ATTACH, |fields| {
        fields.some(|it| it.string("b.n-in"));
        fields.some(|it| it.uint(0));
        fields.some(|it| it.bool(false));
        fields.none(2);
        fields.some(|it| it.composite(code::SOURCE, |_| {}));
        fields.some(|it| it.composite(code::TARGET, |_| {}));
        fields.none(2);
        fields.some(|it| it.uint(FIRST_ID));
    });
    stream.write_all(&granted).await.unwrap();
    let mut heard = Vec::new();
    for round in 0..3 {
        while flows(&heard).len() <= round {
            let read = timeout(Duration::from_secs(10), stream.read_buf(&mut heard)).await;
            assert!(read.expect("in time").unwrap() > 0, "no flow {round}");
        }
        let first = 2 * u32::try_from(round).unwrap();
        for id in [first, first + 1] {
            stream.write_all(&message(id)).await.unwrap();
        }
    }
    heard
}

#[tokio::test]
async fn transfers_and_deliveries_are_counted_as_the_server_counts_them_over_the_last_number() {
    let (ours, mut theirs) = duplex(65_536);
    let settings = Settings {
        dialect: Dialect::Plain,
        source: Some(Source {
            address: "q".into(),
            node: Node::Queue,
        }),
        credit: 2,
        ..settings()
    };
    let mut connector = connected_by(settings, ours);
    let server = tokio::spawn(async move { (counts_along(&mut theirs).await, theirs) });
    let mut source = connector.connect().await.unwrap().source;
    let mut count = 0;
    while count < 6 {
        for it in source.receive().await.unwrap() {
            count += 1;
            source.accept(vec![it.receipt]);
        }
    }
    let (heard, _) = server.await.unwrap();
    let expected = [FIRST_ID, 0, 2].map(|id| {
        let id = Value::Unsigned(id.into());
        [id, id, Value::Unsigned(2)]
    });
    assert_eq!(flows(&heard)[..3], expected);
    connector.close().await;
}

/// Reads until somebody has said this.
async fn hear(stream: &mut DuplexStream, words: &str) {
    let mut heard = Vec::new();
    let hears = |heard: &[u8]| heard.windows(words.len()).any(|it| it == words.as_bytes());
    while !hears(&heard) {
        let read = timeout(Duration::from_secs(10), stream.read_buf(&mut heard)).await;
        assert!(read.expect("in time").unwrap() > 0, "no {words}");
    }
}

/// A server that grants the first link, ends it, and refuses the second.
async fn refuses_the_second(stream: &mut DuplexStream) {
    stream.write_all(&greeting(1)).await.unwrap();
    hear(stream, "b.n-out-1").await;
    let end = detach("amqp:link:detach-forced");
    let once = [attach("b.n-out-1", true), end].concat();
    stream.write_all(&once).await.unwrap();
    hear(stream, "b.n-out-2").await;
    let refused = [
        attach("b.n-out-2", false),
        detach("amqp:unauthorized-access"),
    ]
    .concat();
    stream.write_all(&refused).await.unwrap();
}

#[tokio::test]
async fn the_one_link_of_all_records_that_is_refused_later_ends_the_connection_and_buries_none() {
    let (ours, mut theirs) = duplex(65_536);
    let settings = Settings {
        dialect: Dialect::Artemis,
        ..settings()
    };
    let mut connector = connected_by(settings, ours);
    let server = tokio::spawn(async move {
        refuses_the_second(&mut theirs).await;
        // It reads what else there is to hear.
        let mut rest = Vec::new();
        let _ = theirs.read_to_end(&mut rest).await;
    });
    let mut sink = connector.connect().await.unwrap().sink;
    // The end of the first link comes before it is used.
    tokio::time::sleep(Duration::from_millis(50)).await;
    sink.submit(vec![record(1, "x")]);
    let failure = sink.settled().await.unwrap_err();
    assert_eq!(failure.class, Class::Refused);
    assert!(
        failure.reason.contains("amqp:unauthorized-access"),
        "{failure}"
    );
    connector.close().await;
    server.abort();
}
