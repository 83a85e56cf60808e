//! The thread of the bridges: mail is handed out, tasks are joined.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::post::Inbox;
use super::prepare::Prepared;
use crate::exchange::BridgeId;
use crate::net::mailbox::Mailbox;
use crate::shard::Mail;

/// Where bridges are handed in that are to run.
#[derive(Debug, Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    prepared: Vec<Prepared>,
    is_closed: bool,
}

impl Desk {
    pub(super) fn put(&self, prepared: Prepared) {
        self.state.lock().prepared.push(prepared);
        self.wake.notify_one();
    }

    /// Nothing more comes: the thread ends with the last bridge.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.wake.notify_one();
    }

    fn take(&self) -> Vec<Prepared> {
        std::mem::take(&mut self.state.lock().prepared)
    }
}

/// Runs all bridges until the desk is closed and the last of them has ended.
pub(super) fn run(desk: &Desk, mailboxes: &Arc<[Mailbox]>, address: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match (runtime, mailboxes.get(address)) {
        (Ok(runtime), Some(mailbox)) => runtime.block_on(supervise(desk, mailbox)),
        (Err(error), _) => tracing::error!(%error, "the bridges have no runtime"),
        (_, None) => debug_assert!(false, "the bridges have a mailbox"),
    }
}

async fn supervise(desk: &Desk, mailbox: &Mailbox) {
    let mut inboxes = Vec::new();
    let mut tasks = JoinSet::new();
    loop {
        // Before new bridges: each is on the desk before its shard can send it anything.
        let (mail, _) = mailbox.take();
        for Prepared { id, inbox, running } in desk.take() {
            inboxes.push((id, inbox));
            tasks.spawn(running);
        }
        hand_out(mail, &inboxes);
        if tasks.is_empty() && desk.state.lock().is_closed {
            return;
        }
        // Cancel safe: `notified` keeps its permit, a task that has ended stays in the set.
        tokio::select! {
            () = desk.wake.notified() => {}
            () = mailbox.wake.notified() => {}
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => match ended {
                Ok(id) => inboxes.retain(|(it, _)| *it != id),
                Err(error) => tracing::error!(%error, "a bridge has ended"),
            },
        }
    }
}

fn hand_out(mail: Vec<Mail>, inboxes: &[(BridgeId, Arc<Inbox>)]) {
    for mail in mail {
        let Mail::BridgeReport { bridge, report } = mail else {
            // A new configuration comes to each bridge by itself.
            continue;
        };
        if let Some((_, inbox)) = inboxes.iter().find(|(id, _)| *id == bridge) {
            inbox.put(report);
        }
    }
}
