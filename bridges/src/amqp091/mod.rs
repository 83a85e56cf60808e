//! AMQP 0-9-1 as a client: RabbitMQ and its like.
//!
//! Owns one connection with a channel for each direction. A record is settled once the server has
//! confirmed it; a delivery is acknowledged once the caller has accepted it. Nothing is declared:
//! exchanges, queues and bindings are the server's affair.

mod confirms;
mod convert;
mod link;
mod runtime;
mod settings;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::AsyncTcpStream;
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, Consumer, Error, ErrorKind, ExchangeKind};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use link::Delivery;
pub use settings::Settings;

use convert::short;
use link::Link;
use runtime::Carrier;

use crate::mqtt::{Credentials, Dialled, ServerOrder};
use crate::ports::Ports;
use crate::{Connected, Connector, Failure, PortSink, PortSource};

/// An AMQP client that connects again and again.
#[derive(Debug)]
pub struct Amqp091Connector {
    settings: Arc<Settings>,
    server: usize,
    /// Counts connections: delivery tags mean something within one only.
    connections: u64,
    running: Option<(Arc<Ports>, JoinHandle<()>)>,
}

/// A connection on which everything is there.
struct Opened {
    connection: Connection,
    publisher: Channel,
    consumer: Option<(Channel, Consumer)>,
}

impl Amqp091Connector {
    /// A client without a connection.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            server: 0,
            connections: 0,
            running: None,
        }
    }

    async fn open(&self) -> Result<(Opened, String), Failure> {
        let settings = &*self.settings;
        let Dialled { stream, remote } = (settings.dial.0)(self.server).await?;
        let connection = shake_hands(settings, Carrier(stream)).await?;
        let publisher = connection.create_channel().await.map_err(failure_of)?;
        if !settings.exchange.is_empty() {
            let passive = ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            };
            let exchange = short("exchange", &settings.exchange)?;
            let nothing = FieldTable::default();
            let declared =
                publisher.exchange_declare(exchange, ExchangeKind::Topic, passive, nothing);
            declared.await.map_err(failure_of)?;
        }
        let confirms = publisher.confirm_select(ConfirmSelectOptions::default());
        confirms.await.map_err(failure_of)?;
        let consumer = match &settings.queue {
            Some(queue) => Some(consume(settings, &connection, queue).await?),
            None => None,
        };
        let opened = Opened {
            connection,
            publisher,
            consumer,
        };
        Ok((opened, remote))
    }

    /// The server to try after a failure.
    fn next_server(&mut self) {
        self.server = (self.server + 1) % self.settings.servers.max(1);
    }

    async fn end_link(&mut self) {
        if let Some((ports, mut task)) = self.running.take() {
            ports.close("closed");
            if timeout(LINK_END, &mut task).await.is_err() {
                task.abort();
                // It was told to end; how it ended says nothing new.
                let _ = task.await;
            }
        }
    }
}

impl Connector for Amqp091Connector {
    type Sink = PortSink;
    type Source = PortSource;

    async fn connect(&mut self) -> Result<Connected<PortSink, PortSource>, Failure> {
        if self.running.is_some() {
            self.end_link().await;
            match self.settings.order {
                ServerOrder::Failover => self.server = 0,
                ServerOrder::RoundRobin => self.next_server(),
            }
        }
        let patience = self.settings.connect_timeout;
        let opened = match timeout(patience, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::retry(format!(
                "no answer within {} ms",
                patience.as_millis()
            ))),
        };
        let (opened, remote) = opened.inspect_err(|_| self.next_server())?;
        self.connections += 1;
        let ports = Arc::new(Ports::default());
        let link = Link::new(
            opened,
            Arc::clone(&ports),
            Arc::clone(&self.settings),
            self.connections,
        );
        let end = EndOfTask(Arc::clone(&ports));
        let task = tokio::spawn(async move {
            link.run().await;
            drop(end);
        });
        self.running = Some((Arc::clone(&ports), task));
        Ok(Connected {
            sink: PortSink {
                ports: Arc::clone(&ports),
            },
            source: PortSource { ports },
            held: Vec::new(),
            remote,
            peer: None,
            warnings: Vec::new(),
        })
    }

    async fn close(&mut self) {
        self.end_link().await;
    }

    fn change(&mut self, settings: crate::Settings) {
        if let crate::Settings::Amqp091(settings) = settings {
            self.server = 0;
            self.settings = Arc::new(*settings);
        }
    }

    async fn held(&mut self) -> Vec<u64> {
        // What a channel had unconfirmed is unknown to the next one.
        Vec::new()
    }
}

/// Tells the ends that the task is gone, even if it panicked.
struct EndOfTask(Arc<Ports>);

impl Drop for EndOfTask {
    fn drop(&mut self) {
        self.0.fail(Failure::retry("the connection broke off"));
    }
}

async fn shake_hands(settings: &Settings, carrier: Carrier) -> Result<Connection, Failure> {
    let Credentials {
        user_name,
        password,
    } = (settings.credentials.0)()?;
    let password = String::from_utf8(password.unwrap_or_default())
        .map_err(|_| Failure::refused("the password is no UTF-8"))?;
    let (username, password) = match user_name {
        Some(user_name) => (user_name, password),
        None => (GUEST.to_owned(), GUEST.to_owned()),
    };
    let uri = AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username, password },
            host: String::new(),
            port: 0,
        },
        vhost: settings.virtual_host.clone(),
        query: AMQPQueryString {
            heartbeat: Some(settings.heartbeat_seconds),
            ..AMQPQueryString::default()
        },
    };
    // It connects once: there are no attempts of its own.
    let carrier = Mutex::new(Some(carrier));
    let connect = async move |_, _| {
        let carrier = carrier
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let carrier = carrier.ok_or_else(|| std::io::Error::other("the stream is used up"))?;
        Ok(AsyncTcpStream::Plain(carrier))
    };
    let name = settings.name.as_str().into();
    let properties = ConnectionProperties::default().with_connection_name(name);
    Connection::connector(uri, runtime::current(), connect, properties)
        .await
        .map_err(failure_of)
}

async fn consume(
    settings: &Settings,
    connection: &Connection,
    queue: &str,
) -> Result<(Channel, Consumer), Failure> {
    let channel = connection.create_channel().await.map_err(failure_of)?;
    let prefetch = channel.basic_qos(settings.prefetch, BasicQosOptions::default());
    prefetch.await.map_err(failure_of)?;
    let (queue, tag) = (short("queue", queue)?, short("name", &settings.name)?);
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue, tag, options, FieldTable::default());
    let consumer = consumer.await.map_err(failure_of)?;
    Ok((channel, consumer))
}

/// What an error of the server means.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn failure_of(error: Error) -> Failure {
    let ErrorKind::ProtocolError(refusal) = error.kind() else {
        return Failure::retry(format!("connection lost: {error}"));
    };
    let text = format!("{} {}", refusal.get_id(), refusal.get_message());
    let is_operators = match refusal.kind() {
        AMQPErrorKind::Soft(kind) => matches!(
            kind,
            AMQPSoftError::ACCESSREFUSED
                | AMQPSoftError::NOTFOUND
                | AMQPSoftError::PRECONDITIONFAILED
        ),
        AMQPErrorKind::Hard(kind) => {
            matches!(kind, AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH)
        }
    };
    if is_operators {
        Failure::refused(format!("refused by the server: {text}"))
    } else {
        Failure::retry(format!("the server ended the connection: {text}"))
    }
}

/// The user that RabbitMQ lets in from its own machine.
const GUEST: &str = "guest";
/// How long a connection has to end.
const LINK_END: Duration = Duration::from_secs(3);
