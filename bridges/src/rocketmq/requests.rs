//! What is asked of the server and not answered yet: each question is a task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deliveries::{Acknowledgement, Refusal, Renewal};
use super::grpc;
use super::outbox::Batch;
use super::polls::Question;
use super::session::{LONG_POLLING, Session, Spot, expression_of, time_of};
use super::settings::{ConsumerSettings, Settings};
use super::wire::{
    AckMessageRequest, AckMessageResponse, ChangeInvisibleDurationRequest, ForwardRequest,
    MessageQueue, Method, ReceiveMessageRequest, ReceiveMessageResponse, Status,
};
use crate::Failure;

/// What became of something that was asked.
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
    Forwarded {
        number: u64,
        answer: Result<Option<Status>, Failure>,
    },
    Renewed {
        number: u64,
        since: Instant,
        answer: Result<(Option<Status>, String), Failure>,
    },
    Alive(Result<Option<Status>, Failure>),
    Routed(Result<BTreeMap<Spot, MessageQueue>, Failure>),
}

/// The questions of one connection.
pub(super) struct Requests {
    settings: Arc<Settings>,
    session: Arc<Session>,
    tasks: JoinSet<Outcome>,
}

impl Requests {
    /// With tasks that are running already.
    pub(super) fn new(settings: Arc<Settings>, session: Session, tasks: JoinSet<Outcome>) -> Self {
        Self {
            settings,
            session: Arc::new(session),
            tasks,
        }
    }

    /// Waits for the next outcome; `None` if nothing is asked. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Result<Outcome, Failure>> {
        let broken = |error| Failure::retry(format!("a request broke off: {error}"));
        let outcome = self.tasks.join_next().await?;
        Some(outcome.map_err(broken))
    }

    pub(super) fn send(&mut self, batch: Batch) {
        let Batch {
            number,
            topic,
            question,
        } = batch;
        let client_id = self.session.producer_id();
        self.ask(client_id, question, move |answer| Outcome::Sent {
            number,
            topic,
            answer: answer.map(|it| it.status),
        });
    }

    pub(super) fn receive(&mut self, question: Question, consumer: &ConsumerSettings) {
        let Question { spot, queue, asked } = question;
        let request = ReceiveMessageRequest {
            group: Some(self.session.resource(&consumer.group)),
            message_queue: Some(queue),
            filter_expression: Some(expression_of(&consumer.filter)),
            batch_size: i32::try_from(asked).unwrap_or(1),
            invisible_duration: Some(time_of(consumer.invisible)),
            long_polling_timeout: Some(time_of(LONG_POLLING)),
        };
        let question = grpc::Framed::of(&request);
        let patience = LONG_POLLING + self.settings.ack_timeout;
        let (session, since) = (Arc::clone(&self.session), Instant::now());
        self.tasks.spawn(async move {
            let client_id = session.consumer_id();
            let answer = session
                .channel
                .collect(&client_id, question, patience)
                .await;
            Outcome::Received {
                spot,
                asked,
                since,
                answer,
            }
        });
    }

    pub(super) fn acknowledge(&mut self, group: &str, acknowledgement: Acknowledgement) {
        let request = AckMessageRequest {
            group: Some(self.session.resource(group)),
            topic: Some(acknowledgement.topic.clone()),
            entries: acknowledgement.entries.clone(),
        };
        let client_id = self.session.consumer_id();
        self.ask(client_id, grpc::Framed::of(&request), |answer| {
            Outcome::Acknowledged {
                acknowledgement,
                answer,
            }
        });
    }

    /// Has a message moved to the dead letters of the group.
    pub(super) fn forward(&mut self, group: &str, refusal: Refusal) {
        let number = refusal.number;
        let request = ForwardRequest {
            group: Some(self.session.resource(group)),
            topic: Some(refusal.topic),
            receipt_handle: refusal.handle,
            message_id: refusal.message_id,
            delivery_attempt: refusal.attempt,
            // No later attempt would end otherwise.
            max_delivery_attempts: refusal.attempt,
        };
        let client_id = self.session.consumer_id();
        self.ask(client_id, grpc::Framed::of(&request), move |answer| {
            Outcome::Forwarded {
                number,
                answer: answer.map(|it| it.status),
            }
        });
    }

    pub(super) fn renew(&mut self, consumer: &ConsumerSettings, renewal: Renewal) {
        let (number, since) = (renewal.number, Instant::now());
        let request = ChangeInvisibleDurationRequest {
            group: Some(self.session.resource(&consumer.group)),
            topic: Some(renewal.topic),
            receipt_handle: renewal.handle,
            invisible_duration: Some(time_of(consumer.invisible)),
            message_id: renewal.message_id,
        };
        let client_id = self.session.consumer_id();
        self.ask(client_id, grpc::Framed::of(&request), move |answer| {
            Outcome::Renewed {
                number,
                since,
                answer: answer.map(|it| (it.status, it.receipt_handle)),
            }
        });
    }

    /// Says that we live, for each direction.
    pub(super) fn say_alive(&mut self) {
        for (client_id, request) in self.session.heartbeats() {
            self.ask(client_id, grpc::Framed::of(&request), |answer| {
                Outcome::Alive(answer.map(|it| it.status))
            });
        }
    }

    /// Asks where topics are.
    pub(super) fn route(&mut self) {
        let session = Arc::clone(&self.session);
        self.tasks
            .spawn(async move { Outcome::Routed(session.spots().await) });
    }

    /// Leaves the group.
    pub(super) async fn say_goodbye(&self) {
        self.session.say_goodbye().await;
    }

    /// Ends what is not answered.
    pub(super) async fn end(&mut self) {
        self.tasks.shutdown().await;
    }

    fn ask<M: Method + 'static>(
        &mut self,
        client_id: String,
        question: grpc::Framed<M>,
        outcome: impl FnOnce(Result<M::Answer, Failure>) -> Outcome + Send + 'static,
    ) where
        M::Answer: Send,
    {
        let session = Arc::clone(&self.session);
        let patience: Duration = self.settings.ack_timeout;
        self.tasks.spawn(async move {
            let answer = session.channel.call(&client_id, question, patience).await;
            outcome(answer)
        });
    }
}
