//! The way in: one link with credit for so many messages as may be unaccepted. Neither reads nor
//! waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Settings;
use super::convert::record_of;
use super::encoder::Encoder;
use super::harvest::Harvest;
use super::message::read;
use super::outcome::end_of;
use super::performative::{Attach, Detach, Flow, Transfer, code};
use super::session::{Credit, Role, Session};
use super::settings::Source;
use super::value::Malformed;
use super::wire::Wire;
use crate::redelivered::{Arrival, Delivery, Evidence, Redelivered};
use crate::{Failure, Receipt, Received, Record, Token};

/// The link and what came over it.
#[derive(Debug)]
pub(super) struct Inward {
    settings: Arc<Settings>,
    source: Source,
    redelivered: Arc<Redelivered>,
    pub(super) session: Session,
    /// The connection's number, known before there is credit.
    connection: u64,
    /// What the server calls the link, once it has granted it.
    their_handle: Option<u32>,
    /// When it was attached, or asked for.
    since: Instant,
    delivery_count: u32,
    credit: u32,
    unaccepted: u32,
    /// Of the next delivery if the server counts on; the lower half is the server's number.
    next_number: u64,
    /// What is below came over an earlier link.
    first_number: u64,
    /// The beginning of a message that comes in parts.
    parts: Vec<u8>,
    is_in_parts: bool,
}

/// What becomes of messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// They have found their place here.
    Accept,
    /// They never will: they go to the dead letters over there.
    Reject,
}

impl Inward {
    pub(super) fn new(
        settings: &Arc<Settings>,
        source: Source,
        redelivered: Arc<Redelivered>,
        session: Session,
    ) -> Self {
        Self {
            settings: Arc::clone(settings),
            source,
            redelivered,
            session,
            connection: 0,
            their_handle: None,
            since: Instant::now(),
            delivery_count: 0,
            credit: 0,
            unaccepted: 0,
            next_number: FIRST_NUMBER,
            first_number: FIRST_NUMBER,
            parts: Vec::new(),
            is_in_parts: false,
        }
    }

    /// The session has begun, or the link has ended: attaches it; it has no credit yet.
    pub(super) fn attach(&mut self, wire: &mut Wire) {
        let (settings, source) = (&self.settings, &self.source);
        // The same name after a restart: durable subscriptions are known by it.
        let name = format!("{}-in", settings.name);
        self.session
            .attach(wire, &name, HANDLE, Role::Receiver, |fields| {
                fields.some(|it| settings.dialect.source(source, &settings.exchange, it));
                fields.some(|it| it.composite(code::TARGET, |_| {}));
                // unsettled, incomplete-unsettled, initial-delivery-count
                fields.none(3);
                fields.some(|it| it.ulong(MESSAGE_BYTES_MAX as u64));
            });
        self.since = Instant::now();
        self.their_handle = None;
    }

    /// Messages may come from now on.
    pub(super) fn begin(&mut self, connection: u64) {
        self.connection = connection;
        self.redelivered.begin_link();
    }

    /// Whether the server has granted the link.
    pub(super) fn is_ready(&self) -> bool {
        self.their_handle.is_some()
    }

    /// The server has answered the link; if it has not granted it, it says why.
    pub(super) fn attached(&mut self, answer: &Attach<'_>) {
        self.their_handle = answer.is_granted.then_some(answer.handle);
        self.delivery_count = answer.initial_delivery_count;
        self.since = Instant::now();
    }

    /// Renews credit once half of it is used up, up to what may be unaccepted.
    pub(super) fn grant(&mut self, wire: &mut Wire) {
        let wanted = self.settings.credit.saturating_sub(self.unaccepted);
        let has = self.credit;
        let is_safe = has == 0 || !self.settings.dialect.may_exceed_credit();
        let is_due = wanted > has && (wanted - has) * 2 >= self.settings.credit;
        if self.is_ready() && is_safe && is_due {
            self.credit = wanted;
            self.session.flow(wire, Some(self.state()));
        }
    }

    fn state(&self) -> Credit {
        Credit {
            handle: HANDLE,
            delivery_count: self.delivery_count,
            credit: self.credit,
            drains: false,
        }
    }

    pub(super) fn learn(&mut self, flow: &Flow, wire: &mut Wire) {
        self.session.learn(flow);
        if flow.wants_answer {
            // What is about the session alone is no reason to renew credit.
            let is_asked = self.is_ready() && flow.link.is_some();
            self.session.flow(wire, is_asked.then(|| self.state()));
        }
    }

    /// Tells the server what became of deliveries. What came over an earlier link is delivered
    /// again over this one.
    pub(super) fn settle(&mut self, verdict: Verdict, mut numbers: Vec<u64>, wire: &mut Wire) {
        numbers.retain(|it| *it >= self.first_number);
        numbers.sort_unstable();
        let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        self.unaccepted = self.unaccepted.saturating_sub(count);
        for run in numbers.chunk_by(|one, next| one + 1 == *next) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                self.tell(verdict, (*first, *last), wire);
            }
        }
    }

    fn tell(&self, verdict: Verdict, (first, last): (u64, u64), wire: &mut Wire) {
        let range = (id_of(first), id_of(last));
        self.session.settle(wire, range, |out| match verdict {
            Verdict::Accept => out.composite(code::ACCEPTED, |_| {}),
            Verdict::Reject => reject("amqp:invalid-field", REFUSED, out),
        });
    }

    /// A message has come, or a part of one.
    ///
    /// # Errors
    /// The server sends more than it may, or breaks the protocol.
    pub(super) fn receive(
        &mut self,
        transfer: Transfer,
        part: &[u8],
        wire: &mut Wire,
        harvest: &mut Harvest,
    ) -> Result<(), Failure> {
        self.session.received();
        if self.their_handle != Some(transfer.handle) || self.connection == 0 {
            return Err(Malformed("a message over a link that is not open").into());
        }
        if !self.is_in_parts {
            let id = transfer.delivery_id;
            self.count(id.ok_or(Malformed("a message without a number"))?)?;
        }
        self.is_in_parts = transfer.has_more && !transfer.is_aborted;
        if transfer.is_aborted {
            self.parts.clear();
            self.unaccepted = self.unaccepted.saturating_sub(1);
            return Ok(());
        }
        if self.parts.is_empty() && !transfer.has_more {
            self.take(part, wire, harvest);
            return Ok(());
        }
        if self.parts.len() + part.len() > MESSAGE_BYTES_MAX {
            return Err(Malformed("a message larger than any may be").into());
        }
        self.parts.extend_from_slice(part);
        if !transfer.has_more {
            let whole = std::mem::take(&mut self.parts);
            self.take(&whole, wire, harvest);
        }
        Ok(())
    }

    /// A message begins.
    fn count(&mut self, id: u32) -> Result<(), Failure> {
        let step = id.wrapping_sub(id_of(self.next_number));
        self.next_number += u64::from(step) + 1;
        self.delivery_count = self.delivery_count.wrapping_add(1);
        self.credit = self.credit.saturating_sub(1);
        self.unaccepted += 1;
        // Some give a little more than they may when credit is renewed.
        if self.unaccepted > self.settings.credit.saturating_mul(2) {
            return Err(Malformed("more messages than there was credit for").into());
        }
        Ok(())
    }

    /// A message is complete.
    fn take(&mut self, message: &[u8], wire: &mut Wire, harvest: &mut Harvest) {
        let number = self.next_number - 1;
        let (record, evidence) = match self.arrived(message) {
            Ok(arrived) => arrived,
            // What cannot be a record goes to the dead letters over there.
            Err(reason) => {
                self.unaccepted = self.unaccepted.saturating_sub(1);
                let range = (id_of(number), id_of(number));
                let refuse = |out: &mut Encoder<'_>| reject("amqp:decode-error", &reason, out);
                self.session.settle(wire, range, refuse);
                return;
            }
        };
        let delivery = Delivery {
            connection: self.connection,
            number,
        };
        let arrival = match record.uid.as_deref() {
            Some(id) => self.redelivered.arrive(delivery, id, evidence),
            None => Arrival::New,
        };
        match arrival {
            Arrival::New => harvest.received.push(Received {
                record,
                receipt: Receipt(Token::Delivery(delivery)),
                bookmark: None,
            }),
            Arrival::Accepted => self.settle(Verdict::Accept, vec![number], wire),
            // The server has given up the copy before, for this one to come.
            Arrival::Waits(before) if before.connection == self.connection => {
                let is_counted = before.number >= self.first_number;
                self.unaccepted = self.unaccepted.saturating_sub(u32::from(is_counted));
            }
            Arrival::Waits(_) => {}
        }
    }

    /// The record of a message and what says that it came before, or why there is none.
    fn arrived(&self, message: &[u8]) -> Result<(Record, Evidence), String> {
        let message = read(message)?;
        let dialect = self.settings.dialect;
        let failures = message.header.delivery_count;
        let most = self.settings.deliveries_max;
        if most > 0 && failures >= most {
            let text =
                format!("delivered {failures} times without success: deliveries_max = {most}");
            return Err(text);
        }
        let said = match dialect.is_redelivered(message.header) {
            _ if failures > 0 => Some(Evidence::Marked),
            Some(true) => Some(Evidence::Marked),
            Some(false) => Some(Evidence::New),
            None => None,
        };
        let record = record_of(&message, &self.source.address, dialect)?;
        let evidence = said.unwrap_or_else(|| Evidence::of_content(&record.topic, &record.payload));
        Ok((record, evidence))
    }

    /// The server has ended the link: it is attached again.
    ///
    /// # Errors
    /// It was refused, or was there for a moment only.
    pub(super) fn detached(&mut self, it: &Detach, wire: &mut Wire) -> Result<(), Failure> {
        let failure = end_of("link", it.error.as_ref());
        // Whoever detaches us at once is asked again after a pause only.
        if !self.is_ready() || self.since.elapsed() < STABLE {
            return Err(failure);
        }
        self.session.agree(wire, HANDLE, it);
        // What is not accepted comes again over the next link.
        self.unaccepted = 0;
        self.credit = 0;
        self.first_number = self.next_number;
        self.parts.clear();
        self.is_in_parts = false;
        self.redelivered.begin_link();
        self.attach(wire);
        Ok(())
    }

    /// # Errors
    /// The server does not answer.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match !self.is_ready() && self.since.elapsed() >= self.settings.connect_timeout {
            true => Err(Failure::retry("the server does not answer the link")),
            false => Ok(()),
        }
    }
}

fn reject(condition: &str, why: &str, out: &mut Encoder<'_>) {
    out.composite(code::REJECTED, |fields| {
        fields.some(|it| {
            it.composite(code::ERROR, |fields| {
                fields.some(|it| it.symbol(condition));
                fields.some(|it| it.string(why));
            });
        });
    });
}

/// The server's number of a delivery.
fn id_of(number: u64) -> u32 {
    let [.., a, b, c, d] = number.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// What we call the link; sessions have handles of their own.
const HANDLE: u32 = 0;
/// That of the first delivery of a server that counts from 0.
const FIRST_NUMBER: u64 = 1 << 32;
/// No message of MQTT is larger.
const MESSAGE_BYTES_MAX: usize = 268_435_455;
const REFUSED: &str = "no topic here can hold it";
/// How long a link has to last to be attached again at once.
const STABLE: Duration = Duration::from_secs(1);
