//! `tidewire retained` with a running broker: an ordinary client, with the rights of its user.

use std::io::{self, BufWriter, Write};
use std::num::NonZeroU16;
use std::time::Duration;

use tidewire_protocol::codec::{
    Connect, Packet, PacketId, ProtocolVersion, Publish, PublishProperties, QoS, Subscribe,
    Subscription, SubscriptionOptions, UserProperties,
};
use tidewire_protocol::topic::TopicFilter;
use tokio::time::{Instant, timeout_at};

use super::arguments::{RetainedCommand, RetainedTarget};
use super::client::{ClientError, Connection, accepted, block_on};

/// Lists or deletes what a running broker retains.
///
/// # Errors
/// The broker cannot be reached, or refuses something.
pub fn run(command: &RetainedCommand) -> Result<(), ClientError> {
    let (RetainedCommand::List(target) | RetainedCommand::Delete(target)) = command;
    TopicFilter::parse(&target.filter, usize::MAX)?;
    block_on(async {
        let mut connection = connect(target).await?;
        let mut out = BufWriter::new(io::stdout().lock());
        if let RetainedCommand::Delete(_) = command {
            let count = delete(&mut connection, &target.filter).await?;
            writeln!(out, "{count} retained messages deleted")?;
        } else {
            let print = |publish: &Publish<'_>| {
                let bytes = publish.payload.len();
                writeln!(out, "{} {bytes} bytes", publish.topic)
            };
            look(&mut connection, &target.filter, print).await?;
        }
        out.flush()?;
        connection.close().await
    })
}

async fn connect(target: &RetainedTarget) -> Result<Connection, ClientError> {
    let connect = Connect {
        clean_start: true,
        ..Connect::new(ProtocolVersion::V5, "")
    };
    let url = target.server.url(&target.credentials);
    Connection::start(&url, &target.credentials, connect).await
}

/// Looks until there is nothing left: what one pass misses is found by the next.
async fn delete(connection: &mut Connection, filter: &str) -> Result<usize, ClientError> {
    let mut count = 0;
    loop {
        let mut topics: Vec<String> = Vec::new();
        look(connection, filter, |publish| {
            topics.push(publish.topic.to_owned());
            Ok(())
        })
        .await?;
        if topics.is_empty() {
            return Ok(count);
        }
        let at_once = usize::from(connection.receive_maximum.min(AT_ONCE_MAX));
        for some in topics.chunks(at_once.max(1)) {
            clear(connection, some).await?;
        }
        count += topics.len();
    }
}

/// Calls `found` for each retained message that matches. They have no end mark: it is reached when
/// none has come for a while.
async fn look(
    connection: &mut Connection,
    filter: &str,
    mut found: impl FnMut(&Publish<'_>) -> io::Result<()>,
) -> Result<(), ClientError> {
    subscribe(connection, filter).await?;
    let mut until = Instant::now() + CONNECTION_PATIENCE;
    loop {
        while let Some((packet, bytes)) = connection.packet()? {
            match &packet {
                Packet::SubAck(answer) => {
                    accepted("subscription", &answer.reasons)?;
                    until = Instant::now() + QUIET;
                }
                Packet::Publish(publish) if publish.retain => {
                    found(publish)?;
                    until = Instant::now() + QUIET;
                }
                _ => {}
            }
            connection.consume(bytes);
        }
        match timeout_at(until, connection.fill()).await {
            Ok(filled) => filled?,
            Err(_) => return Ok(()),
        }
    }
}

async fn subscribe(connection: &mut Connection, filter: &str) -> Result<(), ClientError> {
    let options = SubscriptionOptions::default();
    connection.queue(&Packet::Subscribe(Subscribe {
        packet_id: PacketId(NonZeroU16::MIN),
        subscription_id: None,
        user_properties: UserProperties::default(),
        subscriptions: vec![Subscription { filter, options }],
    }))?;
    connection.flush().await
}

/// A retained message without payload takes the place of each, which removes it [MQTT-3.3.1-6].
async fn clear(connection: &mut Connection, topics: &[String]) -> Result<(), ClientError> {
    for (topic, number) in topics.iter().zip(1..) {
        connection.queue(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic,
            packet_id: PacketId::new(number),
            properties: PublishProperties::default(),
            payload: &[],
        }))?;
    }
    connection.flush().await?;
    let mut left = topics.len();
    while left > 0 {
        while let Some((packet, bytes)) = connection.packet()? {
            if let Packet::PubAck(ack) = &packet {
                accepted("deletion", &[ack.reason])?;
                left -= 1;
            }
            connection.consume(bytes);
        }
        if left > 0 {
            connection.fill_alive().await?;
        }
    }
    Ok(())
}

/// Acknowledgements that are waited for at once.
const AT_ONCE_MAX: u16 = 1_000;
/// So long after the last retained message there is none left.
const QUIET: Duration = Duration::from_secs(1);
/// For the answer to SUBSCRIBE.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(30);
