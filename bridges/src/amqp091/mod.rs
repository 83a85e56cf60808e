//! AMQP 0-9-1 as a client: RabbitMQ and its like.
//!
//! Owns one connection with a channel for each direction. A record is settled once the server has
//! confirmed it; a delivery is acknowledged once the caller has accepted it.

mod confirms;
mod convert;
mod declare;
mod frame;
mod handshake;
mod link;
mod settings;
mod stream;
mod tags;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic, confirm};
use amq_protocol::types::AMQPValue;
use tokio::time::timeout;

pub use settings::{Declare, ExchangeKind, Settings};

use convert::short;
use link::Link;
use stream::{OFFSET, StreamPlace};
use wire::Wire;

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
        let (wire, remote) = opening.await?;
        Ok(self.line.begin(remote, |ports, number| {
            Link::new(wire, Arc::clone(ports), settings, memory, number).run()
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
) -> Result<(Wire, String), Failure> {
    let Dialled { stream, remote } = (settings.dial.0)(server).await?;
    let mut wire = Wire::begin(stream);
    match prepare(settings, memory, &mut wire).await {
        Ok(()) => Ok((wire, remote)),
        Err(failure) => {
            // What went wrong is known already.
            let _ = timeout(GOODBYE, wire.close()).await;
            Err(failure)
        }
    }
}

/// Sees to everything that a bridge needs over there.
async fn prepare(settings: &Settings, memory: &Memory, wire: &mut Wire) -> Result<(), Failure> {
    handshake::shake_hands(wire, settings).await?;
    handshake::open_channel(wire, OUT).await?;
    declare::exchange(settings, wire, OUT).await?;
    let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
    let is_selected = |it: &AMQPClass| {
        matches!(it, AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_))).then_some(())
    };
    let question = AMQPClass::Confirm(select);
    wire.ask(OUT, question, is_selected).await?;
    match &settings.queue {
        Some(queue) => consume(settings, wire, queue, memory.stream.next()).await,
        None => Ok(()),
    }
}

async fn consume(
    settings: &Settings,
    wire: &mut Wire,
    queue: &str,
    offset: Option<i64>,
) -> Result<(), Failure> {
    handshake::open_channel(wire, IN).await?;
    let prefetch = basic::AMQPMethod::Qos(basic::Qos {
        prefetch_count: settings.prefetch,
        global: false,
    });
    let is_set =
        |it: &AMQPClass| matches!(it, AMQPClass::Basic(basic::AMQPMethod::QosOk(_))).then_some(());
    wire.ask(IN, AMQPClass::Basic(prefetch), is_set).await?;
    declare::queue(settings, wire, IN, queue).await?;
    let mut arguments = declare::arguments(&settings.consumer_arguments)?;
    if let Some(offset) = offset {
        arguments.insert(OFFSET.into(), AMQPValue::LongLongInt(offset));
    }
    let consume = basic::AMQPMethod::Consume(basic::Consume {
        queue: short("queue", queue)?,
        consumer_tag: short("name", &settings.name)?,
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: false,
        arguments,
    });
    let is_consuming = |it: &AMQPClass| {
        matches!(it, AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(_))).then_some(())
    };
    let question = AMQPClass::Basic(consume);
    wire.ask(IN, question, is_consuming).await
}

/// What it means when the server closes a channel or the connection (section 1.5 of the
/// specification).
fn failure_of(code: u16, text: &str) -> Failure {
    match OPERATORS.contains(&code) {
        true => Failure::refused(format!("refused by the server: {code} {text}")),
        false => Failure::retry(format!("the server ended the connection: {code} {text}")),
    }
}

/// The channel of the way out.
const OUT: u16 = 1;
/// The channel of the way in.
const IN: u16 = 2;
/// Invalid path, access refused, not found, precondition failed, not allowed.
const OPERATORS: [u16; 5] = [402, 403, 404, 406, 530];
const GOODBYE: Duration = Duration::from_secs(2);
