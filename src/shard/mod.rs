//! One thread: the place where sessions, exchange, queues and retained messages meet.
//!
//! Owns its clients, sessions, timers and share groups as plain data. It refuses to know sockets
//! and clocks: bytes come in through [`Shard::receive`], packets are left in the connection's
//! buffer ([`Shard::output`]), mail in an outbox ([`Shard::take_mail`]), and time is an argument.
//! So a whole broker of several shards can be driven from one thread in a test.

mod authenticate;
mod bridge;
mod census;
mod client;
mod connack;
mod connect;
mod connections;
mod deliver;
mod durable;
mod expiry;
mod explain;
mod group;
mod held_reports;
mod in_flight;
mod loading;
mod mail;
mod mount;
mod out;
mod outgoing;
mod pace;
mod publish;
mod publisher;
mod receive;
mod reconfigure;
mod refused;
mod restore;
mod retained;
mod rights;
mod run;
mod send;
mod slots;
mod subscribe;
mod subscriptions;
mod timers;
mod unconfirmed;
mod will;
mod write;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;

pub(crate) use bridge::publisher_of_bridge;
pub use bridge::{Arrived, BridgeReport, BridgeRequest, Placed};
pub use census::Census;
pub use connect::{Accepted, Handshake, refusal};
pub use durable::{StoreBatch, StoreWork};
pub use explain::text_of;
pub use mail::{Mail, Member, Recheck, Reconfiguration};
pub use mount::{client_id_of, mounted};
pub use out::OutBuffer;
pub use run::SentRun;
pub use slots::Key;

use client::{Connection, Session};
use connections::Connections;
use durable::Durable;
use group::Group;
use mail::Outbox;
use outgoing::Outgoing;
use reconfigure::Pending;
use run::OpenRun;
use slots::Slots;
use timers::{Timer, Timers};

use crate::auth::PasswordFile;
use crate::auth::acl::Acl;
use crate::config::Config;
use crate::exchange::{BridgeId, Exchange, GroupId, ReceiverId, RouteCache, ShardId};
use crate::log_limit::{LogKind, LogLimit};
use crate::message::Message;
use crate::metrics::ShardMetrics;
use crate::queue::BridgeQueue;
use crate::retained::Retained;
use crate::store::{Lane, MessageId, Operation, Refusal, Store};

/// What all shards share: read-mostly tables and the configuration.
#[derive(Debug)]
pub struct Shared {
    /// The configuration as started.
    pub config: Config,
    /// How many shards there are.
    pub shards: u16,
    /// Who may do what.
    pub acl: Arc<Acl>,
    /// Whose password is checked, if any.
    pub users: Option<Arc<PasswordFile>>,
    /// The routing table.
    pub exchange: Arc<Exchange>,
    /// The latest message of each topic; with a durable store of `$SYS` only.
    pub retained: Arc<Retained>,
    /// What survives the process.
    pub store: Arc<Store>,
    /// How many sessions each mount point has.
    pub census: Arc<Census>,
}

/// One shard of the broker.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    shared: Arc<Shared>,
    metrics: Arc<ShardMetrics>,
    routes: RouteCache,
    connections: Connections,
    sessions: Slots<Session>,
    directory: HashMap<Arc<str>, Key>,
    groups: HashMap<GroupId, Group>,
    bridges: HashMap<BridgeId, BridgeQueue>,
    delayed: Slots<(Message, Option<MessageId>)>,
    timers: Timers,
    outbox: Outbox,
    durable: Durable,
    run: OpenRun,
    /// Forwarded properties of the PUBLISH at hand.
    scratch: Vec<u8>,
    /// A queue refused a message of the PUBLISH at hand.
    was_rejected: bool,
    log_limit: LogLimit,
    pending: Pending,
}

/// What the driver does with a connection after a turn.
#[derive(Debug)]
pub struct Output<'a> {
    /// What to write; the driver reports with [`Shard::written`] what it has written.
    pub buffer: &'a mut OutBuffer,
    /// Close once everything is written.
    pub is_closing: bool,
    /// Close now, whatever is left.
    pub is_abandoned: bool,
    /// The peer takes too little: read nothing more from it until it takes more.
    pub is_congested: bool,
    /// The client publishes too fast: neither read nor [`Shard::receive`] before this time.
    pub held_until_ms: Option<u64>,
}

impl Shard {
    /// An empty shard.
    pub fn new(id: ShardId, shared: Arc<Shared>, metrics: Arc<ShardMetrics>) -> Self {
        let mut timers = Timers::default();
        timers.add(RETAINED_SWEEP_MS, Timer::RetainedSweep);
        Self {
            id,
            metrics,
            routes: RouteCache::new(ROUTES_CACHED_MAX),
            connections: Connections::default(),
            sessions: Slots::default(),
            directory: HashMap::new(),
            groups: HashMap::new(),
            bridges: HashMap::new(),
            delayed: Slots::default(),
            timers,
            outbox: Outbox::new(shared.shards),
            durable: Durable::new(
                &shared.store,
                Lane::new(id.0),
                shared.config.store.commit_interval_milliseconds,
            ),
            run: OpenRun::default(),
            scratch: Vec::new(),
            was_rejected: false,
            pending: Pending::default(),
            log_limit: LogLimit::new(shared.config.log.peer_lines_per_second_max),
            shared,
        }
    }

    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Mail for another shard, collected since the last call.
    pub fn take_mail(&mut self, to: ShardId) -> Vec<Mail> {
        self.outbox.take(to)
    }

    /// Appends the connections with new output or a reason to close since the last call.
    pub fn take_touched(&mut self, keys: &mut Vec<Key>) {
        self.connections.take_touched(keys);
    }

    /// What a connection has to write; `None` once it has ended.
    pub fn output(&mut self, key: Key) -> Option<Output<'_>> {
        let connection = self.connections.lookup_mut(key)?;
        Some(Output {
            is_closing: connection.is_closing,
            is_abandoned: connection.is_abandoned,
            held_until_ms: connection.pace.held_until(),
            is_congested: connection.out.len() + held_bytes(connection)
                >= self.shared.config.limits.write_buffer_bytes_max,
            buffer: &mut connection.out,
        })
    }

    /// So many bytes of the output were written.
    pub fn written(&mut self, key: Key, count: usize) {
        self.metrics.socket_writes.add(1);
        self.metrics.bytes_sent.add(count as u64);
        self.connections.written(key, count);
    }

    /// So many bytes were read, before [`Shard::receive`] gets them.
    pub fn count_read(&self, count: usize) {
        self.metrics.socket_reads.add(1);
        self.metrics.bytes_received.add(count as u64);
    }

    /// So many bytes were read before the connection came to this shard.
    pub fn count_handshake(&self, count: usize) {
        self.metrics.bytes_received.add(count as u64);
    }

    /// Whether the client has published on this connection.
    pub fn is_publisher(&self, key: Key) -> bool {
        self.connections
            .lookup(key)
            .is_some_and(|connection| connection.last_routes.is_some())
    }

    /// Whether so many acknowledgements are due from the client that they would keep the others
    /// waiting if they came at once.
    pub fn awaits_many(&self, key: Key) -> bool {
        let session = self.connections.lookup(key).and_then(|it| it.session);
        session
            .and_then(|key| self.sessions.lookup(key))
            .is_some_and(|it| it.outbound.len() > AWAITED_MAX)
    }

    /// Counts messages that could not be passed on.
    pub fn count_dropped(&self, count: u64) {
        self.metrics.messages_dropped.add(count);
    }

    /// Counts a connection that ended before it had a session.
    pub(crate) fn count_refused(&self) {
        self.metrics.connections_refused.add(1);
    }

    /// Whether a line about what a peer did may be written to the log.
    pub(crate) fn may_log(&mut self, kind: LogKind, now_ms: u64) -> bool {
        self.log_limit.admits(kind, now_ms)
    }

    /// The configured time for clients to take their last packet.
    pub fn shutdown_seconds(&self) -> u32 {
        self.shared.config.mqtt.shutdown_seconds
    }

    /// The peer took what was written: waiting messages may follow.
    pub fn drained(&mut self, key: Key, now_ms: u64) {
        if let Some(session) = self.connections.lookup(key).and_then(|it| it.session) {
            self.send_waiting(session, now_ms);
        }
    }

    /// Mail from another shard.
    pub fn take_in(&mut self, mail: Mail, now_ms: u64) {
        match mail {
            Mail::Deliver { messages, routes } => self.deliver_mail(&messages, &routes, now_ms),
            Mail::Reconfigure(new) => self.reconfigure(&new, now_ms),
            Mail::Run(run) => self.deliver_run(&run),
            Mail::Store(report) => self.take_report(report, now_ms),
            Mail::GroupJoin { group, member } => self.join_group(group, member, now_ms),
            Mail::GroupLeave { group, session } => self.leave_group(group, session),
            Mail::GroupPresence {
                group,
                session,
                credit,
            } => {
                self.set_group_credit(group, session, credit, now_ms);
            }
            Mail::GroupDeliver {
                group,
                session,
                delivery,
            } => {
                self.deliver_for_group(group, session, delivery, now_ms);
            }
            Mail::GroupSettled {
                group,
                session,
                count,
            } => {
                self.settle_in_group(group, session, count, now_ms);
            }
            Mail::BridgeRequest { bridge, request } => {
                self.take_bridge_request(bridge, request, now_ms);
            }
            Mail::BridgeReport { .. } => debug_assert!(false, "a report for the bridges"),
            Mail::Recheck(_) => debug_assert!(false, "connections are the driver's"),
            Mail::GroupReturn { group, deliveries } => {
                self.return_to_group(group, deliveries, now_ms);
            }
        }
    }

    /// When [`Shard::tick`] has something to do.
    pub fn next_due_ms(&self) -> Option<u64> {
        if self.is_reconfiguring() {
            // After those who wait for this turn to end.
            return Some(0);
        }
        let in_flight = self.durable.unkept.next_due_ms();
        self.timers.next_due_ms().into_iter().chain(in_flight).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now_ms: u64) {
        self.go_on_reconfiguring(now_ms);
        self.keep_in_flight(now_ms);
        while let Some(timer) = self.timers.pop_due(now_ms) {
            match timer {
                Timer::ProofExpiry(key) => self.check_proof(key, now_ms),
                Timer::KeepAlive(key) => self.check_keep_alive(key, now_ms),
                Timer::Abandon(key) => {
                    if let Some(connection) = self.connections.lookup_mut(key) {
                        connection.is_abandoned = true;
                        self.touch(key);
                    }
                }
                Timer::SessionExpiry(key) => self.check_session_expiry(key, now_ms),
                Timer::Will(key) => self.check_will(key, now_ms),
                Timer::Delayed(key) => {
                    if let Some((message, stored)) = self.delayed.remove(key) {
                        self.publish_message(&message, now_ms);
                        if let Some(id) = stored {
                            self.durable.record(Operation::RemoveDelayed { id });
                        }
                    }
                }
                Timer::QueueExpiry(key) => self.drop_expired(key, now_ms),
                Timer::GroupExpiry(group) => self.drop_expired_of_group(group, now_ms),
                Timer::Retained(key) => self.send_waiting(key, now_ms),
                Timer::RetainedSweep => {
                    if self.id.0 == 0 {
                        self.shared.retained.remove_expired(now_ms);
                        if self.durable.is_on() {
                            self.durable.record(Operation::SweepRetained { now_ms });
                        }
                    }
                    for (kind, lines) in self.log_limit.take_suppressed() {
                        tracing::warn!(?kind, lines, "similar lines were left out");
                    }
                    self.timers
                        .add(now_ms + RETAINED_SWEEP_MS, Timer::RetainedSweep);
                }
            }
        }
    }

    /// Publishes a message of the broker itself, such as `$SYS`.
    pub fn publish_message(&mut self, message: &Message, now_ms: u64) {
        let mut outgoing = Outgoing::of(message);
        outgoing.refusal = Refusal::Last;
        if let Err(error) = self.retain_if_asked(&mut outgoing) {
            tracing::warn!(topic = message.topic(), %error, "message not retained");
        }
        self.route(message.topic(), &mut outgoing, None, now_ms);
        self.close_run();
    }

    /// Sends to another shard, or to this one after the work at hand.
    fn send_mail(&mut self, to: ShardId, mail: Mail) {
        self.outbox.push(to, mail);
    }

    fn touch(&mut self, key: Key) {
        self.connections.writable(key);
    }

    fn receiver(&self, session: Key) -> ReceiverId {
        ReceiverId {
            shard: self.id,
            slot: session.slot,
            generation: session.generation,
        }
    }
}

/// The shard where a client lives.
pub fn home_of(client_id: &str, shards: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    client_id.hash(&mut hasher);
    usize::try_from(hasher.finish() % shards.max(1) as u64).unwrap_or(0)
}

fn held_bytes(connection: &Connection) -> usize {
    connection.held.iter().map(|(_, bytes)| bytes.len()).sum()
}

/// Acknowledgements of one client that one turn may take.
const AWAITED_MAX: usize = 2_048;
/// How often expired retained messages are removed and lines left out of the log counted.
const RETAINED_SWEEP_MS: u64 = 10_000;
/// Topics whose routes a shard remembers.
const ROUTES_CACHED_MAX: usize = 65_536;

fn key_of(receiver: ReceiverId) -> Key {
    Key {
        slot: receiver.slot,
        generation: receiver.generation,
    }
}

/// The publisher's mark on a message, for No Local; never zero.
fn publisher_of(receiver: ReceiverId) -> u64 {
    ((u64::from(receiver.shard.0) + 1) << 48)
        | (u64::from(receiver.generation & 0xFFFF) << 32)
        | u64::from(receiver.slot)
}
