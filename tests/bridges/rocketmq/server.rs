//! An Apache RocketMQ of its own, from its jars: ports and data are those of one test run.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tidewire::clock::Clock;

use crate::certificates;
use crate::java::{Java, START_MS, java as bare_java};
use crate::process::{directory_in, free_port};

/// A running RocketMQ: a name server, and a proxy with a broker in it; ended when dropped.
pub(crate) struct RocketMq {
    names: Child,
    proxy: Java,
    names_port: u16,
    /// gRPC, plain and within TLS.
    pub(crate) port: u16,
    /// Whether requests have to be signed, by `plant`, whose secret is `secret-key` and who may do
    /// everything, or by others, who may do what they are allowed.
    has_users: bool,
}

impl RocketMq {
    /// With these topics, each with its type.
    pub(crate) fn start(topics: &[(&str, &str)]) -> Self {
        Self::start_as(topics, false)
    }

    /// Where requests have to be signed.
    pub(crate) fn start_with_users(topics: &[(&str, &str)]) -> Self {
        Self::start_as(topics, true)
    }

    fn start_as(topics: &[(&str, &str)], has_users: bool) -> Self {
        let directory = directory_in(&base_with_room());
        let [names_port, broker_port, ha_port, port, remoting_port] = [(); 5].map(|()| free_port());
        let text = |template: &str| {
            template
                .replace("NAMES_PORT", &names_port.to_string())
                .replace("BROKER_PORT", &broker_port.to_string())
                .replace("HA_PORT", &ha_port.to_string())
                .replace("GRPC_PORT", &port.to_string())
                .replace("REMOTING_PORT", &remoting_port.to_string())
                .replace("USERS", &has_users.to_string())
                .replace("DATA", &directory.join("data").display().to_string())
        };
        let write = |file: &str, text: &str| {
            let file = directory.join(file);
            std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
            std::fs::write(file, text).expect("written");
        };
        certificates::make(&directory);
        write("names/names.conf", &text(NAMES));
        write("admin/empty", "");
        write("conf/tools.yml", TOOLS);
        write("broker.conf", &text(BROKER));
        write("conf/rmq-proxy.json", &text(PROXY));
        write("data/config/topics.json", &topics_json(topics));
        write("data/config/subscriptionGroup.json", GROUPS);
        let names = spawn_names(&directory);
        wait_until_open(names_port);
        let server = Self {
            names,
            proxy: Java::start(directory, spawn_proxy),
            names_port,
            port,
            has_users,
        };
        server.wait_until_ready();
        server
    }

    /// kill -9 of the broker, which is in the proxy.
    pub(crate) fn kill(&mut self) {
        self.proxy.kill();
    }

    pub(crate) fn start_again(&mut self) {
        self.proxy.start_again();
        self.wait_until_ready();
    }

    pub(crate) fn create_topic(&self, name: &str, kind: &str) {
        let said = self.admin(&[
            "updateTopic",
            "-c",
            "DefaultCluster",
            "-t",
            name,
            "-a",
            &format!("+message.type={kind}"),
        ]);
        assert!(said.contains("success"), "{said}");
    }

    pub(crate) fn create_user(&self, name: &str, secret: &str) {
        let said = self.admin(&[
            "createUser",
            "-c",
            "DefaultCluster",
            "-u",
            name,
            "-p",
            secret,
        ]);
        assert!(said.contains("success"), "{said}");
    }

    /// A user may do something with a resource, such as `Pub` with `Topic:NAME`.
    pub(crate) fn allow(&self, user: &str, action: &str, resource: &str) {
        let subject = format!("User:{user}");
        let mut rule = vec!["createAcl", "-c", "DefaultCluster", "-s", &subject];
        rule.extend(["-r", resource, "-a", action, "-d", "Allow"]);
        let said = self.admin(&rule);
        assert!(said.contains("success"), "{said}");
    }

    /// Sends by the client of RocketMQ's own tools.
    pub(crate) fn send(&self, topic: &str, body: &str, tag: &str, key: &str) {
        let said = self.admin(&["sendMessage", "-t", topic, "-p", body, "-c", tag, "-k", key]);
        assert!(said.contains("SEND_OK"), "{said}");
    }

    /// What lies in a topic as RocketMQ's own tools see it, a message in each line.
    pub(crate) fn messages(&self, topic: &str) -> Vec<String> {
        let said = self.admin(&["consumeMessage", "-t", topic, "-c", "100000"]);
        let lines = said.lines().filter(|it| it.starts_with("MSGID:"));
        lines.map(str::to_owned).collect()
    }

    /// What a command of RocketMQ's own tools says, which is given again where the server was busy.
    fn admin(&self, arguments: &[&str]) -> String {
        let clock = Clock::start();
        loop {
            let (output, errors) = self.admin_once(arguments);
            if output.status.success() && !errors.contains("command failed") {
                return String::from_utf8_lossy(&output.stdout).into_owned();
            }
            assert!(clock.now_ms() < START_MS, "{arguments:?}: {errors}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// With what it wrote of its errors.
    fn admin_once(&self, arguments: &[&str]) -> (Output, String) {
        let (command, rest) = arguments.split_first().expect("a command");
        let mut java = java(&self.proxy.directory, "admin");
        let output = java
            .arg("org.apache.rocketmq.tools.command.MQAdminStartup")
            .arg(command)
            .args(["-n", &format!("127.0.0.1:{}", self.names_port)])
            .args(rest)
            .stdout(Stdio::piped())
            .output()
            .expect("java");
        let errors = std::fs::read_to_string(self.proxy.file("admin/output"));
        (output, errors.expect("errors"))
    }

    fn wait_until_ready(&self) {
        let clock = Clock::start();
        while !self.proxy.output().contains("startup successfully") {
            let said = self.proxy.output();
            assert!(clock.now_ms() < START_MS, "no RocketMQ: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A file beside its certificate.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.proxy.file(name)
    }

    /// Keys of a bridge that are needed to be let in.
    pub(crate) fn credentials(&self) -> &'static str {
        if self.has_users {
            "user_name = \"plant\"\npassword = \"secret-key\"\n"
        } else {
            ""
        }
    }
}

impl Drop for RocketMq {
    fn drop(&mut self) {
        let _ = self.names.kill();
        let _ = self.names.wait();
    }
}

/// From a minute after its start a broker takes no messages on a file system that is nine tenths
/// full, whatever it is configured for, and removes its oldest ones a little earlier.
fn base_with_room() -> PathBuf {
    let bases = [std::env::temp_dir(), PathBuf::from("/dev/shm")];
    let has_room = |it: &&PathBuf| {
        let room = room_of(it);
        room.is_some_and(|(kilobytes, percent)| kilobytes >= KILOBYTES_MIN && percent < 80)
    };
    let base = bases.iter().find(has_room);
    let base = base.expect("RocketMQ needs a fifth of a file system: set TMPDIR to one");
    base.clone()
}

/// How many kilobytes the file system of a directory has left, and how full it is in percent.
fn room_of(directory: &Path) -> Option<(u64, u32)> {
    let output = Command::new("df").arg("-Pk").arg(directory).output();
    let said = String::from_utf8(output.ok()?.stdout).ok()?;
    let mut columns = said.lines().nth(1)?.split_whitespace().skip(3);
    let kilobytes = columns.next()?.parse().ok()?;
    let percent = columns.next()?.strip_suffix('%')?.parse().ok()?;
    Some((kilobytes, percent))
}

fn topics_json(topics: &[(&str, &str)]) -> String {
    let entries = topics.iter().map(|(name, kind)| {
        format!(
            "\"{name}\":{{\"attributes\":{{\"message.type\":\"{kind}\"}},\"order\":false,\
             \"perm\":6,\"readQueueNums\":4,\"topicFilterType\":\"SINGLE_TAG\",\
             \"topicName\":\"{name}\",\"topicSysFlag\":0,\"writeQueueNums\":4}}"
        )
    });
    let entries: Vec<String> = entries.collect();
    let version = "{\"counter\":1,\"stateVersion\":0,\"timestamp\":1}";
    format!(
        "{{\"dataVersion\":{version},\"topicConfigTable\":{{{}}}}}",
        entries.join(",")
    )
}

fn spawn_names(directory: &Path) -> Child {
    java(directory, "names")
        .args(["org.apache.rocketmq.namesrv.NamesrvStartup", "-c"])
        .arg("names.conf")
        .spawn()
        .expect("java, which tests/run installs")
}

fn spawn_proxy(directory: &Path) -> Child {
    java(directory, "")
        .args(["org.apache.rocketmq.proxy.ProxyStartup", "-pm", "local"])
        .args(["-bc", "broker.conf", "-pc", "conf/rmq-proxy.json"])
        .spawn()
        .expect("java, which tests/run installs")
}

/// The broker registers with the name server at its start, or half a minute later.
fn wait_until_open(port: u16) {
    let clock = Clock::start();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(clock.now_ms() < START_MS, "no name server");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Java with RocketMQ's classes, in a directory below that of the server.
fn java(directory: &Path, below: &str) -> Command {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rocketmq/libs");
    assert!(
        libraries.is_dir(),
        "RocketMQ's jars, which tests/run fetches"
    );
    let mut command = bare_java(&directory.join(below));
    command
        .env("ROCKETMQ_HOME", directory)
        // Logs go below the home of the user.
        .arg(format!("-Duser.home={}", directory.display()))
        .args(["--add-opens", "java.base/java.nio=ALL-UNNAMED"])
        .args(["--add-opens", "java.base/sun.nio.ch=ALL-UNNAMED"])
        .args(["--add-exports", "java.base/jdk.internal.ref=ALL-UNNAMED"])
        .arg("-cp")
        .arg(libraries.join("*"));
    command
}

/// What a broker writes in these tests is less.
const KILOBYTES_MIN: u64 = 524_288;

const NAMES: &str = "listenPort=NAMES_PORT\nbindAddress=127.0.0.1\n";

const BROKER: &str = "\
brokerClusterName=DefaultCluster
brokerName=one
brokerId=0
brokerIP1=127.0.0.1
bindAddress=127.0.0.1
listenPort=BROKER_PORT
haListenPort=HA_PORT
namesrvAddr=127.0.0.1:NAMES_PORT
storePathRootDir=DATA
mappedFileSizeCommitLog=16777216
mappedFileSizeConsumeQueue=300000
maxMessageSize=65536
diskMaxUsedSpaceRatio=99
autoCreateTopicEnable=false
enablePropertyFilter=true
authenticationEnabled=USERS
authenticationProvider=\\
  org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider
authenticationMetadataProvider=\\
  org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider
initAuthenticationUser={\"username\":\"plant\",\"password\":\"secret-key\"}
innerClientAuthenticationCredentials={\"accessKey\":\"plant\",\"secretKey\":\"secret-key\"}
authorizationEnabled=USERS
authorizationProvider=\\
  org.apache.rocketmq.auth.authorization.provider.DefaultAuthorizationProvider
authorizationMetadataProvider=\\
  org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider
authConfigPath=DATA/auth
";

const PROXY: &str = r#"{
  "rocketMQClusterName": "DefaultCluster",
  "proxyMode": "LOCAL",
  "namesrvAddr": "127.0.0.1:NAMES_PORT",
  "localServeAddr": "127.0.0.1",
  "grpcServerPort": GRPC_PORT,
  "remotingListenPort": REMOTING_PORT,
  "tlsTestModeEnable": false,
  "tlsKeyPath": "server.key",
  "tlsCertPath": "server.crt",
  "authenticationEnabled": USERS,
  "authenticationProvider":
    "org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider",
  "authenticationMetadataProvider":
    "org.apache.rocketmq.proxy.auth.ProxyAuthenticationMetadataProvider",
  "authorizationEnabled": USERS,
  "authorizationProvider":
    "org.apache.rocketmq.auth.authorization.provider.DefaultAuthorizationProvider",
  "authorizationMetadataProvider":
    "org.apache.rocketmq.proxy.auth.ProxyAuthorizationMetadataProvider"
}"#;

/// By whom RocketMQ's own tools sign.
const TOOLS: &str = "accessKey: plant\nsecretKey: secret-key\n";

/// Groups besides those that servers make themselves: one whose messages are received in order, and
/// one whose messages are received twice at the most.
const GROUPS: &str = r#"{
  "dataVersion": {"counter": 1, "stateVersion": 0, "timestamp": 1},
  "subscriptionGroupTable": {
    "in-order": {
      "groupName": "in-order", "consumeEnable": true, "consumeFromMinEnable": true,
      "consumeMessageOrderly": true, "retryMaxTimes": 16, "retryQueueNums": 1,
      "groupRetryPolicy": {"type": "CUSTOMIZED"}
    },
    "once-more": {
      "groupName": "once-more", "consumeEnable": true, "consumeFromMinEnable": true,
      "retryMaxTimes": 1, "retryQueueNums": 1, "groupRetryPolicy": {"type": "CUSTOMIZED"}
    }
  }
}"#;
