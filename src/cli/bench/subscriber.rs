//! The receiving end of a measurement.

use std::rc::Rc;

use tidewire_protocol::codec::{
    Packet, PacketId, Publish, QoS, Subscribe, Subscription, SubscriptionOptions, UserProperties,
};

use super::Shared;
use super::sender::Stamp;
use super::shape::{filters, sources};
use super::track::Tracks;
use crate::cli::client::{ClientError, Connection, accepted, ack};

/// Receives, checks and acknowledges.
pub(super) struct Subscriber {
    shared: Rc<Shared>,
    connection: Connection,
    tracks: Rc<Tracks>,
    index: u32,
}

impl Subscriber {
    pub(super) async fn open(shared: &Rc<Shared>, index: u32) -> Result<Self, ClientError> {
        let sources = sources(&shared.arguments, index);
        Ok(Self {
            connection: shared.open("s", index).await?,
            tracks: Rc::new(Tracks::new(sources.start, sources.len())),
            shared: Rc::clone(shared),
            index,
        })
    }

    pub(super) fn tracks(&self) -> Rc<Tracks> {
        Rc::clone(&self.tracks)
    }

    /// Subscribes to all its filters and returns how many they are.
    pub(super) async fn subscribe(&mut self) -> Result<u64, ClientError> {
        let arguments = &self.shared.arguments;
        let filters: Vec<String> = filters(arguments, self.index).collect();
        for some in filters.chunks(FILTERS_PER_PACKET) {
            subscribe(&mut self.connection, some, arguments.qos).await?;
        }
        Ok(filters.len() as u64)
    }

    pub(super) async fn run(mut self) -> Result<(), ClientError> {
        loop {
            self.connection.fill().await?;
            let now_us = self.shared.clock.now_us();
            let mut last = None;
            while let Some((packet, bytes)) = self.connection.packet()? {
                let reply = match packet {
                    Packet::Publish(publish) => {
                        let publisher = self.message(&publish, now_us)?;
                        // One look at the window for each run of messages, not for each message.
                        if let Some(last) = last.replace(publisher)
                            && last != publisher
                        {
                            self.shared.loops[last as usize].wake();
                        }
                        receipt(&publish)
                    }
                    Packet::PubRel(release) => Some(Packet::PubComp(ack(release.packet_id))),
                    _ => return Err(ClientError::Unexpected),
                };
                self.connection.consume(bytes);
                if let Some(reply) = reply {
                    self.connection.queue(&reply)?;
                }
            }
            if let Some(last) = last {
                self.shared.loops[last as usize].wake();
            }
            self.connection.flush().await?;
        }
    }

    /// Counts a message; its publisher.
    fn message(&self, publish: &Publish<'_>, now_us: u64) -> Result<u32, ClientError> {
        let stamp = Stamp::read(publish.payload)?;
        let shared = &self.shared;
        let source = shared
            .loops
            .get(stamp.publisher as usize)
            .ok_or(ClientError::Unexpected)?;
        let from = source.measured_from.get();
        let is_new = self
            .tracks
            .take(stamp.publisher, stamp.sequence, from, &shared.faults)?;
        if is_new {
            shared.delivered.set(shared.delivered.get() + 1);
            source.delivered.set(source.delivered.get() + 1);
        }
        // By the time it was due: what comes late because the server stalled counts all the more.
        if shared.measured_us.borrow().contains(&stamp.time_us) {
            let waited_us = now_us.saturating_sub(stamp.time_us);
            shared.latency_us.borrow_mut().add(waited_us);
        }
        Ok(stamp.publisher)
    }
}

/// The first answer to a message.
pub(super) fn receipt(publish: &Publish<'_>) -> Option<Packet<'static>> {
    match (publish.qos, publish.packet_id) {
        (QoS::AtLeastOnce, Some(id)) => Some(Packet::PubAck(ack(id))),
        (QoS::ExactlyOnce, Some(id)) => Some(Packet::PubRec(ack(id))),
        _ => None,
    }
}

/// Subscribes to all of `filters` and awaits the answer.
pub(super) async fn subscribe(
    connection: &mut Connection,
    filters: &[String],
    qos: QoS,
) -> Result<(), ClientError> {
    let options = SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    };
    let subscriptions = filters
        .iter()
        .map(|filter| Subscription { filter, options })
        .collect();
    connection.queue(&Packet::Subscribe(Subscribe {
        packet_id: PacketId(std::num::NonZeroU16::MIN),
        subscription_id: None,
        user_properties: UserProperties::default(),
        subscriptions,
    }))?;
    connection.flush().await?;
    let bytes = loop {
        if let Some((packet, bytes)) = connection.packet()? {
            let Packet::SubAck(answer) = packet else {
                return Err(ClientError::Unexpected);
            };
            accepted("subscription", &answer.reasons)?;
            break bytes;
        }
        connection.fill().await?;
    };
    connection.consume(bytes);
    Ok(())
}

const FILTERS_PER_PACKET: usize = 200;
