//! Connectors to other brokers.
//!
//! Owns what the systems at the far end have in common ([`Record`], [`Sink`], [`Source`]) and one
//! module per foreign protocol. It refuses to know the broker that it serves: where records wait,
//! what becomes of those that were received, and when to connect again is decided by the caller.
#![forbid(unsafe_code)]

#[cfg(feature = "amqp091")]
pub mod amqp091;
#[cfg(feature = "amqp10")]
pub mod amqp10;
mod dial;
mod failure;
mod hex;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(any(feature = "amqp091", feature = "amqp10"))]
mod line;
pub mod mqtt;
mod note;
mod payload;
#[cfg(any(feature = "amqp091", feature = "amqp10"))]
mod pipe;
mod ports;
mod progress;
mod record;
#[cfg(any(feature = "amqp091", feature = "amqp10"))]
mod redelivered;
#[cfg(feature = "rocketmq")]
pub mod rocketmq;
#[cfg(any(feature = "amqp091", feature = "amqp10", feature = "rocketmq"))]
mod separators;
mod template;

pub use dial::{Credentials, CredentialsSource, Dial, Dialled, Dialling, ServerOrder, Stream};
pub use failure::{Class, Failure};
pub use note::Note;
pub use payload::{PayloadCodec, PayloadError};
pub use ports::{PortSink, PortSource};
pub use record::{
    Bookmark, CLIENT_ID_PROPERTY, Envelope, LastingId, Properties, Record, USER_NAME_PROPERTY,
};
pub use template::{Context, Template, TemplateError};

use std::future::Future;
use std::sync::Arc;

use serde_json::{Map, Value};
use tidewire_protocol::codec::PacketId;

/// Makes connections to one remote system, one at a time.
pub trait Connector: Send {
    /// The way out.
    type Sink: Sink;
    /// The way in.
    type Source: Source;

    /// Connects, and is called again after every failure.
    fn connect(
        &mut self,
    ) -> impl Future<Output = Result<Connected<Self::Sink, Self::Source>, Failure>> + Send;

    /// Says goodbye to the remote and waits until the connection has ended.
    fn close(&mut self) -> impl Future<Output = ()> + Send;

    /// From the next connect on, other settings; those of another kind are ignored.
    fn change(&mut self, settings: Settings);

    /// Without a connection: what the remote may have and has not acknowledged, of which the next
    /// connection still knows.
    fn held(&mut self) -> impl Future<Output = Vec<u64>> + Send {
        std::future::ready(Vec::new())
    }

    /// What the client library has counted on this connection, if it does, for the state.
    fn statistics(&self) -> Option<Arc<Map<String, Value>>> {
        None
    }
}

/// What a connector of some kind is told.
#[derive(Debug)]
pub enum Settings {
    /// MQTT.
    Mqtt(Box<mqtt::Settings>),
    /// AMQP 0-9-1.
    #[cfg(feature = "amqp091")]
    Amqp091(Box<amqp091::Settings>),
    /// AMQP 1.0.
    #[cfg(feature = "amqp10")]
    Amqp10(Box<amqp10::Settings>),
    /// Kafka.
    #[cfg(feature = "kafka")]
    Kafka(Box<kafka::Settings>),
    /// RocketMQ.
    #[cfg(feature = "rocketmq")]
    Rocketmq(Box<rocketmq::Settings>),
}

/// A connection that the remote has accepted.
#[derive(Debug)]
pub struct Connected<S, R> {
    /// The way out.
    pub sink: S,
    /// The way in.
    pub source: R,
    /// Sequences that an earlier connection took and that still settle; all others are unknown to
    /// the sink and are to be submitted again.
    pub held: Vec<u64>,
    /// Where the connection leads, for state and log.
    pub remote: String,
    /// The name of the node at the far end, if it says so.
    pub peer: Option<String>,
    /// What was agreed on is less than what was asked for.
    pub warnings: Vec<String>,
}

impl<S, R> Connected<S, R> {
    /// A connection that knows of nothing from before.
    pub(crate) fn new(sink: S, source: R, remote: String) -> Self {
        Self {
            sink,
            source,
            held: Vec::new(),
            remote,
            peer: None,
            warnings: Vec::new(),
        }
    }
}

/// The way to a remote system.
pub trait Sink: Send {
    /// Takes records, to be sent in this order. The caller bounds how many are unsettled.
    fn submit(&mut self, records: Vec<Record>);

    /// Waits until records are settled: the remote has acknowledged or refused them. Cancel safe.
    /// Answers without any when there are notes to be taken.
    ///
    /// # Errors
    /// The connection has ended.
    fn settled(&mut self) -> impl Future<Output = Result<Vec<Settled>, Failure>> + Send;

    /// What has to be kept before the sink goes on, since the last call, in order.
    fn take_notes(&mut self) -> Vec<Note> {
        Vec::new()
    }

    /// So many more notes are kept, counted over all connections.
    fn keep(&mut self, _count: usize) {}
}

/// The way from a remote system.
pub trait Source: Send {
    /// Waits until records have come. Cancel safe.
    ///
    /// # Errors
    /// The connection has ended.
    fn receive(&mut self) -> impl Future<Output = Result<Vec<Received>, Failure>> + Send;

    /// Acknowledges to the remote what has found its place here.
    fn accept(&mut self, receipts: Vec<Receipt>);

    /// Gives back to the remote what will never find a place here; protocols that cannot refuse
    /// acknowledge it.
    fn refuse(&mut self, receipts: Vec<Receipt>) {
        self.accept(receipts);
    }

    /// What the remote refuses while the connection goes on, since the last call.
    fn troubles(&mut self) -> Vec<String>;

    /// Whether the troubles have ended since the last call.
    fn has_recovered(&mut self) -> bool;
}

/// The end of a submitted record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which record.
    pub sequence: u64,
    /// Whether the remote has it.
    pub result: Result<(), Failure>,
}

/// A record from the remote, and how to acknowledge it.
#[derive(Debug)]
pub struct Received {
    /// What came.
    pub record: Record,
    /// To be given to [`Source::accept`].
    pub receipt: Receipt,
    /// Its place, if it came from a log that is read in order.
    pub bookmark: Option<Bookmark>,
}

/// Stands for one received record that is not yet acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt(pub(crate) Token);

/// What a protocol needs to acknowledge a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// MQTT.
    Mqtt(mqtt::Receipt),
    /// AMQP 0-9-1 and 1.0.
    #[cfg(any(feature = "amqp091", feature = "amqp10"))]
    Delivery(redelivered::Delivery),
    /// Kafka.
    #[cfg(feature = "kafka")]
    Position(kafka::Position),
    /// RocketMQ.
    #[cfg(feature = "rocketmq")]
    Handle(rocketmq::Handle),
}

impl Receipt {
    /// The remote's identifier, if the record is to be kept together with it.
    pub fn packet_id(self) -> Option<PacketId> {
        self.mqtt()?.packet_id_at_qos_2()
    }

    fn mqtt(self) -> Option<mqtt::Receipt> {
        match self.0 {
            Token::Mqtt(receipt) => Some(receipt),
            #[cfg(any(
                feature = "amqp091",
                feature = "amqp10",
                feature = "kafka",
                feature = "rocketmq"
            ))]
            _ => None,
        }
    }

    #[cfg(any(feature = "amqp091", feature = "amqp10"))]
    fn delivery(self) -> Option<redelivered::Delivery> {
        match self.0 {
            Token::Delivery(delivery) => Some(delivery),
            _ => None,
        }
    }

    #[cfg(feature = "kafka")]
    fn position(self) -> Option<kafka::Position> {
        match self.0 {
            Token::Position(position) => Some(position),
            _ => None,
        }
    }

    #[cfg(feature = "rocketmq")]
    fn handle(self) -> Option<rocketmq::Handle> {
        match self.0 {
            Token::Handle(handle) => Some(handle),
            _ => None,
        }
    }
}
