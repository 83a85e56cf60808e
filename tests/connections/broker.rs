//! A broker in this process, and what it has logged.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;

use tidewire::config::{Config, Listener};
use tidewire::server::Server;

use crate::client::Client;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Broker {
    server: Option<Server>,
    config: Config,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Broker {
    /// Two shards and one TCP listener, unless changed.
    pub(crate) fn start(change: impl FnOnce(&mut Config)) -> Self {
        capture_log();
        let mut config = Config {
            shards: 2,
            sys_interval_seconds: 0,
            listeners: vec![listener()],
            ..Config::default()
        };
        config.mqtt.shutdown_seconds = 1;
        change(&mut config);
        let server = Server::start(config.clone()).unwrap();
        let addresses = server.addresses().iter().filter_map(|url| {
            let authority = url.split_once("://")?.1.split('/').next()?;
            authority.parse().ok()
        });
        Self {
            addresses: addresses.collect(),
            config,
            server: Some(server),
        }
    }

    /// Goes on with a change, and with what the files say now.
    pub(crate) fn reload_with(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        let server = self.server.as_mut().unwrap();
        server.reload(self.config.clone()).unwrap();
    }

    pub(crate) fn open(&self) -> Client<TcpStream> {
        open(self.addresses[0])
    }

    /// A client that is connected by MQTT 5.0 over the first listener.
    pub(crate) fn client(&self, id: &str) -> Client<TcpStream> {
        let mut client = self.open();
        client.connect(id);
        client
    }

    /// A new client is served.
    pub(crate) fn serves(&self) {
        self.client("witness").ping();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let stopped = self.server.take().map(Server::stop);
        if !std::thread::panicking() {
            stopped.unwrap().unwrap();
        }
    }
}

/// On a free port of the loopback address.
pub(crate) fn listener() -> Listener {
    Listener {
        bind: "127.0.0.1:0".into(),
        ..Listener::default()
    }
}

pub(crate) fn open(address: SocketAddr) -> Client<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    Client::new(stream)
}

/// An empty folder of its own, left for the system to clear.
pub(crate) fn folder(name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("tidewire-{name}-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// The lines logged so far that contain `text`.
pub(crate) fn logged(text: &str) -> Vec<String> {
    logged_since(0, text)
}

/// How much is logged so far.
pub(crate) fn log_length() -> usize {
    LOG.lock().unwrap().len()
}

fn logged_since(start: usize, text: &str) -> Vec<String> {
    let log = String::from_utf8(LOG.lock().unwrap()[start..].to_vec()).unwrap();
    log.lines()
        .filter(|line| line.contains(text))
        .map(str::to_owned)
        .collect()
}

/// Waits for a line that contains `text`.
pub(crate) fn log_line(text: &str) -> String {
    log_line_since(0, text)
}

/// Waits for a line behind the first `start` bytes of the log that contains `text`.
pub(crate) fn log_line_since(start: usize, text: &str) -> String {
    for _ in 0..2_400 {
        if let Some(line) = logged_since(start, text).pop() {
            return line;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("no line with {text:?} was logged");
}

fn capture_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(|| Capture)
            .init();
    });
}

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Capture;

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
