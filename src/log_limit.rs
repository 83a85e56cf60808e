//! Keeps peers from filling the log.
//!
//! Owns one budget of lines per kind of event and shard. Knows neither the lines nor the clock.

/// Events that a peer can cause as often as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// A connection ended before it had a session.
    Refused,
    /// The broker ended a connection.
    Disconnected,
    /// A client may not do what it asked for.
    NotAuthorized,
    /// A message found no room.
    NoRoom,
}

/// A token bucket of log lines for each [`LogKind`], full at first.
#[derive(Debug)]
pub struct LogLimit {
    lines_per_second_max: u64,
    buckets: [Bucket; KINDS.len()],
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of a line.
    tokens: u64,
    updated_ms: u64,
    suppressed: u64,
}

impl LogLimit {
    /// A budget of so many lines per second and kind, which is also the burst.
    pub fn new(lines_per_second_max: u32) -> Self {
        let lines_per_second_max = u64::from(lines_per_second_max);
        let bucket = Bucket {
            tokens: lines_per_second_max * TOKENS_PER_LINE,
            updated_ms: 0,
            suppressed: 0,
        };
        Self {
            lines_per_second_max,
            buckets: [bucket; KINDS.len()],
        }
    }

    /// Whether one more line may be written now; if not, it is counted.
    pub fn admits(&mut self, kind: LogKind, now_ms: u64) -> bool {
        let tokens_max = self.lines_per_second_max * TOKENS_PER_LINE;
        let Some((_, bucket)) = KINDS
            .iter()
            .zip(&mut self.buckets)
            .find(|(name, _)| **name == kind)
        else {
            return true;
        };
        // So many lines per second are as many thousandths of a line per millisecond.
        let elapsed_ms = now_ms.saturating_sub(bucket.updated_ms);
        let refilled = elapsed_ms.saturating_mul(self.lines_per_second_max);
        bucket.tokens = bucket.tokens.saturating_add(refilled).min(tokens_max);
        bucket.updated_ms = now_ms;
        match bucket.tokens.checked_sub(TOKENS_PER_LINE) {
            Some(left) => {
                bucket.tokens = left;
                true
            }
            None => {
                bucket.suppressed += 1;
                false
            }
        }
    }

    /// How many lines of each kind were left out since the last call; kinds without are skipped.
    pub fn take_suppressed(&mut self) -> impl Iterator<Item = (LogKind, u64)> {
        KINDS
            .into_iter()
            .zip(&mut self.buckets)
            .map(|(kind, bucket)| (kind, std::mem::take(&mut bucket.suppressed)))
            .filter(|(_, suppressed)| *suppressed > 0)
    }
}

const KINDS: [LogKind; 4] = [
    LogKind::Refused,
    LogKind::Disconnected,
    LogKind::NotAuthorized,
    LogKind::NoRoom,
];
const TOKENS_PER_LINE: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_a_burst_then_a_trickle_and_a_count() {
        let mut limit = LogLimit::new(10);
        let lines = |limit: &mut LogLimit, now_ms| {
            (0..100)
                .filter(|_| limit.admits(LogKind::Refused, now_ms))
                .count()
        };
        assert_eq!(lines(&mut limit, 0), 10);
        assert_eq!(lines(&mut limit, 99), 0);
        assert_eq!(lines(&mut limit, 300), 3);
        assert!(limit.admits(LogKind::NotAuthorized, 300));
        let suppressed: Vec<_> = limit.take_suppressed().collect();
        assert_eq!(suppressed, [(LogKind::Refused, 287)]);
        assert_eq!(limit.take_suppressed().count(), 0);
        assert_eq!(lines(&mut limit, 1_000_000), 10);
    }
}
