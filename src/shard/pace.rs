//! How fast one client may publish and subscribe: token buckets that go into debt, and the time to
//! repay it.

use tidewire_protocol::codec::Packet;

use crate::config::Limits;

/// The buckets of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    messages: Bucket,
    bytes: Bucket,
    filters: Bucket,
    /// Nothing is read from the client before.
    held_until_ms: u64,
}

/// A bucket as the time at which it will be full again.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at_ns: u64,
}

impl Pace {
    /// Counts a packet of so many bytes; what exceeds the limits is paid by waiting.
    pub(super) fn count(
        &mut self,
        packet: &Packet<'_>,
        bytes: usize,
        limits: &Limits,
        now_ms: u64,
    ) {
        let wait_ms = match packet {
            Packet::Publish(_) => self.count_publish(bytes, limits, now_ms),
            Packet::Subscribe(it) => self.count_filters(it.subscriptions.len(), limits, now_ms),
            Packet::Unsubscribe(it) => self.count_filters(it.filters.len(), limits, now_ms),
            _ => 0,
        };
        if wait_ms > 0 {
            self.held_until_ms = now_ms + wait_ms.max(HELD_MS_MIN);
        }
    }

    fn count_filters(&mut self, count: usize, limits: &Limits, now_ms: u64) -> u64 {
        let burst_ms = u64::from(limits.filter_burst_seconds) * 1_000;
        let per_second = limits.filters_per_second_max;
        self.filters
            .take(count as u64, per_second, burst_ms, now_ms)
    }

    fn count_publish(&mut self, bytes: usize, limits: &Limits, now_ms: u64) -> u64 {
        let burst_ms = u64::from(limits.publish_burst_seconds) * 1_000;
        let waits_ms = [
            self.messages
                .take(1, limits.publish_messages_per_second_max, burst_ms, now_ms),
            self.bytes.take(
                bytes as u64,
                limits.publish_bytes_per_second_max,
                burst_ms,
                now_ms,
            ),
        ];
        let [messages_ms, bytes_ms] = waits_ms;
        messages_ms.max(bytes_ms)
    }

    /// When reading goes on, or went on; `None` if it never stopped.
    pub(super) fn held_until(&self) -> Option<u64> {
        (self.held_until_ms > 0).then_some(self.held_until_ms)
    }

    /// Whether nothing is read from the client for now.
    pub(super) fn is_held(&self, now_ms: u64) -> bool {
        self.held_until_ms > now_ms
    }

    /// When the client was last free to be heard.
    pub(super) fn heard_ms(&self, last_received_ms: u64) -> u64 {
        last_received_ms.max(self.held_until_ms)
    }
}

impl Bucket {
    /// Takes tokens out of a bucket of `burst_ms` worth of them; answers how long its debt lasts.
    fn take(&mut self, count: u64, per_second: u64, burst_ms: u64, now_ms: u64) -> u64 {
        if per_second == 0 {
            return 0;
        }
        let now_ns = now_ms.saturating_mul(NS_PER_MS);
        let cost_ns = count.saturating_mul(NS_PER_SECOND) / per_second;
        self.full_at_ns = self.full_at_ns.max(now_ns).saturating_add(cost_ns);
        let owed_ns = self.full_at_ns - now_ns;
        owed_ns.div_ceil(NS_PER_MS).saturating_sub(burst_ms)
    }
}

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;
/// Shorter waits are drawn together, so that a fast client does not cost a wake per message.
const HELD_MS_MIN: u64 = 10;
