//! When messages are due at a fixed rate, whatever the server answers.

use std::io;

/// The share of one publisher in a common rate: its messages fall between those of the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) start_us: u64,
    /// Messages per second of all publishers.
    pub(super) rate: u64,
    pub(super) publishers: u64,
    pub(super) publisher: u64,
}

impl Schedule {
    /// When message `sequence` of this publisher is due.
    pub(super) fn due_us(&self, sequence: u64) -> u64 {
        let place = u128::from(sequence) * u128::from(self.publishers) + u128::from(self.publisher);
        let after_us = place * 1_000_000 / u128::from(self.rate);
        self.start_us + u64::try_from(after_us).unwrap_or(u64::MAX / 2)
    }
}

/// Sleeps finer than the milliseconds of the runtime's timers.
#[cfg(target_os = "linux")]
pub(super) struct Timer(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>);

#[cfg(target_os = "linux")]
impl Timer {
    #[expect(
        deprecated,
        reason = "sound for a file that is owned; the successor is unsafe for the sake of others"
    )]
    pub(super) fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let file = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(tokio::io::unix::AsyncFd::new(file)?))
    }

    /// Cancel safe: the next call sets the timer anew.
    pub(super) async fn sleep_us(&self, time_us: u64) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let time_us = i64::try_from(time_us.max(1)).unwrap_or(i64::MAX);
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let once = Itimerspec {
            it_interval: zero,
            it_value: Timespec {
                tv_sec: time_us / 1_000_000,
                tv_nsec: time_us % 1_000_000 * 1_000,
            },
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let read = |file: &tokio::io::unix::AsyncFd<_>| {
                Ok(rustix::io::read(file.get_ref(), &mut [0; 8])?)
            };
            if let Ok(expired) = ready.try_io(read) {
                return expired.map(|_| ());
            }
        }
    }
}

/// Where there is no finer timer, that of the runtime.
#[cfg(not(target_os = "linux"))]
pub(super) struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn sleep_us(&self, time_us: u64) -> io::Result<()> {
        tokio::time::sleep(std::time::Duration::from_micros(time_us)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_take_turns_at_equal_distances() {
        let of = |publisher| Schedule {
            start_us: 1_000,
            rate: 10_000,
            publishers: 3,
            publisher,
        };
        let due: Vec<u64> = (0..2)
            .flat_map(|sequence| (0..3).map(move |publisher| of(publisher).due_us(sequence)))
            .collect();
        assert_eq!(due, [1_000, 1_100, 1_200, 1_300, 1_400, 1_500]);
    }

    #[test]
    fn a_schedule_does_not_drift() {
        let schedule = Schedule {
            start_us: 0,
            rate: 3,
            publishers: 1,
            publisher: 0,
        };
        assert_eq!(schedule.due_us(1), 333_333);
        assert_eq!(schedule.due_us(3_000_000_000), 1_000_000_000_000_000);
    }
}
