//! The task of a connection: hands orders to the links of both ways, and ends with any of them.

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::connection::ConnectionHandle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::inward::{Inward, Verdict};
use super::outcome::connection_end;
use super::outward::{Outward, Way};
use super::{Opened, Settings};
use crate::ports::{Orders, Ports};
use crate::redelivered::{Delivery, Redelivered};
use crate::{Failure, Receipt};

/// A connection at work.
pub(super) struct Link {
    number: u64,
    ports: Arc<Ports>,
    connection: ConnectionHandle<()>,
    outward: Outward,
    inward: Option<Consuming>,
    redelivered: Arc<Redelivered>,
}

/// The task of the way in.
struct Consuming {
    orders: mpsc::Sender<Verdict>,
    task: Owned,
}

/// A task that ends with its owner.
struct Owned(Option<JoinHandle<Failure>>);

impl Owned {
    /// Waits until the task has ended; once it has, for ever. Cancel safe.
    async fn ended(&mut self) -> Failure {
        let Some(task) = &mut self.0 else {
            return std::future::pending().await;
        };
        let ended = task.await;
        self.0 = None;
        ended.unwrap_or_else(|_| Failure::retry("the link on the way in broke off"))
    }

    /// Waits for a task that ends by itself, unless it has.
    async fn finish(&mut self) {
        if self.0.is_some() {
            self.ended().await;
        }
    }

    /// Ends a task that does not.
    async fn abort(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
        self.finish().await;
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Link {
    pub(super) fn new(
        opened: Opened,
        ports: &Arc<Ports>,
        settings: &Arc<Settings>,
        redelivered: Arc<Redelivered>,
        number: u64,
    ) -> Self {
        let mut outward = Outward::new(Way::new(settings, ports, opened.outward));
        if let Some((address, sender)) = opened.sender {
            outward.attached(address, sender);
        }
        let inward = opened.inward.map(|(session, source, receiver)| {
            // Each order is about at least one of so many.
            let room = usize::try_from(settings.credit).unwrap_or(usize::MAX);
            let (orders, received) = mpsc::channel(room.max(1));
            let known = Arc::clone(&redelivered);
            let inward = Inward::new(settings, source, ports, known, session, number, received);
            Consuming {
                orders,
                task: Owned(Some(tokio::spawn(inward.run(receiver)))),
            }
        });
        Self {
            number,
            ports: Arc::clone(ports),
            connection: opened.connection,
            outward,
            inward,
            redelivered,
        }
    }

    /// Works until the connection ends, and says why it did.
    pub(super) async fn run(mut self) {
        let failure = match self.serve().await {
            Ok(why) => Failure::retry(why),
            Err(failure) => failure,
        };
        self.end_inward().await;
        self.ports.fail(failure);
        // The server may be gone already; there is nothing more to tell it.
        let _ = timeout(GOODBYE, self.connection.close()).await;
    }

    /// A connection that closes does not wait for what its sessions have to say: verdicts of just
    /// now would be lost. And what is received after the failure is known would be taken by nobody.
    async fn end_inward(&mut self) {
        if let Some(Consuming { orders, mut task }) = self.inward.take() {
            drop(orders);
            if timeout(GOODBYE, task.finish()).await.is_err() {
                task.abort().await;
            }
        }
    }

    /// Ends without an error when somebody wants to close, and says why.
    async fn serve(&mut self) -> Result<&'static str, Failure> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Orders {
                submitted,
                accepted,
                refused,
                closing,
                ..
            } = self.ports.take_orders();
            self.outward.submit(submitted);
            self.judge(Verdict::Accept, Redelivered::accept, accepted);
            self.judge(Verdict::Reject, Redelivered::refuse, refused);
            if let Some(why) = closing {
                return Ok(why);
            }
            self.outward.dispatch();
            // Cancel safe: `notified` keeps its permit, a tick that is not taken comes again, and
            // whoever has ended stays so.
            tokio::select! {
                end = self.connection.on_close() => return Err(connection_end(end)),
                failure = self.outward.ended() => return Err(failure),
                failure = ended(&mut self.inward) => return Err(failure),
                () = self.ports.to_task.notified() => {}
                _ = ticks.tick() => self.outward.check()?,
            }
        }
    }

    fn judge(
        &self,
        verdict: fn(Vec<u64>) -> Verdict,
        latest: fn(&Redelivered, Delivery) -> Delivery,
        receipts: Vec<Receipt>,
    ) {
        let deliveries = receipts.into_iter().filter_map(Receipt::delivery);
        let latest = deliveries.map(|it| latest(&self.redelivered, it));
        // What came over an earlier connection is delivered again over this one.
        let own: Vec<u64> = latest
            .filter(|it| it.connection == self.number)
            .map(|it| it.number)
            .collect();
        if let Some(inward) = &self.inward
            && !own.is_empty()
        {
            // There is room for each delivery that has credit; a way in that has ended says so.
            let _ = inward.orders.try_send(verdict(own));
        }
    }
}

/// Waits until the way in has ended, if there is one. Cancel safe.
async fn ended(inward: &mut Option<Consuming>) -> Failure {
    match inward {
        Some(inward) => inward.task.ended().await,
        None => std::future::pending().await,
    }
}

const TICK: Duration = Duration::from_millis(250);
const GOODBYE: Duration = Duration::from_secs(1);
