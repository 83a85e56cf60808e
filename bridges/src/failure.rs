//! Why a connection or a record failed, and what that means for the next attempt.

use std::fmt;
use std::io;

/// A failure, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What to do about it.
    pub class: Class,
    /// What happened, with the remote's own code.
    pub reason: String,
}

/// What to do about a failure; what is not known is worth another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The next attempt may succeed.
    Retry,
    /// Somebody has to change the configuration of either side; tried again nevertheless.
    Refused,
    /// This record will never be taken.
    Poison,
}

impl Failure {
    /// A failure that the next attempt may not have.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::new(Class::Retry, reason)
    }

    /// A failure that an operator has to end.
    pub fn refused(reason: impl fmt::Display) -> Self {
        Self::new(Class::Refused, reason)
    }

    /// A failure of a record for good.
    pub fn poison(reason: impl fmt::Display) -> Self {
        Self::new(Class::Poison, reason)
    }

    /// The end of a stream: a stream that knows what has to be done about it gives its error a
    /// failure to carry.
    pub fn of_stream(what: impl fmt::Display, error: &io::Error) -> Self {
        let carried = error.get_ref().and_then(|it| it.downcast_ref::<Self>());
        let class = carried.map_or(Class::Retry, |it| it.class);
        Self::new(class, format_args!("{what}: {error}"))
    }

    fn new(class: Class, reason: impl fmt::Display) -> Self {
        Self {
            class,
            reason: reason.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_says_what_has_to_be_done_about_its_end_if_it_knows() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let failure = Failure::of_stream("lost", &reset);
        assert_eq!(failure, Failure::retry(format!("lost: {reset}")));
        let expired = io::Error::other(Failure::refused("expired"));
        let failure = Failure::of_stream("lost", &expired);
        assert_eq!(failure, Failure::refused("lost: expired"));
    }
}
