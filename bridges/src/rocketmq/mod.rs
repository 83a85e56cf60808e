//! RocketMQ 5 as a client, by the gRPC of its proxies.
//!
//! Owns one HTTP/2 connection with a producer and a simple consumer on it. A record is settled once
//! the server has answered for it; a message is acknowledged by its receipt handle once the caller
//! has accepted it. The client is ours, for the reasons in `docs/architecture.md`.

mod convert;
mod deliveries;
mod failure;
mod grpc;
mod inflate;
mod link;
mod outbox;
mod polls;
mod requests;
mod seen;
mod session;
mod settings;
mod sign;
mod wire;

use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

pub use convert::name_of;
pub use deliveries::Handle;
pub use settings::{Calendar, ConsumerSettings, Filter, ProducerSettings, Settings};

use convert::Sender;
use grpc::Channel;
use link::{Link, Opened};
use seen::Seen;
use session::Session;
use sign::Signer;

use crate::dial::{Turn, within};
use crate::ports::{Ports, Working};
use crate::{Connected, Connector, Dialled, Failure, PortSink, PortSource};

/// A RocketMQ client that connects again and again.
#[derive(Debug)]
pub struct RocketmqConnector {
    settings: Arc<Settings>,
    turn: Turn,
    seen: Arc<Mutex<Seen>>,
    working: Option<Working>,
}

impl RocketmqConnector {
    /// A client without a connection.
    pub fn new(settings: Settings) -> Self {
        Self {
            turn: Turn::new(settings.order, settings.servers),
            settings: Arc::new(settings),
            seen: Arc::default(),
            working: None,
        }
    }

    async fn open(&self) -> Result<(Opened, String), Failure> {
        let settings = &self.settings;
        let Dialled { stream, remote } = (settings.dial.0)(self.turn.server()).await?;
        let credentials = (settings.credentials.0)()?;
        let signer = Signer::new(credentials, settings.calendar.clone())?;
        let (channel, driver) = Channel::open(stream, &remote, signer).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(session::drive(driver));
        let session = Session::new(channel, Arc::clone(settings), &remote);
        session.register(&mut tasks).await?;
        session.check_topics().await?;
        let spots = session.spots().await?;
        let opened = Opened {
            session,
            tasks,
            spots,
        };
        Ok((opened, remote))
    }
}

impl Connector for RocketmqConnector {
    type Sink = PortSink;
    type Source = PortSource;

    async fn connect(&mut self) -> Result<Connected<PortSink, PortSource>, Failure> {
        self.close().await;
        let patience = self.settings.connect_timeout;
        let opened = within(patience, self.open()).await;
        let (opened, remote) = opened.inspect_err(|_| self.turn.failed())?;
        let warnings = session::warnings_of(&opened.spots);
        let ports = Arc::new(Ports::refusing());
        let sender = Sender {
            namespace: self.settings.namespace.clone(),
        };
        let settings = Arc::clone(&self.settings);
        let link = Link::new(
            opened,
            Arc::clone(&ports),
            settings,
            sender,
            Arc::clone(&self.seen),
        );
        self.working = Some(Working::begin(&ports, link.run()));
        let (sink, source) = ports.ends();
        Ok(Connected {
            warnings,
            ..Connected::new(sink, source, remote)
        })
    }

    async fn close(&mut self) {
        if let Some(mut working) = self.working.take() {
            working.end().await;
            self.turn.ended();
        }
    }

    fn change(&mut self, settings: crate::Settings) {
        if let crate::Settings::Rocketmq(settings) = settings {
            self.turn = Turn::new(settings.order, settings.servers);
            self.settings = Arc::new(*settings);
        }
    }
}
