//! What is logged.

/// What the log shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The least severe lines that are written.
    pub level: LogLevel,
}

/// Severity of a log line, from nothing to everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing is written.
    Off,
    /// What stops the broker or loses a message.
    Error,
    /// What an operator should look at.
    Warn,
    /// Start, stop, refused connections.
    #[default]
    Info,
    /// Every connection and subscription.
    Debug,
    /// Every packet.
    Trace,
}
