//! The file with the id of a running broker.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// A file with our process id, removed when dropped.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Replaces what an earlier process has left.
    pub(super) fn write(path: &Path) -> io::Result<Self> {
        let within = |error| io::Error::other(format!("{}: {error}", path.display()));
        fs::write(path, format!("{}\n", std::process::id())).map_err(within)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, "pid file not removed");
        }
    }
}

/// Why the broker of a pid file cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// It cannot be read.
    #[error("{}: {source}; is the broker running?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds no number of a process, or that of another program.
    #[error("{}: not the process id of a broker", .0.display())]
    NotABroker(PathBuf),
}

/// Sends SIGHUP to the broker that wrote the file.
pub(super) fn hang_up(path: &Path) -> Result<(), PidFileError> {
    let refused = |source| PidFileError::Read {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(refused)?;
    let foreign = || PidFileError::NotABroker(path.to_owned());
    let number: i32 = text.trim().parse().map_err(|_| foreign())?;
    let pid = Pid::from_raw(number)
        .filter(|_| number > 0)
        .ok_or_else(foreign)?;
    // The number may belong to another program by now.
    let name = fs::read_to_string(format!("/proc/{number}/comm")).map_err(refused)?;
    if name.trim() != NAME {
        return Err(foreign());
    }
    kill_process(pid, Signal::HUP).map_err(|error| refused(error.into()))
}

const NAME: &str = "tidewire";
