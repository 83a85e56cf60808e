//! The task of a connection: sends, receives, renews and acknowledges.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::convert::Sender;
use super::deliveries::{Acknowledgement, Deliveries, Renewal};
use super::failure::{Undelivered, check, is_nothing, may_pass, of_request, undelivered, words};
use super::outbox::{Batch, Outbox, Verdict};
use super::seen::Seen;
use super::session::{LONG_POLLING, Session, Spot, expression_of, time_of};
use super::settings::Settings;
use super::wire::{
    AckMessageRequest, AckMessageResponse, ChangeInvisibleDurationRequest, MessageQueue,
    ReceiveMessageRequest, ReceiveMessageResponse, SendMessageRequest, Status,
};
use crate::ports::Ports;
use crate::{Failure, Settled};

/// What became of something that the link has begun.
pub(super) enum Outcome {
    /// The connection, or the session on it.
    Ended(Failure),
    Sent {
        number: u64,
        topic: String,
        answer: Result<Option<Status>, Failure>,
    },
    Received {
        spot: Spot,
        asked: usize,
        since: Instant,
        answer: Result<Vec<ReceiveMessageResponse>, Failure>,
    },
    Acknowledged {
        acknowledgement: Acknowledgement,
        answer: Result<AckMessageResponse, Failure>,
    },
    Renewed {
        number: u64,
        since: Instant,
        answer: Result<(Option<Status>, String), Failure>,
    },
    Alive(Result<Option<Status>, Failure>),
    Routed(Result<BTreeMap<Spot, MessageQueue>, Failure>),
}

/// A connection at work.
pub(super) struct Link {
    settings: Arc<Settings>,
    ports: Arc<Ports>,
    sender: Sender,
    session: Arc<Session>,
    tasks: JoinSet<Outcome>,
    outbox: Outbox,
    deliveries: Deliveries,
    polls: BTreeMap<Spot, Poll>,
    /// Messages that running polls may bring.
    asked: usize,
    /// What the caller was told last that does not go on.
    trouble: Option<String>,
    /// When the server is next told that we live, and asked where topics are.
    heartbeat_at: Instant,
    route_at: Instant,
}

/// What receives from one place.
struct Poll {
    queue: MessageQueue,
    is_running: bool,
    not_before: Instant,
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
            session: Arc::new(opened.session),
            tasks: opened.tasks,
            outbox: Outbox::new(producer.map_or(1, |it| it.inflight_max)),
            deliveries: Deliveries::new(
                seen,
                consumer.map_or(Duration::ZERO, |it| it.invisible),
                consumer.map_or(0, |it| it.unaccepted_max),
            ),
            polls: BTreeMap::new(),
            asked: 0,
            trouble: None,
            heartbeat_at: now + HEARTBEAT,
            route_at: now + ROUTE,
            settings,
            ports,
        };
        link.follow(opened.spots);
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
        self.tasks.shutdown().await;
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
            self.acknowledge();
            self.receive();
            // Cancel safe: an outcome that is not taken stays in the set, `notified` keeps its
            // permit, a tick that is not taken comes again.
            tokio::select! {
                Some(outcome) = self.tasks.join_next() => self.learn(outcome)?,
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
        orders.closing
    }

    fn settle(&self, settled: Vec<Settled>) {
        if !settled.is_empty() {
            self.ports.leave(|boxes| boxes.settled.extend(settled));
        }
    }

    /// Sends what the window has room for.
    fn send(&mut self) {
        while let Some(Batch { number, messages }) = self.outbox.next() {
            let topic = messages.first().and_then(|it| it.topic.as_ref());
            let topic = topic.map(|it| it.name.clone()).unwrap_or_default();
            let (session, patience) = (Arc::clone(&self.session), self.settings.ack_timeout);
            self.tasks.spawn(async move {
                let request = SendMessageRequest { messages };
                let client_id = session.producer_id();
                let answer = session.channel.call(&client_id, request, patience).await;
                Outcome::Sent {
                    number,
                    topic,
                    answer: answer.map(|it| it.status),
                }
            });
        }
    }

    /// Acknowledges what was accepted.
    fn acknowledge(&mut self) {
        let group = self.settings.consumer.as_ref().map(|it| &it.group);
        let Some(group) = group.map(|it| self.session.resource(it)) else {
            return;
        };
        for acknowledgement in self.deliveries.acknowledgements() {
            let (session, patience) = (Arc::clone(&self.session), self.settings.ack_timeout);
            let request = AckMessageRequest {
                group: Some(group.clone()),
                topic: Some(acknowledgement.topic.clone()),
                entries: acknowledgement.entries.clone(),
            };
            self.tasks.spawn(async move {
                let client_id = session.consumer_id();
                let answer = session.channel.call(&client_id, request, patience).await;
                Outcome::Acknowledged {
                    acknowledgement,
                    answer,
                }
            });
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
        let now = Instant::now();
        for (spot, poll) in &mut self.polls {
            let asked = self
                .deliveries
                .room()
                .saturating_sub(self.asked)
                .min(BATCH_MAX);
            if poll.is_running || now < poll.not_before || asked == 0 {
                continue;
            }
            poll.is_running = true;
            self.asked += asked;
            let request = ReceiveMessageRequest {
                group: Some(self.session.resource(&consumer.group)),
                message_queue: Some(poll.queue.clone()),
                filter_expression: Some(expression_of(&consumer.filter)),
                batch_size: i32::try_from(asked).unwrap_or(1),
                invisible_duration: Some(time_of(consumer.invisible)),
                long_polling_timeout: Some(time_of(LONG_POLLING)),
            };
            let patience = LONG_POLLING + self.settings.ack_timeout;
            let (session, spot) = (Arc::clone(&self.session), spot.clone());
            self.tasks.spawn(async move {
                let client_id = session.consumer_id();
                let answer = session.channel.collect(&client_id, request, patience).await;
                Outcome::Received {
                    spot,
                    asked,
                    since: now,
                    answer,
                }
            });
        }
    }

    fn look_at_the_clock(&mut self, now: Instant) {
        for renewal in self.deliveries.renewals(now) {
            self.renew(renewal, now);
        }
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + HEARTBEAT;
            let patience = self.settings.ack_timeout;
            for (client_id, request) in self.session.heartbeats() {
                let session = Arc::clone(&self.session);
                self.tasks.spawn(async move {
                    let answer = session.channel.call(&client_id, request, patience).await;
                    Outcome::Alive(answer.map(|it| it.status))
                });
            }
        }
        if now >= self.route_at {
            self.route_at = now + ROUTE;
            let session = Arc::clone(&self.session);
            self.tasks
                .spawn(async move { Outcome::Routed(session.spots().await) });
        }
    }

    fn renew(&mut self, renewal: Renewal, now: Instant) {
        let Some(consumer) = &self.settings.consumer else {
            return;
        };
        let request = ChangeInvisibleDurationRequest {
            group: Some(self.session.resource(&consumer.group)),
            topic: Some(renewal.topic),
            receipt_handle: renewal.handle,
            invisible_duration: Some(time_of(consumer.invisible)),
            message_id: renewal.message_id,
        };
        let (session, patience) = (Arc::clone(&self.session), self.settings.ack_timeout);
        self.tasks.spawn(async move {
            let client_id = session.consumer_id();
            let answer = session.channel.call(&client_id, request, patience).await;
            Outcome::Renewed {
                number: renewal.number,
                since: now,
                answer: answer.map(|it| (it.status, it.receipt_handle)),
            }
        });
    }

    fn learn(&mut self, outcome: Result<Outcome, tokio::task::JoinError>) -> Result<(), Failure> {
        let outcome =
            outcome.map_err(|error| Failure::retry(format!("a request broke off: {error}")))?;
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
                self.asked -= asked;
                self.received(&spot, since, answer?)?;
            }
            Outcome::Acknowledged {
                acknowledgement,
                answer,
            } => self.acknowledged(acknowledgement, answer?),
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
            Outcome::Routed(spots) => self.follow(spots?),
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

    fn received(
        &mut self,
        spot: &Spot,
        since: Instant,
        answers: Vec<ReceiveMessageResponse>,
    ) -> Result<(), Failure> {
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
        let poll = self.polls.get_mut(spot);
        let pause = match &refusal {
            Some(status) if !is_nothing(status) => PAUSE,
            _ => Duration::ZERO,
        };
        if let Some(poll) = poll {
            poll.is_running = false;
            poll.not_before = Instant::now() + pause;
        }
        let what = format!("topic {:?}", spot.0);
        match refusal.filter(|it| !is_nothing(it)) {
            None => self.recover(),
            Some(status) if may_pass(&status) => self.trouble(words(&what, &status)),
            Some(status) => return Err(of_request(&what, &status)),
        }
        Ok(())
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
            self.deliveries.acknowledged(number, result, now);
        }
    }

    /// Receives from these places from now on.
    fn follow(&mut self, spots: BTreeMap<Spot, MessageQueue>) {
        self.polls
            .retain(|spot, poll| poll.is_running || spots.contains_key(spot));
        for (spot, queue) in spots {
            self.polls.entry(spot).or_insert_with(|| Poll {
                queue,
                is_running: false,
                not_before: Instant::now(),
            });
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

    /// Acknowledges what is accepted, and leaves the group.
    async fn say_goodbye(&mut self) {
        self.acknowledge();
        while self.deliveries.is_busy() {
            match self.tasks.join_next().await {
                Some(Ok(Outcome::Ended(_))) | None => return,
                Some(outcome) => {
                    if self.learn(outcome).is_err() {
                        return;
                    }
                }
            }
            self.acknowledge();
        }
        self.session.say_goodbye().await;
    }
}

const TICK: Duration = Duration::from_millis(250);
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often it is asked where topics are.
const ROUTE: Duration = Duration::from_secs(30);
/// After a refusal of a poll that may pass.
const PAUSE: Duration = Duration::from_secs(1);
const GOODBYE: Duration = Duration::from_secs(2);
/// Messages that one poll may bring; servers refuse more than 32.
const BATCH_MAX: usize = 32;
/// Troubles that wait to be told.
const TROUBLES_MAX: usize = 3;
