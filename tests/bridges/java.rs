//! Servers that run in Java: processes that are killed and started again, with data of their own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Java starts slowly where many tests share few cores.
pub(crate) const START_MS: u64 = 120_000;

/// A running server; ended, and its data removed, when dropped.
pub(crate) struct Java {
    child: Child,
    spawn: fn(&Path) -> Child,
    pub(crate) directory: PathBuf,
}

impl Java {
    pub(crate) fn start(directory: PathBuf, spawn: fn(&Path) -> Child) -> Self {
        Self {
            child: spawn(&directory),
            spawn,
            directory,
        }
    }

    /// A file of its directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and the end.
    pub(crate) fn stop(&mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").arg(&pid).status();
        assert!(sent.expect("kill").success());
        let _ = self.child.wait();
    }

    /// The same server again; it is not ready yet.
    pub(crate) fn start_again(&mut self) {
        self.child = (self.spawn)(&self.directory);
    }

    #[cfg(feature = "kafka")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// What it has written.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.file(OUTPUT)).unwrap_or_default()
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Java in a directory, with little memory and its output in a file.
pub(crate) fn java(directory: &Path) -> Command {
    let output = std::fs::File::create(directory.join(OUTPUT)).expect("created");
    let mut command = Command::new("java");
    command
        .current_dir(directory)
        .args(["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC"])
        .args(["-XX:TieredStopAtLevel=1", "-Xshare:auto"])
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("cloned"))
        .stderr(output);
    command
}

const OUTPUT: &str = "output";
