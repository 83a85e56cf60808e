//! The clients of a measurement.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use tidewire_protocol::codec::{
    Packet, PacketId, Publish, PublishProperties, QoS, Subscribe, Subscription,
    SubscriptionOptions, UserProperties,
};

use super::Shared;
use crate::cli::client::{ClientError, Connection, ack, connect_packet};

/// Messages per write.
const BURST_MAX: u64 = 32;
/// How long a publisher waits for deliveries before it gives them up.
const PATIENCE: Duration = Duration::from_secs(1);

async fn open(shared: &Shared, role: &str, index: u32) -> Result<Connection, ClientError> {
    let arguments = &shared.arguments;
    let id = format!("bench-{}-{role}{index}", std::process::id());
    let connect = connect_packet(arguments.version, &id);
    Connection::start(&arguments.url, &arguments.credentials, connect).await
}

fn topic(index: impl std::fmt::Display) -> String {
    format!("tidewire-bench/{}/{index}", std::process::id())
}

/// Sends as fast as its window allows.
pub(super) struct Publisher {
    shared: Rc<Shared>,
    connection: Connection,
    index: u32,
    fan_out: u64,
    topic: String,
    payload: Vec<u8>,
    /// Packet identifiers that are not in use.
    free: Vec<PacketId>,
    /// Deliveries that are not waited for any more.
    given_up: u64,
}

impl Publisher {
    pub(super) async fn open(
        shared: Rc<Shared>,
        index: u32,
        fan_out: u64,
    ) -> Result<Self, ClientError> {
        let connection = open(&shared, "p", index).await?;
        let ids = shared.arguments.window.min(connection.receive_maximum);
        Ok(Self {
            connection,
            index,
            fan_out,
            topic: topic(index),
            payload: vec![0; shared.arguments.payload as usize],
            free: (1..=ids).filter_map(PacketId::new).collect(),
            given_up: 0,
            shared,
        })
    }

    pub(super) async fn run(mut self) -> Result<(), ClientError> {
        let shared = Rc::clone(&self.shared);
        let credit = &shared.loops[self.index as usize].credit;
        loop {
            let burst = if shared.is_over.get() {
                0
            } else {
                self.burst()
            };
            for _ in 0..burst {
                self.queue_message()?;
            }
            self.connection.flush().await?;
            // Cancel safe: a permit that is not taken stays, and so do unread bytes.
            tokio::select! {
                () = credit.notified() => {}
                filled = self.connection.fill() => {
                    filled?;
                    self.take_packets()?;
                }
                () = tokio::time::sleep(PATIENCE) => self.give_up(),
            }
        }
    }

    fn burst(&self) -> u64 {
        let closed = &self.shared.loops[self.index as usize];
        let arrived = (closed.delivered.get() + self.given_up) / self.fan_out;
        let under_way = closed.sent.get().saturating_sub(arrived);
        let room = u64::from(self.shared.arguments.window).saturating_sub(under_way);
        let room = match self.shared.arguments.qos {
            QoS::AtMostOnce => room,
            _ => room.min(self.free.len() as u64),
        };
        room.min(BURST_MAX)
    }

    fn give_up(&mut self) {
        let closed = &self.shared.loops[self.index as usize];
        let due = closed.sent.get() * self.fan_out;
        self.given_up = due.saturating_sub(closed.delivered.get());
    }

    fn queue_message(&mut self) -> Result<(), ClientError> {
        let sent = &self.shared.loops[self.index as usize].sent;
        self.payload[..4].copy_from_slice(&self.index.to_be_bytes());
        self.payload[4..12].copy_from_slice(&sent.get().to_be_bytes());
        self.payload[12..20].copy_from_slice(&self.shared.clock.now_us().to_be_bytes());
        let qos = self.shared.arguments.qos;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            _ => self.free.pop(),
        };
        sent.set(sent.get() + 1);
        self.connection.queue(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic: &self.topic,
            packet_id,
            properties: PublishProperties::default(),
            payload: &self.payload,
        }))
    }

    fn take_packets(&mut self) -> Result<(), ClientError> {
        while let Some((packet, bytes)) = self.connection.packet()? {
            let (settled, received) = match packet {
                Packet::PubAck(ack) | Packet::PubComp(ack) => (Some(ack.packet_id), None),
                Packet::PubRec(ack) if ack.reason.is_error() => (Some(ack.packet_id), None),
                Packet::PubRec(ack) => (None, Some(ack.packet_id)),
                _ => return Err(ClientError::Unexpected),
            };
            self.connection.consume(bytes);
            self.free.extend(settled);
            if let Some(id) = received {
                self.connection.queue(&Packet::PubRel(ack(id)))?;
            }
        }
        Ok(())
    }
}

/// Faults of all subscribers.
#[derive(Default)]
pub(super) struct Count {
    pub(super) duplicate: Cell<u64>,
    pub(super) out_of_order: Cell<u64>,
}

/// What one subscriber has of each of its publishers.
pub(super) struct Tracks {
    first: u32,
    tracks: RefCell<Vec<Track>>,
}

#[derive(Clone, Default)]
struct Track {
    next: u64,
    missing: BTreeSet<u64>,
}

impl Tracks {
    /// Messages that have not come, given how many each publisher sent.
    pub(super) fn lost(&self, sent: impl Fn(u32) -> u64) -> u64 {
        let tracks = self.tracks.borrow();
        (self.first..)
            .zip(tracks.iter())
            .map(|(index, track)| sent(index) - track.next + track.missing.len() as u64)
            .sum()
    }

    /// Notes a message and whether it is new.
    fn take(&self, publisher: u32, sequence: u64, count: &Count) -> Result<bool, ClientError> {
        let mut tracks = self.tracks.borrow_mut();
        let track = publisher
            .checked_sub(self.first)
            .and_then(|index| tracks.get_mut(index as usize))
            .ok_or(ClientError::Unexpected)?;
        if sequence >= track.next {
            track.missing.extend(track.next..sequence);
            track.next = sequence + 1;
            return Ok(true);
        }
        let is_late = track.missing.remove(&sequence);
        let counter = if is_late {
            &count.out_of_order
        } else {
            &count.duplicate
        };
        counter.set(counter.get() + 1);
        Ok(is_late)
    }
}

/// Receives, checks and acknowledges.
pub(super) struct Subscriber {
    shared: Rc<Shared>,
    count: Rc<Count>,
    connection: Connection,
    tracks: Rc<Tracks>,
}

impl Subscriber {
    pub(super) async fn open(
        shared: Rc<Shared>,
        count: Rc<Count>,
        sources: Range<u32>,
    ) -> Result<Self, ClientError> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let index = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut connection = open(&shared, "s", index).await?;
        let filter = match sources.len() {
            1 => topic(sources.start),
            _ => topic('+'),
        };
        let options = SubscriptionOptions {
            qos: shared.arguments.qos,
            ..SubscriptionOptions::default()
        };
        connection.queue(&Packet::Subscribe(Subscribe {
            packet_id: PacketId(std::num::NonZeroU16::MIN),
            subscription_id: None,
            user_properties: UserProperties::default(),
            subscriptions: vec![Subscription {
                filter: &filter,
                options,
            }],
        }))?;
        connection.flush().await?;
        let bytes = loop {
            if let Some((packet, bytes)) = connection.packet()? {
                let Packet::SubAck(answer) = packet else {
                    return Err(ClientError::Unexpected);
                };
                if let Some(&reason) = answer.reasons.iter().find(|reason| reason.is_error()) {
                    let what = "subscription";
                    return Err(ClientError::Refused { what, reason });
                }
                break bytes;
            }
            connection.fill().await?;
        };
        connection.consume(bytes);
        let tracks = Rc::new(Tracks {
            first: sources.start,
            tracks: RefCell::new(vec![Track::default(); sources.len()]),
        });
        Ok(Self {
            shared,
            count,
            connection,
            tracks,
        })
    }

    pub(super) fn tracks(&self) -> Rc<Tracks> {
        Rc::clone(&self.tracks)
    }

    pub(super) async fn run(mut self) -> Result<(), ClientError> {
        loop {
            self.connection.fill().await?;
            while let Some((packet, bytes)) = self.connection.packet()? {
                let reply = match packet {
                    Packet::Publish(publish) => self.message(&publish)?,
                    Packet::PubRel(release) => Some(Packet::PubComp(ack(release.packet_id))),
                    _ => return Err(ClientError::Unexpected),
                };
                self.connection.consume(bytes);
                if let Some(reply) = reply {
                    self.connection.queue(&reply)?;
                }
            }
            self.connection.flush().await?;
        }
    }

    fn message(&self, publish: &Publish<'_>) -> Result<Option<Packet<'static>>, ClientError> {
        let (publisher, rest) = publish
            .payload
            .split_first_chunk()
            .ok_or(ClientError::Unexpected)?;
        let (sequence, rest) = rest.split_first_chunk().ok_or(ClientError::Unexpected)?;
        let (sent_us, _) = rest.split_first_chunk().ok_or(ClientError::Unexpected)?;
        let publisher = u32::from_be_bytes(*publisher);
        let sequence = u64::from_be_bytes(*sequence);
        let shared = &self.shared;
        if self.tracks.take(publisher, sequence, &self.count)? {
            shared.delivered.set(shared.delivered.get() + 1);
            let closed = &shared.loops[publisher as usize];
            closed.delivered.set(closed.delivered.get() + 1);
            closed.credit.notify_one();
        }
        if shared.is_measuring.get() {
            let waited = shared.clock.now_us() - u64::from_be_bytes(*sent_us);
            shared.latency_us.borrow_mut().add(waited);
        }
        Ok(match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => Some(Packet::PubAck(ack(id))),
            (QoS::ExactlyOnce, Some(id)) => Some(Packet::PubRec(ack(id))),
            _ => None,
        })
    }
}

/// Values in buckets that are at most a sixteenth of their value wide.
pub(super) struct Histogram {
    buckets: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; 64 * 16],
            total: 0,
        }
    }
}

impl Histogram {
    fn add(&mut self, value: u64) {
        let shift = (value | 16).ilog2() - 4;
        let index = u64::from(shift) * 16 + (value >> shift);
        self.buckets[index as usize] += 1;
        self.total += 1;
    }

    /// The upper end of the bucket below or in which `part` of the values are.
    pub(super) fn quantile(&self, part: f64) -> u64 {
        let wanted = (self.total as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (index, count) in (0u64..).zip(&self.buckets) {
            seen += count;
            if seen >= wanted && seen > 0 {
                let shift = (index / 16).saturating_sub(1);
                return ((index - shift * 16 + 1) << shift) - 1;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_apart() {
        let tracks = Tracks {
            first: 7,
            tracks: RefCell::new(vec![Track::default()]),
        };
        let count = Count::default();
        for (sequence, is_new) in [(0, true), (3, true), (1, true), (1, false), (3, false)] {
            let taken = tracks.take(7, sequence, &count).expect("known publisher");
            assert_eq!(taken, is_new, "{sequence}");
        }
        assert!(tracks.take(8, 0, &count).is_err());
        assert_eq!((count.out_of_order.get(), count.duplicate.get()), (1, 2));
        // 2 never came, and neither did 4 and 5.
        assert_eq!(tracks.lost(|_| 6), 3);
    }
}
