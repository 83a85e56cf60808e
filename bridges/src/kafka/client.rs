//! From settings to clients of librdkafka.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::events::{Ear, Events};
use super::failure;
use super::settings::{ConsumerSettings, ProducerSettings, Settings};
use super::sink::Producer;
use super::source::Consumer;
use crate::Failure;
use crate::dial::no_answer;

/// What both directions have in common.
///
/// # Errors
/// The credentials cannot be read.
pub(super) fn common(settings: &Settings) -> Result<ClientConfig, Failure> {
    let mut config = ClientConfig::new();
    let has_sasl = authenticate(&mut config, settings)?;
    let protocol = match (settings.tls.is_some(), has_sasl) {
        (false, false) => "plaintext",
        (false, true) => "sasl_plaintext",
        (true, false) => "ssl",
        (true, true) => "sasl_ssl",
    };
    let setup_ms = settings.connect_timeout.as_millis().max(1_000).to_string();
    config
        .set("bootstrap.servers", &settings.servers)
        .set("client.id", &settings.name)
        .set("security.protocol", protocol)
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        .set("socket.connection.setup.timeout.ms", setup_ms)
        .set("reconnect.backoff.max.ms", "2000")
        .set(
            "statistics.interval.ms",
            settings.statistics_interval.as_millis().to_string(),
        );
    if let Some(tls) = &settings.tls {
        set_file(&mut config, "ssl.ca.location", tls.ca.as_deref());
        let (certificate, key) = tls.pair.clone().unzip();
        set_file(
            &mut config,
            "ssl.certificate.location",
            certificate.as_deref(),
        );
        set_file(&mut config, "ssl.key.location", key.as_deref());
    }
    Ok(config)
}

/// Says who we are; false if nobody asks.
fn authenticate(config: &mut ClientConfig, settings: &Settings) -> Result<bool, Failure> {
    if settings.tokens.is_some() {
        config.set("sasl.mechanism", "OAUTHBEARER");
        return Ok(true);
    }
    let (user_name, password) = (settings.credentials.0)()?.into_text()?;
    let Some(user_name) = user_name else {
        return Ok(false);
    };
    config
        .set("sasl.mechanism", &settings.sasl_mechanism)
        .set("sasl.username", user_name)
        .set("sasl.password", password);
    Ok(true)
}

fn set_file(config: &mut ClientConfig, key: &str, file: Option<&Path>) {
    if let Some(file) = file {
        config.set(key, file.display().to_string());
    }
}

pub(super) fn producer(
    mut config: ClientConfig,
    settings: &ProducerSettings,
    patience: Duration,
    events: &Arc<Events>,
) -> Result<Producer, Failure> {
    if let Some(own) = &settings.exactly_once {
        let ms = patience.as_millis().clamp(10_000, TRANSACTION_MS_MAX);
        let ms = ms.to_string();
        config
            .set("transactional.id", &own.transactional_id)
            .set("transaction.timeout.ms", &ms)
            .set("message.timeout.ms", &ms);
    } else {
        // A record waits for as long as the caller does.
        config.set("message.timeout.ms", "0");
    }
    config
        .set("acks", &settings.acks)
        .set("enable.idempotence", settings.is_idempotent.to_string())
        .set("compression.codec", &settings.compression)
        .set("partitioner", &settings.partitioner)
        .set("linger.ms", settings.linger_ms.to_string())
        .set(
            "batch.num.messages",
            settings.batch_messages_max.to_string(),
        )
        .set("batch.size", settings.batch_bytes_max.to_string())
        .set("message.max.bytes", settings.message_bytes_max.to_string())
        // The caller's window is the bound; a cursor comes on top.
        .set(
            "queue.buffering.max.messages",
            settings.inflight_max.saturating_add(1).to_string(),
        )
        .set("queue.buffering.max.kbytes", "2097151")
        .set(
            "allow.auto.create.topics",
            settings.creates_topics.to_string(),
        )
        .set("topic.metadata.propagation.max.ms", "15000");
    config
        .create_with_context(Ear(Arc::clone(events)))
        .map_err(of_config)
}

pub(super) fn consumer(
    mut config: ClientConfig,
    settings: &ConsumerSettings,
    events: &Arc<Events>,
) -> Result<Consumer, Failure> {
    config
        .set("group.id", &settings.group)
        // Where to begin is said for each partition; where that is gone, it is looked for anew.
        .set("auto.offset.reset", "error")
        .set("isolation.level", &settings.isolation)
        // Offsets are stored by us once a record is accepted, and committed every second and when a
        // partition is given away.
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        // What a killed process held is given to the next one after this.
        .set("session.timeout.ms", "10000")
        .set("allow.auto.create.topics", "false")
        .set("topic.metadata.refresh.interval.ms", "10000");
    config
        .create_with_context(Ear(Arc::clone(events)))
        .map_err(of_config)
}

/// Joins the group; from now on somebody has to read.
pub(super) fn subscribe(consumer: &Consumer, settings: &ConsumerSettings) -> Result<(), Failure> {
    let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).map_err(of_config)
}

/// What a consumer tells, and the token that it asks for, before it reads. Errors are told by the
/// ear.
pub(super) fn serve(consumer: &BaseConsumer<Ear>) {
    while consumer.poll(Duration::ZERO).is_some() {}
}

/// Waits for the first answer of a server, and looks for the topics that have to exist. Blocks.
///
/// # Errors
/// There is no answer, or a topic cannot be used.
pub(super) fn greet(
    client: &Client<Ear>,
    settings: &Settings,
    is_given_up: impl Fn() -> bool,
) -> Result<(), Failure> {
    let events = &client.context().0;
    let attempts = settings.connect_timeout.as_millis() / SLICE.as_millis() + 1;
    let mut attempts = (0..attempts).take_while(|_| !is_given_up());
    // In slices, since nothing else interrupts librdkafka.
    let has_answered = attempts.any(|_| {
        let has_failed = events.ports.lock().failure.is_some();
        has_failed || client.fetch_cluster_id(SLICE).is_some()
    });
    if let Some(failure) = events.ports.lock().failure.clone() {
        return Err(failure);
    }
    if let Some(failure) = events.fatal(client) {
        return Err(failure);
    }
    if !has_answered {
        return Err(events.with_last_error(no_answer(settings.connect_timeout)));
    }
    let topics = settings.producer.iter().flat_map(|it| &it.topics);
    let creates = settings
        .producer
        .as_ref()
        .is_some_and(|it| it.creates_topics);
    for topic in topics.filter(|_| !creates) {
        look_for(client, topic, settings.connect_timeout)?;
    }
    Ok(())
}

fn look_for(client: &Client<Ear>, topic: &str, patience: Duration) -> Result<(), Failure> {
    let lost = |error: KafkaError| {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        failure::of_topic(code, topic)
    };
    let metadata = client.fetch_metadata(Some(topic), patience).map_err(lost)?;
    let topics = metadata.topics().iter();
    match topics.filter_map(|it| it.error()).next() {
        None => Ok(()),
        Some(error) => Err(failure::of_topic(error.into(), topic)),
    }
}

fn of_config(error: KafkaError) -> Failure {
    Failure::refused(error)
}

/// What servers allow without being told otherwise.
const TRANSACTION_MS_MAX: u128 = 900_000;
const SLICE: Duration = Duration::from_millis(250);
