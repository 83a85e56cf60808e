//! From the configuration of a bridge to one that can run.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tidewire_bridges::Settings;
#[cfg(feature = "amqp10")]
use tidewire_bridges::amqp10::Amqp10Connector;
#[cfg(feature = "amqp091")]
use tidewire_bridges::amqp091::Amqp091Connector;
#[cfg(feature = "kafka")]
use tidewire_bridges::kafka::KafkaConnector;
use tidewire_bridges::mqtt::MqttConnector;
#[cfg(feature = "rocketmq")]
use tidewire_bridges::rocketmq::RocketmqConnector;
use tidewire_protocol::codec::{ProtocolVersion, QoS};
use tidewire_protocol::topic::TopicFilter;
use tokio::sync::watch;

use super::command::Change;
use super::map::Map;
use super::naming::Naming;
use super::post::{Inbox, Post};
use super::queues::Kept;
use super::report::{Reporter, Status};
use super::runner::{Runner, Tools};
use super::{BridgeError, home_of, settings};
use crate::clock::Clock;
use crate::config::{Bridge, BridgeKind};
use crate::exchange::{Binding, BridgeId, Destination, Part};
use crate::net::mailbox::Mailbox;
use crate::queue::BridgeQueueLimits;
use crate::shard::{BridgeRequest, Mail, Shared};
use crate::store::QueueId;

/// A bridge that is ready to run.
pub(super) struct Prepared {
    pub(super) id: BridgeId,
    pub(super) inbox: Arc<Inbox>,
    pub(super) running: Task,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What bridges and shards have in common.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) mailboxes: Arc<[Mailbox]>,
    pub(super) clock: Clock,
    /// The name of this process.
    pub(super) epoch: String,
    pub(super) stopped: watch::Receiver<bool>,
}

/// Turns a configuration into what a bridge works by; fails for files that cannot be used and for
/// filters that cannot be bound.
pub(super) fn change(
    id: BridgeId,
    bridge: &Bridge,
    shared: &Shared,
    is_durable: bool,
) -> Result<Change, BridgeError> {
    let node = shared.config.node.as_deref().unwrap_or_default();
    let levels_max = shared.config.limits.topic_levels_max;
    let map = Map::new(bridge, id, node, levels_max)?;
    let settings = match bridge.kind {
        BridgeKind::Mqtt => {
            let settings = settings::settings(bridge, &map, node, &shared.config, is_durable)?;
            Settings::Mqtt(Box::new(settings))
        }
        #[cfg(feature = "amqp091")]
        BridgeKind::Amqp091 => {
            Settings::Amqp091(Box::new(super::amqp091::settings(bridge, &map, node)?))
        }
        #[cfg(not(feature = "amqp091"))]
        BridgeKind::Amqp091 => return Err(super::kinds::not_built(bridge)),
        #[cfg(feature = "amqp10")]
        BridgeKind::Amqp10 => Settings::Amqp10(Box::new(super::amqp10::settings(bridge, node)?)),
        #[cfg(not(feature = "amqp10"))]
        BridgeKind::Amqp10 => return Err(super::kinds::not_built(bridge)),
        #[cfg(feature = "kafka")]
        BridgeKind::Kafka => Settings::Kafka(Box::new(settings::kafka(bridge, &map, node)?)),
        #[cfg(not(feature = "kafka"))]
        BridgeKind::Kafka => return Err(super::kinds::not_built(bridge)),
        #[cfg(feature = "rocketmq")]
        BridgeKind::Rocketmq => {
            Settings::Rocketmq(Box::new(super::rocketmq::settings(bridge, &map, node)?))
        }
        #[cfg(not(feature = "rocketmq"))]
        BridgeKind::Rocketmq => return Err(super::kinds::not_built(bridge)),
    };
    check_filters(bridge, &map, levels_max)?;
    Ok(Change {
        bridge: bridge.clone(),
        map,
        settings,
    })
}

/// Makes the task of a bridge.
pub(super) fn prepare(
    id: BridgeId,
    change: Change,
    shared: &Shared,
    surroundings: &Surroundings,
    kept: Option<&Kept>,
) -> (Prepared, Arc<Status>) {
    let Change {
        bridge,
        map,
        settings,
    } = change;
    let inbox: Arc<Inbox> = Arc::default();
    let reporter = Reporter::new(&bridge.name);
    let status = Arc::clone(&reporter.status);
    let node = shared.config.node.as_deref().unwrap_or_default();
    let tools = Tools {
        map,
        naming: Naming::new(node, &bridge.name, &surroundings.epoch),
        post: Post {
            id,
            home: home_of(id, shared),
            mailboxes: Arc::clone(&surroundings.mailboxes),
            clock: surroundings.clock,
            batch: Vec::new(),
        },
        inbox: Arc::clone(&inbox),
        reporter,
        sys_seconds: shared.config.sys_interval_seconds,
        shutdown_seconds: shared.config.mqtt.shutdown_seconds,
    };
    let runner = Runner::new(&bridge, tools);
    let running = run_as(settings, runner, kept, surroundings.stopped.clone());
    (Prepared { id, inbox, running }, status)
}

/// The task of a bridge.
type Task = Pin<Box<dyn Future<Output = BridgeId> + Send>>;

/// Goes on with a bridge that is of this kind from now on, with what the store has for it.
pub(super) fn run_as<C>(
    settings: Settings,
    runner: Runner<C>,
    kept: Option<&Kept>,
    stopped: watch::Receiver<bool>,
) -> Task {
    match settings {
        Settings::Mqtt(settings) => {
            let mut connector = MqttConnector::new(*settings);
            if let Some(remembered) = kept.and_then(|it| it.remembered.as_ref()) {
                connector.remember(remembered);
            }
            Box::pin(runner.with(connector).run(stopped))
        }
        #[cfg(feature = "amqp091")]
        Settings::Amqp091(settings) => {
            let connector = Amqp091Connector::new(*settings);
            Box::pin(runner.with(connector).run(stopped))
        }
        #[cfg(feature = "amqp10")]
        Settings::Amqp10(settings) => {
            let connector = Amqp10Connector::new(*settings);
            Box::pin(runner.with(connector).run(stopped))
        }
        #[cfg(feature = "kafka")]
        Settings::Kafka(settings) => {
            let mut connector = KafkaConnector::new(*settings);
            if let Some(kept) = kept {
                if let Some(remembered) = &kept.remembered {
                    connector.remember_queue(&remembered.session);
                }
                let bookmarks = kept.bookmarks.iter();
                connector.remember(bookmarks.map(|(name, next)| (&**name, *next)));
            }
            Box::pin(runner.with(connector).run(stopped))
        }
        #[cfg(feature = "rocketmq")]
        Settings::Rocketmq(settings) => {
            let connector = RocketmqConnector::new(*settings);
            Box::pin(runner.with(connector).run(stopped))
        }
    }
}

/// What the home shard is told before anything is queued.
pub(super) fn open(id: BridgeId, bridge: &Bridge, status: &Status) -> Mail {
    let request = BridgeRequest::Open {
        limits: queue_limits(bridge),
        metrics: Arc::clone(&status.metrics),
    };
    Mail::BridgeRequest {
        bridge: id,
        request,
    }
}

/// Binds the queue of a bridge to filters that are valid.
pub(super) fn bind(
    id: BridgeId,
    part: Part,
    filters: &[String],
    shared: &Shared,
    store: Option<QueueId>,
) {
    for filter in parsed(filters, shared) {
        let binding = Binding {
            destination: destination(id, part, shared),
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            subscription_id: None,
            version: ProtocolVersion::V5,
            // The rules of the bridge say what crosses.
            is_checked: false,
            store,
        };
        shared.exchange.bind(filter, binding);
    }
}

pub(super) fn unbind(id: BridgeId, part: Part, filters: &[String], shared: &Shared) {
    for filter in parsed(filters, shared) {
        shared
            .exchange
            .unbind(filter, destination(id, part, shared));
    }
}

fn check_filters(bridge: &Bridge, map: &Map, levels_max: usize) -> Result<(), BridgeError> {
    for filter in map.local_filters() {
        TopicFilter::parse(filter, levels_max).map_err(|error| BridgeError {
            bridge: bridge.name.clone(),
            problem: format!("{filter:?}: {error}"),
        })?;
    }
    Ok(())
}

fn parsed<'a>(
    filters: &'a [String],
    shared: &Shared,
) -> impl Iterator<Item = TopicFilter<'a>> + use<'a> {
    let levels_max = shared.config.limits.topic_levels_max;
    let filters = filters.iter();
    filters.filter_map(move |it| TopicFilter::parse(it, levels_max).ok())
}

fn destination(id: BridgeId, part: Part, shared: &Shared) -> Destination {
    Destination::Bridge {
        shard: home_of(id, shared),
        bridge: id,
        part,
    }
}

fn queue_limits(bridge: &Bridge) -> BridgeQueueLimits {
    let age_ms_max = bridge.queue_age_seconds_max.saturating_mul(1_000);
    let inflight_max = match bridge.kind {
        BridgeKind::Kafka => usize::try_from(bridge.kafka.inflight_max).unwrap_or(usize::MAX / 2),
        BridgeKind::Mqtt | BridgeKind::Amqp091 | BridgeKind::Amqp10 | BridgeKind::Rocketmq => {
            usize::from(bridge.inflight_max)
        }
    };
    BridgeQueueLimits {
        messages_max: bridge.queue_messages_max,
        bytes_max: bridge.queue_bytes_max,
        age_ms_max: (age_ms_max > 0).then_some(age_ms_max),
        overflow: bridge.queue_overflow,
        lent_max: BridgeQueueLimits::default().lent_max.max(2 * inflight_max),
    }
}
