//! One link on the way out: sends, waits for outcomes, and attaches again when it was detached.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fe2o3_amqp::link::delivery::DeliveryFut;
use fe2o3_amqp::link::{MessageSizeExceeded, SendError};
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{Data, Message, Outcome};
use fe2o3_amqp::{Sendable, Sender};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until};

use super::Settings;
use super::outcome::{self, LinkEnd, detached, result_of, send_end, sender_attach_error};
use super::outward::Way;
use crate::{Failure, Settled};

/// A record on its way to a link.
#[derive(Debug)]
pub(super) struct Outgoing {
    sequence: u64,
    message: Box<Sendable<Data>>,
    /// Its place in the window, free again when it is settled.
    room: OwnedSemaphorePermit,
}

impl Outgoing {
    pub(super) fn new(sequence: u64, message: Message<Data>, room: OwnedSemaphorePermit) -> Self {
        Self {
            sequence,
            message: Box::new(Sendable::from(message)),
            room,
        }
    }
}

/// A link to one address.
pub(super) struct Lane {
    way: Arc<Way>,
    address: Option<String>,
    number: u64,
    orders: mpsc::Receiver<Outgoing>,
    /// Records that are given to the link and not settled.
    load: Arc<AtomicUsize>,
    /// Sent and not settled, in this order.
    unsettled: VecDeque<InFlight>,
}

/// The outcome of a message, to come.
type Sending = DeliveryFut<Result<Outcome, SendError>>;

struct InFlight {
    sequence: u64,
    outcome: Sending,
    _room: OwnedSemaphorePermit,
}

/// Why a link is not used any more.
enum End {
    /// Nothing was in flight: it is attached again when there is something to send.
    Detached(Option<Outgoing>),
    /// Nobody has anything for it.
    Unused,
}

impl Lane {
    pub(super) fn new(
        way: Arc<Way>,
        address: Option<String>,
        number: u64,
        orders: mpsc::Receiver<Outgoing>,
        load: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            way,
            address,
            number,
            orders,
            load,
            unsettled: VecDeque::new(),
        }
    }

    /// Works until nobody has orders.
    ///
    /// # Errors
    /// The link has ended with records in flight, which have to be sent again in their order.
    pub(super) async fn run(mut self, mut sender: Option<Sender>) -> Result<(), Failure> {
        let mut first = None;
        loop {
            let mut attached = match sender.take() {
                Some(sender) => sender,
                None => {
                    let Some(order) = self.next_order(first.take()).await else {
                        return Ok(());
                    };
                    match self.attach().await {
                        Ok(sender) => {
                            first = Some(order);
                            sender
                        }
                        // One address of many is wrong: only what goes there is concerned.
                        Err(failure)
                            if self.address.is_some()
                                && outcome::is_about_the_address(&failure) =>
                        {
                            self.bury(order.sequence, failure.reason);
                            continue;
                        }
                        Err(failure) => return Err(failure),
                    }
                }
            };
            match self.serve(&mut attached, first.take()).await? {
                End::Detached(unsent) => first = unsent,
                End::Unused => {
                    // It may be gone already; there is nothing more to tell it.
                    let _ = attached.close().await;
                    return Ok(());
                }
            }
        }
    }

    async fn next_order(&mut self, first: Option<Outgoing>) -> Option<Outgoing> {
        match first {
            Some(order) => Some(order),
            None => self.orders.recv().await,
        }
    }

    async fn attach(&self) -> Result<Sender, Failure> {
        let mut session = self.way.session.lock().await;
        let settings = &self.way.settings;
        attach(&mut session, settings, self.address.as_deref(), self.number).await
    }

    async fn serve(
        &mut self,
        sender: &mut Sender,
        first: Option<Outgoing>,
    ) -> Result<End, Failure> {
        let mut next = first;
        loop {
            if let Some(order) = next.take()
                && let Some(end) = self.send(sender, order).await?
            {
                return Ok(end);
            }
            // Cancel safe: orders and outcomes stay where they are unless their arm completes, and
            // so does a detach.
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => next = Some(order),
                    None => return Ok(End::Unused),
                },
                settled = poll_fn(|context| poll_settled(&mut self.unsettled, context)) => {
                    self.settle(settled)?;
                }
                error = sender.on_detach() => return self.detached(detached(error), None),
            }
        }
    }

    /// Sends one message.
    async fn send(&mut self, sender: &mut Sender, order: Outgoing) -> Result<Option<End>, Failure> {
        let sequence = order.sequence;
        let sent = self.hand_over(sender, &order).await?;
        match sent {
            Ok(outcome) => {
                self.unsettled.push_back(InFlight {
                    sequence,
                    outcome,
                    _room: order.room,
                });
                Ok(None)
            }
            Err(SendError::MessageSizeExceeded(MessageSizeExceeded { size, max_size })) => {
                let text = format!("a message of {size} bytes: the link takes at most {max_size}");
                self.bury(sequence, text);
                Ok(None)
            }
            Err(error) => self.detached(send_end(error), Some(order)).map(Some),
        }
    }

    /// Waits for credit, and takes outcomes of earlier messages meanwhile.
    async fn hand_over(
        &mut self,
        sender: &mut Sender,
        order: &Outgoing,
    ) -> Result<Result<Sending, SendError>, Failure> {
        let mut sending = std::pin::pin!(sender.send_batchable_ref(&order.message));
        let mut patience = Some(Instant::now() + CREDIT_PATIENCE);
        let sent = loop {
            let over = patience.unwrap_or_else(Instant::now);
            // Cancel safe: the message is given up with this function only.
            tokio::select! {
                biased;
                sent = &mut sending => break sent,
                settled = poll_fn(|context| poll_settled(&mut self.unsettled, context)) => {
                    settle(&self.way, &self.load, settled)?;
                }
                () = sleep_until(over), if patience.is_some() => {
                    patience = None;
                    self.complain();
                }
            }
        };
        if patience.is_none() {
            self.way.ports.leave(|boxes| boxes.has_recovered = true);
        }
        Ok(sent)
    }

    /// The state says that the server lets us wait.
    fn complain(&self) {
        let address = self.address.as_deref().unwrap_or("anything");
        let text = format!("the server gives no credit to send to {address}");
        self.way.ports.trouble(text);
    }

    fn detached(&mut self, end: LinkEnd, unsent: Option<Outgoing>) -> Result<End, Failure> {
        // Outcomes may have come just before.
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(outcomes) = poll_settled(&mut self.unsettled, &mut context) {
            self.settle(outcomes)?;
        }
        match end {
            LinkEnd::Detached(_) if self.unsettled.is_empty() => Ok(End::Detached(unsent)),
            end => Err(end.into_failure()),
        }
    }

    fn settle(&self, outcomes: Vec<(u64, Result<Outcome, SendError>)>) -> Result<(), Failure> {
        settle(&self.way, &self.load, outcomes)
    }

    fn bury(&self, sequence: u64, reason: String) {
        let result = Err(Failure::poison(reason));
        leave(&self.way, &self.load, vec![Settled { sequence, result }]);
    }
}

/// Attaches a link to an address; without one, to the server itself.
pub(super) async fn attach(
    session: &mut SessionHandle<()>,
    settings: &Settings,
    address: Option<&str>,
    number: u64,
) -> Result<Sender, Failure> {
    let attaching = Sender::builder()
        .name(format!("{}-out-{number}", settings.name))
        .target(settings.dialect.target(address, settings.target))
        .attach(session);
    attaching.await.map_err(sender_attach_error)
}

/// Outcomes that have come, oldest first; servers settle in order, or nearly.
fn poll_settled(
    unsettled: &mut VecDeque<InFlight>,
    context: &mut Context<'_>,
) -> Poll<Vec<(u64, Result<Outcome, SendError>)>> {
    let mut outcomes = Vec::new();
    while let Some(oldest) = unsettled.front_mut()
        && let Poll::Ready(outcome) = Pin::new(&mut oldest.outcome).poll(context)
    {
        outcomes.push((oldest.sequence, outcome));
        unsettled.pop_front();
    }
    match outcomes.is_empty() {
        true => Poll::Pending,
        false => Poll::Ready(outcomes),
    }
}

fn settle(
    way: &Way,
    load: &AtomicUsize,
    outcomes: Vec<(u64, Result<Outcome, SendError>)>,
) -> Result<(), Failure> {
    let dialect = way.settings.dialect;
    let mut settled = Vec::with_capacity(outcomes.len());
    let mut end = Ok(());
    for (sequence, outcome) in outcomes {
        match outcome {
            Ok(outcome) => {
                let result = result_of(outcome, dialect);
                settled.push(Settled { sequence, result });
            }
            Err(error) => {
                end = Err(send_end(error).into_failure());
                break;
            }
        }
    }
    leave(way, load, settled);
    end
}

fn leave(way: &Way, load: &AtomicUsize, settled: Vec<Settled>) {
    way.made_progress();
    load.fetch_sub(settled.len(), Ordering::Relaxed);
    way.ports.leave(|boxes| boxes.settled.extend(settled));
    way.ports.to_task.notify_one();
}

/// How long a message waits for credit until the state says so.
const CREDIT_PATIENCE: Duration = Duration::from_secs(1);
