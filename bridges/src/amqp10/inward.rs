//! The way in: one link with credit for so many messages as may be unaccepted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::Receiver;
use fe2o3_amqp::link::delivery::DeliveryInfo;
use fe2o3_amqp::link::{CreditMode, RecvError};
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::definitions::{AmqpError, Error};
use fe2o3_amqp::types::messaging::{Body, Message};
use fe2o3_amqp::types::primitives::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::Settings;
use super::convert::record_of;
use super::outcome::{LinkEnd, receive_end, receiver_attach_error};
use super::settings::Source;
use crate::ports::Ports;
use crate::redelivered::{Arrival, Delivery, Evidence, Redelivered};
use crate::{Failure, Receipt, Received, Record, Token};

/// What becomes of messages.
#[derive(Debug)]
pub(super) enum Verdict {
    /// They have found their place here.
    Accept(Vec<u64>),
    /// They never will: they go to the dead letters over there.
    Reject(Vec<u64>),
}

/// The link and what came over it.
pub(super) struct Inward {
    settings: Arc<Settings>,
    source: Source,
    ports: Arc<Ports>,
    redelivered: Arc<Redelivered>,
    session: SessionHandle<()>,
    connection: u64,
    orders: mpsc::Receiver<Verdict>,
    unaccepted: HashMap<u64, DeliveryInfo>,
    last_number: u64,
}

impl Inward {
    pub(super) fn new(
        settings: &Arc<Settings>,
        source: Source,
        ports: &Arc<Ports>,
        redelivered: Arc<Redelivered>,
        session: SessionHandle<()>,
        connection: u64,
        orders: mpsc::Receiver<Verdict>,
    ) -> Self {
        Self {
            settings: Arc::clone(settings),
            source,
            ports: Arc::clone(ports),
            redelivered,
            session,
            connection,
            orders,
            unaccepted: HashMap::new(),
            last_number: 0,
        }
    }

    /// Works until the link has ended for good.
    pub(super) async fn run(mut self, receiver: Receiver) -> Failure {
        let mut receiver = receiver;
        loop {
            self.redelivered.begin_link();
            let since = Instant::now();
            match self.serve(&mut receiver).await {
                LinkEnd::Stopped(failure) => {
                    // It sends what the link has left to be sent; it may be gone already.
                    let _ = timeout(GOODBYE, self.session.end()).await;
                    return failure;
                }
                // Whoever detaches us at once is asked again after a pause only.
                LinkEnd::Detached(failure) if since.elapsed() < STABLE => return failure,
                LinkEnd::Detached(_) => {}
            }
            // What is not accepted comes again over the next link.
            self.unaccepted.clear();
            drop(receiver);
            let attaching = attach(&mut self.session, &self.settings, &self.source);
            receiver = match timeout(self.settings.connect_timeout, attaching).await {
                Ok(Ok(receiver)) => receiver,
                Ok(Err(failure)) => return failure,
                Err(_) => return Failure::retry("the server does not answer the link"),
            };
        }
    }

    async fn serve(&mut self, receiver: &mut Receiver) -> LinkEnd {
        loop {
            if let Err(end) = self.grant(receiver).await {
                return end;
            }
            // Cancel safe: orders and deliveries stay where they are unless their arm completes.
            tokio::select! {
                orders = self.orders.recv() => match orders {
                    Some(verdict) => {
                        if let Err(end) = self.settle(receiver, verdict).await {
                            return end;
                        }
                    }
                    None => return LinkEnd::Stopped(Failure::retry("the connection ends")),
                },
                received = receiver.recv::<Body<Value>>() => {
                    if let Err(end) = self.receive(receiver, received).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Renews credit once half of it is used up, up to what may be unaccepted.
    async fn grant(&self, receiver: &mut Receiver) -> Result<(), LinkEnd> {
        let unaccepted = u32::try_from(self.unaccepted.len()).unwrap_or(u32::MAX);
        let wanted = self.settings.credit.saturating_sub(unaccepted);
        let has = receiver.credit();
        let is_safe = has == 0 || !self.settings.dialect.may_exceed_credit();
        if is_safe && wanted > has && (wanted - has) * 2 >= self.settings.credit {
            let granted = receiver.set_credit(wanted).await;
            granted.map_err(|error| receive_end(RecvError::LinkStateError(error.into())))?;
        }
        Ok(())
    }

    async fn settle(&mut self, receiver: &Receiver, verdict: Verdict) -> Result<(), LinkEnd> {
        let done = match verdict {
            Verdict::Accept(deliveries) => receiver.accept_all(self.take(deliveries)).await,
            Verdict::Reject(deliveries) => {
                let error = Error::new(AmqpError::InvalidField, REFUSED.to_owned(), None);
                receiver.reject_all(self.take(deliveries), error).await
            }
        };
        done.map_err(|error| receive_end(RecvError::LinkStateError(error.into())))
    }

    /// What came over an earlier link is delivered again over this one.
    fn take(&mut self, numbers: Vec<u64>) -> Vec<DeliveryInfo> {
        let numbers = numbers.into_iter();
        let known = numbers.filter_map(|number| self.unaccepted.remove(&number));
        known.collect()
    }

    async fn receive(
        &mut self,
        receiver: &Receiver,
        received: Result<fe2o3_amqp::Delivery<Body<Value>>, RecvError>,
    ) -> Result<(), LinkEnd> {
        let (info, converted) = match received {
            Ok(delivery) => {
                let (info, message) = delivery.into_parts();
                (info, self.arrived(message))
            }
            Err(RecvError::MessageDecode(error)) => (error.info, Err(error.source.to_string())),
            Err(error) => return Err(receive_end(error)),
        };
        let (record, evidence) = match converted {
            Ok(arrived) => arrived,
            Err(reason) => return self.reject(receiver, info, reason).await,
        };
        self.last_number += 1;
        let delivery = Delivery {
            connection: self.connection,
            number: self.last_number,
        };
        let arrival = match record.uid.as_deref() {
            Some(id) => self.redelivered.arrive(delivery, id, evidence),
            None => Arrival::New,
        };
        if arrival == Arrival::Accepted {
            let done = receiver.accept(info).await;
            return done.map_err(|error| receive_end(RecvError::LinkStateError(error.into())));
        }
        self.unaccepted.insert(delivery.number, info);
        if arrival == Arrival::New {
            let received = Received {
                record,
                receipt: Receipt(Token::Delivery(delivery)),
                bookmark: None,
            };
            self.ports.leave(|boxes| boxes.received.push(received));
        }
        Ok(())
    }

    /// The record of a message and what says that it came before, or why there is none.
    fn arrived(&self, message: Message<Body<Value>>) -> Result<(Record, Evidence), String> {
        let dialect = self.settings.dialect;
        let header = message.header.as_ref();
        let failures = header.map_or(0, |it| it.delivery_count);
        let most = self.settings.deliveries_max;
        if most > 0 && failures >= most {
            let text =
                format!("delivered {failures} times without success: deliveries_max = {most}");
            return Err(text);
        }
        let said = match dialect.is_redelivered(header) {
            _ if failures > 0 => Some(Evidence::Marked),
            Some(true) => Some(Evidence::Marked),
            Some(false) => Some(Evidence::New),
            None => None,
        };
        let record = record_of(message, &self.source.address, dialect)?;
        let evidence = said.unwrap_or_else(|| Evidence::of_content(&record.topic, &record.payload));
        Ok((record, evidence))
    }

    /// What cannot be a record goes to the dead letters over there.
    async fn reject(
        &self,
        receiver: &Receiver,
        info: DeliveryInfo,
        reason: String,
    ) -> Result<(), LinkEnd> {
        let error = Error::new(AmqpError::DecodeError, reason, None);
        let done = receiver.reject(info, error).await;
        done.map_err(|error| receive_end(RecvError::LinkStateError(error.into())))
    }
}

/// Attaches the link; it has no credit yet.
pub(super) async fn attach(
    session: &mut SessionHandle<()>,
    settings: &Settings,
    source: &Source,
) -> Result<Receiver, Failure> {
    let attaching = Receiver::builder()
        // The same name after a restart: durable subscriptions are known by it.
        .name(format!("{}-in", settings.name))
        .source(settings.dialect.source(source, &settings.exchange))
        .credit_mode(CreditMode::Manual)
        .attach(session);
    attaching.await.map_err(receiver_attach_error)
}

const REFUSED: &str = "no topic here can hold it";
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a link has to last to be attached again at once.
const STABLE: Duration = Duration::from_secs(1);
