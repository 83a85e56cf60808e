//! MQTT 5.0, 3.1.1 and 3.1 as a client, built from the codec and session engine of the broker.
//!
//! Owns the session with the server, which outlives connections. What carries the bytes is opened
//! by the caller ([`Dial`]).

mod connection;
mod convert;
mod engine;
mod failure;
mod journal;
mod link;
mod peer;
mod receipt;
mod settings;
mod strange_ids;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tidewire_protocol::codec::ProtocolVersion;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use convert::{decode_properties, encode_properties};
pub use journal::Remembered;
pub use receipt::Receipt;
pub use settings::{Settings, Subscription};

use connection::{Connection, Dialect, Greeted, Refusal, shake_hands};
use engine::{Engine, SessionAtServer};

use crate::dial::{Turn, within};
use crate::ports::{Orders, Ports, Working};
use crate::{Connected, Connector, Failure, PortSink, PortSource};

/// The user property of CONNECT and CONNACK by which nodes of our kind tell each other their names.
pub const NODE_PROPERTY: &str = "tidewire-node";

/// An MQTT client that connects again and again.
#[derive(Debug)]
pub struct MqttConnector {
    settings: Arc<Settings>,
    engine: Arc<Mutex<Engine>>,
    dialects: Vec<Dialect>,
    /// Which dialect the server is believed to understand.
    dialect: usize,
    turn: Turn,
    /// The session that the engine holds.
    session: Option<String>,
    /// The settings have other subscriptions than the session.
    must_subscribe: bool,
    /// Filters of the session that nobody wants any more.
    obsolete: Vec<String>,
    link: Option<Link>,
}

/// The connection that is up, or was.
#[derive(Debug)]
struct Link {
    working: Working,
    /// Looks for the first server.
    probe: Option<JoinHandle<()>>,
}

impl MqttConnector {
    /// A client without a connection.
    pub fn new(settings: Settings) -> Self {
        Self {
            dialects: dialects(&settings),
            engine: Arc::new(Mutex::new(Engine::new(settings.is_durable))),
            dialect: 0,
            turn: Turn::new(settings.order, settings.servers),
            settings: Arc::new(settings),
            session: None,
            must_subscribe: false,
            obsolete: Vec::new(),
            link: None,
        }
    }

    /// Goes on with the session of an earlier process.
    pub fn remember(&mut self, remembered: &Remembered) {
        let mut engine = Engine::new(self.settings.is_durable);
        engine.remember(remembered);
        self.engine = Arc::new(Mutex::new(engine));
        self.session = Some(remembered.session.clone());
    }

    /// Names the session at a server.
    fn session_at(&self, remote: &str) -> String {
        format!("{remote} {}", self.settings.client_id)
    }

    async fn greet(&mut self) -> Result<(Greeted, Dialect, String), Failure> {
        let settings = Arc::clone(&self.settings);
        let mut last = Failure::retry("no protocol version is left to try");
        for step in 0..self.dialects.len() {
            let index = (self.dialect + step) % self.dialects.len();
            let Some(dialect) = self.dialects.get(index).copied() else {
                break;
            };
            let dialled = (settings.dial.0)(self.turn.server()).await?;
            let session = self.session_at(&dialled.remote);
            let clean = self.session.as_ref() != Some(&session) && settings.starts_clean;
            match shake_hands(dialled.stream, &settings, dialect, clean).await {
                Ok(greeted) => {
                    self.dialect = index;
                    return Ok((greeted, dialect, dialled.remote));
                }
                Err(Refusal::Dialect(failure)) => last = failure,
                Err(Refusal::Other(failure)) => return Err(failure),
            }
        }
        Err(last)
    }

    /// Waits for the task of the connection before, which owns the session until it ends.
    async fn end_link(&mut self) {
        let Some(Link { mut working, probe }) = self.link.take() else {
            return;
        };
        if let Some(probe) = probe {
            probe.abort();
        }
        working.end().await;
        // Told to a connection that had ended already: the next one answers.
        let Orders { accepted, kept, .. } = working.ports.take_orders();
        let (mut engine, mut unsent) = (self.engine.lock().await, Vec::new());
        engine.keep(kept, &mut unsent);
        for receipt in accepted {
            engine.accept(receipt, &mut unsent);
        }
        self.turn.ended();
    }
}

impl Connector for MqttConnector {
    type Sink = PortSink;
    type Source = PortSource;

    async fn connect(&mut self) -> Result<Connected<PortSink, PortSource>, Failure> {
        self.end_link().await;
        let greeted = within(self.settings.connect_timeout, self.greet()).await;
        let (greeted, dialect, remote) = greeted.inspect_err(|_| self.turn.failed())?;
        self.turn.reached();
        Ok(self.start(greeted, dialect, remote).await)
    }

    async fn close(&mut self) {
        self.end_link().await;
    }

    fn change(&mut self, settings: crate::Settings) {
        #[cfg_attr(
            not(any(
                feature = "amqp091",
                feature = "amqp10",
                feature = "kafka",
                feature = "rocketmq"
            )),
            expect(irrefutable_let_patterns, reason = "it is the only kind then")
        )]
        let crate::Settings::Mqtt(settings) = settings else {
            return;
        };
        let filters = |it: &Settings| -> Vec<String> {
            let filters = it.subscriptions.iter().map(|it| it.filter.clone());
            filters.collect()
        };
        let wanted = filters(&settings);
        self.obsolete.extend(filters(&self.settings));
        self.obsolete.retain(|it| !wanted.contains(it));
        self.must_subscribe |= settings.subscriptions != self.settings.subscriptions;
        self.dialects = dialects(&settings);
        self.dialect = 0;
        self.turn = Turn::new(settings.order, settings.servers);
        self.settings = Arc::new(*settings);
    }

    async fn held(&mut self) -> Vec<u64> {
        self.engine.lock().await.held()
    }
}

impl MqttConnector {
    async fn start(
        &mut self,
        greeted: Greeted,
        dialect: Dialect,
        remote: String,
    ) -> Connected<PortSink, PortSource> {
        let Greeted {
            stream,
            input,
            mut peer,
            session_present,
            mut warnings,
        } = greeted;
        let ports = Arc::new(Ports::default());
        let mut engine = Arc::clone(&self.engine).lock_owned().await;
        let name = self.session_at(&remote);
        let session = match (session_present, self.session.as_ref() == Some(&name)) {
            (false, _) => SessionAtServer::None,
            (true, true) => SessionAtServer::Ours,
            (true, false) => SessionAtServer::Strange,
        };
        if session != SessionAtServer::Ours && engine.in_flight() > 0 {
            warnings.push(format!(
                "the server has no session of ours: {} messages in flight are sent again",
                engine.in_flight()
            ));
        }
        let filters = self.settings.subscriptions.iter();
        peer.filters = filters.map(|it| it.filter.clone()).collect();
        let keep_alive = Duration::from_secs(u64::from(peer.keep_alive_seconds));
        let node = peer.node.clone();
        let mut out = Vec::new();
        let held = engine.begin(dialect.version, peer, session, &mut out);
        warnings.append(&mut engine.warnings);
        if session != SessionAtServer::Ours {
            engine.journal.begin(&name);
        }
        self.session = Some(name);
        engine.is_subscribed &= !std::mem::take(&mut self.must_subscribe);
        let mut connection = Connection {
            engine,
            ports: Arc::clone(&ports),
            settings: Arc::clone(&self.settings),
            keep_alive,
            input,
            out,
        };
        connection.open(&std::mem::take(&mut self.obsolete));
        self.link = Some(Link {
            probe: self.probe(&ports),
            working: Working::begin(&ports, connection.run(stream)),
        });
        let (sink, source) = ports.ends();
        Connected {
            held,
            peer: node,
            warnings,
            ..Connected::new(sink, source, remote)
        }
    }

    /// While another server stands in for the first, somebody looks whether that can be reached.
    fn probe(&self, ports: &Arc<Ports>) -> Option<JoinHandle<()>> {
        let settings = Arc::clone(&self.settings);
        let pause = settings.home_probe.filter(|_| self.turn.is_away())?;
        let pause = self.turn.probe_pause(pause);
        let ports = Arc::clone(ports);
        Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let dialled = timeout(settings.connect_timeout, (settings.dial.0)(0)).await;
                if matches!(dialled, Ok(Ok(_))) {
                    ports.close("the first server can be reached again");
                    return;
                }
            }
        }))
    }
}

fn dialects(settings: &Settings) -> Vec<Dialect> {
    let versions = match settings.version {
        Some(version) => vec![version],
        None => vec![
            ProtocolVersion::V5,
            ProtocolVersion::V3_1_1,
            ProtocolVersion::V3_1,
        ],
    };
    let mut dialects = Vec::new();
    for version in versions {
        if settings.bridge_bit && version != ProtocolVersion::V5 {
            dialects.push(Dialect {
                version,
                is_bridge: true,
            });
        }
        dialects.push(Dialect {
            version,
            is_bridge: false,
        });
    }
    dialects
}

/// Topic aliases that the server may define.
const INBOUND_ALIASES_MAX: u16 = 64;
