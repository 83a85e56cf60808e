//! The task of a connection: publishes, waits for confirms, consumes and acknowledges.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use lapin::message::Delivery as RawDelivery;
use lapin::options::{BasicAckOptions, BasicPublishOptions, BasicRejectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Connection, Consumer, Event};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::confirms::{Confirm, Confirming, Confirms, Content};
use super::convert::{properties_of, record_of, short};
use super::tags::{Acknowledgement, Tags};
use super::{Memory, Opened, Settings, failure_of};
use crate::ports::{Orders, Ports};
use crate::progress::Progress;
use crate::redelivered::{Arrival, Delivery, Evidence};
use crate::separators::exchange_separators;
use crate::{Failure, Receipt, Received, Record, Settled, Token};

/// A connection at work.
pub(super) struct Link {
    number: u64,
    settings: Arc<Settings>,
    ports: Arc<Ports>,
    connection: Connection,
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    publisher: Arc<Channel>,
    exchange: ShortString,
    consumer: Option<(Channel, Consumer)>,
    tags: Tags,
    memory: Arc<Memory>,
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
        memory: Arc<Memory>,
        number: u64,
    ) -> Self {
        Self {
            number,
            events: Box::pin(opened.connection.events_listener()),
            connection: opened.connection,
            publisher: Arc::new(opened.publisher),
            // It was declared under this name.
            exchange: short("exchange", &settings.exchange).unwrap_or_default(),
            consumer: opened.consumer,
            tags: Tags::default(),
            memory,
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
        self.accept(accepted);
        refused.into_iter().for_each(|it| self.reject(it));
        closing
    }

    fn accept(&mut self, receipts: Vec<Receipt>) {
        let deliveries = receipts.into_iter().filter_map(Receipt::delivery);
        let latest = deliveries.map(|it| self.memory.redelivered.accept(it));
        let own = latest.filter(|it| it.connection == self.number);
        let tags: Vec<u64> = own.map(|it| it.number).collect();
        self.acknowledge(&tags);
    }

    /// The server gives it to the dead letter exchange of the queue, if that has one.
    fn reject(&mut self, receipt: Receipt) {
        let Some(delivery) = receipt.delivery() else {
            return;
        };
        // Of an earlier connection the server knows nothing any more: what it has not heard of, it
        // delivers again.
        let latest = self.memory.redelivered.refuse(delivery);
        let Some((channel, _)) = self.consumer.as_ref() else {
            return;
        };
        if latest.connection == self.number {
            self.tags.told(latest.number);
            let options = BasicRejectOptions { requeue: false };
            begin(&mut std::pin::pin!(
                channel.basic_reject(latest.number, options)
            ));
        }
    }

    fn acknowledge(&mut self, tags: &[u64]) {
        let Some((channel, _)) = self.consumer.as_ref() else {
            return;
        };
        for Acknowledgement { tag, is_multiple } in self.tags.accept(tags) {
            let options = BasicAckOptions {
                multiple: is_multiple,
            };
            begin(&mut std::pin::pin!(channel.basic_ack(tag, options)));
        }
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
            match self.publish_one(record) {
                Ok((content, confirming)) => self.unconfirmed.push(sequence, content, confirming),
                Err(failure) => {
                    let result = Err(failure);
                    self.settle(vec![Settled { sequence, result }]);
                }
            }
        }
    }

    /// What publishes a record once it is polled, and what the record is known by.
    fn publish_one(&self, record: Record) -> Result<(Content, Confirming), Failure> {
        let options = BasicPublishOptions {
            mandatory: self.settings.mandatory,
            immediate: false,
        };
        let properties = properties_of(&record, self.settings.priority)?;
        let content = Content {
            key: short("routing key", &exchange_separators(&record.topic))?,
            payload: record.payload,
            message_id: properties.message_id().clone(),
        };
        let (channel, exchange) = (Arc::clone(&self.publisher), self.exchange.clone());
        let (key, payload) = (content.key.clone(), content.payload.clone());
        let confirming = async move {
            let sent = channel.basic_publish(exchange, key, options, &payload, properties);
            sent.await?.await.map(Confirm::from)
        };
        Ok((content, Box::pin(confirming)))
    }

    fn settle(&self, settled: Vec<Settled>) {
        self.ports.leave(|boxes| boxes.settled.extend(settled));
    }

    /// Takes a delivery, and what else has come with it.
    fn receive(&mut self, delivery: Option<lapin::Result<RawDelivery>>) -> Result<(), Failure> {
        let mut received = Vec::new();
        let mut known = Vec::new();
        let mut next = Some(delivery);
        let mut end = Ok(());
        while let Some(delivery) = next.take() {
            match self.delivered(delivery) {
                Ok(delivery) => {
                    self.sort(delivery, &mut received, &mut known);
                    if received.len() < RECEIVED_AT_ONCE {
                        next = self.ready();
                    }
                }
                Err(failure) => {
                    end = Err(failure);
                    break;
                }
            }
        }
        self.acknowledge(&known);
        // Also if the connection has ended: what came before is known as taken.
        self.ports.leave(|boxes| boxes.received.extend(received));
        end
    }

    fn delivered(
        &self,
        delivery: Option<lapin::Result<RawDelivery>>,
    ) -> Result<RawDelivery, Failure> {
        let Some(delivery) = delivery else {
            let queue = self.settings.queue.as_deref().unwrap_or_default();
            let text = format!("the server has cancelled our consumer of queue {queue:?}");
            return Err(Failure::retry(text));
        };
        delivery.map_err(failure_of)
    }

    fn sort(
        &mut self,
        mut delivery: RawDelivery,
        received: &mut Vec<Received>,
        known: &mut Vec<u64>,
    ) {
        let place = Delivery {
            connection: self.number,
            number: delivery.delivery_tag,
        };
        self.tags.arrived(place.number);
        match self.arrival(place, &delivery) {
            Arrival::New => received.push(Received {
                record: record_of(&mut delivery),
                receipt: Receipt(Token::Delivery(place)),
                bookmark: None,
            }),
            Arrival::Accepted => known.push(place.number),
            Arrival::Waits => {}
        }
    }

    fn arrival(&self, place: Delivery, delivery: &RawDelivery) -> Arrival {
        self.memory.stream.pass(delivery);
        match delivery.properties.message_id() {
            Some(id) => {
                let evidence = match delivery.redelivered {
                    true => Evidence::Marked,
                    false => Evidence::New,
                };
                let redelivered = &self.memory.redelivered;
                redelivered.arrive(place, id.as_str(), evidence)
            }
            None => Arrival::New,
        }
    }

    /// What has been delivered already.
    fn ready(&mut self) -> Option<Option<lapin::Result<RawDelivery>>> {
        let (_, consumer) = self.consumer.as_mut()?;
        match Pin::new(consumer).poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => Some(next),
            // The next wait asks with a waker.
            Poll::Pending => None,
        }
    }

    fn learn(&mut self, event: Option<Event>) -> Result<(), Failure> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                self.is_blocked = true;
                let text = format!("blocked by the server: {reason}");
                self.ports.trouble(text);
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

/// The first poll hands a frame to the writer; if it cannot be written, the connection ends.
fn begin<T>(future: &mut Pin<&mut impl Future<Output = T>>) {
    let _ = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
}

/// The next delivery, if anything is consumed.
async fn received(
    consumer: &mut Option<(Channel, Consumer)>,
) -> Option<lapin::Result<RawDelivery>> {
    match consumer {
        Some((_, consumer)) => poll_fn(|context| Pin::new(&mut *consumer).poll_next(context)).await,
        None => std::future::pending().await,
    }
}

const TICK: Duration = Duration::from_millis(250);
const GOODBYE: Duration = Duration::from_secs(2);
/// Deliveries that are handed over together.
const RECEIVED_AT_ONCE: usize = 256;
/// The reply code of a connection that is closed on purpose.
const CLOSED: u16 = 200;
