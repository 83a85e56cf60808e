//! The task of a connection: publishes, waits for confirms, consumes and acknowledges.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use lapin::options::{BasicAckOptions, BasicPublishOptions, BasicRejectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Connection, Consumer, Event};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::confirms::{Confirm, Confirming, Confirms, Content};
use super::convert::{properties_of, record_of, short};
use super::deliveries::{Arrival, Deliveries, Delivery};
use super::{Opened, Settings, failure_of};
use crate::ports::{Orders, Ports};
use crate::progress::Progress;
use crate::separators::exchange_separators;
use crate::{Failure, Receipt, Received, Record, Settled, Token};

/// A connection at work.
pub(super) struct Link {
    number: u64,
    settings: Arc<Settings>,
    ports: Arc<Ports>,
    connection: Connection,
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    publisher: Channel,
    exchange: ShortString,
    consumer: Option<(Channel, Consumer)>,
    deliveries: Arc<Mutex<Deliveries>>,
    /// Not published yet: the window is full or the server has blocked us.
    waiting: VecDeque<Record>,
    /// Published and not confirmed, in this order.
    unconfirmed: Confirms,
    is_blocked: bool,
    progress: Progress,
}

impl Link {
    pub(super) fn new(
        opened: Opened,
        ports: Arc<Ports>,
        settings: Arc<Settings>,
        deliveries: Arc<Mutex<Deliveries>>,
        number: u64,
    ) -> Self {
        Self {
            number,
            events: Box::pin(opened.connection.events_listener()),
            connection: opened.connection,
            publisher: opened.publisher,
            // It was declared under this name.
            exchange: short("exchange", &settings.exchange).unwrap_or_default(),
            consumer: opened.consumer,
            deliveries,
            waiting: VecDeque::new(),
            unconfirmed: Confirms::default(),
            is_blocked: false,
            progress: Progress::begin(),
            settings,
            ports,
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
        let _ = timeout(GOODBYE, self.connection.close(CLOSED, "closed".into())).await;
    }

    /// Ends without an error when somebody wants to close, and says why.
    async fn serve(&mut self) -> Result<&'static str, Failure> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(why) = self.take_orders() {
                return Ok(why);
            }
            self.publish();
            let may_receive = !self.ports.is_crowded();
            // Cancel safe: nothing is taken from a queue unless the arm completes, `notified`
            // keeps its permit, a tick that is not taken comes again.
            tokio::select! {
                event = poll_fn(|context| self.events.as_mut().poll_next(context)) => {
                    self.learn(event)?;
                }
                settled = poll_fn(|context| self.unconfirmed.poll_settled(context)) => {
                    self.settle(settled?);
                    self.progress.made();
                }
                received = received(&mut self.consumer), if may_receive => {
                    self.receive(received)?;
                }
                () = self.ports.to_task.notified() => {}
                _ = ticks.tick() => self.look_at_the_clock()?,
            }
        }
    }

    /// What the ends have left; a reason if the connection is to be closed.
    fn take_orders(&mut self) -> Option<&'static str> {
        let Orders {
            submitted,
            accepted,
            refused,
            closing,
            ..
        } = self.ports.take_orders();
        self.waiting.extend(submitted);
        for receipt in accepted {
            self.acknowledge(receipt);
        }
        for receipt in refused {
            self.reject(receipt);
        }
        closing
    }

    fn acknowledge(&self, receipt: Receipt) {
        if let Some((channel, tag)) = self.latest(receipt) {
            acknowledge(channel, tag);
        }
    }

    /// The server gives it to the dead letter exchange of the queue, if that has one.
    fn reject(&self, receipt: Receipt) {
        if let Some((channel, tag)) = self.latest(receipt) {
            let sending = channel.basic_reject(tag, BasicRejectOptions { requeue: false });
            let _ = begin(&mut std::pin::pin!(sending).as_mut());
        }
    }

    /// What the server calls a delivery now. Of an earlier connection it knows nothing any more:
    /// what it has not heard of, it delivers again.
    fn latest(&self, receipt: Receipt) -> Option<(&Channel, u64)> {
        let delivery = lock(&self.deliveries).accept(receipt.delivery()?);
        let (channel, _) = self.consumer.as_ref()?;
        (delivery.connection == self.number).then_some((channel, delivery.tag))
    }

    /// Publishes what the window has room for.
    fn publish(&mut self) {
        if self.is_blocked || self.unconfirmed.is_unclear() {
            return;
        }
        while self.unconfirmed.len() < self.settings.inflight_max
            && let Some(record) = self.waiting.pop_front()
        {
            if self.unconfirmed.is_empty() {
                self.progress.made();
            }
            let sequence = record.sequence;
            match content_of(&record, self.settings.priority) {
                Ok(content) => {
                    let confirming = self.publish_one(content.clone());
                    self.unconfirmed.push(sequence, content, confirming);
                }
                Err(failure) => {
                    let result = Err(failure);
                    self.settle(vec![Settled { sequence, result }]);
                }
            }
        }
    }

    fn publish_one(&self, content: Content) -> Confirming {
        let options = BasicPublishOptions {
            mandatory: self.settings.mandatory,
            immediate: false,
        };
        let (channel, exchange) = (self.publisher.clone(), self.exchange.clone());
        let mut confirming: Confirming = Box::pin(async move {
            let Content {
                key,
                payload,
                properties,
            } = content;
            let sent = channel.basic_publish(exchange, key, options, &payload, properties);
            sent.await?.await.map(Confirm::from)
        });
        // The first poll puts it in line, so that the order of records is kept.
        match begin(&mut confirming.as_mut()) {
            Poll::Pending => confirming,
            Poll::Ready(outcome) => Box::pin(std::future::ready(outcome)),
        }
    }

    fn settle(&self, settled: Vec<Settled>) {
        self.ports.leave(|boxes| boxes.settled.extend(settled));
    }

    fn receive(
        &self,
        delivery: Option<lapin::Result<lapin::message::Delivery>>,
    ) -> Result<(), Failure> {
        let Some(delivery) = delivery else {
            let queue = self.settings.queue.as_deref().unwrap_or_default();
            let text = format!("the server has cancelled our consumer of queue {queue:?}");
            return Err(Failure::retry(text));
        };
        let mut delivery = delivery.map_err(failure_of)?;
        let place = Delivery {
            connection: self.number,
            tag: delivery.delivery_tag,
        };
        let arrival = lock(&self.deliveries).arrive(place, &delivery);
        match (arrival, &self.consumer) {
            (Arrival::New, _) => {}
            (Arrival::Accepted, Some((channel, _))) => {
                acknowledge(channel, place.tag);
                return Ok(());
            }
            (Arrival::Accepted | Arrival::Waits, _) => return Ok(()),
        }
        let received = Received {
            record: record_of(&mut delivery),
            receipt: Receipt(Token::Delivery(place)),
            bookmark: None,
        };
        self.ports.leave(|boxes| boxes.received.push(received));
        Ok(())
    }

    fn learn(&mut self, event: Option<Event>) -> Result<(), Failure> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                self.is_blocked = true;
                let text = format!("blocked by the server: {reason}");
                self.ports.leave(|boxes| boxes.troubles.push(text));
            }
            Some(Event::ConnectionUnblocked) => {
                self.is_blocked = false;
                self.progress.made();
                self.ports.leave(|boxes| boxes.has_recovered = true);
            }
            Some(Event::Error(error)) => return Err(failure_of(error)),
            None => return Err(Failure::retry("the connection broke off")),
            Some(_) => {}
        }
        Ok(())
    }

    /// Liveness by progress: heartbeats say that the server lives, not that it works.
    fn look_at_the_clock(&mut self) -> Result<(), Failure> {
        if !self.connection.status().connected() {
            return Err(Failure::retry("the server closed the connection"));
        }
        let is_owed = !self.unconfirmed.is_empty() && !self.is_blocked;
        self.progress.check(is_owed, self.settings.ack_timeout)
    }
}

pub(super) fn lock(deliveries: &Mutex<Deliveries>) -> MutexGuard<'_, Deliveries> {
    // Nothing that holds the lock can panic half way through a change.
    deliveries.lock().unwrap_or_else(PoisonError::into_inner)
}

fn acknowledge(channel: &Channel, tag: u64) {
    let sending = channel.basic_ack(tag, BasicAckOptions::default());
    // The first poll hands it to the writer; if it cannot be written, the connection ends.
    let _ = begin(&mut std::pin::pin!(sending).as_mut());
}

/// Polls for the first time, without waiting.
fn begin<T>(future: &mut Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn content_of(record: &Record, priority: Option<u8>) -> Result<Content, Failure> {
    Ok(Content {
        properties: properties_of(record, priority)?,
        key: short("routing key", &exchange_separators(&record.topic))?,
        payload: record.payload.clone(),
    })
}

/// The next delivery, if anything is consumed.
async fn received(
    consumer: &mut Option<(Channel, Consumer)>,
) -> Option<lapin::Result<lapin::message::Delivery>> {
    match consumer {
        Some((_, consumer)) => poll_fn(|context| Pin::new(&mut *consumer).poll_next(context)).await,
        None => std::future::pending().await,
    }
}

const TICK: Duration = Duration::from_millis(250);
const GOODBYE: Duration = Duration::from_secs(2);
/// The reply code of a connection that is closed on purpose.
const CLOSED: u16 = 200;
