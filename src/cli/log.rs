//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Log;

/// Sends log lines of the configured level and above to standard error.
pub(crate) fn start(log: &Log) {
    let level = format!("{:?}", log.level).to_lowercase();
    let filter = EnvFilter::try_new(level).unwrap_or_default();
    // A program that embeds the broker may have its own subscriber.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
