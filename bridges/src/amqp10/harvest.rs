//! What some frames have brought, for the two ends of a connection.

use crate::ports::Ports;
use crate::{Failure, Received, Settled};

/// Gathered, and handed over at once.
#[derive(Debug, Default)]
pub(super) struct Harvest {
    settled: Vec<Settled>,
    pub(super) received: Vec<Received>,
    pub(super) troubles: Vec<String>,
    /// What was said of troubles is true no more.
    pub(super) has_recovered: bool,
}

impl Harvest {
    pub(super) fn settle(&mut self, sequence: u64, result: Result<(), Failure>) {
        self.settled.push(Settled { sequence, result });
    }

    /// Hands everything over.
    pub(super) fn hand_over(&mut self, ports: &Ports) {
        self.troubles.drain(..).for_each(|it| ports.trouble(it));
        let has_recovered = std::mem::take(&mut self.has_recovered);
        if self.settled.is_empty() && self.received.is_empty() && !has_recovered {
            return;
        }
        ports.leave(|boxes| {
            boxes.settled.append(&mut self.settled);
            boxes.received.append(&mut self.received);
            boxes.has_recovered |= has_recovered;
        });
    }
}
