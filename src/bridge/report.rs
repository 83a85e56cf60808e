//! What a bridge says about itself: `$SYS` topics and log lines.

use std::sync::Arc;

use serde_json::json;

use crate::message::{Header, Message};
use crate::metrics::BridgeMetrics;

/// What the last operations of a bridge did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No connection was made yet.
    Connecting,
    /// Connected; the reason says what is less than asked for.
    Up { remote: String },
    /// Connected, but not everything works.
    Degraded { remote: String, reason: String },
    /// Not connected; another attempt follows.
    Down { reason: String },
    /// The broker stops.
    Stopped,
}

/// Keeps the state and writes it down.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) metrics: Arc<BridgeMetrics>,
    since_ms: u64,
    last_error: Option<String>,
    /// The counters as last published.
    published: Option<String>,
}

impl Reporter {
    pub(super) fn new(name: &str, metrics: Arc<BridgeMetrics>) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Connecting,
            metrics,
            since_ms: 0,
            last_error: None,
            published: None,
        }
    }

    /// Changes the state; a state that repeats is logged at a lower level.
    pub(super) fn change(&mut self, state: State, now_ms: u64) {
        let bridge = &*self.name;
        let is_new = state != self.state;
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
            State::Connecting | State::Stopped => {}
        }
        if let State::Degraded { reason, .. } | State::Down { reason } = &state {
            self.last_error = Some(reason.clone());
        }
        if is_new {
            self.since_ms = now_ms;
            self.state = state;
        }
    }

    /// The retained messages of the state, if it changed since they were last made.
    pub(super) fn messages(&mut self) -> Vec<Message> {
        let text = self.text();
        if self.published.as_ref() == Some(&text) {
            return Vec::new();
        }
        let is_up = matches!(self.state, State::Up { .. } | State::Degraded { .. });
        let name = &self.name;
        let messages = vec![
            retained(&format!("$SYS/broker/bridge/{name}/state"), &text),
            // mosquitto's name, for dashboards that know it.
            retained(
                &format!("$SYS/broker/connection/{name}/state"),
                if is_up { "1" } else { "0" },
            ),
        ];
        self.published = Some(text);
        messages
    }

    fn text(&self) -> String {
        let (state, remote, reason) = match &self.state {
            State::Connecting => ("connecting", None, None),
            State::Up { remote } => ("up", Some(remote), None),
            State::Degraded { remote, reason } => ("degraded", Some(remote), Some(reason)),
            State::Down { reason } => ("down", None, Some(reason)),
            State::Stopped => ("stopped", None, None),
        };
        let count = &self.metrics;
        json!({
            "state": state,
            "remote": remote,
            "reason": reason,
            "last_error": self.last_error,
            "since_uptime_seconds": self.since_ms / 1_000,
            "connects": count.connects.value(),
            "queue_messages": count.queue_messages.value(),
            "queue_bytes": count.queue_bytes.value(),
            "sent": count.sent.value(),
            "received": count.received.value(),
            "retried": count.retried.value(),
            "dropped": {
                "overflow": count.dropped_overflow.value(),
                "expired": count.dropped_expired.value(),
                "poison": count.dropped_poison.value(),
                "mapping": count.dropped_mapping.value(),
                "loop": count.dropped_loop.value(),
            },
        })
        .to_string()
    }
}

fn retained(topic: &str, payload: &str) -> Message {
    let header = Header {
        retain: true,
        ..Header::default()
    };
    Message::new(topic, &[], payload.as_bytes(), header)
}
