//! A store in a directory of its own, and what it reported.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Inbox, channel};
use std::time::Duration;

use tidewire::clock::Clock;
use tidewire::config::{Limits, StoreConfig, StoreEngine};
use tidewire::exchange::ShardId;
use tidewire::message::{Header, Message};
use tidewire::prefix_limits::PrefixLimits;
use tidewire::store::{
    Awaited, Few, Lane, Load, Loaded, MessageId, MessageIds, Operation, QueueId, Receiver,
    Recovered, RecoveredMessage, Refusable, Refusal, Report, Reports, RequestId, SessionRecord,
    Store, StoreError, Ticket,
};
use tidewire_protocol::codec::{PacketId, ProtocolVersion, QoS};

/// A new directory, removed at the end.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// In memory where that can be, for what has survived already.
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => Self::below(memory),
            false => Self::new(),
        }
    }

    fn below(parent: &Path) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidewire-store-{}-{number}", std::process::id());
        let path = parent.join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data.mdb")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An open store.
pub(crate) struct Open {
    pub(crate) store: Store,
    pub(crate) recovered: Recovered,
    pub(crate) ids: MessageIds,
    reports: Inbox<(ShardId, Report)>,
    ticket: u64,
    committed: Ticket,
    pub(crate) refused: Vec<MessageId>,
    pub(crate) refused_topics: Vec<Box<str>>,
}

pub(crate) fn config(directory: &Path) -> StoreConfig {
    StoreConfig {
        engine: StoreEngine::Lmdb,
        directory: directory.to_owned(),
        commit_interval_milliseconds: 0,
        disk_free_bytes_min: 0,
        ..StoreConfig::default()
    }
}

pub(crate) fn open(directory: &Directory) -> Open {
    try_open(&config(&directory.0), &Limits::default()).expect("a store that opens")
}

pub(crate) fn try_open(config: &StoreConfig, limits: &Limits) -> Result<Open, StoreError> {
    let (sender, reports) = channel();
    let sender = std::sync::Mutex::new(sender);
    let take = move |shard, report| {
        // Of what is only freed, in which order does not matter.
        if !matches!(report, Report::Spent(_)) {
            let _ = sender.lock().expect("no panic").send((shard, report));
        }
    };
    let (store, recovered) = Store::open(config, Clock::start(), Reports::new(take))?;
    let (count_max, bytes_max) = (limits.retained_messages_max, limits.retained_bytes_max);
    store.limit_retained(count_max, bytes_max, PrefixLimits::default());
    Ok(Open {
        ids: store.message_ids(Lane::new(0)),
        store,
        recovered,
        reports,
        ticket: 0,
        committed: Ticket::default(),
        refused: Vec::new(),
        refused_topics: Vec::new(),
    })
}

impl Open {
    /// Submits without waiting.
    pub(crate) fn submit(&mut self, operations: Vec<Operation>) -> Ticket {
        self.ticket += 1;
        let ticket = Ticket(self.ticket);
        self.store
            .submit(ShardId(0), ticket, operations, Awaited::Answers);
        ticket
    }

    /// The latest that was submitted.
    pub(crate) fn ticket(&self) -> u64 {
        self.ticket
    }

    /// Submits and waits for the commit.
    pub(crate) fn commit(&mut self, operations: Vec<Operation>) {
        let ticket = self.submit(operations);
        self.wait_for(ticket);
    }

    pub(crate) fn wait_for(&mut self, wanted: Ticket) {
        while self.committed < wanted {
            match self.next_report() {
                Report::Committed { ticket, .. } => self.committed = ticket,
                Report::Refused {
                    messages, retained, ..
                } => {
                    self.refused.extend(messages);
                    self.refused_topics.extend(retained);
                }
                other => unreachable!("{other:?}"),
            }
        }
    }

    /// `Settled` is left out: told by another thread, it may come after what covers it.
    pub(crate) fn next_report(&self) -> Report {
        loop {
            match self.next_report_to().1 {
                Report::Settled { .. } => {}
                report => return report,
            }
        }
    }

    /// And who is told.
    pub(crate) fn next_report_to(&self) -> (ShardId, Report) {
        let wait = Duration::from_secs(60);
        self.reports.recv_timeout(wait).expect("a report")
    }

    pub(crate) fn load(&mut self, queue: QueueId, ids: &[MessageId]) -> Vec<Loaded> {
        let load = Load::Messages {
            queue,
            ids: ids.to_vec(),
        };
        self.store.load(ShardId(0), RequestId(7), load);
        match self.next_report() {
            Report::Loaded {
                request: RequestId(7),
                messages,
            } => messages,
            other => unreachable!("{other:?}"),
        }
    }

    /// All retained topics that match, `count_max` at a time.
    pub(crate) fn retained(&mut self, filter: &str, count_max: usize) -> Vec<Message> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let load = Load::Retained {
                filter: filter.into(),
                after,
                count_max,
            };
            self.store.load(ShardId(0), RequestId(8), load);
            match self.next_report() {
                Report::Retained { messages, next, .. } => {
                    found.extend(messages);
                    after = next;
                }
                other => unreachable!("{other:?}"),
            }
            if after.is_none() {
                return found;
            }
        }
    }

    /// A new session with this client id.
    pub(crate) fn session(&mut self, client_id: &str) -> QueueId {
        let queue = self.store.next_queue();
        self.commit(vec![put_session(queue, client_id)]);
        queue
    }

    /// What waits in a queue, by its recovered state.
    pub(crate) fn waiting(&self, queue: QueueId) -> Vec<MessageId> {
        let sessions = &self.recovered.sessions;
        let session = sessions.iter().find(|it| it.queue == queue);
        ids_of(session.map_or(&[], |it| &it.waiting))
    }

    pub(crate) fn reopen(self, directory: &Directory) -> Self {
        self.store.close();
        drop(self);
        open(directory)
    }
}

pub(crate) fn ids_of(waiting: &[RecoveredMessage]) -> Vec<MessageId> {
    waiting.iter().map(|it| it.id).collect()
}

pub(crate) fn put_session(queue: QueueId, client_id: &str) -> Operation {
    Operation::PutSession {
        queue,
        session: SessionRecord {
            client_id: client_id.into(),
            version: ProtocolVersion::V5,
            expiry_seconds: 3_600,
            expires_at_ms: None,
            user_name: Some("user".into()),
        },
    }
}

pub(crate) fn receiver(queue: QueueId) -> Receiver {
    Receiver {
        queue,
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: None,
    }
}

pub(crate) fn message(topic: &str, payload: &[u8]) -> Message {
    let qos = QoS::AtLeastOnce;
    Message::new(
        topic,
        &[],
        payload,
        Header {
            qos,
            retain: false,
            expires_at_ms: None,
            ..Header::default()
        },
    )
}

pub(crate) fn retained(topic: &str, payload: &[u8], expires_at_ms: Option<u64>) -> Operation {
    let qos = QoS::AtLeastOnce;
    Operation::SetRetained {
        message: Message::new(
            topic,
            &[],
            payload,
            Header {
                qos,
                retain: true,
                expires_at_ms,
                ..Header::default()
            },
        ),
        refusal: Refusal::First,
    }
}

pub(crate) fn put_message(id: MessageId, payload: &[u8], queues: &[QueueId]) -> Operation {
    Operation::PutMessage {
        id,
        message: message("a/b", payload),
        receivers: Few::Many(queues.iter().map(|queue| receiver(*queue)).collect()),
        refusal: Refusal::First,
    }
}

pub(crate) fn packet_id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

pub(crate) fn received(queue: QueueId, packet_id: PacketId, with: Refusable) -> Operation {
    Operation::PutReceived {
        queue,
        packet_id,
        with,
    }
}

pub(crate) fn settle(queue: QueueId, id: MessageId) -> Operation {
    Operation::Settle {
        queue,
        ids: Few::One(id),
    }
}
