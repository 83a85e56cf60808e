//! An Apache Artemis of its own, from its distribution: ports and data are those of one test run.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use tidewire::clock::Clock;

use crate::certificates;
use crate::java::{Java, START_MS, java};
use crate::process::{directory, free_port};

/// A running Artemis; ended when dropped.
pub(crate) struct Artemis {
    server: Java,
    /// Everything is allowed here, without a name or as `plain`; `nobody` may do nothing. The
    /// password of both is `secret`.
    pub(crate) port: u16,
    /// TLS, by a certificate for `localhost` that the authority in `ca.crt` has signed; here the
    /// certificate of a client says who it is.
    pub(crate) tls_port: u16,
    /// The same with a certificate that has expired.
    pub(crate) expired_port: u16,
    /// As `port`, for those who say something every second.
    pub(crate) impatient_port: u16,
}

impl Artemis {
    pub(crate) fn start() -> Self {
        let directory = directory();
        let [port, tls_port, expired_port, impatient_port] = [(); 4].map(|()| free_port());
        certificates::make(&directory);
        let etc = directory.join("etc");
        std::fs::create_dir_all(&etc).expect("a directory");
        for (name, text) in FILES {
            let text = text
                .replace(
                    "EXPIRED_OPTIONS",
                    &TLS_OPTIONS.replace("server", "expired-server"),
                )
                .replace("TLS_OPTIONS", TLS_OPTIONS)
                .replace("IMPATIENT_OPTIONS", &PLAIN_OPTIONS.replace("20000", "1000"))
                .replace("PLAIN_OPTIONS", PLAIN_OPTIONS)
                .replace("TLS_PORT", &tls_port.to_string())
                .replace("EXPIRED_PORT", &expired_port.to_string())
                .replace("IMPATIENT_PORT", &impatient_port.to_string())
                .replace("PORT", &port.to_string())
                .replace("DIRECTORY", &directory.display().to_string());
            std::fs::write(etc.join(name), text).expect("written");
        }
        let mut artemis = Self {
            server: Java::start(directory, spawn),
            port,
            tls_port,
            expired_port,
            impatient_port,
        };
        artemis.wait_until_open();
        artemis
    }

    /// A file beside its certificate.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.server.file(name)
    }

    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    pub(crate) fn stop(&mut self) {
        self.server.stop();
    }

    pub(crate) fn start_again(&mut self) {
        self.server.start_again();
        self.wait_until_open();
    }

    fn wait_until_open(&mut self) {
        let clock = Clock::start();
        let ports = [
            self.port,
            self.tls_port,
            self.expired_port,
            self.impatient_port,
        ];
        for port in ports {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                let is_late = clock.now_ms() >= START_MS;
                let has_failed = is_late || self.server.has_ended();
                assert!(!has_failed, "no Artemis: {}", self.server.output());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn spawn(directory: &Path) -> Child {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/artemis/apache-artemis-2.44.0");
    assert!(home.is_dir(), "Artemis, which tests/run fetches");
    let set = |name: &str, value: &Path| format!("-D{name}={}", value.display());
    let etc = directory.join("etc");
    let classes = format!("{}:{}", home.join("lib/*").display(), etc.display());
    let (login, log) = (etc.join("login.config"), etc.join("log4j2.properties"));
    java(directory)
        .args(["--add-opens", "java.base/jdk.internal.misc=ALL-UNNAMED"])
        .arg(set("artemis.home", &home))
        .arg(set("artemis.instance", directory))
        .arg(set("artemis.instance.etc", &etc))
        .arg(set("data.dir", &directory.join("data")))
        .arg(set("java.security.auth.login.config", &login))
        .arg(set("log4j2.configurationFile", &log))
        .arg("-Dlog4j2.disableJmx=true")
        .args(["-cp", &classes])
        .args(["org.apache.activemq.artemis.cli.Artemis", "run"])
        .spawn()
        .expect("java, which tests/run installs")
}

const PLAIN_OPTIONS: &str = "protocols=AMQP;useEpoll=false;amqpIdleTimeout=20000";
const TLS_OPTIONS: &str = "protocols=AMQP;useEpoll=false;sslEnabled=true;keyStoreType=PEM;\
     keyStorePath=DIRECTORY/server.pem;trustStoreType=PEMCA;trustStorePath=DIRECTORY/ca.crt;\
     needClientAuth=true;saslMechanisms=EXTERNAL;securityDomain=certificates";

const FILES: [(&str, &str); 8] = [
    (
        "bootstrap.xml",
        r#"<broker xmlns="http://activemq.apache.org/schema">
  <jaas-security domain="activemq"/>
  <server configuration="file:DIRECTORY/etc/broker.xml"/>
</broker>"#,
    ),
    (
        "management.xml",
        r#"<management-context xmlns="http://activemq.apache.org/schema"/>"#,
    ),
    (
        "login.config",
        r#"activemq {
  org.apache.activemq.artemis.spi.core.security.jaas.GuestLoginModule sufficient
    credentialsInvalidate=true
    org.apache.activemq.jaas.guest.user="guest"
    org.apache.activemq.jaas.guest.role="all";
  org.apache.activemq.artemis.spi.core.security.jaas.PropertiesLoginModule required
    org.apache.activemq.jaas.properties.user="users.properties"
    org.apache.activemq.jaas.properties.role="roles.properties";
};
certificates {
  org.apache.activemq.artemis.spi.core.security.jaas.TextFileCertificateLoginModule required
    org.apache.activemq.jaas.textfiledn.user="names.properties"
    org.apache.activemq.jaas.textfiledn.role="roles.properties";
};
"#,
    ),
    ("users.properties", "plain = secret\nnobody = secret\n"),
    ("roles.properties", "all = plain,certified\nnone = nobody\n"),
    ("names.properties", "certified = /.*/\n"),
    (
        "log4j2.properties",
        "rootLogger.level = WARN\n\
         rootLogger.appenderRef.console.ref = console\n\
         appender.console.type = Console\n\
         appender.console.name = console\n\
         appender.console.layout.type = PatternLayout\n\
         appender.console.layout.pattern = %d %-5level [%logger] %msg%n\n",
    ),
    (
        "broker.xml",
        r##"<configuration xmlns="urn:activemq">
<core xmlns="urn:activemq:core">
  <name>test</name>
  <journal-type>NIO</journal-type>
  <journal-min-files>2</journal-min-files>
  <journal-pool-files>4</journal-pool-files>
  <journal-file-size>1M</journal-file-size>
  <max-disk-usage>100</max-disk-usage>
  <critical-analyzer>false</critical-analyzer>
  <paging-directory>data/paging</paging-directory>
  <bindings-directory>data/bindings</bindings-directory>
  <journal-directory>data/journal</journal-directory>
  <large-messages-directory>data/large</large-messages-directory>
  <acceptors>
    <acceptor name="plain">tcp://127.0.0.1:PORT?PLAIN_OPTIONS</acceptor>
    <acceptor name="tls">tcp://127.0.0.1:TLS_PORT?TLS_OPTIONS</acceptor>
    <acceptor name="impatient">tcp://127.0.0.1:IMPATIENT_PORT?IMPATIENT_OPTIONS</acceptor>
    <acceptor name="expired">tcp://127.0.0.1:EXPIRED_PORT?EXPIRED_OPTIONS</acceptor>
  </acceptors>
  <security-settings>
    <security-setting match="#">
      <permission type="createNonDurableQueue" roles="all"/>
      <permission type="deleteNonDurableQueue" roles="all"/>
      <permission type="createDurableQueue" roles="all"/>
      <permission type="deleteDurableQueue" roles="all"/>
      <permission type="createAddress" roles="all"/>
      <permission type="deleteAddress" roles="all"/>
      <permission type="consume" roles="all"/>
      <permission type="browse" roles="all"/>
      <permission type="send" roles="all"/>
      <permission type="manage" roles="all"/>
    </security-setting>
  </security-settings>
  <address-settings>
    <address-setting match="#">
      <dead-letter-address>DLQ</dead-letter-address>
      <expiry-address>DLQ</expiry-address>
      <address-full-policy>PAGE</address-full-policy>
      <auto-delete-queues>false</auto-delete-queues>
      <auto-delete-addresses>false</auto-delete-addresses>
    </address-setting>
    <address-setting match="strict.#">
      <auto-create-queues>false</auto-create-queues>
      <auto-create-addresses>false</auto-create-addresses>
    </address-setting>
    <address-setting match="full.#">
      <address-full-policy>FAIL</address-full-policy>
      <max-size-messages>10</max-size-messages>
    </address-setting>
  </address-settings>
  <addresses>
    <address name="DLQ"><anycast><queue name="DLQ"/></anycast></address>
  </addresses>
</core>
</configuration>"##,
    ),
];
