//! Kafka as a client, by librdkafka.
//!
//! Owns a producer and a consumer. A record is settled once the server has acknowledged it, as told
//! by the delivery callback; an offset is committed once all records up to it are accepted. Clients
//! outlive lost connections: librdkafka sends again what was in flight, and the server knows it.

mod assign;
mod bookmarks;
mod client;
mod convert;
mod cursor;
mod events;
mod failure;
mod offsets;
mod settings;
mod sink;
mod source;
mod statistics;
mod tokens;
mod topics;
mod transactions;

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::consumer::Consumer as _;
use rdkafka::producer::Producer as _;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

pub use offsets::Position;
pub use settings::{ConsumerSettings, ExactlyOnce, ProducerSettings, Settings, Start, Tls};
pub use sink::KafkaSink;
pub use tokens::{Token, TokenSource};
pub use topics::{topic_of, topics_of};

use assign::Assigner;
use bookmarks::Bookmarks;
use cursor::Cursor;
use events::Events;
use offsets::Offsets;
use sink::{Producer, Window};
use source::{Consumer, Reader};
use transactions::Transactions;

use crate::ports::{Ports, Working};
use crate::{Connected, Connector, Failure, Note, PortSource};

/// A Kafka client that connects again and again.
pub struct KafkaConnector {
    settings: Arc<Settings>,
    /// Counts connections.
    connections: u64,
    running: Option<Running>,
    bookmarks: Arc<Bookmarks>,
    /// What the queue is known as, if an earlier process has said so.
    remembered: Option<String>,
    /// Of this process alone.
    process: String,
}

/// The clients of a connection.
#[derive(Clone, Default)]
struct Clients {
    producer: Option<Arc<Producer>>,
    consumer: Option<Arc<Consumer>>,
}

struct Running {
    ports: Arc<Ports>,
    events: Arc<Events>,
    clients: Clients,
    reader: Option<Working>,
    writer: Option<Working>,
}

impl KafkaConnector {
    /// A client without a connection.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            connections: 0,
            running: None,
            bookmarks: Arc::default(),
            remembered: None,
            process: random_word(),
        }
    }

    /// An earlier process has noted what the queue is known as ([`Note::Begin`]).
    pub fn remember_queue(&mut self, session: &str) {
        self.remembered = Some(session.to_owned());
    }

    /// Begins where an earlier process was: up to there it has kept what it received.
    pub fn remember<'a>(&self, bookmarks: impl Iterator<Item = (&'a str, u64)>) {
        self.bookmarks.restore(bookmarks);
    }

    fn create(&self, events: &Arc<Events>) -> Result<Clients, Failure> {
        let settings = &*self.settings;
        let config = client::common(settings)?;
        let mut clients = Clients::default();
        if let Some(own) = &settings.producer {
            clients.producer = Some(Arc::new(client::producer(
                config.clone(),
                own,
                settings.ack_timeout,
                events,
            )?));
        }
        if let Some(own) = &settings.consumer {
            clients.consumer = Some(Arc::new(client::consumer(config, own, events)?));
        }
        Ok(clients)
    }

    /// The way out by transactions, from where the last of them was.
    async fn begin_writer(
        &mut self,
        (producer, of_producer): (Arc<Producer>, Arc<ProducerSettings>),
        own: Arc<ExactlyOnce>,
        events: &Arc<Events>,
    ) -> Result<KafkaSink, Failure> {
        let settings = Arc::clone(&self.settings);
        let resumed = {
            let (producer, own) = (Arc::clone(&producer), Arc::clone(&own));
            let (settings, runtime) = (Arc::clone(&settings), Handle::current());
            spawn_blocking(move || transactions::resume(&producer, &settings, &own, &runtime))
        };
        let found = resumed
            .await
            .unwrap_or_else(|error| Err(Failure::retry(error)))?;
        let (queue, note) = match &self.remembered {
            Some(queue) => (queue.clone(), None),
            None => {
                let session = self.process.clone();
                (session.clone(), Some(Note::Begin { session }))
            }
        };
        let cursor = match found {
            Some(found) => found.carried_on(&queue, &self.process),
            None => Cursor::new(&queue, &self.process),
        };
        let ports = Arc::new(Ports::default());
        let writer = Transactions {
            producer,
            events: Arc::clone(events),
            ports: Arc::clone(&ports),
            settings: of_producer,
            own,
            cursor,
            note,
            ack_timeout: settings.ack_timeout,
            runtime: Handle::current(),
            waiting: VecDeque::new(),
        };
        let (sink, _) = ports.ends();
        if let Some(running) = &mut self.running {
            running.writer = Some(Working::begin(&ports, async move {
                // A panic of it ends the connection as well.
                let _ = spawn_blocking(move || writer.run()).await;
            }));
        }
        Ok(KafkaSink::of_transactions(sink))
    }

    async fn end(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        running.ports.close("closed");
        running.ports.fail(Failure::retry("closed"));
        for mut working in running.reader.into_iter().chain(running.writer) {
            working.end().await;
        }
        // The end commits offsets, leaves the group and waits for threads. A panic of the library
        // there is nobody's concern any more.
        let _ = spawn_blocking(move || drop(running.clients)).await;
    }
}

impl Connector for KafkaConnector {
    type Sink = KafkaSink;
    type Source = PortSource;

    async fn connect(&mut self) -> Result<Connected<KafkaSink, PortSource>, Failure> {
        self.end().await;
        self.connections += 1;
        let settings = Arc::clone(&self.settings);
        let ports = Arc::new(Ports::default());
        let required = settings.producer.as_ref().map(|it| it.topics.clone());
        let events = Arc::new(Events::new(
            Arc::clone(&ports),
            required.unwrap_or_default(),
            settings.tokens.clone(),
        ));
        let clients = self.create(&events)?;
        self.running = Some(Running {
            ports: Arc::clone(&ports),
            events: Arc::clone(&events),
            clients: clients.clone(),
            reader: None,
            writer: None,
        });
        greet(clients.clone(), Arc::clone(&settings)).await?;
        let producer = clients.producer.zip(settings.producer.clone());
        let exactly_once = settings.producer.as_ref();
        let exactly_once = exactly_once.and_then(|it| it.exactly_once.clone());
        let sink = match (producer, exactly_once) {
            (Some(producer), Some(own)) => self.begin_writer(producer, own, &events).await?,
            (producer, _) => {
                let events = Arc::clone(&events);
                KafkaSink::new(Window::new(producer, events, settings.ack_timeout))
            }
        };
        let way_in = clients.consumer.zip(settings.consumer.clone());
        if let (Some(running), Some((consumer, own))) = (&mut self.running, way_in) {
            client::subscribe(&consumer, &own)?;
            let reader = Reader {
                consumer,
                events,
                offsets: Offsets::new(&own.group, self.connections),
                assigner: Assigner {
                    bookmarks: Arc::clone(&self.bookmarks),
                    settings: own,
                    patience: settings.connect_timeout,
                },
                runtime: Handle::current(),
            };
            running.reader = Some(Working::begin(&ports, async move {
                // A panic of it ends the connection as well.
                let _ = spawn_blocking(move || reader.run()).await;
            }));
        }
        let (_, source) = ports.ends();
        Ok(Connected::new(sink, source, settings.servers.clone()))
    }

    async fn close(&mut self) {
        self.end().await;
    }

    fn change(&mut self, settings: crate::Settings) {
        if let crate::Settings::Kafka(settings) = settings {
            self.settings = Arc::from(settings);
        }
    }

    fn statistics(&self) -> Option<Arc<Map<String, Value>>> {
        let running = self.running.as_ref()?;
        Some(running.events.numbers())
    }
}

/// Different in each process, with near certainty.
fn random_word() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Waits for a server on a thread of its own, which ends soon after this is dropped.
async fn greet(clients: Clients, settings: Arc<Settings>) -> Result<(), Failure> {
    struct GivesUp(Arc<AtomicBool>);
    impl Drop for GivesUp {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_given_up = Arc::new(AtomicBool::new(false));
    let gives_up = GivesUp(Arc::clone(&is_given_up));
    let greeted = spawn_blocking(move || {
        let is_given_up = || is_given_up.load(Ordering::Relaxed);
        match (&clients.producer, &clients.consumer) {
            (Some(producer), _) => client::greet(producer.client(), &settings, is_given_up),
            (None, Some(consumer)) => client::greet(consumer.client(), &settings, || {
                client::serve(consumer);
                is_given_up()
            }),
            (None, None) => Err(Failure::refused("nothing goes in either direction")),
        }
    });
    let greeted = greeted.await;
    drop(gives_up);
    greeted.unwrap_or_else(|error| Err(Failure::retry(error)))
}
