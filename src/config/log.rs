//! What is logged.

/// What the log shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe lines that are written.
    pub level: LogLevel,
    /// Lines per second, shard and kind of event that peers may cause.
    pub peer_lines_per_second_max: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: LogLevel::default(),
            peer_lines_per_second_max: 10,
        }
    }
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
