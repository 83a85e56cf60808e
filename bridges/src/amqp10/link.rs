//! The task of a connection: hands orders to the links of both ways, and ends with any of them.

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::connection::ConnectionHandle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::inward::{Delivery, Inward, Verdict};
use super::outcome::connection_end;
use super::outward::{Outward, Way};
use super::{Opened, Settings};
use crate::ports::{Orders, Ports};
use crate::{Failure, Receipt};

/// A connection at work.
pub(super) struct Link {
    number: u64,
    ports: Arc<Ports>,
    connection: ConnectionHandle<()>,
    outward: Outward,
    inward: Option<Consuming>,
}

/// The task of the way in.
struct Consuming {
    orders: mpsc::Sender<Verdict>,
    task: JoinHandle<Failure>,
}

impl Drop for Consuming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    pub(super) fn new(
        opened: Opened,
        ports: &Arc<Ports>,
        settings: &Arc<Settings>,
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
            let inward = Inward::new(settings, source, ports, session, number, received);
            Consuming {
                orders,
                task: tokio::spawn(inward.run(receiver)),
            }
        });
        Self {
            number,
            ports: Arc::clone(ports),
            connection: opened.connection,
            outward,
            inward,
        }
    }

    /// Works until the connection ends, and says why it did.
    pub(super) async fn run(mut self) {
        let failure = match self.serve().await {
            Ok(why) => Failure::retry(why),
            Err(failure) => failure,
        };
        self.ports.fail(failure);
        // The server may be gone already; there is nothing more to tell it.
        let _ = timeout(GOODBYE, self.connection.close()).await;
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
            self.judge(Verdict::Accept, accepted);
            self.judge(Verdict::Reject, refused);
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

    fn judge(&self, verdict: fn(Vec<Delivery>) -> Verdict, receipts: Vec<Receipt>) {
        let Some(inward) = &self.inward else {
            return;
        };
        // What came over an earlier connection is delivered again over this one.
        let deliveries = receipts.into_iter().filter_map(Receipt::amqp10);
        let own: Vec<Delivery> = deliveries
            .filter(|it| it.connection == self.number)
            .collect();
        if !own.is_empty() {
            // There is room for each delivery that has credit; a way in that has ended says so.
            let _ = inward.orders.try_send(verdict(own));
        }
    }
}

/// Waits until the way in has ended, if there is one. Cancel safe.
async fn ended(inward: &mut Option<Consuming>) -> Failure {
    match inward {
        Some(inward) => match (&mut inward.task).await {
            Ok(failure) => failure,
            Err(_) => Failure::retry("the link on the way in broke off"),
        },
        None => std::future::pending().await,
    }
}

const TICK: Duration = Duration::from_millis(250);
const GOODBYE: Duration = Duration::from_secs(2);
