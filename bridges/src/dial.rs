//! What connectors have in common on their way to a server: streams, credentials, whose turn it is.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
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
}

impl Turn {
    /// Begins with the first server.
    pub(crate) fn new(order: ServerOrder, servers: usize) -> Self {
        Self {
            order,
            servers,
            server: 0,
        }
    }

    pub(crate) fn server(&self) -> usize {
        self.server
    }

    /// Whether another server stands in for the first.
    pub(crate) fn is_away(&self) -> bool {
        self.server != 0 && self.order == ServerOrder::Failover
    }

    /// The server could not be reached.
    pub(crate) fn failed(&mut self) {
        self.server = (self.server + 1) % self.servers.max(1);
    }

    /// A connection was up and has ended: the first server is home, or the next one has its turn.
    pub(crate) fn ended(&mut self) {
        match self.order {
            ServerOrder::Failover => self.server = 0,
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

pub(crate) fn no_answer(patience: Duration) -> Failure {
    Failure::retry(format!("no answer within {} ms", patience.as_millis()))
}

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
    fn servers_take_turns_whether_they_failed_or_a_connection_ended() {
        let mut turn = Turn::new(ServerOrder::RoundRobin, 2);
        turn.ended();
        assert_eq!((turn.server(), turn.is_away()), (1, false));
        turn.failed();
        assert_eq!(turn.server(), 0);
    }
}
