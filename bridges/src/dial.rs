//! What connectors have in common on their way to a server: streams, credentials, whose turn it is.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::time::timeout;

use crate::Failure;

/// A stream of bytes to a server.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Stream for S {}

/// A stream on its way.
pub type Dialling = Pin<Box<dyn Future<Output = Result<Dialled, Failure>> + Send>>;

/// An open stream.
pub struct Dialled {
    /// The stream.
    pub stream: Box<dyn Stream>,
    /// Where it leads, for state and log.
    pub remote: String,
}

/// Opens a stream to the server of an index; sockets, TLS and WebSocket are the caller's.
#[derive(Clone)]
pub struct Dial(pub Arc<dyn Fn(usize) -> Dialling + Send + Sync>);

#[cfg(test)]
#[cfg(any(feature = "amqp091", feature = "amqp10"))]
impl Dial {
    /// This stream is the first connection, and there is no second one.
    pub(crate) fn once(stream: tokio::io::DuplexStream) -> Self {
        let stream = std::sync::Mutex::new(Some(stream));
        Self(Arc::new(move |_| {
            let stream = stream.lock().unwrap().take();
            Box::pin(async {
                let stream = stream.ok_or_else(|| Failure::retry("no second connection"))?;
                Ok(Dialled {
                    stream: Box::new(stream),
                    remote: "duplex".into(),
                })
            })
        }))
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

/// User name and password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub user_name: Option<String>,
    /// The password.
    pub password: Option<Vec<u8>>,
}

impl Credentials {
    /// The password for protocols that write it as text; empty if there is none.
    ///
    /// # Errors
    /// It is no UTF-8.
    pub fn into_text(self) -> Result<(Option<String>, String), Failure> {
        let password = String::from_utf8(self.password.unwrap_or_default())
            .map_err(|_| Failure::refused("the password is no UTF-8"))?;
        Ok((self.user_name, password))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

/// Where user name and password come from.
#[derive(Clone)]
pub struct CredentialsSource(pub Arc<dyn Fn() -> Result<Credentials, Failure> + Send + Sync>);

impl fmt::Debug for CredentialsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsSource")
    }
}

/// Which of several servers is next after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerOrder {
    /// The first is home; the others stand in for it in turn.
    #[default]
    Failover,
    /// One after the other.
    RoundRobin,
}

/// Whose turn it is among the servers of a bridge.
#[derive(Debug)]
pub(crate) struct Turn {
    order: ServerOrder,
    servers: usize,
    server: usize,
    /// The stand-in was left for the first server, which has not been reached yet.
    is_returning: bool,
    /// How often in a row it was left in vain.
    vain: u32,
}

impl Turn {
    /// Begins with the first server.
    pub(crate) fn new(order: ServerOrder, servers: usize) -> Self {
        Self {
            order,
            servers,
            server: 0,
            is_returning: false,
            vain: 0,
        }
    }

    pub(crate) fn server(&self) -> usize {
        self.server
    }

    /// Whether another server stands in for the first.
    pub(crate) fn is_away(&self) -> bool {
        self.server != 0 && self.order == ServerOrder::Failover
    }

    /// How long it takes until the first server is looked for again. Something may take connections
    /// in its place and not serve them: a stand-in that works is left for that less and less often.
    pub(crate) fn probe_pause(&self, base: Duration) -> Duration {
        base * 2_u32.pow(self.vain.min(VAIN_MAX))
    }

    /// A connection is up.
    pub(crate) fn reached(&mut self) {
        self.is_returning = false;
        if self.server == 0 {
            self.vain = 0;
        }
    }

    /// The server could not be reached.
    pub(crate) fn failed(&mut self) {
        let in_vain = u32::from(std::mem::take(&mut self.is_returning));
        self.vain = self.vain.saturating_add(in_vain);
        self.server = (self.server + 1) % self.servers.max(1);
    }

    /// A connection was up and has ended: the first server is home, or the next one has its turn.
    pub(crate) fn ended(&mut self) {
        match self.order {
            ServerOrder::Failover => {
                self.is_returning = self.is_away();
                self.server = 0;
            }
            ServerOrder::RoundRobin => self.failed(),
        }
    }
}

/// The outcome of an attempt, or a failure when its time is over.
///
/// # Errors
/// That of the attempt; no answer.
pub(crate) async fn within<T>(
    patience: Duration,
    attempt: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let outcome = timeout(patience, attempt).await;
    outcome.unwrap_or_else(|_| Err(no_answer(patience)))
}

/// Writes some of the bytes, or flushes when there are none. Cancel safe.
pub(crate) async fn write_some(
    writer: &mut WriteHalf<Box<dyn Stream>>,
    bytes: &[u8],
) -> std::io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

pub(crate) fn no_answer(patience: Duration) -> Failure {
    Failure::retry(format!("no answer within {} ms", patience.as_millis()))
}

/// Doublings of the pause between looks for the first server.
const VAIN_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_server_is_home_and_the_others_stand_in_for_it() {
        let mut turn = Turn::new(ServerOrder::Failover, 3);
        turn.failed();
        turn.failed();
        assert_eq!((turn.server(), turn.is_away()), (2, true));
        turn.ended();
        assert_eq!((turn.server(), turn.is_away()), (0, false));
    }

    #[test]
    fn a_stand_in_is_left_less_often_for_a_first_server_that_does_not_serve() {
        let mut turn = Turn::new(ServerOrder::Failover, 2);
        let base = Duration::from_secs(60);
        let pauses: Vec<u64> = (0..7)
            .map(|_| {
                // The first fails, the second stands in until the first is found, or ends.
                turn.failed();
                turn.reached();
                let pause = turn.probe_pause(base);
                turn.ended();
                pause.as_secs() / 60
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 16, 16]);
        turn.reached();
        assert_eq!(turn.probe_pause(base), base);
    }

    #[test]
    fn servers_take_turns_whether_they_failed_or_a_connection_ended() {
        let mut turn = Turn::new(ServerOrder::RoundRobin, 2);
        turn.ended();
        assert_eq!((turn.server(), turn.is_away()), (1, false));
        turn.failed();
        assert_eq!(turn.server(), 0);
    }
}
