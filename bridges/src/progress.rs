//! Liveness by progress: a connection that is open says nothing of whether the remote works.

use std::time::Duration;

use tokio::time::Instant;

use crate::Failure;

/// When the remote last acknowledged something, or had nothing to acknowledge.
#[derive(Debug)]
pub(crate) struct Progress(Instant);

impl Progress {
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// The remote has acknowledged something, or is not asked to.
    pub(crate) fn made(&mut self) {
        self.0 = Instant::now();
    }

    /// Whether the last acknowledgement is longer ago than that.
    #[cfg(feature = "kafka")]
    pub(crate) fn is_older_than(&self, pause: Duration) -> bool {
        self.0.elapsed() >= pause
    }

    /// # Errors
    /// The remote owes an acknowledgement, and has given none for as long as that.
    pub(crate) fn check(&mut self, is_owed: bool, patience: Duration) -> Result<(), Failure> {
        if !is_owed {
            self.made();
        } else if self.0.elapsed() >= patience {
            let seconds = patience.as_secs();
            let text = format!("the server has acknowledged nothing for {seconds} s");
            return Err(Failure::retry(text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_owed_acknowledgement_has_a_deadline() {
        let mut progress = Progress::begin();
        assert_eq!(progress.check(false, Duration::ZERO), Ok(()));
        assert_eq!(progress.check(true, Duration::from_secs(60)), Ok(()));
        let failure = progress.check(true, Duration::ZERO).unwrap_err();
        assert_eq!(
            failure.reason,
            "the server has acknowledged nothing for 0 s"
        );
    }
}
