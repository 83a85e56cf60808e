//! An Apache Kafka of its own, from its jars: ports and data are those of one test run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tidewire::clock::Clock;
use tokio::runtime::Runtime;

use crate::java::{Java, START_MS, java as bare_java, make_certificates};
use crate::process::{directory, free_port};

/// A running Kafka, broker and controller in one; ended when dropped.
pub(crate) struct Kafka {
    server: Java,
    runtime: Runtime,
    /// Everything is allowed here.
    pub(crate) port: u16,
    /// Users are `plain` with PLAIN and `mighty` with SCRAM-SHA-256 and SCRAM-SHA-512, who may do
    /// everything, and `scram` with SCRAM-SHA-512, who may do nothing; the password is `secret`.
    pub(crate) sasl_port: u16,
    /// TLS, by a certificate for `localhost` that the authority in `ca.crt` has signed.
    pub(crate) tls_port: u16,
    /// TLS for clients with a certificate of that authority, who may do everything.
    pub(crate) mutual_port: u16,
}

impl Kafka {
    pub(crate) fn start() -> Self {
        let directory = directory();
        let [port, sasl_port, tls_port, mutual_port, controller] = [(); 5].map(|()| free_port());
        let data = directory.join("data").display().to_string();
        let text = PROPERTIES
            .replace("SASL_PORT", &sasl_port.to_string())
            .replace("MUTUAL_PORT", &mutual_port.to_string())
            .replace("TLS_PORT", &tls_port.to_string())
            .replace("CONTROLLER_PORT", &controller.to_string())
            .replace("PORT", &port.to_string())
            .replace("DATA", &data);
        std::fs::write(directory.join("server.properties"), text).expect("written");
        make_certificates(&directory);
        format(&directory);
        let server = Self {
            server: Java::start(directory, spawn),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            port,
            sasl_port,
            tls_port,
            mutual_port,
        };
        server.wait_until_ready();
        server
    }

    /// A file beside its certificate.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.server.file(name)
    }

    /// kill -9, and the same node again.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    pub(crate) fn start_again(&mut self) {
        self.server.start_again();
        self.wait_until_ready();
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", format!("127.0.0.1:{}", self.port));
        config
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topic = settings
            .iter()
            .fold(topic, |topic, (key, value)| topic.set(key, value));
        let (admin, options) = (self.admin(), AdminOptions::new());
        let created = self
            .runtime
            .block_on(admin.create_topics(&[topic], &options));
        let created = created.expect("an answer");
        assert!(created.iter().all(Result::is_ok), "{created:?}");
    }

    pub(crate) fn delete_topic(&self, name: &str) {
        let (admin, options) = (self.admin(), AdminOptions::new());
        let deleted = self
            .runtime
            .block_on(admin.delete_topics(&[name], &options));
        let deleted = deleted.expect("an answer");
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    /// Whether a client of this id may send no more than so many bytes a second.
    pub(crate) fn set_quota(&self, client_id: &str, bytes_a_second: u32) {
        let server = format!("127.0.0.1:{}", self.port);
        let quota = format!("producer_byte_rate={bytes_a_second}");
        let done = java(&self.server.directory)
            .arg("kafka.admin.ConfigCommand")
            .args(["--bootstrap-server", &server, "--alter"])
            .args(["--add-config", &quota])
            .args(["--entity-type", "clients", "--entity-name", client_id])
            .status();
        assert!(done.expect("java").success());
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("a client")
    }

    fn wait_until_ready(&self) {
        let clock = Clock::start();
        let admin = self.admin();
        let second = Duration::from_secs(1);
        while admin.inner().fetch_metadata(None, second).is_err() {
            let is_late = clock.now_ms() >= START_MS;
            assert!(!is_late, "no Kafka: {}", self.server.output());
        }
    }
}

fn format(directory: &Path) {
    let formatted = java(directory)
        .args(["kafka.tools.StorageTool", "format", "--standalone"])
        .args(["-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", "server.properties"])
        .args(["--add-scram", "SCRAM-SHA-512=[name=scram,password=secret]"])
        .args(["--add-scram", "SCRAM-SHA-512=[name=mighty,password=secret]"])
        .args(["--add-scram", "SCRAM-SHA-256=[name=mighty,password=secret]"])
        .status();
    assert!(formatted.expect("java, which tests/run installs").success());
}

fn spawn(directory: &Path) -> Child {
    java(directory)
        .args(["kafka.Kafka", "server.properties"])
        .spawn()
        .expect("java, which tests/run installs")
}

/// Java with Kafka's classes.
fn java(directory: &Path) -> Command {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kafka/libs");
    assert!(libraries.is_dir(), "Kafka's jars, which tests/run fetches");
    let mut command = bare_java(directory);
    command
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .arg("-cp")
        .arg(libraries.join("*"));
    command
}

const PROPERTIES: &str = r#"
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:CONTROLLER_PORT
listeners=PLAINTEXT://127.0.0.1:PORT,\
  SASL_PLAINTEXT://127.0.0.1:SASL_PORT,\
  SSL://127.0.0.1:TLS_PORT,\
  MUTUAL://127.0.0.1:MUTUAL_PORT,\
  CONTROLLER://127.0.0.1:CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:PORT,\
  SASL_PLAINTEXT://127.0.0.1:SASL_PORT,\
  SSL://localhost:TLS_PORT,\
  MUTUAL://localhost:MUTUAL_PORT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,\
  SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,MUTUAL:SSL
ssl.keystore.type=PEM
ssl.keystore.location=keystore.pem
ssl.client.auth=none
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.truststore.type=PEM
listener.name.mutual.ssl.truststore.location=ca.crt
ssl.principal.mapping.rules=RULE:^.*$/mutual/
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_plaintext.plain.sasl.jaas.config=\
  org.apache.kafka.common.security.plain.PlainLoginModule \
  required user_plain="secret";
listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=\
  org.apache.kafka.common.security.scram.ScramLoginModule \
  required;
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=\
  org.apache.kafka.common.security.scram.ScramLoginModule \
  required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:plain;User:mighty;User:mutual
log.dirs=DATA
num.partitions=3
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"#;
