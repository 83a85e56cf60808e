//! AMQP 1.0 as a client: Apache Artemis and ActiveMQ, RabbitMQ, Azure.
//!
//! Owns one connection with a session for each direction. A record is settled by the outcome that
//! the server gives it; a message is accepted once the caller has. Nothing is declared: what exists
//! at an address is the server's affair.

mod body;
mod convert;
mod deliveries;
mod dialect;
mod encoder;
mod frame;
mod harvest;
mod inward;
mod lane;
mod link;
mod message;
mod outcome;
mod outward;
mod performative;
mod sasl;
#[cfg(test)]
mod scripted;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod transfer;
mod value;
mod wire;

use std::sync::Arc;

pub use dialect::{Dialect, Node};
pub use settings::{Mechanism, Settings, Source};

use link::Link;

use crate::line::Line;
use crate::redelivered::Redelivered;
use crate::{Connected, Connector, Dialled, Failure, PortSink, PortSource};

/// An AMQP 1.0 client that connects again and again.
#[derive(Debug)]
pub struct Amqp10Connector {
    line: Line<Settings>,
    /// What came over earlier connections.
    redelivered: Arc<Redelivered>,
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
        let attempt = |server| open(&settings, redelivered, server);
        let opening = self.line.open(settings.connect_timeout, attempt);
        let (link, remote) = opening.await?;
        let begin = |ports: &Arc<_>, number| link.run(Arc::clone(ports), number);
        Ok(self.line.begin(remote, begin))
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

async fn open(
    settings: &Arc<Settings>,
    redelivered: Arc<Redelivered>,
    server: usize,
) -> Result<(Link, String), Failure> {
    let Dialled { mut stream, remote } = (settings.dial.0)(server).await?;
    let host_name = settings.host_name.as_deref();
    let credentials = (settings.credentials.0)()?;
    sasl::authenticate(&mut *stream, settings.mechanism, credentials, host_name).await?;
    let link = Link::open(settings, stream, redelivered).await?;
    Ok((link, remote))
}
