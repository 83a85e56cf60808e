//! `tidewire pub`.

use std::fs;
use std::io::{self, BufRead, Read};
use std::path::Path;

use tidewire_protocol::codec::{Packet, PacketId, Publish, PublishProperties, QoS, UserProperties};
use tidewire_protocol::topic::Topic;
use tokio::sync::mpsc;

use super::arguments::PublishArguments;
use super::client::{ClientError, Connection, accepted, ack, block_on};

/// Publishes what the arguments say; returns when the server has acknowledged all of it.
///
/// # Errors
/// The connection fails, or the server refuses a message.
pub fn run(arguments: &PublishArguments) -> Result<(), ClientError> {
    Topic::parse(&arguments.topic, usize::MAX)?;
    if let Some(topic) = &arguments.response_topic {
        Topic::parse(topic, usize::MAX)?;
    }
    block_on(async {
        if arguments.lines {
            return publish_lines(arguments).await;
        }
        let payload = match (&arguments.message, &arguments.file) {
            (Some(message), _) => message.clone().into_bytes(),
            (None, Some(file)) => read_file(file)?,
            (None, None) => Vec::new(),
        };
        let mut connection = Connection::open(&arguments.connection).await?;
        publish(&mut connection, arguments, &payload).await?;
        connection.close().await
    })
}

fn read_file(file: &Path) -> io::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut payload = Vec::new();
        io::stdin().lock().read_to_end(&mut payload)?;
        return Ok(payload);
    }
    fs::read(file)
}

async fn publish_lines(arguments: &PublishArguments) -> Result<(), ClientError> {
    let mut connection = Connection::open(&arguments.connection).await?;
    let (sender, mut lines) = mpsc::channel(64);
    // Standard input blocks; the thread ends with it, or with the process.
    std::thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n') {
            let is_error = line.is_err();
            if sender.blocking_send(line).is_err() || is_error {
                break;
            }
        }
    });
    loop {
        // Cancel safe: a line that is not taken stays in the channel, and so do unread bytes.
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => {
                    let mut line = line?;
                    line.pop_if(|byte| *byte == b'\r');
                    publish(&mut connection, arguments, &line).await?;
                }
                None => return connection.close().await,
            },
            filled = connection.fill_alive() => {
                filled?;
                skip_packets(&mut connection)?;
            }
        }
    }
}

fn skip_packets(connection: &mut Connection) -> Result<(), ClientError> {
    while let Some((_, bytes)) = connection.packet()? {
        connection.consume(bytes);
    }
    Ok(())
}

async fn publish(
    connection: &mut Connection,
    arguments: &PublishArguments,
    payload: &[u8],
) -> Result<(), ClientError> {
    let pairs: Vec<_> = arguments
        .properties
        .iter()
        .map(|property| (property.name.as_str(), property.value.as_str()))
        .collect();
    // One message is under way at a time.
    let packet_id = PacketId::new(1).filter(|_| arguments.qos != QoS::AtMostOnce);
    connection.queue(&Packet::Publish(Publish {
        dup: false,
        qos: arguments.qos,
        retain: arguments.retain,
        topic: &arguments.topic,
        packet_id,
        properties: PublishProperties {
            message_expiry_seconds: arguments.expiry,
            response_topic: arguments.response_topic.as_deref(),
            correlation_data: arguments.correlation.as_deref().map(str::as_bytes),
            content_type: arguments.content_type.as_deref(),
            user_properties: UserProperties::from_pairs(&pairs),
            ..PublishProperties::default()
        },
        payload,
    }))?;
    connection.flush().await?;
    match packet_id {
        Some(id) => settle(connection, id).await,
        None => Ok(()),
    }
}

/// Waits for PUBACK, or for PUBREC and then PUBCOMP.
async fn settle(connection: &mut Connection, id: PacketId) -> Result<(), ClientError> {
    loop {
        while let Some((packet, bytes)) = connection.packet()? {
            let (reason, is_half) = match &packet {
                Packet::PubAck(ack) | Packet::PubComp(ack) if ack.packet_id == id => {
                    (Some(ack.reason), false)
                }
                Packet::PubRec(ack) if ack.packet_id == id => (Some(ack.reason), true),
                // A resumed session may bring messages for an earlier subscription.
                _ => (None, false),
            };
            connection.consume(bytes);
            accepted("publication", reason.as_slice())?;
            if is_half {
                connection.queue(&Packet::PubRel(ack(id)))?;
                connection.flush().await?;
            } else if reason.is_some() {
                return Ok(());
            }
        }
        connection.fill_alive().await?;
    }
}
