//! What the store tells the shards, and what they ask it to read.

use std::fmt;
use std::sync::Arc;

use super::error::StoreError;
use super::id::{MessageId, QueueId};
use super::operation::Receiver;
use super::operations::Operations;
use crate::exchange::ShardId;
use crate::message::Message;

/// Names a batch of one shard; rises with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Who waits for a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Awaited {
    /// Nobody.
    #[default]
    No,
    /// Acknowledgements of what is in it.
    Answers,
    /// Somebody who wants it and all before it on disk.
    Commit,
}

/// Names a question of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something for one shard; to be put into its mailbox.
#[derive(Clone, Debug)]
pub enum Report {
    /// Everything up to the ticket is on disk: acknowledgements may leave.
    Committed {
        /// The latest batch of the shard.
        ticket: Ticket,
        /// Somebody waits for it; else the shard need not be woken.
        is_awaited: bool,
    },
    /// Every message of the batch was settled before it was written, and nothing else is in it:
    /// its acknowledgements may leave. What was submitted before it may not be on disk.
    Settled {
        /// A batch of the shard.
        ticket: Ticket,
    },
    /// What was handed in with a batch of which nothing had to be written: its memory goes back to
    /// the shard that it is from.
    Spent(Operations),
    /// There was no room for these; comes before the `Committed` of their batch.
    Refused {
        /// Nothing after this batch is concerned.
        ticket: Ticket,
        /// Messages that no receiver will find again.
        messages: Vec<MessageId>,
        /// Messages that will not be published after a restart.
        delayed: Vec<MessageId>,
        /// Topics whose earlier retained message remains.
        retained: Vec<Box<str>>,
    },
    /// Messages that were asked for; those that are gone are left out.
    Loaded {
        /// The question.
        request: RequestId,
        /// In the order in which they were asked for.
        messages: Vec<Loaded>,
    },
    /// Retained messages that were asked for.
    Retained {
        /// The question.
        request: RequestId,
        /// In the order of their topics' bytes, expired ones included.
        messages: Vec<Message>,
        /// Where to go on; `None` at the end.
        next: Option<RetainedPlace>,
    },
    /// Nothing will be committed any more: the process has to end.
    Failed {
        /// Why, fit for the operator.
        error: Arc<StoreError>,
    },
}

/// A message read back.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its name.
    pub id: MessageId,
    /// What was published.
    pub message: Message,
    /// How the queue that asked receives it.
    pub receiver: Receiver,
}

/// Something to be read.
#[derive(Clone, Debug)]
pub enum Load {
    /// Messages that wait in a queue, all of them committed.
    Messages {
        /// The queue.
        queue: QueueId,
        /// Which; the reader stops at [`Load::BYTES_MAX`], but gives at least one.
        ids: Vec<MessageId>,
    },
    /// The next retained messages that match a filter.
    Retained {
        /// A valid filter.
        filter: Box<str>,
        /// `None` begins.
        after: Option<RetainedPlace>,
        /// The most messages of one answer.
        count_max: usize,
    },
}

impl Load {
    /// About how many bytes one answer holds.
    pub const BYTES_MAX: usize = 1 << 20;
}

/// A place in the order of retained messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedPlace(pub(super) Box<[u8]>);

/// Takes what the store says, on the store's threads; must not block.
#[derive(Clone)]
pub struct Reports(Arc<dyn Fn(ShardId, Report) + Send + Sync>);

impl Reports {
    /// Calls `take` for each report.
    pub fn new(take: impl Fn(ShardId, Report) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    pub(super) fn send(&self, shard: ShardId, report: Report) {
        (self.0)(shard, report);
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reports")
    }
}
