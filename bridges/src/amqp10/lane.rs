//! One link on the way out: what waits for it, and how much it may send.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Settings;
use super::dialect::Place;
use super::performative::{Attach, LinkFlow, code};
use super::session::{Credit, Role, Session, left_of};
use super::wire::Wire;
use crate::{Failure, Record};

/// A link to one address.
#[derive(Debug)]
pub(super) struct Lane {
    /// Without one it leads to the server itself, and messages say where they go.
    pub(super) address: Option<String>,
    name: String,
    /// What we call it, and the server, once it does.
    pub(super) handle: u32,
    their_handle: Option<u32>,
    pub(super) phase: Phase,
    /// Not sent yet.
    pub(super) queue: VecDeque<(Record, Place)>,
    /// Sent and not settled.
    pub(super) unsettled: usize,
    /// Something that was sent over it is settled.
    pub(super) has_delivered: bool,
    delivery_count: u32,
    credit: u32,
    /// The server wants the credit back that nothing is there for.
    drains: bool,
    /// The largest message that it takes, 0 is any.
    pub(super) message_bytes_max: u64,
    starving: Option<Starving>,
}

/// Where a link is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The server has not answered yet, or has refused and not said why.
    Attaching,
    Attached,
    /// We have left it; the server has not heard of it yet.
    Leaving,
}

/// Something waits for credit.
#[derive(Debug)]
struct Starving {
    since: Instant,
    is_said: bool,
}

impl Lane {
    /// Attaches a link.
    pub(super) fn attach(
        address: Option<String>,
        handle: u32,
        number: u64,
        settings: &Settings,
        session: &Session,
        wire: &mut Wire,
    ) -> Self {
        let name = format!("{}-out-{number}", settings.name);
        session.attach(wire, &name, handle, Role::Sender, |fields| {
            fields.some(|it| it.composite(code::SOURCE, |_| {}));
            fields.some(|it| {
                settings
                    .dialect
                    .target(address.as_deref(), settings.target, it);
            });
            // unsettled, incomplete-unsettled
            fields.none(2);
            fields.some(|it| it.uint(0));
        });
        Self {
            address,
            name,
            handle,
            their_handle: None,
            phase: Phase::Attaching,
            queue: VecDeque::new(),
            unsettled: 0,
            has_delivered: false,
            delivery_count: 0,
            credit: 0,
            drains: false,
            message_bytes_max: 0,
            starving: None,
        }
    }

    /// Whether an answer of this name is about this link, which had none yet.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.their_handle.is_none() && self.name == name
    }

    /// The server has answered; if it has not granted the link, it says why.
    pub(super) fn attached(&mut self, answer: &Attach<'_>) {
        self.their_handle = Some(answer.handle);
        self.message_bytes_max = answer.message_bytes_max;
        if answer.is_granted && self.phase == Phase::Attaching {
            self.phase = Phase::Attached;
        }
    }

    pub(super) fn is(&self, their_handle: u32) -> bool {
        self.their_handle == Some(their_handle)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.unsettled == 0
    }

    /// The server says how much it takes (section 2.6.7).
    pub(super) fn learn(&mut self, flow: &LinkFlow) {
        let told = flow.delivery_count.unwrap_or(0);
        self.credit = left_of(flow.credit, told, self.delivery_count);
        self.drains = flow.drains;
    }

    pub(super) fn may_send(&self) -> bool {
        self.phase == Phase::Attached && self.credit > 0
    }

    /// A message is sent.
    pub(super) fn sent(&mut self) {
        self.delivery_count = self.delivery_count.wrapping_add(1);
        self.credit = self.credit.saturating_sub(1);
        self.unsettled += 1;
    }

    /// Gives credit back that nothing is there for, if the server wants it; what it is to be told.
    pub(super) fn drain(&mut self) -> Option<Credit> {
        if !self.drains || !self.queue.is_empty() || self.phase != Phase::Attached {
            return None;
        }
        self.delivery_count = self.delivery_count.wrapping_add(self.credit);
        self.credit = 0;
        let state = self.state();
        self.drains = false;
        Some(state)
    }

    pub(super) fn state(&self) -> Credit {
        Credit {
            handle: self.handle,
            delivery_count: self.delivery_count,
            credit: self.credit,
            drains: self.drains,
        }
    }

    /// Something waits that cannot be sent.
    pub(super) fn starves(&mut self) {
        self.starving.get_or_insert_with(|| Starving {
            since: Instant::now(),
            is_said: false,
        });
    }

    /// Nothing waits any more; whether it had been said that something does.
    pub(super) fn is_fed(&mut self) -> bool {
        self.starving.take().is_some_and(|it| it.is_said)
    }

    /// What is to be said of a link that has waited for long.
    pub(super) fn complaint(&mut self) -> Option<String> {
        let starving = self.starving.as_mut()?;
        if starving.is_said || starving.since.elapsed() < CREDIT_PATIENCE {
            return None;
        }
        starving.is_said = true;
        Some(self.lack())
    }

    /// # Errors
    /// The server has not answered for so long; for credit it may take any time.
    pub(super) fn check(&self, patience: Duration) -> Result<(), Failure> {
        match &self.starving {
            Some(it) if self.phase == Phase::Attaching && it.since.elapsed() >= patience => {
                Err(Failure::retry(self.lack()))
            }
            _ => Ok(()),
        }
    }

    fn lack(&self) -> String {
        let address = self.address.as_deref().unwrap_or("anything");
        match self.phase {
            Phase::Attaching => format!("the server does not answer the link to {address}"),
            _ => format!("the server gives no credit to send to {address}"),
        }
    }
}

/// How long a message waits for credit until the state says so.
const CREDIT_PATIENCE: Duration = Duration::from_secs(1);
