//! How long to wait before the next connect.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

/// Decorrelated jitter: each pause is random between the base and three times the one before.
#[derive(Debug)]
pub(super) struct Backoff {
    base_ms: u64,
    max_ms: u64,
    last_ms: u64,
}

impl Backoff {
    pub(super) fn new(base_ms: u64, max_ms: u64) -> Self {
        Self {
            base_ms,
            max_ms,
            last_ms: base_ms,
        }
    }

    /// The connection before was stable: begin anew.
    pub(super) fn reset(&mut self) {
        self.last_ms = self.base_ms;
    }

    pub(super) fn next(&mut self) -> Duration {
        let mut random = [0; 8];
        // Without randomness the pause is as long as it may be.
        if SystemRandom::new().fill(&mut random).is_err() {
            random = [u8::MAX; 8];
        }
        self.choose(u64::from_le_bytes(random))
    }

    fn choose(&mut self, random: u64) -> Duration {
        let most = self
            .last_ms
            .saturating_mul(3)
            .clamp(self.base_ms, self.max_ms);
        let span = most - self.base_ms + 1;
        self.last_ms = self.base_ms + random % span;
        Duration::from_millis(self.last_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_their_bounds_and_start_over() {
        let mut backoff = Backoff::new(100, 1_000);
        let mut longest = 0;
        for step in 0..50 {
            let before = backoff.last_ms;
            let pause = backoff.choose((u64::MAX / 3).wrapping_mul(step));
            let pause = u64::try_from(pause.as_millis()).unwrap();
            assert!((100..=(before * 3).min(1_000)).contains(&pause), "{pause}");
            longest = longest.max(pause);
        }
        assert!(longest > 300, "{longest}");
        backoff.reset();
        assert!(backoff.choose(u64::MAX).as_millis() <= 300);
    }
}
