//! An Apache Kafka of its own, from its jars: ports and data are those of one test run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{NewTopic, TopicReplication};
use tidewire::clock::Clock;

use super::admin::Admin;
use crate::certificates;
use crate::java::{Java, START_MS, java as bare_java};
use crate::process::{directory, free_port};

/// A running Kafka, broker and controller in one; ended when dropped.
pub(crate) struct Kafka {
    server: Java,
    pub(crate) admin: Admin,
    /// Everything is allowed here.
    pub(crate) port: u16,
    /// Users are `plain` with PLAIN and `mighty` with SCRAM-SHA-256 and SCRAM-SHA-512, who may do
    /// everything, `scram` with SCRAM-SHA-512, who may do nothing, and `mortal` with the same, who
    /// may do what he is allowed; the password is `secret`.
    pub(crate) sasl_port: u16,
    /// TLS, by a certificate for `localhost` that the authority in `ca.crt` has signed.
    pub(crate) tls_port: u16,
    /// TLS for clients with a certificate of that authority, who may do everything.
    pub(crate) mutual_port: u16,
    /// TLS by a certificate that has expired.
    pub(crate) expired_port: u16,
    /// Tokens that nobody has signed, by OAUTHBEARER, shown anew after 5 seconds at the latest; the
    /// users are those of `sasl_port`.
    pub(crate) oauth_port: u16,
}

impl Kafka {
    pub(crate) fn start() -> Self {
        let directory = directory();
        let [
            port,
            sasl_port,
            tls_port,
            mutual_port,
            expired_port,
            oauth_port,
            controller,
        ] = [(); 7].map(|()| free_port());
        let text = PROPERTIES
            .replace("SASL_PORT", &sasl_port.to_string())
            .replace("OAUTH_PORT", &oauth_port.to_string())
            .replace("MUTUAL_PORT", &mutual_port.to_string())
            .replace("EXPIRED_PORT", &expired_port.to_string())
            .replace("TLS_PORT", &tls_port.to_string())
            .replace("CONTROLLER_PORT", &controller.to_string())
            .replace("PORT", &port.to_string());
        certificates::make(&directory);
        format(&directory, &text, STANDALONE);
        let server = Self {
            server: Java::start(directory, spawn),
            admin: Admin::new(config_of(port), port),
            port,
            sasl_port,
            tls_port,
            mutual_port,
            expired_port,
            oauth_port,
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

    /// From now on no file of the server may have more bytes than these.
    pub(crate) fn leave_room_for(&self, bytes: u64) {
        let (pid, size) = (self.server.pid().to_string(), format!("--fsize={bytes}"));
        let done = Command::new("prlimit")
            .args(["--pid", &pid, &size])
            .status();
        assert!(done.expect("prlimit").success());
    }

    /// It stops by itself.
    pub(crate) fn wait_until_ended(&mut self) {
        let clock = Clock::start();
        while !self.server.has_ended() {
            assert!(clock.now_ms() < START_MS, "{}", self.server.output());
            sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn config(&self) -> ClientConfig {
        self.admin.config()
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topic = settings.iter().fold(topic, |topic, (k, v)| topic.set(k, v));
        self.admin.create_topic(&topic);
    }

    /// Makes or unmakes the password of a user for SCRAM-SHA-512.
    pub(crate) fn set_scram(&self, user: &str, password: Option<&str>) {
        let server = format!("127.0.0.1:{}", self.port);
        let change = match password {
            Some(it) => [
                "--add-config".into(),
                format!("SCRAM-SHA-512=[password={it}]"),
            ],
            None => ["--delete-config".into(), "SCRAM-SHA-512".to_owned()],
        };
        let done = java(&self.server.directory)
            .arg("kafka.admin.ConfigCommand")
            .args(["--bootstrap-server", &server, "--alter"])
            .args(["--entity-type", "users", "--entity-name", user])
            .args(change)
            .status();
        assert!(done.expect("java").success());
    }

    fn wait_until_ready(&self) {
        self.admin.wait_until_ready(|| self.server.output());
    }
}

/// Of a client of a server.
fn config_of(port: u16) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", format!("127.0.0.1:{port}"));
    config
}

/// Writes the configuration of a node, and makes its storage.
pub(super) fn format(directory: &Path, properties: &str, more: &[&str]) {
    let data = directory.join("data");
    let text = format!("{properties}{OF_ALL}log.dirs={}\n", data.display());
    std::fs::write(directory.join("server.properties"), text).expect("written");
    let formatted = java(directory)
        .args(["kafka.tools.StorageTool", "format"])
        .args(["-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", "server.properties"])
        .args(more)
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
pub(super) fn java(directory: &Path) -> Command {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kafka/libs");
    assert!(libraries.is_dir(), "Kafka's jars, which tests/run fetches");
    let mut command = bare_java(directory);
    command
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .arg("-cp")
        .arg(libraries.join("*"));
    command
}

/// One node, and its users.
const STANDALONE: &[&str] = &[
    "--standalone",
    "--add-scram",
    "SCRAM-SHA-512=[name=mortal,password=secret]",
    "--add-scram",
    "SCRAM-SHA-512=[name=scram,password=secret]",
    "--add-scram",
    "SCRAM-SHA-512=[name=mighty,password=secret]",
    "--add-scram",
    "SCRAM-SHA-256=[name=mighty,password=secret]",
];
const PROPERTIES: &str = r#"
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:CONTROLLER_PORT
listeners=PLAINTEXT://127.0.0.1:PORT,\
  SASL_PLAINTEXT://127.0.0.1:SASL_PORT,\
  SSL://127.0.0.1:TLS_PORT,\
  MUTUAL://127.0.0.1:MUTUAL_PORT,\
  EXPIRED://127.0.0.1:EXPIRED_PORT,\
  OAUTH://127.0.0.1:OAUTH_PORT,\
  CONTROLLER://127.0.0.1:CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:PORT,\
  SASL_PLAINTEXT://127.0.0.1:SASL_PORT,\
  SSL://localhost:TLS_PORT,\
  MUTUAL://localhost:MUTUAL_PORT,\
  EXPIRED://localhost:EXPIRED_PORT,\
  OAUTH://127.0.0.1:OAUTH_PORT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,\
  SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,MUTUAL:SSL,EXPIRED:SSL,OAUTH:SASL_PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location=server.pem
ssl.client.auth=none
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location=expired-server.pem
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
listener.name.sasl_plaintext.scram-sha-512.connections.max.reauth.ms=3000
listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.oauth.oauthbearer.connections.max.reauth.ms=5000
listener.name.oauth.oauthbearer.sasl.jaas.config=\
  org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule \
  required unsecuredLoginStringClaim_sub="nobody";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:plain;User:mighty;User:mutual
num.partitions=3
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"#;

/// What a single server and those of a cluster have in common.
const OF_ALL: &str = "\
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
";
