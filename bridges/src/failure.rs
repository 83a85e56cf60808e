//! Why a connection or a record failed, and what that means for the next attempt.

use std::fmt;

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

    fn new(class: Class, reason: impl fmt::Display) -> Self {
        Self {
            class,
            reason: reason.to_string(),
        }
    }
}
