//! AMQP 0-9-1 as a client: RabbitMQ and its like.
//!
//! Owns one connection with a channel for each direction. A record is settled once the server has
//! confirmed it; a delivery is acknowledged once the caller has accepted it.

mod confirms;
mod convert;
mod declare;
mod link;
mod runtime;
mod settings;
mod stream;
mod tags;

use std::sync::{Arc, Mutex, PoisonError};

use lapin::options::{BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::AsyncTcpStream;
use lapin::types::AMQPValue;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, Consumer, Error, ErrorKind};

pub use settings::{Declare, ExchangeKind, Settings};

use convert::short;
use link::Link;
use runtime::Carrier;
use stream::{OFFSET, StreamPlace};

use crate::line::Line;
use crate::redelivered::Redelivered;
use crate::{Connected, Connector, Dialled, Failure, PortSink, PortSource};

/// An AMQP client that connects again and again.
#[derive(Debug)]
pub struct Amqp091Connector {
    line: Line<Settings>,
    memory: Arc<Memory>,
}

/// What outlives a connection.
#[derive(Debug, Default)]
struct Memory {
    redelivered: Redelivered,
    stream: StreamPlace,
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
        let (order, servers) = (settings.order, settings.servers);
        Self {
            line: Line::new(settings, order, servers),
            memory: Arc::default(),
        }
    }
}

impl Connector for Amqp091Connector {
    type Sink = PortSink;
    type Source = PortSource;

    async fn connect(&mut self) -> Result<Connected<PortSink, PortSource>, Failure> {
        self.memory.redelivered.conclude(self.line.end().await);
        let (settings, memory) = (self.line.settings(), Arc::clone(&self.memory));
        let attempt = |server| open(&settings, &memory, server);
        let opening = self.line.open(settings.connect_timeout, attempt);
        let (opened, remote) = opening.await?;
        Ok(self.line.begin(remote, |ports, number| {
            Link::new(opened, Arc::clone(ports), settings, memory, number).run()
        }))
    }

    async fn close(&mut self) {
        self.memory.redelivered.conclude(self.line.end().await);
    }

    fn change(&mut self, settings: crate::Settings) {
        if let crate::Settings::Amqp091(settings) = settings {
            let place = |it: &Settings| (it.virtual_host.clone(), it.queue.clone());
            if place(&settings) != place(&self.line.settings()) {
                self.memory.redelivered.forget();
                self.memory.stream.forget();
            }
            let (order, servers) = (settings.order, settings.servers);
            self.line.change(*settings, order, servers);
        }
    }
}

async fn open(
    settings: &Settings,
    memory: &Memory,
    server: usize,
) -> Result<(Opened, String), Failure> {
    let Dialled { stream, remote } = (settings.dial.0)(server).await?;
    let connection = shake_hands(settings, Carrier(stream)).await?;
    let publisher = connection.create_channel().await.map_err(failure_of)?;
    declare::exchange(settings, &publisher).await?;
    let confirms = publisher.confirm_select(ConfirmSelectOptions::default());
    confirms.await.map_err(failure_of)?;
    let consumer = match &settings.queue {
        Some(queue) => {
            let offset = memory.stream.next();
            Some(consume(settings, &connection, queue, offset).await?)
        }
        None => None,
    };
    let opened = Opened {
        connection,
        publisher,
        consumer,
    };
    Ok((opened, remote))
}

async fn shake_hands(settings: &Settings, carrier: Carrier) -> Result<Connection, Failure> {
    let (user_name, password) = (settings.credentials.0)()?.into_text()?;
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
    offset: Option<i64>,
) -> Result<(Channel, Consumer), Failure> {
    let channel = connection.create_channel().await.map_err(failure_of)?;
    let prefetch = channel.basic_qos(settings.prefetch, BasicQosOptions::default());
    prefetch.await.map_err(failure_of)?;
    declare::queue(settings, &channel, queue).await?;
    let (queue, tag) = (short("queue", queue)?, short("name", &settings.name)?);
    let mut arguments = declare::arguments(&settings.consumer_arguments)?;
    if let Some(offset) = offset {
        arguments.insert(OFFSET.into(), AMQPValue::LongLongInt(offset));
    }
    let consumer = channel.basic_consume(queue, tag, BasicConsumeOptions::default(), arguments);
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
