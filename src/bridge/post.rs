//! Mail between one bridge and its home shard.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::command::{Command, Wish};
use crate::clock::Clock;
use crate::exchange::{BridgeId, ShardId};
use crate::net::mailbox::Mailbox;
use crate::shard::{BridgeReport, BridgeRequest, Mail};

/// What a bridge sends to its home shard, a batch at a time.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) id: BridgeId,
    pub(super) home: ShardId,
    pub(super) mailboxes: Arc<[Mailbox]>,
    pub(super) clock: Clock,
    pub(super) batch: Vec<Mail>,
}

impl Post {
    pub(super) fn add(&mut self, request: BridgeRequest) {
        let bridge = self.id;
        self.batch.push(Mail::BridgeRequest { bridge, request });
    }

    pub(super) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if let Some(mailbox) = self.mailboxes.get(usize::from(self.home.0)) {
            // Requests are never dropped: what they hold is bounded by the windows of the bridge.
            mailbox.put(std::mem::take(&mut self.batch));
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

/// What the home shard and the server have for a bridge; reports are bounded by what the bridge has
/// not settled, commands by what operators ask for.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    reports: Mutex<Vec<BridgeReport>>,
    commands: Mutex<Vec<Command>>,
    pub(super) wake: Notify,
}

impl Inbox {
    pub(super) fn put(&self, report: BridgeReport) {
        self.reports.lock().push(report);
        self.wake.notify_one();
    }

    pub(super) fn tell(&self, command: Command) {
        self.commands.lock().push(command);
        self.wake.notify_one();
    }

    pub(super) fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut *self.commands.lock())
    }

    /// Whether a bridge that has a connection is told anything else than it does already.
    pub(super) fn asks_for_more(&self, wish: Wish) -> bool {
        let mut commands = self.commands.lock();
        let is_done = |it: &&Command| matches!(it, Command::Be(asked) if *asked == wish);
        let done = commands.iter().take_while(is_done).count();
        commands.drain(..done);
        !commands.is_empty()
    }

    pub(super) fn has_commands(&self) -> bool {
        !self.commands.lock().is_empty()
    }

    pub(super) fn take(&self) -> Vec<BridgeReport> {
        std::mem::take(&mut *self.reports.lock())
    }
}
