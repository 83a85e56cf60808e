//! The task of a connection: sends, receives, renews and acknowledges.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::convert::Sender;
use super::deliveries::{Acknowledgement, Deliveries};
use super::failure::{Undelivered, check, is_nothing, may_pass, of_request, undelivered, words};
use super::outbox::{Outbox, Verdict};
use super::polls::Polls;
use super::requests::{Outcome, Requests};
use super::seen::Seen;
use super::session::{Session, Spot};
use super::settings::Settings;
use super::wire::{AckMessageResponse, MessageQueue, ReceiveMessageResponse, Status};
use crate::ports::Ports;
use crate::{Failure, Settled};

/// A connection at work.
pub(super) struct Link {
    settings: Arc<Settings>,
    ports: Arc<Ports>,
    sender: Sender,
    requests: Requests,
    outbox: Outbox,
    deliveries: Deliveries,
    polls: Polls,
    /// What the caller was told last that does not go on.
    trouble: Option<String>,
    /// When the server is next told that we live, and asked where topics are.
    heartbeat_at: Instant,
    route_at: Instant,
}

/// What a connection begins with.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) tasks: JoinSet<Outcome>,
    pub(super) spots: BTreeMap<Spot, MessageQueue>,
}

impl Link {
    pub(super) fn new(
        opened: Opened,
        ports: Arc<Ports>,
        settings: Arc<Settings>,
        sender: Sender,
        seen: Arc<Mutex<Seen>>,
    ) -> Self {
        let producer = settings.producer.as_ref();
        let consumer = settings.consumer.as_ref();
        let now = Instant::now();
        let mut link = Self {
            sender,
            requests: Requests::new(Arc::clone(&settings), opened.session, opened.tasks),
            outbox: Outbox::new(producer.map_or(1, |it| it.inflight_max)),
            deliveries: Deliveries::new(
                seen,
                consumer.map_or(Duration::ZERO, |it| it.invisible),
                consumer.map_or(0, |it| it.unaccepted_max),
            ),
            polls: Polls::default(),
            trouble: None,
            heartbeat_at: now + HEARTBEAT,
            route_at: now + ROUTE,
            settings,
            ports,
        };
        link.polls.follow(opened.spots);
        link
    }

    /// Works until the connection ends, and says why it did.
    pub(super) async fn run(mut self) {
        match self.serve().await {
            Ok(why) => {
                // What it does not hear comes again.
                let _ = timeout(GOODBYE, self.say_goodbye()).await;
                self.ports.fail(Failure::retry(why));
            }
            Err(failure) => self.ports.fail(failure),
        }
        self.requests.end().await;
    }

    /// Ends without an error when somebody wants to close, and says why.
    async fn serve(&mut self) -> Result<&'static str, Failure> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let closing = self.take_orders();
            if let Some(why) = closing {
                return Ok(why);
            }
            self.send();
            self.say_verdicts();
            self.receive();
            // Cancel safe: an outcome that is not taken stays in the set, `notified` keeps its
            // permit, a tick that is not taken comes again.
            tokio::select! {
                Some(outcome) = self.requests.next() => self.learn(outcome?)?,
                () = self.ports.to_task.notified() => {}
                now = ticks.tick() => self.look_at_the_clock(now),
            }
        }
    }

    /// What the ends have left; a reason if the connection is to be closed.
    fn take_orders(&mut self) -> Option<&'static str> {
        let orders = self.ports.take_orders();
        let now_ms = (self.settings.calendar.0)();
        let mut settled = Vec::new();
        for record in orders.submitted {
            let sequence = record.sequence;
            match self.sender.message(&record, now_ms) {
                Ok(message) => settled.extend(self.outbox.push(sequence, message)),
                Err(failure) => settled.push(Settled {
                    sequence,
                    result: Err(failure),
                }),
            }
        }
        self.settle(settled);
        for receipt in orders.accepted {
            self.deliveries.accept(receipt);
        }
        for receipt in orders.refused {
            self.deliveries.refuse(receipt);
        }
        orders.closing
    }

    fn settle(&self, settled: Vec<Settled>) {
        if !settled.is_empty() {
            self.ports.leave(|boxes| boxes.settled.extend(settled));
        }
    }

    /// Sends what the window has room for.
    fn send(&mut self) {
        while let Some(batch) = self.outbox.next() {
            self.requests.send(batch);
        }
    }

    /// Acknowledges what was accepted, and forwards what was refused.
    fn say_verdicts(&mut self) {
        let Some(consumer) = &self.settings.consumer else {
            return;
        };
        for acknowledgement in self.deliveries.acknowledgements() {
            self.requests.acknowledge(&consumer.group, acknowledgement);
        }
        for refusal in self.deliveries.refusals() {
            self.requests.forward(&consumer.group, refusal);
        }
    }

    /// Asks for messages wherever there are queues, as long as there is room.
    fn receive(&mut self) {
        let Some(consumer) = &self.settings.consumer else {
            return;
        };
        if self.ports.is_crowded() {
            return;
        }
        let (room, now) = (self.deliveries.room(), Instant::now());
        while let Some(question) = self.polls.next(room, now) {
            self.requests.receive(question, consumer);
        }
    }

    fn look_at_the_clock(&mut self, now: Instant) {
        if let Some(consumer) = &self.settings.consumer {
            for renewal in self.deliveries.renewals(now) {
                self.requests.renew(consumer, renewal);
            }
        }
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + HEARTBEAT;
            self.requests.say_alive();
        }
        if now >= self.route_at {
            self.route_at = now + ROUTE;
            self.requests.route();
        }
    }

    fn learn(&mut self, outcome: Outcome) -> Result<(), Failure> {
        match outcome {
            Outcome::Ended(failure) => return Err(failure),
            Outcome::Sent {
                number,
                topic,
                answer,
            } => self.sent(number, &topic, check(answer?))?,
            Outcome::Received {
                spot,
                asked,
                since,
                answer,
            } => {
                let answers = answer?;
                let came = answers.iter().filter(|it| it.message.is_some()).count();
                let refusal = self.received(since, answers);
                self.polls
                    .answered(&spot, asked, came, refusal.as_ref().map(|_| Instant::now()));
                self.polled(&spot, refusal)?;
            }
            Outcome::Acknowledged {
                acknowledgement,
                answer,
            } => self.acknowledged(acknowledgement, answer?),
            Outcome::Forwarded { number, answer } => self.forwarded(number, check(answer?)),
            Outcome::Renewed {
                number,
                since,
                answer,
            } => {
                let (status, handle) = answer?;
                let result = check(status).map(|()| handle);
                self.deliveries.renewed(number, result, since);
            }
            Outcome::Alive(answer) => {
                let refused = |status| Failure::retry(words("heartbeat", &status));
                check(answer?).map_err(refused)?;
            }
            Outcome::Routed(spots) => self.polls.follow(spots?),
        }
        Ok(())
    }

    fn sent(
        &mut self,
        number: u64,
        topic: &str,
        result: Result<(), Status>,
    ) -> Result<(), Failure> {
        let producer = self.settings.producer.as_ref();
        let is_required = producer.is_some_and(|it| it.topics.contains(topic));
        let verdict = match result {
            Ok(()) => {
                self.recover();
                Verdict::Taken
            }
            Err(status) => match undelivered(&status, topic, is_required) {
                Undelivered::Ended(failure) => return Err(failure),
                Undelivered::TooLarge(failure) => Verdict::TooLarge(failure),
                Undelivered::Settled(failure) if failure.class == crate::Class::Poison => {
                    Verdict::Refused(failure)
                }
                Undelivered::Settled(failure) | Undelivered::Throttled(failure) => {
                    self.trouble(failure.reason.clone());
                    Verdict::Failed(failure)
                }
            },
        };
        let settled = self.outbox.settle(number, &verdict);
        self.settle(settled);
        Ok(())
    }

    /// Gives the messages of an answer to the caller; answers what else the server says.
    fn received(&mut self, since: Instant, answers: Vec<ReceiveMessageResponse>) -> Option<Status> {
        let mut received = Vec::new();
        let mut refusal = None;
        for ReceiveMessageResponse { status, message } in answers {
            if let Some(message) = message {
                match self.deliveries.take(message, since) {
                    Ok(one) => received.extend(one),
                    Err(failure) => self.trouble(failure.reason),
                }
            } else if let Err(status) = check(status) {
                // Beside status and message there is a time, which says nothing to us.
                refusal = refusal.or_else(|| (status.code != 0).then_some(status));
            }
        }
        if !received.is_empty() {
            self.ports.leave(|boxes| boxes.received.extend(received));
        }
        refusal.filter(|it| !is_nothing(it))
    }

    fn polled(&mut self, spot: &Spot, refusal: Option<Status>) -> Result<(), Failure> {
        let what = format!("topic {:?}", spot.0);
        match refusal {
            None => self.recover(),
            Some(status) if may_pass(&status) => self.trouble(words(&what, &status)),
            Some(status) => return Err(of_request(&what, &status)),
        }
        Ok(())
    }

    fn forwarded(&mut self, number: u64, result: Result<(), Status>) {
        if let Err(status) = &result {
            self.trouble(words("dead letters", status));
        }
        self.deliveries.ended(number, result, Instant::now());
    }

    fn acknowledged(&mut self, acknowledgement: Acknowledgement, answer: AckMessageResponse) {
        let now = Instant::now();
        let all = check(answer.status);
        let pairs = acknowledgement
            .numbers
            .into_iter()
            .zip(acknowledgement.entries);
        for (number, entry) in pairs {
            let own = answer.entries.iter();
            let mut own = own.filter(|it| it.receipt_handle == entry.receipt_handle);
            // Of several messages each has a result of its own.
            let result = own
                .next()
                .map_or_else(|| all.clone(), |it| check(it.status.clone()));
            self.deliveries.ended(number, result, now);
        }
    }

    fn trouble(&mut self, text: String) {
        // It was told of, and has not ended.
        if self.trouble.as_ref() == Some(&text) {
            return;
        }
        self.ports.leave(|boxes| {
            boxes.has_recovered = false;
            boxes.troubles.truncate(TROUBLES_MAX);
            boxes.troubles.push(text.clone());
        });
        self.trouble = Some(text);
    }

    fn recover(&mut self) {
        if self.trouble.take().is_some() {
            self.ports.leave(|boxes| boxes.has_recovered = true);
        }
    }

    /// Says what has become of messages, and leaves the group.
    async fn say_goodbye(&mut self) {
        self.say_verdicts();
        while self.deliveries.is_busy() {
            match self.requests.next().await {
                Some(Ok(Outcome::Ended(_)) | Err(_)) | None => return,
                Some(Ok(outcome)) => {
                    if self.learn(outcome).is_err() {
                        return;
                    }
                }
            }
            self.say_verdicts();
        }
        self.requests.say_goodbye().await;
    }
}

const TICK: Duration = Duration::from_millis(250);
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often it is asked where topics are.
const ROUTE: Duration = Duration::from_secs(30);
const GOODBYE: Duration = Duration::from_secs(2);
/// Troubles that wait to be told.
const TROUBLES_MAX: usize = 3;
