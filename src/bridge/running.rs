//! One bridge while it runs: told what to do, and bound to what it takes.

use std::sync::Arc;

use super::command::{Change, Command, Wish};
use super::order::BridgeOrder;
use super::post::Inbox;
use super::prepare::{Surroundings, bind, open, unbind};
use super::report::Status;
use super::{BridgeError, filters_of, parts};
use crate::config::Bridge;
use crate::exchange::{BridgeId, Part};
use crate::shard::Shared;
use crate::store::QueueId;

/// One bridge, as the server sees it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: BridgeId,
    pub(super) bridge: Bridge,
    /// What its queue is bound to while its wish says so.
    pub(super) filters: Vec<String>,
    pub(super) store: Option<QueueId>,
    pub(super) wish: Wish,
    pub(super) inbox: Arc<Inbox>,
    pub(super) status: Arc<Status>,
}

impl Running {
    pub(super) fn obey(&mut self, order: BridgeOrder, shared: &Shared) {
        match order {
            BridgeOrder::State => {}
            BridgeOrder::Purge => self.inbox.tell(Command::Purge),
            BridgeOrder::Pause => self.be(Wish::Pause, shared),
            BridgeOrder::Resume => {
                self.be(Wish::Run, shared);
                // One that was to connect once is at its end without another wish.
                self.inbox.tell(Command::Be(Wish::Run));
            }
            BridgeOrder::Drain => self.be(Wish::Drain, shared),
        }
    }

    /// Goes on by another configuration; `None` turns it off.
    pub(super) fn change(
        &mut self,
        change: Option<Change>,
        shared: &Shared,
        surroundings: &Surroundings,
    ) {
        let Some(change) = change else {
            self.bridge.enabled = false;
            self.be(Wish::Off, shared);
            return;
        };
        let filters = filters_of(&change);
        let is_obsolete = |it: &&String| !filters.contains(it);
        let obsolete: Vec<String> = self.filters.iter().filter(is_obsolete).cloned().collect();
        unbind(self.id, self.part(), &obsolete, shared);
        let is_divided_anew = self.part() != parts::share_of(&change.bridge);
        self.filters = filters;
        self.bridge = change.bridge.clone();
        surroundings.mail(self.id, shared, open(self.id, &self.bridge, &self.status));
        self.inbox.tell(Command::Change(Box::new(change)));
        let wish = match self.wish {
            Wish::Off => Wish::Run,
            // It was drained for this.
            _ if is_divided_anew => Wish::Run,
            wish => wish,
        };
        self.be(wish, shared);
    }

    pub(super) fn has_something_left(&self) -> bool {
        let is_bound = self.wish.is_bound();
        is_bound || self.status.metrics.queue_messages.value() > 0
    }

    /// While messages go from one connection to another, they would overtake each other.
    pub(super) fn check_connections(&self, new: &Bridge) -> Result<(), BridgeError> {
        if self.part() == parts::share_of(new) || !self.has_something_left() {
            return Ok(());
        }
        let key = match self.bridge.connections == new.connections {
            true => "connections_by",
            false => "connections",
        };
        let name = new.name.split_once(':').map_or(&*new.name, |it| it.0);
        Err(BridgeError {
            bridge: name.to_owned(),
            problem: format!(
                "{key} cannot change while messages come or wait, since they would lose their \
                 order: drain it first (tidewire bridge {name} drain), then reload"
            ),
        })
    }

    pub(super) fn part(&self) -> Part {
        parts::share_of(&self.bridge)
    }

    pub(super) fn be(&mut self, wish: Wish, shared: &Shared) {
        if wish.is_bound() {
            bind(self.id, self.part(), &self.filters, shared, self.store);
        } else {
            unbind(self.id, self.part(), &self.filters, shared);
        }
        if wish != self.wish {
            self.wish = wish;
            self.inbox.tell(Command::Be(wish));
        }
    }
}
