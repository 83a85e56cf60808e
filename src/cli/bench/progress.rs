//! How far long work has come, on a terminal's standard error.

use std::io::{self, IsTerminal, Write};

/// One line that is written over and over.
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    shown: Option<u64>,
    is_terminal: bool,
}

impl Progress {
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        Self {
            what,
            total,
            shown: None,
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Shows `done` if that is another percent.
    pub(super) fn show(&mut self, done: u64) {
        let percent = done * 100 / self.total.max(1);
        if self.is_terminal && self.shown != Some(percent) {
            self.shown = Some(percent);
            // Nobody to tell is no fault.
            let _ = write!(io::stderr(), "\r{}: {done} of {}  ", self.what, self.total);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
