//! What librdkafka tells: deliveries, errors and statistics, left where the ends find them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::Statistics;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use serde_json::{Map, Value};

use super::failure::{self, Target, Undelivered};
use super::statistics;
use super::tokens::{NO_TOKEN, TokenSource};
use crate::ports::Ports;
use crate::{Failure, Record, Settled};

/// The ear of one connection.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) ports: Arc<Ports>,
    /// Topics without which nothing goes on.
    required: BTreeSet<String>,
    pub(super) tokens: Option<TokenSource>,
    heard: Mutex<Heard>,
}

/// What librdkafka carries along with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) sequence: u64,
    /// The record chooses the partition itself.
    pub(super) has_partition: bool,
}

impl Sent {
    /// Of no record: nobody waits for it by itself.
    pub(super) const CURSOR: Self = Self {
        sequence: u64::MAX,
        has_partition: true,
    };

    pub(super) fn new(record: &Record) -> Self {
        Self {
            sequence: record.sequence,
            has_partition: record.partition.is_some(),
        }
    }
}

/// What works or does not by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// What statistics tell of servers.
    Servers,
    Token,
    Out,
    In,
}

/// What the group wants.
#[derive(Debug)]
pub(super) enum Rebalanced {
    /// These partitions are to be read, and no others.
    Assigned(TopicPartitionList),
    /// Nothing is to be read.
    Revoked,
}

#[derive(Debug, Default)]
struct Heard {
    last_error: Option<String>,
    /// What each is, without what varies and with it.
    troubles: BTreeMap<Part, (String, String)>,
    /// Records whose batch was too large.
    suspects: BTreeSet<u64>,
    rebalances: VecDeque<Rebalanced>,
    /// Somebody carries them out.
    is_read: bool,
    /// A token was given; the last one may still do.
    has_token: bool,
    /// There was an error which may have been the end of a client, as it says itself.
    may_be_over: bool,
    /// The numbers of each client.
    numbers: Arc<Map<String, Value>>,
}

impl Events {
    pub(super) fn new(
        ports: Arc<Ports>,
        required: BTreeSet<String>,
        tokens: Option<TokenSource>,
    ) -> Self {
        Self {
            ports,
            required,
            tokens,
            heard: Mutex::default(),
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        // Nothing that holds the lock can panic half way through a change.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last error is the reason of a silence.
    pub(super) fn with_last_error(&self, mut silence: Failure) -> Failure {
        silence.reason.push_str(&self.last_error());
        silence
    }

    fn last_error(&self) -> String {
        let heard = self.heard();
        heard
            .last_error
            .as_ref()
            .map_or_else(String::new, |error| format!(": {error}"))
    }

    pub(super) fn is_suspect(&self, sequence: u64) -> bool {
        self.heard().suspects.contains(&sequence)
    }

    /// Whether any record has to go alone.
    pub(super) fn has_suspects(&self) -> bool {
        !self.heard().suspects.is_empty()
    }

    /// It goes alone from now on.
    pub(super) fn suspect(&self, sequence: u64) {
        self.heard().suspects.insert(sequence);
    }

    /// It went alone and is settled.
    pub(super) fn clear(&self, sequence: u64) {
        self.heard().suspects.remove(&sequence);
    }

    /// From now on somebody carries out what the group wants, or nobody does.
    pub(super) fn set_read(&self, is_read: bool) {
        self.heard().is_read = is_read;
    }

    /// The next change of the group that is to be carried out.
    pub(super) fn take_rebalance(&self) -> Option<Rebalanced> {
        self.heard().rebalances.pop_front()
    }

    /// The connection goes on, but not everything works; said once until it has ended.
    pub(super) fn trouble(&self, part: Part, what: String, details: &str) {
        let mut heard = self.heard();
        let known = heard.troubles.get(&part);
        if known.is_none_or(|it| it.0 != what) {
            let text = format!("{what}{details}");
            heard.troubles.insert(part, (what, text));
            self.tell_troubles(&heard);
        }
    }

    /// Something works again.
    pub(super) fn recovered(&self, part: Part) {
        let mut heard = self.heard();
        if heard.troubles.remove(&part).is_some() {
            self.tell_troubles(&heard);
        }
    }

    /// Acknowledgements are due for a while: librdkafka tries again, and does not say why.
    pub(super) fn silent(&self) {
        let what = format!("nothing was acknowledged for {} s", SILENCE.as_secs());
        self.trouble(Part::Out, what, &self.last_error());
    }

    fn tell_troubles(&self, heard: &Heard) {
        let texts: Vec<&str> = heard.troubles.values().map(|it| &*it.1).collect();
        match texts.is_empty() {
            true => self.ports.leave(|boxes| boxes.has_recovered = true),
            false => self.ports.trouble(texts.join("; ")),
        }
    }

    /// A topic that is to be read is not there; what librdkafka said last names it.
    pub(super) fn missing(&self, what: String) {
        let details = self.last_error();
        self.trouble(Part::In, what, &details);
    }

    /// Why a client has ended for good, if it has.
    pub(super) fn fatal(&self, client: &Client<Ear>) -> Option<Failure> {
        let may_be_over = std::mem::take(&mut self.heard().may_be_over);
        let fatal = client.fatal_error().filter(|_| may_be_over);
        fatal.map(|(code, text)| failure::of_fatal(code, &text))
    }

    /// There is a new token.
    pub(super) fn has_new_token(&self) {
        self.heard().has_token = true;
        self.recovered(Part::Token);
    }

    /// There was a token once, which may still do.
    pub(super) fn has_old_token(&self) -> bool {
        self.heard().has_token
    }

    fn settle(&self, sequence: u64, result: Result<(), Failure>) {
        let mut boxes = self.ports.lock();
        let is_first = boxes.settled.is_empty();
        boxes.settled.push(Settled { sequence, result });
        drop(boxes);
        // Whoever was woken for the first takes all.
        if is_first {
            self.ports.wake_sink();
        }
    }

    /// librdkafka does not even take a record.
    pub(super) fn refused(&self, sent: Sent, code: Code, topic: &str) {
        if code == Code::MessageSizeTooLarge {
            // Its own size is meant, not that of a batch.
            self.heard().suspects.insert(sent.sequence);
        }
        self.undelivered(sent, code, topic);
    }

    fn undelivered(&self, sent: Sent, code: Code, topic: &str) {
        let Sent {
            sequence,
            has_partition,
        } = sent;
        let target = Target {
            topic,
            is_required: self.required.contains(topic),
            has_partition,
        };
        match failure::undelivered(code, target) {
            Undelivered::Purged => {}
            Undelivered::Ended(failure) => self.ports.fail(failure),
            Undelivered::Settled(failure) => self.settle(sequence, Err(failure)),
            Undelivered::Batch => {
                let reason = format!("topic {topic:?}: {}", failure::words(code));
                // The caller brings it back, and then it goes alone.
                let is_first = self.heard().suspects.insert(sequence);
                let failure = match is_first {
                    true => Failure::retry(reason),
                    false => Failure::poison(reason),
                };
                self.settle(sequence, Err(failure));
            }
        }
    }

    fn error(&self, error: &KafkaError, reason: &str) {
        if reason.starts_with(NO_TOKEN) {
            // It was told where it happened, with its class.
            return;
        }
        if let Some(failure) = failure::of_client(error, reason) {
            self.ports.fail(failure);
        } else if error.rdkafka_error_code() == Some(Code::AllBrokersDown) {
            let details = self.last_error();
            self.trouble(
                Part::Servers,
                failure::words(Code::AllBrokersDown),
                &details,
            );
        } else {
            let mut heard = self.heard();
            heard.last_error = Some(reason.to_owned());
            heard.may_be_over = true;
            drop(heard);
            self.ports.wake_sink();
        }
    }

    fn statistics(&self, statistics: &Statistics) {
        let client = match statistics::is_producer(statistics) {
            true => "producer",
            false => "consumer",
        };
        let numbers = statistics::numbers(statistics);
        Arc::make_mut(&mut self.heard().numbers).insert(client.to_owned(), numbers);
        let throttle_ms = statistics::throttle_ms(statistics);
        if throttle_ms > 0 {
            let details = format!(", by up to {throttle_ms} ms");
            let what = "throttled by the server's quota".to_owned();
            self.trouble(Part::Servers, what, &details);
        } else if statistics.brokers.values().any(|it| it.state == "UP") {
            self.recovered(Part::Servers);
        }
    }

    /// The last numbers of the clients, by what they are.
    pub(super) fn numbers(&self) -> Arc<Map<String, Value>> {
        Arc::clone(&self.heard().numbers)
    }
}

/// Hears for a producer or a consumer.
#[derive(Clone, Debug)]
pub(super) struct Ear(pub(super) Arc<Events>);

impl ClientContext for Ear {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.0.token()
    }

    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _line: &str) {
        // What matters comes as an error as well, and ends in the state of the bridge.
    }

    fn stats(&self, statistics: Statistics) {
        self.0.statistics(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

impl ProducerContext for Ear {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        match result {
            Ok(_) => self.0.settle(sent.sequence, Ok(())),
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
                self.0.undelivered(*sent, code, message.topic());
            }
        }
    }
}

impl ConsumerContext for Ear {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        // All else passes, and the next commit says the same and more.
        let refusal = result.err().filter(failure::is_unauthorized);
        if let Some(error) = refusal {
            self.0.ports.fail(failure::of_group(&error));
        }
    }

    /// Carried out by the reader, who knows what is on its way; until then the group waits.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let rebalance = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                Rebalanced::Assigned(partitions.clone())
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => Rebalanced::Revoked,
            other => {
                let words = failure::words(other.into());
                return self.0.trouble(Part::In, format!("the group: {words}"), "");
            }
        };
        let mut heard = self.0.heard();
        if heard.is_read {
            heard.rebalances.push_back(rebalance);
            return;
        }
        drop(heard);
        // The consumer is about to be closed, which waits for this. If it fails, nothing was
        // assigned.
        let _ = consumer.unassign();
    }
}

/// How long nothing is acknowledged until the state says so.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
