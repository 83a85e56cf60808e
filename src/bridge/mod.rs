//! Bridges: our side of the connectors.
//!
//! Owns a thread with a runtime of its own, on which each bridge is one task: it maps topics,
//! passes messages on, acknowledges and reports. Where messages wait is the home shard's affair;
//! what the other broker speaks is the connector's. Both are reached by plain values: mail here,
//! records there.

mod backoff;
mod dial;
mod map;
mod post;
mod queues;
mod report;
mod runner;
mod settings;

use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tidewire_bridges::Connector;
#[cfg(feature = "amqp091")]
use tidewire_bridges::amqp091::Amqp091Connector;
use tidewire_bridges::mqtt::MqttConnector;
use tidewire_protocol::codec::{ProtocolVersion, QoS};
use tidewire_protocol::topic::TopicFilter;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::{Bridge, BridgeKind, Config};
use crate::exchange::{Binding, BridgeId, Destination, ShardId};
use crate::metrics::BridgeMetrics;
use crate::net::handshake::random_bytes;
use crate::net::mailbox::Mailbox;
use crate::queue::BridgeQueueLimits;
use crate::shard::{BridgeRequest, Mail, Shared};
use crate::store::QueueId;

use map::Map;
use post::{Inbox, Post};
pub(crate) use queues::{BridgeQueues, restore_queues};
use report::Reporter;
use runner::Runner;

/// The running bridges of a broker.
#[derive(Debug)]
pub struct Bridges {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Why a bridge cannot work as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bridge {bridge:?}: {problem}")]
pub struct BridgeError {
    /// Its name.
    pub bridge: String,
    /// What is wrong.
    pub problem: String,
}

/// Checks the files that bridges need: certificates and keys.
///
/// # Errors
/// The first file that cannot be used.
pub fn check(config: &Config) -> Result<(), BridgeError> {
    config.bridges.iter().try_for_each(|bridge| {
        dial::dial(bridge)?;
        dial::credentials(bridge)
            .map(drop)
            .map_err(|failure| BridgeError {
                bridge: bridge.name.clone(),
                problem: failure.to_string(),
            })
    })
}

/// A name for a node that was given none.
pub fn node_name() -> String {
    let random: [u8; 8] = random_bytes();
    random
        .iter()
        .fold(String::new(), |name, byte| format!("{name}{byte:02x}"))
}

impl Bridges {
    /// Binds the queues and starts the bridges; `None` if there are none. To be called before the
    /// shards start, so that no message is missed.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        mailboxes: &Arc<[Mailbox]>,
        clock: Clock,
        queues: &BridgeQueues,
    ) -> Result<Option<Self>, BridgeError> {
        let (stop, stopped) = watch::channel(false);
        let mut runners = Vec::new();
        for (number, bridge) in (0u16..).zip(&shared.config.bridges) {
            if bridge.enabled {
                let (id, stopped) = (BridgeId(number), stopped.clone());
                let prepared = prepare(id, bridge, shared, mailboxes, clock, stopped)?;
                bind(id, bridge, &prepared.filters, shared, queues.of(id))?;
                runners.push(prepared);
            }
        }
        if runners.is_empty() {
            return Ok(None);
        }
        let mailboxes = Arc::clone(mailboxes);
        let address = usize::from(shared.shards);
        let thread = thread::Builder::new()
            .name("bridges".to_owned())
            .spawn(move || run(runners, &mailboxes, address));
        let thread = thread.map_err(|error| BridgeError {
            bridge: "all".to_owned(),
            problem: format!("cannot start a thread: {error}"),
        })?;
        Ok(Some(Self {
            stop,
            thread: Some(thread),
        }))
    }
}

/// Says goodbye to the other brokers and waits until all bridges have ended.
impl Drop for Bridges {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let ended = self.thread.take().map(JoinHandle::join);
        if ended.is_some_and(|ended| ended.is_err()) {
            tracing::error!("the thread of the bridges panicked");
        }
    }
}

/// A bridge that is ready to run.
struct Prepared {
    id: BridgeId,
    /// What its queue is bound to.
    filters: Vec<String>,
    inbox: Arc<Inbox>,
    running: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// The shard where the queue of a bridge lives.
fn home_of(id: BridgeId, shared: &Shared) -> ShardId {
    ShardId(id.0 % shared.shards.max(1))
}

/// Opens the queue of a bridge.
fn prepare(
    id: BridgeId,
    bridge: &Bridge,
    shared: &Shared,
    mailboxes: &Arc<[Mailbox]>,
    clock: Clock,
    stopped: watch::Receiver<bool>,
) -> Result<Prepared, BridgeError> {
    let node = shared.config.node.as_deref().unwrap_or_default();
    let levels_max = shared.config.limits.topic_levels_max;
    let map = Map::new(bridge, id, node, levels_max)?;
    let home = home_of(id, shared);
    let connector = AnyConnector::new(bridge, &map, node, &shared.config)?;
    let metrics: Arc<BridgeMetrics> = Arc::default();
    let open = BridgeRequest::Open {
        limits: queue_limits(bridge),
        metrics: Arc::clone(&metrics),
    };
    if let Some(mailbox) = mailboxes.get(usize::from(home.0)) {
        let request = open;
        mailbox.put(vec![Mail::BridgeRequest {
            bridge: id,
            request,
        }]);
    }
    let inbox: Arc<Inbox> = Arc::default();
    let post = Post {
        id,
        home,
        mailboxes: Arc::clone(mailboxes),
        clock,
        batch: Vec::new(),
    };
    let reporter = Reporter::new(&bridge.name, metrics);
    let filters = map.local_filters().map(str::to_owned).collect();
    let tools = Tools {
        map,
        post,
        inbox: Arc::clone(&inbox),
        reporter,
        sys_seconds: shared.config.sys_interval_seconds,
        shutdown_seconds: shared.config.mqtt.shutdown_seconds,
    };
    let running: Pin<Box<dyn Future<Output = ()> + Send>> = match connector {
        AnyConnector::Mqtt(connector) => Box::pin(tools.runner(bridge, *connector).run(stopped)),
        #[cfg(feature = "amqp091")]
        AnyConnector::Amqp091(connector) => Box::pin(tools.runner(bridge, *connector).run(stopped)),
    };
    Ok(Prepared {
        id,
        filters,
        inbox,
        running,
    })
}

/// What every bridge works with, whatever it speaks.
struct Tools {
    map: Map,
    post: Post,
    inbox: Arc<Inbox>,
    reporter: Reporter,
    sys_seconds: u32,
    shutdown_seconds: u32,
}

impl Tools {
    fn runner<C: Connector>(self, bridge: &Bridge, connector: C) -> Runner<C> {
        let Self {
            map,
            post,
            inbox,
            reporter,
            sys_seconds,
            shutdown_seconds,
        } = self;
        Runner::new(bridge, connector, map, post, inbox, reporter)
            .with_sys_interval(sys_seconds)
            .with_shutdown(shutdown_seconds)
    }
}

/// A connector of the kind that a bridge speaks.
enum AnyConnector {
    Mqtt(Box<MqttConnector>),
    #[cfg(feature = "amqp091")]
    Amqp091(Box<Amqp091Connector>),
}

impl AnyConnector {
    fn new(bridge: &Bridge, map: &Map, node: &str, config: &Config) -> Result<Self, BridgeError> {
        Ok(match bridge.kind {
            BridgeKind::Mqtt => {
                let settings = settings::settings(bridge, map, node, config)?;
                Self::Mqtt(Box::new(MqttConnector::new(settings)))
            }
            #[cfg(feature = "amqp091")]
            BridgeKind::Amqp091 => {
                let settings = settings::amqp091(bridge, node)?;
                Self::Amqp091(Box::new(Amqp091Connector::new(settings)))
            }
            #[cfg(not(feature = "amqp091"))]
            BridgeKind::Amqp091 => return Err(not_built(bridge)),
        })
    }
}

/// A kind that this build leaves out.
#[cfg(not(feature = "amqp091"))]
fn not_built(bridge: &Bridge) -> BridgeError {
    BridgeError {
        bridge: bridge.name.clone(),
        problem: "kind: \"amqp091\" is not in this build; built kinds: mqtt".to_owned(),
    }
}

/// Binds the queue of a bridge.
fn bind(
    id: BridgeId,
    bridge: &Bridge,
    filters: &[String],
    shared: &Shared,
    store: Option<QueueId>,
) -> Result<(), BridgeError> {
    for filter in filters {
        let parsed = TopicFilter::parse(filter, shared.config.limits.topic_levels_max);
        let parsed = parsed.map_err(|error| BridgeError {
            bridge: bridge.name.clone(),
            problem: format!("{filter:?}: {error}"),
        })?;
        let binding = Binding {
            destination: Destination::Bridge {
                shard: home_of(id, shared),
                bridge: id,
            },
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            subscription_id: None,
            version: ProtocolVersion::V5,
            // The rules of the bridge say what crosses.
            is_checked: false,
            store,
        };
        shared.exchange.bind(parsed, binding);
    }
    Ok(())
}

fn queue_limits(bridge: &Bridge) -> BridgeQueueLimits {
    let age_ms_max = bridge.queue_age_seconds_max.saturating_mul(1_000);
    BridgeQueueLimits {
        messages_max: bridge.queue_messages_max,
        bytes_max: bridge.queue_bytes_max,
        age_ms_max: (age_ms_max > 0).then_some(age_ms_max),
        overflow: bridge.queue_overflow,
        lent_max: BridgeQueueLimits::default()
            .lent_max
            .max(2 * usize::from(bridge.inflight_max)),
    }
}

/// The thread of the bridges.
fn run(runners: Vec<Prepared>, mailboxes: &Arc<[Mailbox]>, address: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(supervise(runners, mailboxes, address)),
        Err(error) => tracing::error!(%error, "the bridges have no runtime"),
    }
}

/// Hands out mail and joins the bridges.
async fn supervise(runners: Vec<Prepared>, mailboxes: &Arc<[Mailbox]>, address: usize) {
    let Some(mailbox) = mailboxes.get(address) else {
        return;
    };
    let mut inboxes = Vec::new();
    let mut tasks = JoinSet::new();
    for Prepared {
        id, inbox, running, ..
    } in runners
    {
        inboxes.push((id, inbox));
        tasks.spawn(running);
    }
    loop {
        // Cancel safe: `notified` keeps its permit, a task that has ended stays in the set.
        tokio::select! {
            () = mailbox.wake.notified() => hand_out(mailbox, &inboxes),
            ended = tasks.join_next() => match ended {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::error!(%error, "a bridge has ended"),
            },
        }
    }
}

fn hand_out(mailbox: &Mailbox, inboxes: &[(BridgeId, Arc<Inbox>)]) {
    let (mail, _) = mailbox.take();
    for mail in mail {
        let Mail::BridgeReport { bridge, report } = mail else {
            // Such as a new configuration, which bridges take at the next start only.
            continue;
        };
        if let Some((_, inbox)) = inboxes.iter().find(|(id, _)| *id == bridge) {
            inbox.put(report);
        }
    }
}
