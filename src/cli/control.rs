//! `tidewire bridge`, and the socket on which a running broker hears of it and of reloads.
//!
//! # Shape
//! One line each way: `bridge NAME ORDER` or `reload`, then `ok JSON`, `ok TEXT` or `error TEXT`.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::arguments::{BridgeArguments, BridgeVerb};
use super::run::RunError;
use crate::bridge::BridgeOrder;
use crate::net::listener::{SocketFile, UnixAddress, bind_unix};

/// The socket of a running broker; its file goes with it.
#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    _file: SocketFile,
}

/// What somebody asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) wish: Wish,
    pub(super) asker: Asker,
}

#[derive(Debug)]
pub(super) enum Wish {
    Bridge(String, BridgeOrder),
    Reload,
}

/// Who waits for an answer.
#[derive(Debug)]
pub(super) struct Asker(UnixStream);

impl Control {
    /// Takes the place of what an earlier process has left; for our user alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let within = |error: io::Error| {
            let text = format!("control_socket {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        };
        let address = UnixAddress {
            path: path.to_owned(),
            owner: None,
            mode: OWNER_ONLY,
        };
        let (listener, file) = bind_unix(&address, BACKLOG).map_err(within)?;
        Ok(Self {
            listener: UnixListener::from_std(listener).map_err(within)?,
            _file: file,
        })
    }

    /// The next thing that is asked for and can be understood. Cancel safe but for what is half
    /// asked.
    pub(super) async fn next(&self) -> Asked {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Ok(Some(asked)) = timeout(PATIENCE, read(stream)).await {
                        return asked;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket");
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    }
}

impl Asker {
    pub(super) async fn answer<E: std::fmt::Display>(mut self, result: Result<String, E>) {
        let line = match result {
            Ok(said) => format!("ok {said}"),
            Err(error) => format!("error {error}"),
        };
        // What parsers say may have several lines.
        let line = line.trim_end().replace('\n', " ") + "\n";
        // Who asked may be gone.
        let _ = timeout(PATIENCE, self.0.write_all(line.as_bytes())).await;
    }
}

async fn read(mut stream: UnixStream) -> Option<Asked> {
    let mut line = String::new();
    let limited = (&mut stream).take(LINE_BYTES_MAX);
    tokio::io::BufReader::new(limited)
        .read_line(&mut line)
        .await
        .ok()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let wish = match words[..] {
        ["reload"] => Wish::Reload,
        ["bridge", bridge, order] => {
            let order = ORDERS.iter().find(|(word, _)| *word == order)?.1;
            Wish::Bridge(bridge.to_owned(), order)
        }
        // Somebody else's protocol: there is nobody to answer.
        _ => return None,
    };
    let asker = Asker(stream);
    Some(Asked { wish, asker })
}

/// Asks a running broker, prints the state, and waits until the bridge obeys.
pub fn run(arguments: &BridgeArguments) -> Result<(), RunError> {
    let config = arguments.run.config()?;
    let path = arguments.control_socket.clone().or(config.control_socket);
    let path = path.ok_or(RunError::NoControlSocket)?;
    let (verb, expected) = match arguments.verb {
        BridgeVerb::State => ("state", None),
        BridgeVerb::Pause => ("pause", Some("paused")),
        BridgeVerb::Resume => ("resume", None),
        BridgeVerb::Drain => ("drain", None),
        BridgeVerb::Purge => ("purge", None),
    };
    let mut state = ask(&path, &arguments.name, verb)?;
    if arguments.verb == BridgeVerb::Purge {
        // Its shard drops a part at a time: the answer to the order is of before.
        std::thread::sleep(OBEY_STEP);
        state = ask(&path, &arguments.name, "state")?;
    }
    for _ in 0..OBEY_STEPS {
        let count = |text: &str| state.matches(text).count();
        // A bridge of several connections has several states.
        let is_done = expected
            .is_none_or(|word| count(&format!("\"state\":\"{word}\"")) == count("\"state\":"));
        if is_done {
            break;
        }
        std::thread::sleep(OBEY_STEP);
        state = ask(&path, &arguments.name, "state")?;
    }
    writeln!(io::stdout(), "{state}")?;
    Ok(())
}

fn ask(path: &Path, bridge: &str, order: &str) -> Result<String, RunError> {
    let words = format!("bridge {bridge} {order}");
    Broker::at(path)?.ask(&words, ANSWER_PATIENCE)
}

/// A running broker, as its control socket is reached.
pub(super) struct Broker<'p> {
    path: &'p Path,
    stream: BlockingStream,
}

impl<'p> Broker<'p> {
    pub(super) fn at(path: &'p Path) -> Result<Self, RunError> {
        let stream = BlockingStream::connect(path).map_err(|error| lost(path, &error))?;
        Ok(Self { path, stream })
    }

    /// Carries out a reload there: what waits for the next start, or why nothing is changed.
    pub(super) fn reload(self) -> Result<String, RunError> {
        self.ask("reload", RELOAD_PATIENCE)
    }

    fn ask(mut self, words: &str, patience: Duration) -> Result<String, RunError> {
        let within = |error: io::Error| lost(self.path, &error);
        self.stream.set_read_timeout(Some(patience))?;
        writeln!(self.stream, "{words}").map_err(within)?;
        let mut line = String::new();
        BufReader::new(self.stream)
            .read_line(&mut line)
            .map_err(within)?;
        match line.trim_end().split_once(' ') {
            Some(("ok", said)) => Ok(said.to_owned()),
            Some(("error", text)) => Err(RunError::Refused(text.to_owned())),
            _ => Err(within(io::Error::other("no answer"))),
        }
    }
}

fn lost(path: &Path, error: &io::Error) -> RunError {
    let text = format!("{}: {error}; is the broker running?", path.display());
    RunError::Io(io::Error::new(error.kind(), text))
}

const ORDERS: [(&str, BridgeOrder); 5] = [
    ("state", BridgeOrder::State),
    ("pause", BridgeOrder::Pause),
    ("resume", BridgeOrder::Resume),
    ("drain", BridgeOrder::Drain),
    ("purge", BridgeOrder::Purge),
];
const OWNER_ONLY: u32 = 0o600;
const LINE_BYTES_MAX: u64 = 1_024;
const BACKLOG: i32 = 8;
/// For one line over a socket of this machine.
const PATIENCE: Duration = Duration::from_secs(1);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// A reload asks servers for keys, and waits until all shards have looked at all connections.
const RELOAD_PATIENCE: Duration = Duration::from_secs(300);
const OBEY_STEP: Duration = Duration::from_millis(50);
const OBEY_STEPS: u32 = 300;
