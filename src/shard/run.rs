//! Runs: neighbouring QoS 0 messages of one publisher for the same receivers, encoded once.

use std::sync::Arc;

use tidewire_protocol::codec::{DeliveryHeader, ProtocolVersion, encode_delivery};

use super::outgoing::Outgoing;
use super::{Mail, Shard, key_of, publisher_of};
use crate::exchange::{Destination, ReceiverId, Routes, Target};

/// What a run is, besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    publisher: u64,
    count: u64,
    payload_bytes: u64,
    /// Size of the largest packet.
    packet_bytes_max: usize,
}

/// A run on its way to the receivers of several shards, or to many of one.
#[derive(Debug)]
pub struct SentRun {
    routes: Arc<Routes>,
    facts: Facts,
    /// For receivers of MQTT 3.1 and 3.1.1.
    v3: Arc<[u8]>,
    v5: Arc<[u8]>,
}

impl SentRun {
    /// What it takes of a mailbox.
    pub fn bytes(&self) -> usize {
        self.v3.len() + self.v5.len()
    }

    /// How many messages it holds.
    pub fn count(&self) -> u64 {
        self.facts.count
    }
}

/// The run that is being encoded; its buffers are used again and again.
#[derive(Debug, Default)]
pub(super) struct OpenRun {
    routes: Option<Arc<Routes>>,
    facts: Facts,
    v3: Vec<u8>,
    v5: Vec<u8>,
}

impl OpenRun {
    fn takes(&self, routes: &Arc<Routes>, publisher: u64) -> bool {
        self.facts.publisher == publisher
            && self.v3.len().max(self.v5.len()) < RUN_BYTES_MAX
            && self
                .routes
                .as_ref()
                .is_some_and(|it| Arc::ptr_eq(it, routes))
    }

    fn append(&mut self, outgoing: &Outgoing<'_>, routes: &Routes) {
        let Outgoing {
            topic,
            forwarded,
            payload,
            ..
        } = *outgoing;
        let versions = [
            (routes.has_v3(), ProtocolVersion::V3_1_1, &mut self.v3),
            (routes.has_v5(), ProtocolVersion::V5, &mut self.v5),
        ];
        for (is_wanted, version, out) in versions {
            if is_wanted {
                let before = out.len();
                let header = DeliveryHeader::default();
                encode_delivery(out, version, &header, topic, forwarded, payload);
                let bytes = out.len() - before;
                self.facts.packet_bytes_max = self.facts.packet_bytes_max.max(bytes);
            }
        }
        self.facts.count += 1;
        self.facts.payload_bytes += payload.len() as u64;
    }

    fn sent(&self, routes: &Arc<Routes>) -> Arc<SentRun> {
        Arc::new(SentRun {
            routes: Arc::clone(routes),
            facts: self.facts,
            v3: Arc::from(&self.v3[..]),
            v5: Arc::from(&self.v5[..]),
        })
    }

    fn clear(&mut self) {
        self.v3.clear();
        self.v5.clear();
        self.facts = Facts::default();
    }
}

/// The bytes of a run for one protocol version.
enum RunBytes<'a> {
    /// Moved into the buffer of the only receiver, if that is empty.
    GivenAway(&'a mut Vec<u8>),
    /// Copied into the receiver's buffer.
    Copied(&'a [u8]),
    /// Written to the receiver from where they are.
    Shared(&'a Arc<[u8]>),
}

impl RunBytes<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::GivenAway(bytes) => bytes,
            Self::Copied(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Shard {
    /// Adds a message to the run of its routes.
    pub(super) fn add_to_run(&mut self, outgoing: &Outgoing<'_>, routes: &Arc<Routes>) {
        if !self.run.takes(routes, outgoing.header.publisher) {
            self.close_run();
            self.run.routes = Some(Arc::clone(routes));
            self.run.facts.publisher = outgoing.header.publisher;
        }
        self.run.append(outgoing, routes);
    }

    /// Hands the run to its receivers. Nothing else may be sent to them before.
    pub(super) fn close_run(&mut self) {
        let Some(routes) = self.run.routes.take() else {
            return;
        };
        let mut run = std::mem::take(&mut self.run);
        let here = routes.for_shard(self.id);
        let is_worth_sharing = here.len() > 1 && run.v3.len().max(run.v5.len()) >= SHARED_BYTES_MIN;
        let is_all_here = routes.shards().len() == usize::from(!here.is_empty());
        if let [target] = here
            && is_all_here
        {
            let bytes = match target.version {
                ProtocolVersion::V5 => &mut run.v5,
                _ => &mut run.v3,
            };
            self.deliver_run_to(target, &run.facts, RunBytes::GivenAway(bytes));
        } else if is_all_here && !is_worth_sharing {
            for target in here {
                let bytes = RunBytes::Copied(match target.version {
                    ProtocolVersion::V5 => &run.v5,
                    _ => &run.v3,
                });
                self.deliver_run_to(target, &run.facts, bytes);
            }
        } else {
            let sent = run.sent(&routes);
            for on_shard in routes.shards() {
                if on_shard.shard == self.id {
                    self.deliver_run(&sent);
                } else {
                    self.send_mail(on_shard.shard, Mail::Run(Arc::clone(&sent)));
                }
            }
        }
        run.clear();
        self.run = run;
    }

    /// Hands a run to the receivers of this shard.
    pub(super) fn deliver_run(&mut self, run: &SentRun) {
        let here = run.routes.for_shard(self.id);
        let is_doubtful = self.is_doubtful(&run.routes);
        for target in here {
            if is_doubtful && !self.may_still_receive(target, run.routes.topic()) {
                continue;
            }
            let bytes = match target.version {
                ProtocolVersion::V5 => &run.v5,
                _ => &run.v3,
            };
            let bytes = if here.len() > 1 && bytes.len() >= SHARED_BYTES_MIN {
                RunBytes::Shared(bytes)
            } else {
                RunBytes::Copied(bytes)
            };
            self.deliver_run_to(target, &run.facts, bytes);
        }
    }

    fn deliver_run_to(&mut self, target: &Target, facts: &Facts, bytes: RunBytes<'_>) {
        let Destination::Session(receiver) = target.destination else {
            debug_assert!(false, "the routes of a run are plain");
            return;
        };
        let is_own = facts.publisher == publisher_of(receiver);
        if is_own && target.qos_to_self.is_none() {
            return;
        }
        let taken = self.append_run(receiver, facts, bytes);
        self.metrics.publishes_sent.add(taken);
        // Of a run taken in part, the share of the messages.
        let payload_bytes = match taken == facts.count {
            true => facts.payload_bytes,
            false => facts.payload_bytes * taken / facts.count.max(1),
        };
        self.metrics.publish_bytes_sent.add(payload_bytes);
        self.metrics.messages_sent.add(taken);
        self.metrics.messages_dropped.add(facts.count - taken);
    }

    /// Answers how many messages of the run the receiver takes.
    fn append_run(&mut self, receiver: ReceiverId, facts: &Facts, bytes: RunBytes<'_>) -> u64 {
        let bytes_max = self.shared.config.limits.write_buffer_bytes_max;
        let connection = self
            .sessions
            .lookup(key_of(receiver))
            .and_then(|session| session.connection)
            .and_then(|key| self.connections.writable(key));
        let Some(connection) = connection else {
            return 0;
        };
        if connection.is_closing || connection.out.len() >= bytes_max {
            return 0;
        }
        if connection.awaits_connack.is_some() {
            let start = connection.out.tail().len();
            let taken = connection.write_run(bytes.as_slice());
            connection.hold_behind_connack(start);
            return taken;
        }
        if facts.packet_bytes_max > connection.packet_bytes_max || !connection.takes_any_topic() {
            return connection.write_run(bytes.as_slice());
        }
        match bytes {
            RunBytes::GivenAway(bytes) if connection.out.is_empty() => {
                std::mem::swap(connection.out.tail(), bytes);
            }
            RunBytes::GivenAway(bytes) => connection.out.tail().extend_from_slice(bytes),
            RunBytes::Shared(bytes) => connection.out.push_shared(bytes),
            RunBytes::Copied(bytes) => connection.out.tail().extend_from_slice(bytes),
        }
        facts.count
    }
}

/// A run is handed over when it is this large, so that mail stays small.
const RUN_BYTES_MAX: usize = 65_536;
/// Below this a copy costs less than a piece of its own in a write.
const SHARED_BYTES_MIN: usize = 2_048;
