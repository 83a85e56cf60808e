//! The thread of one shard: its sockets, its flush task and its clock.

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::Notify;

use super::connection::Link;
use super::mailbox::Mailbox;
use super::recheck::Rechecks;
use super::socket::PeerAddress;
use crate::clock::Clock;
use crate::exchange::ShardId;
use crate::log_limit::LogKind;
use crate::shard::{Key, Mail, Shard};
use crate::store::Store;

/// A shard and everything that connects it to the world; never leaves its thread.
pub(crate) struct Driver {
    pub(crate) shard: RefCell<Shard>,
    pub(crate) clock: Clock,
    pub(crate) links: RefCell<HashMap<Key, Rc<Link>>>,
    /// The one buffer that every connection of the shard reads into.
    pub(crate) read_buffer: RefCell<Box<[u8]>>,
    wake: Arc<Notify>,
    mailboxes: Arc<[Mailbox]>,
    store: Arc<Store>,
    /// They go on reading when all mailboxes have room.
    waiting_publishers: RefCell<Vec<Waker>>,
    /// Connections to write, kept for its memory.
    touched: RefCell<Vec<Key>>,
    pub(super) rechecks: RefCell<Rechecks>,
}

impl Driver {
    pub(crate) fn new(
        shard: Shard,
        clock: Clock,
        mailboxes: Arc<[Mailbox]>,
        store: Arc<Store>,
    ) -> Self {
        let wake = mailboxes
            .get(usize::from(shard.id().0))
            .map(|mailbox| Arc::clone(&mailbox.wake))
            .unwrap_or_default();
        Self {
            shard: RefCell::new(shard),
            clock,
            links: RefCell::default(),
            read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice()),
            wake,
            mailboxes,
            store,
            waiting_publishers: RefCell::default(),
            touched: RefCell::default(),
            rechecks: RefCell::default(),
        }
    }

    /// Asks for a flush at the end of this turn.
    pub(crate) fn schedule_flush(&self) {
        self.wake.notify_one();
    }

    /// The flush task: mail in, timers, mail out, one write per touched connection. Never ends.
    pub(crate) async fn run(&self) {
        // Setting a timer costs more than a flush: it is set anew only when something else is due.
        let mut set_for_ms = None;
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            let due_ms = self.next_due_ms();
            if set_for_ms != due_ms
                && let Some(due_ms) = due_ms
            {
                let wait_ms = due_ms.saturating_sub(self.clock.now_ms()).max(1);
                sleep
                    .as_mut()
                    .reset(tokio::time::Instant::now() + Duration::from_millis(wait_ms));
            }
            set_for_ms = due_ms;
            // Cancel safe: `notified` keeps its permit, and the sleep goes on.
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep.as_mut(), if due_ms.is_some() => set_for_ms = None,
            }
            // A panic in one flush is logged by the hook and must not stop the shard.
            if catch_unwind(AssertUnwindSafe(|| self.flush())).is_err() {
                tracing::error!("a flush panicked; the shard goes on");
                self.schedule_flush();
            }
        }
    }

    fn next_due_ms(&self) -> Option<u64> {
        if self.is_rechecking() {
            // After those who wait for this turn to end.
            return Some(self.clock.now_ms());
        }
        self.shard.borrow().next_due_ms()
    }

    /// One round of everything that waits.
    pub(crate) fn flush(&self) {
        let now_ms = self.clock.now_ms();
        self.shard.borrow_mut().tick(now_ms);
        self.take_own_mail(now_ms);
        self.recheck_some(now_ms);
        self.send_mail();
        // What receivers have settled in time is answered by the store at once.
        self.take_own_mail(now_ms);
        let mut touched = self.touched.take();
        self.shard.borrow_mut().take_touched(&mut touched);
        for key in touched.drain(..) {
            self.write(key, now_ms);
        }
        self.touched.replace(touched);
        self.send_mail();
        if !self.waiting_publishers.borrow().is_empty() && !self.is_mail_stuck() {
            for waker in self.waiting_publishers.take() {
                waker.wake();
            }
        }
    }

    /// Takes in messages that have come since the flush: whoever is about to be heard may have
    /// waited for the acknowledgement of one, and comes after it.
    pub(crate) fn take_messages(&self, now_ms: u64) {
        let own = usize::from(self.shard.borrow().id().0);
        if self.mailboxes.get(own).is_some_and(Mailbox::has_messages) {
            self.take_own_mail(now_ms);
        }
    }

    fn take_own_mail(&self, now_ms: u64) {
        let mut shard = self.shard.borrow_mut();
        let own = shard.id();
        let Some(mailbox) = self.mailboxes.get(usize::from(own.0)) else {
            return;
        };
        let (mut mail, was_full) = mailbox.take();
        if was_full {
            // Publishers on other shards may wait for room.
            self.mailboxes.iter().for_each(|it| it.wake.notify_one());
        }
        for _ in 0..OWN_MAIL_ROUNDS {
            for mail in mail.drain(..) {
                match mail {
                    Mail::Recheck(recheck) => self.begin_recheck(&recheck),
                    mail => shard.take_in(mail, now_ms),
                }
            }
            mail = shard.take_mail(own);
            if mail.is_empty() {
                return;
            }
        }
        drop(shard);
        self.deliver_mail(own, mail);
    }

    /// Whether a publisher has to wait because a mailbox is full; it is woken afterwards.
    pub(crate) fn holds_back(&self, publisher: Key, waker: &Waker) -> bool {
        let has_to_wait = self.is_mail_stuck() && self.shard.borrow().is_publisher(publisher);
        if has_to_wait {
            self.waiting_publishers.borrow_mut().push(waker.clone());
            // The mailbox may have been emptied since it was looked at.
            self.schedule_flush();
        }
        has_to_wait
    }

    fn is_mail_stuck(&self) -> bool {
        self.mailboxes.iter().any(Mailbox::is_full) || self.store.is_congested()
    }

    /// A connection has ended before it had a session: it is counted, and logged unless there are
    /// too many.
    pub(crate) fn refused(&self, peer: PeerAddress, error: &dyn std::error::Error) {
        self.shard.borrow().count_refused();
        if self.may_log(LogKind::Refused) {
            // Quoted, since the text of an error may come from the peer.
            let reason = error.to_string();
            tracing::info!(%peer, reason, "connection refused");
        }
    }

    pub(crate) fn may_log(&self, kind: LogKind) -> bool {
        let now_ms = self.clock.now_ms();
        self.shard.borrow_mut().may_log(kind, now_ms)
    }

    pub(crate) fn shutdown_seconds(&self) -> u32 {
        self.shard.borrow().shutdown_seconds()
    }

    /// Hands over what is to be kept, before the mail that tells others of it leaves.
    fn submit(&self) {
        let mut shard = self.shard.borrow_mut();
        let work = shard.take_store_work();
        let id = shard.id();
        drop(shard);
        if let Some(batch) = work.batch {
            self.store
                .submit(id, batch.ticket, batch.operations, batch.awaited);
        }
        for (request, load) in work.loads {
            self.store.load(id, request, load);
        }
    }

    fn send_mail(&self) {
        self.submit();
        for (number, _) in (0u16..).zip(self.mailboxes.iter()) {
            let to = ShardId(number);
            let mail = self.shard.borrow_mut().take_mail(to);
            if !mail.is_empty() {
                self.deliver_mail(to, mail);
            }
        }
    }

    fn deliver_mail(&self, to: ShardId, mail: Vec<Mail>) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(to.0)) {
            let dropped = mailbox.put(mail);
            if dropped > 0 {
                self.shard.borrow().count_dropped(dropped);
            }
        }
    }

    /// Writes what a connection has, as far as its socket takes it.
    fn write(&self, key: Key, now_ms: u64) {
        let Some(link) = self.links.borrow().get(&key).map(Rc::clone) else {
            return;
        };
        let mut transport = link.transport.borrow_mut();
        let mut shard = self.shard.borrow_mut();
        let mut is_held = false;
        while let Some(output) = shard.output(key) {
            if output.is_abandoned {
                link.fail();
                return;
            }
            if output.buffer.is_empty() {
                // Its own task flushes what TLS or WebSocket still hold.
                if output.is_closing || is_held {
                    link.wake();
                }
                return;
            }
            match transport.try_write(output.buffer) {
                Ok(taken) => {
                    is_held = taken.is_held;
                    shard.written(key, taken.bytes);
                    shard.drained(key, now_ms);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Its own task waits for the socket.
                    link.wake();
                    return;
                }
                Err(_) => {
                    link.fail();
                    return;
                }
            }
        }
    }
}

const READ_BUFFER_BYTES: usize = 65_536;
/// Share groups answer their own shard's mail; more rounds wait for the next turn.
const OWN_MAIL_ROUNDS: usize = 8;
