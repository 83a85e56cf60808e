//! The program with a store, and the directory that outlives it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::client::{Client, Connect};

/// An empty directory, removed at the end.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidewire-durability-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A broker with three shards; killed when dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Program {
    pub(crate) fn start(directory: &Directory) -> Self {
        Self::start_with(directory, "")
    }

    /// With lines of a configuration file, after `shards` if they do not name it.
    pub(crate) fn start_with(directory: &Directory, lines: &str) -> Self {
        Self::try_start(directory, lines).unwrap_or_else(|text| panic!("no start: {text}"))
    }

    /// Or what it said and how it ended.
    pub(crate) fn try_start(directory: &Directory, lines: &str) -> Result<Self, String> {
        Self::start_in_shell(directory, lines, "")
    }

    /// Without a store.
    pub(crate) fn start_in_memory(directory: &Directory, lines: &str) -> Self {
        Self::spawn(directory, lines, "", &[]).unwrap_or_else(|text| panic!("no start: {text}"))
    }

    /// After a shell's `setup`.
    pub(crate) fn start_in_shell(
        directory: &Directory,
        lines: &str,
        setup: &str,
    ) -> Result<Self, String> {
        let store = directory.store();
        Self::spawn(
            directory,
            lines,
            setup,
            &["--store".as_ref(), store.as_ref()],
        )
    }

    fn spawn(
        directory: &Directory,
        lines: &str,
        setup: &str,
        arguments: &[&OsStr],
    ) -> Result<Self, String> {
        let log = directory.0.join("log");
        let shards = if lines.contains("shards =") {
            ""
        } else {
            "shards = 3\n"
        };
        let listen: &[&str] = match lines.contains("[[listeners]]") {
            true => &[],
            false => &["--listen", "tcp://127.0.0.1:0"],
        };
        let config = directory.0.join("tidewire.toml");
        std::fs::write(&config, format!("{shards}{lines}")).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &format!("{setup}exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_tidewire"))
            .arg("run")
            .args(listen)
            .arg("-c")
            .arg(config)
            .args(arguments)
            // They would pass for configuration.
            .env_remove("TIDEWIRE_TEST_KILL_ROUNDS")
            .env_remove("TIDEWIRE_TEST_SEED")
            .env_remove("TIDEWIRE_TEST_POWER_CUTS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while out.read_line(&mut line).unwrap() > 0 {
            if let Some(address) = line.split_once("mqtt://") {
                let address = address.1.trim().parse().unwrap();
                // Read on, so that the program never waits for a full pipe.
                std::thread::spawn(move || out.read_to_string(&mut line));
                return Ok(Self {
                    child,
                    address,
                    log,
                });
            }
            line.clear();
        }
        let status = child.wait().unwrap();
        let text = std::fs::read_to_string(log).unwrap();
        Err(format!("{text}(status {:?})", status.code()))
    }

    /// SIGKILL, and the next one on the same directory.
    pub(crate) fn restart(self, directory: &Directory) -> Self {
        self.restart_with(directory, "")
    }

    pub(crate) fn restart_with(mut self, directory: &Directory, lines: &str) -> Self {
        self.kill();
        drop(self);
        Self::start_with(directory, lines)
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ends.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        Command::new("kill").arg(id).status().unwrap();
        self.ends()
    }

    pub(crate) fn ends(&mut self) -> ExitStatus {
        for _ in 0..800 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the program goes on");
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Resident memory in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }

    /// A client of MQTT 5.0 whose session never expires.
    pub(crate) fn durable(&self, id: &str) -> Client {
        Client::connect(self.address, &Connect::durable(id)).0
    }

    /// Makes a durable session with a subscription and no connection.
    pub(crate) fn leave_subscribed(&self, id: &str, filter: &str, qos: u8) {
        let mut client = self.durable(id);
        assert_eq!(client.subscribe(filter, qos), qos);
        client.disconnect(None);
    }

    /// A client of MQTT 5.0 whose session ends with its connection.
    pub(crate) fn passing(&self, id: &str) -> Client {
        Client::connect(self.address, &Connect::passing(id)).0
    }

    /// A durable client resumes: its session has to be there.
    pub(crate) fn resume(&self, id: &str) -> Client {
        let (client, is_present) = Client::connect(self.address, &Connect::durable(id));
        assert!(is_present, "the session of {id} is gone");
        client
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{status:?}\n{}", self.log());
        }
    }
}

/// Runs `tidewire` with arguments to its end.
pub(crate) fn command(arguments: &[&str], directory: &Path) -> Output {
    let arguments = arguments.iter().map(|it| match *it {
        "DIR" => directory.as_os_str(),
        other => other.as_ref(),
    });
    Command::new(env!("CARGO_BIN_EXE_tidewire"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}
