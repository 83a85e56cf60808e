//! `tidewire sub`.

use std::collections::HashSet;
use std::io::{self, Write};

use tidewire_protocol::codec::{
    Packet, PacketId, Publish, QoS, Subscribe, Subscription, SubscriptionOptions, UserProperties,
};
use tidewire_protocol::topic::Subscribable;

use super::arguments::SubscribeArguments;
use super::client::{ClientError, Connection, accepted, ack, block_on};

/// Prints messages until `--count` is reached or the connection ends.
///
/// # Errors
/// The connection ends or the server refuses a filter.
pub fn run(arguments: &SubscribeArguments) -> Result<(), ClientError> {
    for filter in &arguments.topics {
        Subscribable::parse(filter, usize::MAX)?;
    }
    block_on(async {
        let mut connection = Connection::open(&arguments.connection).await?;
        subscribe(&mut connection, arguments).await?;
        let mut subscriber = Subscriber {
            arguments,
            unreleased: HashSet::new(),
            left: arguments.count.unwrap_or(u64::MAX),
        };
        while !subscriber.is_done() {
            while let Some((packet, bytes)) = connection.packet()? {
                let reply = subscriber.take(&packet)?;
                connection.consume(bytes);
                if let Some(reply) = reply {
                    connection.queue(&reply)?;
                }
            }
            connection.flush().await?;
            if !subscriber.is_done() {
                connection.fill_alive().await?;
            }
        }
        connection.close().await
    })
}

async fn subscribe(
    connection: &mut Connection,
    arguments: &SubscribeArguments,
) -> Result<(), ClientError> {
    let pairs: Vec<_> = arguments
        .properties
        .iter()
        .map(|property| (property.name.as_str(), property.value.as_str()))
        .collect();
    let options = SubscriptionOptions {
        qos: arguments.qos,
        no_local: arguments.no_local,
        retain_as_published: arguments.retain_as_published,
        ..SubscriptionOptions::default()
    };
    let filters = arguments.topics.iter();
    connection.queue(&Packet::Subscribe(Subscribe {
        packet_id: PacketId(std::num::NonZeroU16::MIN),
        subscription_id: None,
        user_properties: UserProperties::from_pairs(&pairs),
        subscriptions: filters
            .map(|filter| Subscription { filter, options })
            .collect(),
    }))?;
    connection.flush().await
}

struct Subscriber<'a> {
    arguments: &'a SubscribeArguments,
    /// Messages of QoS 2 that are printed and may come again until they are released.
    unreleased: HashSet<PacketId>,
    left: u64,
}

impl Subscriber<'_> {
    fn is_done(&self) -> bool {
        self.left == 0 && self.unreleased.is_empty()
    }

    /// Handles one packet and returns the answer to it.
    fn take(&mut self, packet: &Packet<'_>) -> Result<Option<Packet<'static>>, ClientError> {
        match packet {
            Packet::Publish(publish) => self.message(publish).map_err(ClientError::Io),
            Packet::PubRel(release) => {
                self.unreleased.remove(&release.packet_id);
                Ok(Some(Packet::PubComp(ack(release.packet_id))))
            }
            Packet::SubAck(answer) => {
                accepted("subscription", &answer.reasons)?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn message(&mut self, publish: &Publish<'_>) -> io::Result<Option<Packet<'static>>> {
        let is_known = publish
            .packet_id
            .is_some_and(|id| publish.qos == QoS::ExactlyOnce && self.unreleased.contains(&id));
        if self.left == 0 && !is_known {
            // Not wanted any more, and therefore not acknowledged either.
            return Ok(None);
        }
        if !is_known {
            self.print(publish)?;
            self.left -= 1;
        }
        Ok(match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => Some(Packet::PubAck(ack(id))),
            (QoS::ExactlyOnce, Some(id)) => {
                self.unreleased.insert(id);
                Some(Packet::PubRec(ack(id)))
            }
            _ => None,
        })
    }

    fn print(&self, publish: &Publish<'_>) -> io::Result<()> {
        let mut line = Vec::new();
        match &self.arguments.format {
            Some(format) => write_formatted(&mut line, format, publish)?,
            None => {
                if self.arguments.verbose {
                    write!(line, "{} ", publish.topic)?;
                }
                line.extend_from_slice(publish.payload);
            }
        }
        line.push(b'\n');
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()
    }
}

/// Writes `publish` as `--format` says; an unknown letter is written as it is.
fn write_formatted(out: &mut Vec<u8>, format: &str, publish: &Publish<'_>) -> io::Result<()> {
    let properties = &publish.properties;
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            write!(out, "{character}")?;
            continue;
        }
        match characters.next() {
            Some('t') => write!(out, "{}", publish.topic)?,
            Some('p') => out.extend_from_slice(publish.payload),
            Some('x') => {
                for byte in publish.payload {
                    write!(out, "{byte:02x}")?;
                }
            }
            Some('q') => write!(out, "{}", publish.qos as u8)?,
            Some('r') => write!(out, "{}", u8::from(publish.retain))?,
            Some('l') => write!(out, "{}", publish.payload.len())?,
            Some('P') => {
                for (index, (name, value)) in properties.user_properties.iter().enumerate() {
                    let separator = if index == 0 { "" } else { " " };
                    write!(out, "{separator}{name}={value}")?;
                }
            }
            Some('R') => write!(out, "{}", properties.response_topic.unwrap_or_default())?,
            Some('C') => write!(out, "{}", properties.content_type.unwrap_or_default())?,
            Some('E') => {
                if let Some(seconds) = properties.message_expiry_seconds {
                    write!(out, "{seconds}")?;
                }
            }
            Some('%') | None => out.push(b'%'),
            Some(other) => write!(out, "%{other}")?,
        }
    }
    Ok(())
}
