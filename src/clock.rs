//! The only caller of the system clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the process started, never going back.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    epoch: Epoch,
}

impl Clock {
    /// A clock that starts at zero now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            epoch: Epoch {
                started_unix_ms: SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |since| {
                        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
                    }),
            },
        }
    }

    /// What turns times of this clock into calendar time and back.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since 1970 as the system's calendar says now: for what others have dated.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    pub fn calendar_unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX))
    }

    /// Microseconds since the start.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The calendar time at which a [`Clock`] was zero.
///
/// It is read once: when the system's calendar is set, times of a running process do not jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Milliseconds since 1970.
    pub started_unix_ms: u64,
}

impl Epoch {
    /// Milliseconds since 1970 of a time of the clock.
    pub fn to_unix_ms(self, clock_ms: u64) -> u64 {
        self.started_unix_ms.saturating_add(clock_ms)
    }

    /// A time of the clock; what was before it started is zero, which is always over.
    pub fn to_clock_ms(self, unix_ms: u64) -> u64 {
        unix_ms.saturating_sub(self.started_unix_ms)
    }
}
