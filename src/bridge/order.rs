//! What operators ask of bridges while they run.

use std::thread;
use std::time::Duration;

use super::command::Wish;
use super::running::Running;
use super::{BridgeError, Bridges, parts};
use crate::config::spelling::similar;
use crate::shard::Shared;

/// What an operator asks of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeOrder {
    /// Say how it is.
    State,
    /// Rest; the queue is filled.
    Pause,
    /// Go on.
    Resume,
    /// Send what waits, take nothing new, then rest.
    Drain,
    /// Drop what waits.
    Purge,
}

impl Bridges {
    /// Carries out what an operator asks for; answers the state as JSON.
    pub(crate) fn order(
        &mut self,
        name: &str,
        order: BridgeOrder,
        shared: &Shared,
    ) -> Result<String, BridgeError> {
        let known: Vec<&str> = self.running.iter().map(|it| &*it.bridge.name).collect();
        let meant = similar(name, known.iter().copied());
        let meant = meant.map_or_else(String::new, |it| format!("; did you mean {it:?}?"));
        let problem = match known.is_empty() {
            true => "is not there: no bridge runs".to_owned(),
            false => format!("is not there; running: {}{meant}", known.join(", ")),
        };
        let refused = |problem| BridgeError {
            bridge: name.to_owned(),
            problem,
        };
        let running = self.running.iter_mut();
        let mut parts: Vec<&mut Running> = running
            .filter(|it| parts::belongs_to(&it.bridge.name, name))
            .collect();
        if parts.is_empty() {
            return Err(refused(problem));
        }
        if order.needs_one_that_is_on() && parts.iter().any(|it| it.wish == Wish::Off) {
            let problem = "is off: set enabled = true and reload";
            return Err(refused(problem.to_owned()));
        }
        parts.iter_mut().for_each(|it| it.obey(order, shared));
        await_states(&parts, order);
        let states: Vec<String> = parts.iter().map(|it| it.status.text()).collect();
        Ok(match &states[..] {
            [state] => state.clone(),
            _ => format!("[{}]", states.join(",")),
        })
    }
}

impl BridgeOrder {
    fn needs_one_that_is_on(self) -> bool {
        matches!(self, Self::Pause | Self::Resume | Self::Drain)
    }
}

/// What is answered is how the bridge is then, unless it takes longer.
fn await_states(parts: &[&mut Running], order: BridgeOrder) {
    let has_obeyed = |it: &&mut Running| match (order, it.status.word()) {
        (BridgeOrder::State | BridgeOrder::Purge, _) => true,
        (BridgeOrder::Pause, word) => word == "paused",
        (BridgeOrder::Drain, word) => matches!(word, "draining" | "drained"),
        (BridgeOrder::Resume, word) => !matches!(word, "paused" | "drained" | "ended"),
    };
    for _ in 0..ANSWER_STEPS {
        if parts.iter().all(has_obeyed) {
            return;
        }
        thread::sleep(ANSWER_STEP);
    }
}

/// How long an operator's order is given until the state is answered.
const ANSWER_STEPS: u32 = 50;
const ANSWER_STEP: Duration = Duration::from_millis(10);
