//! AMQP 1.0 as a client: Apache Artemis and ActiveMQ, RabbitMQ, Azure.
//!
//! Owns one connection with a session for each direction. A record is settled by the outcome that
//! the server gives it; a message is accepted once the caller has. Nothing is declared: what exists
//! at an address is the server's affair.

mod body;
mod convert;
mod dialect;
mod inward;
mod lane;
mod link;
mod outcome;
mod outward;
mod sasl;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Connection, Receiver, Sender, Session};

pub use dialect::{Dialect, Node};
pub use settings::{Mechanism, Settings, Source};

use link::Link;

use crate::gather::Gathered;
use crate::line::Line;
use crate::redelivered::Redelivered;
use crate::{Connected, Connector, Dialled, Failure, PortSink, PortSource, Stream};

/// An AMQP 1.0 client that connects again and again.
#[derive(Debug)]
pub struct Amqp10Connector {
    line: Line<Settings>,
    /// What came over earlier connections.
    redelivered: Arc<Redelivered>,
}

/// A connection on which everything is there.
struct Opened {
    connection: ConnectionHandle<()>,
    outward: SessionHandle<()>,
    /// The one link that all records take, and its address, if they do.
    sender: Option<(Option<String>, Sender)>,
    inward: Option<(SessionHandle<()>, Source, Receiver)>,
}

impl Amqp10Connector {
    /// A client without a connection.
    pub fn new(settings: Settings) -> Self {
        let (order, servers) = (settings.order, settings.servers);
        Self {
            line: Line::new(settings, order, servers),
            redelivered: Arc::default(),
        }
    }
}

impl Connector for Amqp10Connector {
    type Sink = PortSink;
    type Source = PortSource;

    async fn connect(&mut self) -> Result<Connected<PortSink, PortSource>, Failure> {
        self.redelivered.conclude(self.line.end().await);
        let (settings, redelivered) = (self.line.settings(), Arc::clone(&self.redelivered));
        let attempt = |server| open(&settings, server);
        let opening = self.line.open(settings.connect_timeout, attempt);
        let (opened, remote) = opening.await?;
        Ok(self.line.begin(remote, |ports, number| {
            Link::new(opened, ports, &settings, redelivered, number).run()
        }))
    }

    async fn close(&mut self) {
        self.redelivered.conclude(self.line.end().await);
    }

    fn change(&mut self, settings: crate::Settings) {
        if let crate::Settings::Amqp10(settings) = settings {
            if settings.source != self.line.settings().source {
                self.redelivered.forget();
            }
            let (order, servers) = (settings.order, settings.servers);
            self.line.change(*settings, order, servers);
        }
    }
}

async fn open(settings: &Settings, server: usize) -> Result<(Opened, String), Failure> {
    let Dialled { stream, remote } = (settings.dial.0)(server).await?;
    let mut connection = shake_hands(settings, stream).await?;
    let mut outward = begin(&mut connection).await?;
    let sender = match settings.dialect.only_link(settings) {
        Some(address) => {
            let attaching = lane::attach(&mut outward, settings, address.as_deref(), 0);
            Some((address.clone(), attaching.await?))
        }
        None => None,
    };
    let inward = match &settings.source {
        Some(source) => {
            let mut session = begin(&mut connection).await?;
            let receiver = inward::attach(&mut session, settings, source).await?;
            Some((session, source.clone(), receiver))
        }
        None => None,
    };
    let opened = Opened {
        connection,
        outward,
        sender,
        inward,
    };
    Ok((opened, remote))
}

async fn shake_hands(
    settings: &Settings,
    mut stream: Box<dyn Stream>,
) -> Result<ConnectionHandle<()>, Failure> {
    let host_name = settings.host_name.as_deref();
    let credentials = (settings.credentials.0)()?;
    sasl::authenticate(&mut *stream, settings.mechanism, credentials, host_name).await?;
    let mut builder = Connection::builder()
        .container_id(settings.name.as_str())
        .hostname(host_name);
    if !settings.idle_timeout.is_zero() {
        let idle_ms = settings.idle_timeout.as_millis();
        builder = builder.idle_time_out(u32::try_from(idle_ms).unwrap_or(u32::MAX));
    }
    // It flushes after each frame.
    let opening = builder.open_with_stream(Gathered::new(stream));
    opening.await.map_err(outcome::open_error)
}

async fn begin(connection: &mut ConnectionHandle<()>) -> Result<SessionHandle<()>, Failure> {
    let beginning = Session::begin(connection);
    beginning.await.map_err(outcome::begin_error)
}
