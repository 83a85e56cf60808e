//! Brokers in processes of their own, ended by their process ids.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidewire::clock::Clock;

/// How long anything may take.
pub(crate) const PATIENCE_MS: u64 = 30_000;

/// A running broker; ended when dropped.
pub(crate) struct Broker {
    child: Child,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) directory: PathBuf,
}

/// A port that nobody uses now, and that is given to nobody else: not one of those that connections
/// are made from, which may take it before its server does or while that is started again. Those
/// beside it are not given either: a RocketMQ broker takes the port two below its own as well.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let mut ports = std::iter::from_fn(|| {
        let number = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        u16::try_from(PORTS_FROM + number % PORTS * APART).ok()
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).expect("a free port")
}

/// Below what systems take for connections.
const PORTS_FROM: u32 = 10_000;
const PORTS: u32 = 2_500;
const APART: u32 = 8;

/// Does the same with each of these, which wait more than they compute.
pub(crate) fn at_once<T: Send, const N: usize>(all: [T; N], work: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let work = &work;
        for one in all {
            scope.spawn(move || work(one));
        }
    });
}

/// A directory of its own for a test.
pub(crate) fn directory() -> PathBuf {
    directory_in(&std::env::temp_dir())
}

/// The same in a place that the caller has chosen.
pub(crate) fn directory_in(base: &Path) -> PathBuf {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let name = format!("tidewire-bridges-{}-{number}", std::process::id());
    let directory = base.join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

impl Broker {
    /// A node of ours on a port, with this configuration besides.
    pub(crate) fn tidewire(port: u16, config: &str) -> Self {
        Self::tidewire_in(directory(), port, config)
    }

    /// As [`Broker::tidewire`], without a store.
    pub(crate) fn tidewire_in_memory(port: u16, config: &str) -> Self {
        Self::start(directory(), port, config, "memory")
    }

    /// Ours, with the store of an earlier process.
    pub(crate) fn tidewire_in(directory: PathBuf, port: u16, config: &str) -> Self {
        Self::start(directory, port, config, "lmdb")
    }

    /// Writes another configuration of a node of ours, and has it read.
    pub(crate) fn reload(&self, config: &str) {
        write_config(&self.directory, self.port, config, "lmdb");
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-HUP", &pid]).status();
        assert!(sent.expect("kill").success());
    }

    /// `tidewire bridge NAME VERB`: whether it went well, and what it said.
    pub(crate) fn order(&self, name: &str, verb: &str) -> (bool, String) {
        let socket = self.directory.join("control");
        let output = Command::new(env!("CARGO_BIN_EXE_tidewire"))
            .args(["bridge", name, verb, "--control-socket"])
            .arg(socket)
            .output()
            .expect("tidewire bridge");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8(said).expect("text"),
        )
    }

    fn start(directory: PathBuf, port: u16, config: &str, engine: &str) -> Self {
        let file = write_config(&directory, port, config, engine);
        let command = Command::new(env!("CARGO_BIN_EXE_tidewire"));
        Self::spawn(command, directory, "127.0.0.1", port, &file)
    }

    /// A node of ours in a network namespace, on an address that it has there.
    pub(crate) fn tidewire_within(namespace: &str, host: &str, port: u16) -> Self {
        let directory = directory();
        let listener = format!("[[listeners]]\nbind = \"{host}:{port}\"\nallow_anonymous = true\n");
        let file = write_config(&directory, port, &listener, "lmdb");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_tidewire")]);
        Self::spawn(command, directory, host, port, &file)
    }

    fn spawn(mut command: Command, directory: PathBuf, host: &str, port: u16, file: &Path) -> Self {
        let mut child = command
            .arg("run")
            .arg("-c")
            .arg(file)
            .stdout(Stdio::piped())
            .stderr(log_in(&directory))
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let is_ready = lines.any(|line| line.is_ok_and(|line| line.contains("is ready")));
        assert!(is_ready, "tidewire does not start");
        std::thread::spawn(move || lines.for_each(drop));
        let host = host.to_owned();
        let broker = Self {
            child,
            host,
            port,
            directory,
        };
        broker.wait_until_open();
        broker
    }

    /// A mosquitto on a port, with these lines of configuration besides.
    pub(crate) fn mosquitto(port: u16, config: &str) -> Self {
        let directory = directory();
        let file = directory.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nsys_interval 1\n\
             max_queued_messages 0\n{config}\n"
        );
        std::fs::write(&file, text).expect("written");
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto, which tests/run installs");
        let broker = Self {
            child,
            host: "127.0.0.1".to_owned(),
            port,
            directory,
        };
        broker.wait_until_open();
        broker
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// kill -9; answers the directory with the store.
    pub(crate) fn kill_and_keep(mut self) -> PathBuf {
        self.end();
        std::mem::take(&mut self.directory)
    }

    /// SIGTERM, and the end; answers the directory with the store.
    pub(crate) fn stop_and_keep(mut self) -> PathBuf {
        self.terminate();
        std::mem::take(&mut self.directory)
    }

    /// What the node of ours has logged from warnings on.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join(LOG)).expect("a log")
    }

    /// Shows what a node of ours knows of a test that has failed.
    fn tell(&self) {
        let log = std::fs::read_to_string(self.directory.join(LOG));
        let (_, bridges) = self.order("up", "state");
        eprintln!("port {}: {bridges}\n{}", self.port, log.unwrap_or_default());
    }

    /// SIGTERM, and the end.
    pub(crate) fn stop(mut self) {
        self.terminate();
    }

    fn terminate(&mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").arg(&pid).status().expect("kill");
        assert!(sent.success());
        let ended = self.child.wait().expect("ended");
        assert!(ended.success(), "{ended}");
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn wait_until_open(&self) {
        let clock = Clock::start();
        while TcpStream::connect((&*self.host, self.port)).is_err() {
            assert!(
                clock.now_ms() < PATIENCE_MS,
                "port {} stays closed",
                self.port
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        self.end();
        if !self.directory.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

fn write_config(directory: &Path, port: u16, config: &str, engine: &str) -> PathBuf {
    let file = directory.join("tidewire.toml");
    let text = format!(
        "shards = 2\nsys_interval_seconds = 1\ncontrol_socket = \"{}\"\n{config}\n[store]\n\
         engine = \"{engine}\"\ndirectory = \"{}\"\nmap_bytes_max = 67108864\n[mqtt]\n\
         shutdown_seconds = 1\nclient_id_property = {}\n[log]\nlevel = \"warn\"\n",
        directory.join("control").display(),
        directory.join("store").display(),
        config.contains("{client_id}")
    );
    let text = if text.contains("[[listeners]]") {
        text
    } else {
        let listener = format!("[[listeners]]\nbind = \"127.0.0.1:{port}\"\n");
        text.replacen("[store]", &format!("{listener}[store]"), 1)
    };
    std::fs::write(&file, text).expect("written");
    file
}

fn log_in(directory: &Path) -> Stdio {
    File::create(directory.join(LOG)).expect("a log").into()
}

const LOG: &str = "log";
