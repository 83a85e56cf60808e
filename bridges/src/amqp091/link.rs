//! The task of a connection: publishes, takes confirms and deliveries, and acknowledges.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use amq_protocol::frame::AMQPContentHeader;
use amq_protocol::protocol::{AMQPClass, basic, channel, connection};
use amq_protocol::types::ShortString;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::confirms::{Confirms, Known, Verdict};
use super::convert::{properties_of, record_of, short};
use super::frame::{Assembly, Content, Frame, Opening};
use super::tags::{Acknowledgement, Tags};
use super::wire::{Wire, refusal_of};
use super::{GOODBYE, IN, Memory, OUT, Settings};
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
    wire: Wire,
    exchange: ShortString,
    tags: Tags,
    memory: Arc<Memory>,
    /// Not published yet: the window is full or the server has blocked us.
    waiting: VecDeque<Record>,
    /// Published and not confirmed, in this order.
    unconfirmed: Confirms,
    is_blocked: bool,
    progress: Progress,
    /// What comes in several frames, on the channels of the way out and in.
    returning: Assembly,
    delivering: Assembly,
}

/// What some frames have brought.
#[derive(Default)]
struct Harvest {
    received: Vec<Received>,
    /// Deliveries that were taken before.
    known: Vec<u64>,
}

impl Link {
    pub(super) fn new(
        wire: Wire,
        ports: Arc<Ports>,
        settings: Arc<Settings>,
        memory: Arc<Memory>,
        number: u64,
    ) -> Self {
        Self {
            number,
            wire,
            // It was declared under this name.
            exchange: short("exchange", &settings.exchange).unwrap_or_default(),
            tags: Tags::default(),
            memory,
            waiting: VecDeque::new(),
            unconfirmed: Confirms::default(),
            is_blocked: false,
            progress: Progress::begin(),
            returning: Assembly::default(),
            delivering: Assembly::default(),
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
        let _ = timeout(GOODBYE, self.wire.close()).await;
    }

    /// Ends without an error when somebody wants to close, and says why.
    async fn serve(&mut self) -> Result<&'static str, Failure> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Something may have come with the last answer.
        self.take_frames()?;
        loop {
            if let Some(why) = self.take_orders()? {
                return Ok(why);
            }
            self.publish();
            // Cancel safe: nothing is carried unless the arm completes, `notified` keeps its
            // permit, a tick that is not taken comes again.
            tokio::select! {
                carried = self.wire.carry() => {
                    carried?;
                    self.take_frames()?;
                }
                () = self.ports.to_task.notified() => {}
                _ = ticks.tick() => self.look_at_the_clock()?,
            }
        }
    }

    /// What the ends have left; a reason if the connection is to be closed.
    fn take_orders(&mut self) -> Result<Option<&'static str>, Failure> {
        let Orders {
            submitted,
            accepted,
            refused,
            closing,
            ..
        } = self.ports.take_orders();
        self.waiting.extend(submitted);
        self.accept(accepted)?;
        for receipt in refused {
            self.reject(receipt)?;
        }
        Ok(closing)
    }

    fn accept(&mut self, receipts: Vec<Receipt>) -> Result<(), Failure> {
        let deliveries = receipts.into_iter().filter_map(Receipt::delivery);
        let latest = deliveries.map(|it| self.memory.redelivered.accept(it));
        let own = latest.filter(|it| it.connection == self.number);
        let tags: Vec<u64> = own.map(|it| it.number).collect();
        self.acknowledge(&tags)
    }

    /// The server gives it to the dead letter exchange of the queue, if that has one.
    fn reject(&mut self, receipt: Receipt) -> Result<(), Failure> {
        let Some(delivery) = receipt.delivery() else {
            return Ok(());
        };
        // Of an earlier connection the server knows nothing any more: what it has not heard of, it
        // delivers again.
        let latest = self.memory.redelivered.refuse(delivery);
        if latest.connection != self.number {
            return Ok(());
        }
        self.tags.told(latest.number);
        let reject = basic::AMQPMethod::Reject(basic::Reject {
            delivery_tag: latest.number,
            requeue: false,
        });
        self.wire.out.method(IN, AMQPClass::Basic(reject))
    }

    fn acknowledge(&mut self, tags: &[u64]) -> Result<(), Failure> {
        for Acknowledgement { tag, is_multiple } in self.tags.accept(tags) {
            let ack = basic::AMQPMethod::Ack(basic::Ack {
                delivery_tag: tag,
                multiple: is_multiple,
            });
            self.wire.out.method(IN, AMQPClass::Basic(ack))?;
        }
        Ok(())
    }

    /// Publishes what the window has room for.
    fn publish(&mut self) {
        if self.is_blocked {
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
                Ok(known) => self.unconfirmed.push(sequence, known),
                Err(failure) => {
                    let result = Err(failure);
                    self.settle(vec![Settled { sequence, result }]);
                }
            }
        }
    }

    /// Publishes a record; answers what it is known by.
    fn publish_one(&mut self, record: Record) -> Result<Known, Failure> {
        let properties = properties_of(&record, self.settings.priority)?;
        let known = Known {
            key: short("routing key", &exchange_separators(&record.topic))?,
            message_id: properties.message_id().clone(),
            payload: record.payload,
        };
        let publish = basic::Publish {
            exchange: self.exchange.clone(),
            routing_key: known.key.clone(),
            mandatory: self.settings.mandatory,
            immediate: false,
        };
        let payload = &known.payload;
        self.wire.out.publish(OUT, publish, properties, payload)?;
        Ok(known)
    }

    fn settle(&self, settled: Vec<Settled>) {
        if !settled.is_empty() {
            self.ports.leave(|boxes| boxes.settled.extend(settled));
        }
    }

    /// Takes everything that has come.
    fn take_frames(&mut self) -> Result<(), Failure> {
        let mut harvest = Harvest::default();
        let end = self.read_frames(&mut harvest);
        // Also if the connection has ended: what came before is known as taken.
        let Harvest { received, known } = harvest;
        let told = self.acknowledge(&known);
        if !received.is_empty() {
            self.ports.leave(|boxes| boxes.received.extend(received));
        }
        let settled = self.unconfirmed.take_settled();
        if !settled.is_empty() {
            self.progress.made();
        }
        self.settle(settled);
        end.and(told)
    }

    fn read_frames(&mut self, harvest: &mut Harvest) -> Result<(), Failure> {
        while let Some((channel, frame)) = self.wire.next()? {
            match frame {
                Frame::Method(AMQPClass::Basic(method)) => self.learn(method)?,
                Frame::Method(method) => self.obey(channel, &method)?,
                Frame::Header(header) => self.begin_content(channel, *header, harvest)?,
                Frame::Body(part) => {
                    let content = self.assembly(channel).body(&part)?;
                    self.take_content(content, harvest)?;
                }
                Frame::Heartbeat => {}
            }
        }
        Ok(())
    }

    fn assembly(&mut self, channel: u16) -> &mut Assembly {
        match channel {
            IN => &mut self.delivering,
            _ => &mut self.returning,
        }
    }

    fn begin_content(
        &mut self,
        channel: u16,
        header: AMQPContentHeader,
        harvest: &mut Harvest,
    ) -> Result<(), Failure> {
        let content = self.assembly(channel).header(header)?;
        self.take_content(content, harvest)
    }

    fn learn(&mut self, method: basic::AMQPMethod) -> Result<(), Failure> {
        match method {
            basic::AMQPMethod::Ack(it) => {
                let (tag, is_multiple) = (it.delivery_tag, it.multiple);
                self.unconfirmed.confirm(tag, is_multiple, Verdict::Ack);
            }
            basic::AMQPMethod::Nack(it) => {
                let (tag, is_multiple) = (it.delivery_tag, it.multiple);
                self.unconfirmed.confirm(tag, is_multiple, Verdict::Nack);
            }
            basic::AMQPMethod::Return(it) => self.returning.begin(Opening::Return(it)),
            basic::AMQPMethod::Deliver(it) => self.delivering.begin(Opening::Deliver(it)),
            basic::AMQPMethod::Cancel(_) => {
                let queue = self.settings.queue.as_deref().unwrap_or_default();
                let text = format!("the server has cancelled our consumer of queue {queue:?}");
                return Err(Failure::retry(text));
            }
            _ => {}
        }
        Ok(())
    }

    /// What the server says of the connection or of a channel.
    fn obey(&mut self, channel: u16, method: &AMQPClass) -> Result<(), Failure> {
        if let Some(refusal) = refusal_of(method) {
            return Err(refusal);
        }
        match method {
            AMQPClass::Connection(connection::AMQPMethod::Blocked(it)) => {
                self.is_blocked = true;
                let text = format!("blocked by the server: {}", it.reason);
                self.ports.trouble(text);
            }
            AMQPClass::Connection(connection::AMQPMethod::Unblocked(_)) => {
                self.is_blocked = false;
                self.progress.made();
                self.ports.leave(|boxes| boxes.has_recovered = true);
            }
            AMQPClass::Channel(channel::AMQPMethod::Flow(it)) => {
                let active = it.active;
                let heard = channel::AMQPMethod::FlowOk(channel::FlowOk { active });
                self.wire.out.method(channel, AMQPClass::Channel(heard))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_content(
        &mut self,
        content: Option<Content>,
        harvest: &mut Harvest,
    ) -> Result<(), Failure> {
        let Some(Content {
            opening,
            properties,
            payload,
        }) = content
        else {
            return Ok(());
        };
        match opening {
            Opening::Return(it) => {
                let words = format!(
                    "returned by the server: {} {}, exchange {:?}, routing key {:?}",
                    it.reply_code,
                    it.reply_text,
                    it.exchange.as_str(),
                    it.routing_key.as_str(),
                );
                let known = Known {
                    key: it.routing_key,
                    message_id: properties.message_id().clone(),
                    payload,
                };
                self.unconfirmed.give_back(&known, words)
            }
            Opening::Deliver(it) => {
                let record = record_of(&it.routing_key, &properties, payload);
                self.memory.stream.pass(&properties);
                self.sort(&it, record, harvest);
                Ok(())
            }
        }
    }

    fn sort(&mut self, delivered: &basic::Deliver, record: Record, harvest: &mut Harvest) {
        let place = Delivery {
            connection: self.number,
            number: delivered.delivery_tag,
        };
        self.tags.arrived(place.number);
        let evidence = match delivered.redelivered {
            true => Evidence::Marked,
            false => Evidence::New,
        };
        let redelivered = &self.memory.redelivered;
        let arrival = match record.uid.as_deref() {
            Some(id) => redelivered.arrive(place, id, evidence),
            None => Arrival::New,
        };
        match arrival {
            Arrival::New => harvest.received.push(Received {
                record,
                receipt: Receipt(Token::Delivery(place)),
                bookmark: None,
            }),
            Arrival::Accepted => harvest.known.push(place.number),
            Arrival::Waits(_) => {}
        }
    }

    /// Liveness by progress: heartbeats say that the server lives, not that it works.
    fn look_at_the_clock(&mut self) -> Result<(), Failure> {
        if self.is_blocked {
            self.wire.excuse();
        }
        self.wire.look_at_the_clock()?;
        let is_owed = !self.unconfirmed.is_empty() && !self.is_blocked;
        self.progress.check(is_owed, self.settings.ack_timeout)
    }
}

const TICK: Duration = Duration::from_millis(250);
