//! How a bridge behaves, as its configuration says: when it connects, how fast it sends.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use crate::config::{Bridge, BridgeStart};

/// What a reload may change about a bridge, besides its map and its connector.
#[derive(Debug)]
pub(super) struct Conduct {
    /// When its connection ends, it is not made again.
    pub(super) is_once: bool,
    /// So many messages have to wait before it connects.
    pub(super) lazy_messages: u64,
    /// How long nothing has to wait or be in flight until it disconnects.
    pub(super) idle: Option<Duration>,
    pub(super) backoff: Backoff,
    /// After a connection of this length the next failure is the first again.
    pub(super) stable: Duration,
    pub(super) dead_letter: Option<String>,
    pub(super) rate: Rate,
}

/// Messages that may be sent now.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u32,
    allowance: f64,
    last: Instant,
}

impl Conduct {
    pub(super) fn of(bridge: &Bridge) -> Self {
        let is_lazy = bridge.start == BridgeStart::Lazy;
        Self {
            is_once: bridge.start == BridgeStart::Once,
            lazy_messages: if is_lazy { bridge.start_messages } else { 0 },
            idle: is_lazy.then(|| Duration::from_secs(bridge.idle_seconds)),
            backoff: Backoff::new(bridge.restart_base_ms, bridge.restart_max_ms),
            stable: Duration::from_secs(bridge.restart_stable_seconds),
            dead_letter: bridge.dead_letter.clone(),
            rate: Rate::new(bridge.messages_per_second_max),
        }
    }
}

impl Rate {
    fn new(per_second: u32) -> Self {
        Self {
            per_second,
            allowance: 1.0,
            last: Instant::now(),
        }
    }

    /// How many messages may go now; at most what a second allows.
    pub(super) fn allowance(&mut self, now: Instant) -> usize {
        if self.per_second == 0 {
            return usize::MAX;
        }
        let per_second = f64::from(self.per_second);
        let passed = now.duration_since(self.last).as_secs_f64();
        self.last = now;
        self.allowance = (self.allowance + passed * per_second).min(per_second);
        self.allowance as usize
    }

    pub(super) fn spend(&mut self, count: usize) {
        if self.per_second > 0 {
            self.allowance -= count as f64;
        }
    }
}
