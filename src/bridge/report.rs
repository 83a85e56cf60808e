//! What a bridge says about itself: `$SYS` topics and log lines.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::message::{Header, Message};
use crate::metrics::BridgeMetrics;

/// What the last operations of a bridge did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No connection was made yet.
    Connecting,
    /// Connected.
    Up { remote: String },
    /// Connected, but not everything works.
    Degraded { remote: String, reason: String },
    /// Connected, to send what waits and nothing new.
    Draining { remote: String },
    /// Not connected; another attempt follows.
    Down { reason: String },
    /// Not connected: too little waits.
    Idle,
    /// Not connected: it was to connect once.
    Ended,
    /// Told to rest; the queue is filled.
    Paused,
    /// Told to rest when everything was sent; the queue is not filled.
    Drained,
    /// The configuration says that it is off.
    Off,
    /// The broker stops.
    Stopped,
}

/// How a bridge is, for everybody to read.
#[derive(Debug)]
pub(super) struct Status {
    name: String,
    known: Mutex<Known>,
    pub(super) metrics: Arc<BridgeMetrics>,
}

#[derive(Debug)]
struct Known {
    state: State,
    since_ms: u64,
    last_error: Option<String>,
    /// What the client library counts.
    statistics: Option<Arc<Map<String, Value>>>,
}

/// Keeps the state and writes it down.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) name: String,
    pub(super) status: Arc<Status>,
    pub(super) metrics: Arc<BridgeMetrics>,
    /// The counters as last published.
    published: Option<String>,
}

impl Reporter {
    pub(super) fn new(name: &str) -> Self {
        let metrics: Arc<BridgeMetrics> = Arc::default();
        Self {
            name: name.to_owned(),
            status: Arc::new(Status {
                name: name.to_owned(),
                known: Mutex::new(Known {
                    state: State::Connecting,
                    since_ms: 0,
                    last_error: None,
                    statistics: None,
                }),
                metrics: Arc::clone(&metrics),
            }),
            metrics,
            published: None,
        }
    }

    /// Changes the state; a state that repeats is logged at a lower level.
    pub(super) fn change(&self, state: State, now_ms: u64) {
        let bridge = &*self.name;
        let mut known = self.status.known.lock();
        let is_new = state != known.state;
        match &state {
            State::Up { remote } => tracing::info!(bridge, remote, "bridge is up"),
            State::Degraded { remote, reason } => {
                tracing::warn!(bridge, remote, reason, "bridge is degraded");
            }
            State::Down { reason } if is_new => {
                let waiting = self.metrics.queue_messages.value();
                tracing::warn!(bridge, reason, waiting, "bridge is down");
            }
            State::Down { reason } => tracing::debug!(bridge, reason, "bridge is still down"),
            State::Idle => tracing::debug!(bridge, "bridge is idle"),
            State::Draining { .. } | State::Ended | State::Paused | State::Drained | State::Off => {
                tracing::info!(bridge, state = state.word(), "bridge obeys");
            }
            State::Connecting | State::Stopped => {}
        }
        if let State::Degraded { reason, .. } | State::Down { reason } = &state {
            known.last_error = Some(reason.clone());
        }
        if is_new {
            known.since_ms = now_ms;
            known.state = state;
        }
    }

    /// The retained messages of the state, if it changed since they were last made.
    pub(super) fn messages(&mut self) -> Vec<Message> {
        let text = self.status.text();
        if self.published.as_ref() == Some(&text) {
            return Vec::new();
        }
        let is_up = self.status.known.lock().state.remote().is_some();
        let messages = self.topics(&text, if is_up { "1" } else { "0" });
        self.published = Some(text);
        messages
    }

    /// Takes the retained messages away: the bridge is gone.
    pub(super) fn farewell(&self) -> Vec<Message> {
        self.topics("", "")
    }

    fn topics(&self, text: &str, flag: &str) -> Vec<Message> {
        let name = &self.name;
        vec![
            retained(&format!("$SYS/bridges/{name}/state"), text),
            // mosquitto's name, for dashboards that know it.
            retained(&format!("$SYS/broker/connection/{name}/state"), flag),
        ]
    }
}

impl State {
    fn word(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Up { .. } => "up",
            Self::Degraded { .. } => "degraded",
            Self::Draining { .. } => "draining",
            Self::Down { .. } => "down",
            Self::Idle => "idle",
            Self::Ended => "ended",
            Self::Paused => "paused",
            Self::Drained => "drained",
            Self::Off => "off",
            Self::Stopped => "stopped",
        }
    }

    fn remote(&self) -> Option<&str> {
        match self {
            Self::Up { remote } | Self::Degraded { remote, .. } | Self::Draining { remote } => {
                Some(remote)
            }
            _ => None,
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Degraded { reason, .. } | Self::Down { reason } => Some(reason),
            _ => None,
        }
    }
}

impl Status {
    /// The state in one word.
    pub(super) fn word(&self) -> &'static str {
        self.known.lock().state.word()
    }

    /// What the client library counts now.
    pub(super) fn note(&self, statistics: Option<Arc<Map<String, Value>>>) {
        self.known.lock().statistics = statistics;
    }

    /// All of it as JSON.
    pub(super) fn text(&self) -> String {
        let known = self.known.lock();
        let count = &self.metrics;
        let mut text = json!({
            "name": self.name,
            "state": known.state.word(),
            "remote": known.state.remote(),
            "reason": known.state.reason(),
            "last_error": known.last_error,
            "since_uptime_seconds": known.since_ms / 1_000,
            "connects": count.connects.value(),
            "queue_messages": count.queue_messages.value(),
            "queue_bytes": count.queue_bytes.value(),
            "sent": count.sent.value(),
            "received": count.received.value(),
            "held_back": count.held_back.value(),
            "retried": count.retried.value(),
            "dropped": {
                "overflow": count.dropped_overflow.value(),
                "expired": count.dropped_expired.value(),
                "poison": count.dropped_poison.value(),
                "mapping": count.dropped_mapping.value(),
                "loop": count.dropped_loop.value(),
                "purged": count.dropped_purged.value() + count.dropped_purged_lent.value(),
            },
        });
        let statistics = known.statistics.as_ref().filter(|it| !it.is_empty());
        if let Some(statistics) = statistics {
            text["statistics"] = Value::Object(Map::clone(statistics));
        }
        text.to_string()
    }
}

fn retained(topic: &str, payload: &str) -> Message {
    let header = Header {
        retain: true,
        ..Header::default()
    };
    Message::new(topic, &[], payload.as_bytes(), header)
}
