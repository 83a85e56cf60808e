//! Counters per shard, summed when read.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one shard counts; written by its own thread only, read by anyone.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names say what is counted")]
pub struct ShardMetrics {
    pub messages_received: Counter,
    pub messages_sent: Counter,
    pub messages_dropped: Counter,
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
    pub publishes_received: Counter,
    pub publishes_sent: Counter,
    pub publish_bytes_received: Counter,
    pub publish_bytes_sent: Counter,
    pub connects: Counter,
    pub connections: Counter,
    pub connections_refused: Counter,
    pub sessions: Counter,
    pub sessions_expired: Counter,
    pub subscriptions: Counter,
    pub shared_subscriptions: Counter,
    pub socket_reads: Counter,
    pub socket_writes: Counter,
}

/// What one bridge counts: the first four are written by its home shard, the others by the bridge.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names say what is counted")]
pub struct BridgeMetrics {
    pub queue_messages: Counter,
    pub queue_bytes: Counter,
    pub dropped_overflow: Counter,
    pub dropped_expired: Counter,
    pub sent: Counter,
    pub received: Counter,
    /// Messages from there that wait until they can be taken here.
    pub held_back: Counter,
    pub dropped_poison: Counter,
    pub dropped_mapping: Counter,
    pub dropped_loop: Counter,
    pub dropped_purged: Counter,
    /// Counted by the bridge; the others by its home shard.
    pub dropped_purged_lent: Counter,
    pub retried: Counter,
    pub connects: Counter,
}

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds without a locked instruction: there is one writer.
    pub fn add(&self, amount: u64) {
        self.set(self.value().wrapping_add(amount));
    }

    /// Takes away what was added before.
    pub fn subtract(&self, amount: u64) {
        self.set(self.value().wrapping_sub(amount));
    }

    /// The value as last written.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// The sum of one counter over all shards.
pub fn sum(shards: &[std::sync::Arc<ShardMetrics>], of: impl Fn(&ShardMetrics) -> &Counter) -> u64 {
    shards
        .iter()
        .fold(0, |total, shard| total.wrapping_add(of(shard).value()))
}
