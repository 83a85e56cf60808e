//! What an administrator of Kafka does, over its protocol.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidewire::clock::Clock;
use tokio::runtime::Runtime;

use crate::java::START_MS;

/// An administrator of one cluster.
pub(crate) struct Admin {
    config: ClientConfig,
    runtime: Runtime,
    /// Of one of its servers.
    port: u16,
}

impl Admin {
    pub(crate) fn new(config: ClientConfig, port: u16) -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Self {
            config,
            runtime: runtime.enable_all().build().expect("a runtime"),
            port,
        }
    }

    pub(crate) fn config(&self) -> ClientConfig {
        self.config.clone()
    }

    pub(crate) fn create_topic(&self, topic: &NewTopic<'_>) {
        let options = AdminOptions::new();
        let client = self.client();
        let created = self
            .runtime
            .block_on(client.create_topics([topic], &options));
        let created = created.expect("an answer");
        assert!(created.iter().all(Result::is_ok), "{created:?}");
    }

    pub(crate) fn delete_topic(&self, name: &str) {
        let options = AdminOptions::new();
        let client = self.client();
        let deleted = self
            .runtime
            .block_on(client.delete_topics(&[name], &options));
        let deleted = deleted.expect("an answer");
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    /// Gives a topic this setting, and no other.
    pub(crate) fn set_topic(&self, name: &str, key: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value);
        let options = AdminOptions::new();
        let client = self.client();
        let done = self
            .runtime
            .block_on(client.alter_configs([&change], &options));
        let done = done.expect("an answer");
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }

    /// As retention does: records of the first partition below an offset are gone.
    pub(crate) fn delete_records(&self, topic: &str, below: i64) {
        let mut list = TopicPartitionList::new();
        let below = Offset::Offset(below);
        list.add_partition_offset(topic, 0, below).expect("added");
        let options = AdminOptions::new();
        let client = self.client();
        let done = self
            .runtime
            .block_on(client.delete_records(&list, &options));
        let done = done.expect("an answer");
        assert!(done.elements().iter().all(|it| it.error().is_ok()));
    }

    /// The node that leads a partition, if there is one.
    pub(crate) fn leader(&self, topic: &str, partition: usize) -> Option<i32> {
        let client = self.client();
        let metadata = client.inner().fetch_metadata(Some(topic), PATIENCE).ok()?;
        let topic = metadata.topics().first()?;
        let leader = topic.partitions().get(partition)?.leader();
        (leader >= 0).then_some(leader)
    }

    pub(crate) fn brokers(&self) -> usize {
        let client = self.client();
        let metadata = client.inner().fetch_metadata(None, PATIENCE);
        metadata.map_or(0, |it| it.brokers().len())
    }

    /// How many replicas of each partition are in sync, at least.
    pub(crate) fn in_sync(&self, topic: &str) -> usize {
        let client = self.client();
        let metadata = client.inner().fetch_metadata(Some(topic), PATIENCE);
        let metadata = metadata.expect("an answer");
        let partitions = metadata.topics()[0].partitions().iter();
        partitions.map(|it| it.isr().len()).min().unwrap_or(0)
    }

    pub(crate) fn wait_until_ready(&self, output: impl Fn() -> String) {
        let clock = Clock::start();
        let client = self.client();
        let second = Duration::from_secs(1);
        while client.inner().fetch_metadata(None, second).is_err() {
            assert!(clock.now_ms() < START_MS, "no Kafka: {}", output());
        }
    }

    /// How much a client may send; `None` is as much as it likes.
    pub(crate) fn set_quota(&self, client_id: &str, bytes_a_second: Option<u32>) {
        let mut body = array(1);
        body.extend(array(1));
        body.extend([text("client-id"), text(client_id)].concat());
        body.extend(array(1));
        body.extend(text("producer_byte_rate"));
        let rate = bytes_a_second.map_or(0.0, f64::from);
        body.extend(rate.to_be_bytes());
        // Whether it is removed, and whether this is a rehearsal.
        body.extend([u8::from(bytes_a_second.is_none()), 0]);
        let answer = self.ask(ALTER_CLIENT_QUOTAS, 0, &body);
        // After the time of throttling and the number of entries.
        assert_eq!(answer[8..10], [0, 0], "{answer:?}");
    }

    /// Lets a user do one thing with a topic or a group.
    pub(crate) fn allow(&self, user: &str, resource: Resource<'_>, operation: Operation) {
        let body = [array(1), rule(user, resource, operation)].concat();
        let answer = self.ask(CREATE_ACLS, 1, &body);
        assert_eq!(answer[8..10], [0, 0], "{answer:?}");
    }

    /// Takes it back.
    pub(crate) fn forbid(&self, user: &str, resource: Resource<'_>, operation: Operation) {
        let body = [array(1), rule(user, resource, operation)].concat();
        let answer = self.ask(DELETE_ACLS, 1, &body);
        assert_eq!(answer[8..10], [0, 0], "{answer:?}");
    }

    /// For what librdkafka has no words: the answer behind its header.
    fn ask(&self, key: u16, version: u16, body: &[u8]) -> Vec<u8> {
        let correlation_id = 7_u32.to_be_bytes();
        let head = [key.to_be_bytes(), version.to_be_bytes()].concat();
        let request = [&*head, &correlation_id, &text("admin"), body].concat();
        let length = u32::try_from(request.len()).expect("short");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        let sent = stream.write_all(&[&length.to_be_bytes(), &*request].concat());
        sent.expect("sent");
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(length).try_into().expect("short")];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer[..4], correlation_id);
        answer.split_off(4)
    }

    fn client(&self) -> AdminClient<DefaultClientContext> {
        self.config.create().expect("a client")
    }
}

/// What a rule of the authorizer is about.
#[derive(Clone, Copy)]
pub(crate) enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
}

/// As the protocol numbers them.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    Read = 3,
    Write = 4,
}

/// A rule, and the filter that matches it alone.
fn rule(user: &str, resource: Resource<'_>, operation: Operation) -> Vec<u8> {
    let (kind, name) = match resource {
        Resource::Topic(name) => (2, name),
        Resource::Group(name) => (3, name),
    };
    let user = format!("User:{user}");
    // The name is literal, and the operation allowed.
    [
        &[kind][..],
        &text(name),
        &[3],
        &text(&user),
        &text("*"),
        &[operation as u8, 3],
    ]
    .concat()
}

fn array(length: u32) -> Vec<u8> {
    length.to_be_bytes().to_vec()
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

const PATIENCE: Duration = Duration::from_secs(5);
const CREATE_ACLS: u16 = 30;
const DELETE_ACLS: u16 = 31;
const ALTER_CLIENT_QUOTAS: u16 = 49;
