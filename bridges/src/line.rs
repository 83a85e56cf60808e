//! One connection after the other, each served by a task of its own.

use std::sync::Arc;
use std::time::Duration;

use crate::dial::{Turn, within};
use crate::ports::{Orders, Ports, Working};
use crate::{Connected, Failure, PortSink, PortSource, ServerOrder};

/// What connections are made by, whose turn it is, and the task of the present one.
#[derive(Debug)]
pub(crate) struct Line<S> {
    settings: Arc<S>,
    turn: Turn,
    /// Receipts mean something within one connection only.
    connections: u64,
    working: Option<Working>,
}

impl<S> Line<S> {
    pub(crate) fn new(settings: S, order: ServerOrder, servers: usize) -> Self {
        Self {
            settings: Arc::new(settings),
            turn: Turn::new(order, servers),
            connections: 0,
            working: None,
        }
    }

    /// From the next connection on, other settings.
    pub(crate) fn change(&mut self, settings: S, order: ServerOrder, servers: usize) {
        self.settings = Arc::new(settings);
        self.turn = Turn::new(order, servers);
    }

    pub(crate) fn settings(&self) -> Arc<S> {
        Arc::clone(&self.settings)
    }

    /// Ends the present connection; answers what it was still told and has not carried out.
    pub(crate) async fn end(&mut self) -> Option<Orders> {
        let mut working = self.working.take()?;
        working.end().await;
        self.turn.ended();
        Some(working.ports.take_orders())
    }

    /// Waits for a connection, when the one before has ended; after a failure it is another
    /// server's turn.
    ///
    /// # Errors
    /// That of the attempt; no answer.
    pub(crate) async fn open<T, A: Future<Output = Result<T, Failure>>>(
        &mut self,
        patience: Duration,
        attempt: impl FnOnce(usize) -> A,
    ) -> Result<T, Failure> {
        debug_assert!(self.working.is_none(), "the connection before has ended");
        let opened = within(patience, attempt(self.turn.server())).await;
        opened.inspect_err(|_| self.turn.failed())
    }

    /// Begins to serve a connection, which is told its number, and which can refuse.
    pub(crate) fn begin<W: Future<Output = ()> + Send + 'static>(
        &mut self,
        remote: String,
        work: impl FnOnce(&Arc<Ports>, u64) -> W,
    ) -> Connected<PortSink, PortSource> {
        self.connections += 1;
        let ports = Arc::new(Ports::refusing());
        self.working = Some(Working::begin(&ports, work(&ports, self.connections)));
        let (sink, source) = ports.ends();
        Connected::new(sink, source, remote)
    }
}
