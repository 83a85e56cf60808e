//! Mail between shard threads: a batch behind a lock, swapped out whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::shard::Mail;

/// What other shards have for one shard.
#[derive(Debug)]
pub(crate) struct Mailbox {
    batch: Mutex<Batch>,
    /// Wakes the flush task of the shard.
    pub(crate) wake: Arc<Notify>,
    bytes_max: usize,
    is_full: AtomicBool,
    has_messages: AtomicBool,
}

#[derive(Debug, Default)]
struct Batch {
    mail: Vec<Mail>,
    bytes: usize,
}

impl Mailbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            batch: Mutex::default(),
            wake: Arc::default(),
            bytes_max,
            is_full: AtomicBool::new(false),
            has_messages: AtomicBool::new(false),
        }
    }

    /// Whether senders are to stop reading from publishers.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Whether messages of QoS 1 or 2 wait.
    pub(crate) fn has_messages(&self) -> bool {
        self.has_messages.load(Ordering::Acquire)
    }

    /// Appends in order and wakes the shard. A full box drops QoS 0 messages and answers how many;
    /// everything else is taken, since a promise may hang on it.
    pub(crate) fn put(&self, mail: Vec<Mail>) -> u64 {
        let mut dropped = 0;
        let mut batch = self.batch.lock();
        for mail in mail {
            let is_full = batch.bytes >= self.bytes_max;
            match &mail {
                Mail::Run(run) if is_full => {
                    dropped += run.count();
                    continue;
                }
                Mail::Run(run) => batch.bytes += run.bytes(),
                Mail::Deliver { messages, .. } => {
                    batch.bytes += messages.iter().map(|(it, _)| it.bytes()).sum::<usize>();
                    self.has_messages.store(true, Ordering::Release);
                }
                _ => {}
            }
            batch.mail.push(mail);
        }
        // Under the lock, so that it is never set after the batch was taken.
        self.is_full
            .store(batch.bytes >= self.bytes_max, Ordering::Relaxed);
        drop(batch);
        self.wake.notify_one();
        dropped
    }

    /// Appends something small that the shard may find when it next looks.
    pub(crate) fn put_quietly(&self, mail: Mail) {
        self.batch.lock().mail.push(mail);
    }

    /// Everything, and whether senders may have waited for room.
    pub(crate) fn take(&self) -> (Vec<Mail>, bool) {
        let mut batch = self.batch.lock();
        let was_full = self.is_full.swap(false, Ordering::Relaxed);
        self.has_messages.store(false, Ordering::Relaxed);
        (std::mem::take(&mut *batch).mail, was_full)
    }
}
