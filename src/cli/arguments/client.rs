//! Arguments of the clients `pub` and `sub`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use tidewire_protocol::codec::{ProtocolVersion, QoS};

use super::server::ServerArguments;
use crate::config::url::{Scheme, refusal, with_port};
use crate::config::{ConfigError, Transport};

/// Arguments of every client: the server and how to connect to it.
#[derive(Args, Clone, Debug)]
pub struct ConnectionArguments {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc here would replace the help of the command"
    )]
    pub server: ServerArguments,
    /// Client id; the server or the client makes one up if it is missing
    #[arg(short, long, value_name = "ID")]
    pub id: Option<String>,
    /// Protocol version: 3.1, 3.1.1 or 5.0
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "5.0", value_parser = version)]
    pub version: ProtocolVersion,
    /// Seconds between signs of life, 0 = off
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
    pub keep_alive: u16,
    /// Go on with the session of an earlier connection; needs --id
    #[arg(short = 'c', long, requires = "id")]
    pub keep_session: bool,
    /// Seconds the session outlives the connection (MQTT 5.0)
    #[arg(short = 'x', long, value_name = "SECONDS")]
    pub session_expiry: Option<u32>,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc here would replace the help of the command"
    )]
    pub credentials: Credentials,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc here would replace the help of the command"
    )]
    pub will: WillArguments,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// Who the client is, and whom it trusts.
#[derive(Args, Clone)]
pub struct Credentials {
    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub user: Option<String>,
    /// Password; other users of this computer can see it in the list of processes
    #[arg(short = 'P', long, value_name = "PASSWORD")]
    pub password: Option<String>,
    /// PEM file of the authorities to trust; mqtts and wss need it or --insecure
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Believe any certificate of the server: for tests, anyone can listen in
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
    /// PEM file of the client's certificate chain
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// PEM file of the certificate's private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

impl Credentials {
    /// Whether there is anything that only TLS takes.
    pub(super) fn ask_for_tls(&self) -> bool {
        self.ca.is_some() || self.insecure || self.cert.is_some()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "hidden"))
            .field("ca", &self.ca)
            .field("insecure", &self.insecure)
            .field("cert", &self.cert)
            .field("key", &self.key)
            .finish()
    }
}

/// The message the server publishes when the client is lost.
#[derive(Args, Clone, Debug)]
pub struct WillArguments {
    /// Topic of the will
    #[arg(long, value_name = "TOPIC")]
    pub will_topic: Option<String>,
    /// Payload of the will
    #[arg(long, value_name = "TEXT", requires = "will_topic")]
    pub will_payload: Option<String>,
    /// QoS of the will: 0, 1 or 2
    #[arg(long, value_name = "QOS", requires = "will_topic", value_parser = qos)]
    pub will_qos: Option<QoS>,
    /// Retain the will
    #[arg(long, requires = "will_topic")]
    pub will_retain: bool,
    /// Seconds until the will is published (MQTT 5.0)
    #[arg(long, value_name = "SECONDS", requires = "will_topic")]
    pub will_delay: Option<u32>,
}

impl ConnectionArguments {
    fn check(&self, version_5_only: &[(&str, bool)]) -> Result<(), String> {
        self.server.check(&self.credentials)?;
        let common = [
            ("--session-expiry", self.session_expiry.is_some()),
            ("--will-delay", self.will.will_delay.is_some()),
        ];
        let mut used = common
            .iter()
            .chain(version_5_only)
            .filter(|(_, used)| *used);
        match used.next() {
            Some((flag, _)) if self.version != ProtocolVersion::V5 => {
                Err(format!("{flag} needs --version 5.0"))
            }
            _ => Ok(()),
        }
    }
}

/// Arguments of `tidewire pub`.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("payload").required(true))]
pub struct PublishArguments {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc here would replace the help of the command"
    )]
    pub connection: ConnectionArguments,
    /// Topic to publish to
    #[arg(short, long, value_name = "TOPIC")]
    pub topic: String,
    /// Payload
    #[arg(
        short,
        long,
        value_name = "TEXT",
        group = "payload",
        allow_hyphen_values = true
    )]
    pub message: Option<String>,
    /// File with the payload, - for standard input
    #[arg(short, long, value_name = "FILE", group = "payload")]
    pub file: Option<PathBuf>,
    /// Publish each line of standard input
    #[arg(short, long, group = "payload")]
    pub lines: bool,
    /// Publish an empty payload, which deletes a retained message if --retain is given
    #[arg(short = 'n', long, group = "payload")]
    pub empty: bool,
    /// QoS: 0, 1 or 2
    #[arg(short, long, value_name = "QOS", default_value = "0", value_parser = qos)]
    pub qos: QoS,
    /// Retain the message
    #[arg(short, long)]
    pub retain: bool,
    /// User property (MQTT 5.0); may be repeated
    #[arg(short = 'D', long = "property", value_name = "NAME=VALUE")]
    pub properties: Vec<UserProperty>,
    /// Seconds until the message expires (MQTT 5.0)
    #[arg(long, value_name = "SECONDS")]
    pub expiry: Option<u32>,
    /// Topic for responses (MQTT 5.0)
    #[arg(long, value_name = "TOPIC")]
    pub response_topic: Option<String>,
    /// What ties a response to this request (MQTT 5.0)
    #[arg(long, value_name = "TEXT")]
    pub correlation: Option<String>,
    /// Content type such as application/json (MQTT 5.0)
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
}

impl PublishArguments {
    /// Whether the flags make sense together, beyond what clap can tell.
    pub(super) fn check(&self) -> Result<(), String> {
        self.connection.check(&[
            ("--property", !self.properties.is_empty()),
            ("--expiry", self.expiry.is_some()),
            ("--response-topic", self.response_topic.is_some()),
            ("--correlation", self.correlation.is_some()),
            ("--content-type", self.content_type.is_some()),
        ])
    }
}

/// Arguments of `tidewire sub`.
#[derive(Args, Clone, Debug)]
pub struct SubscribeArguments {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc here would replace the help of the command"
    )]
    pub connection: ConnectionArguments,
    /// Topic filter; may be repeated
    #[arg(short, long = "topic", value_name = "FILTER", required = true)]
    pub topics: Vec<String>,
    /// Greatest QoS: 0, 1 or 2
    #[arg(short, long, value_name = "QOS", default_value = "0", value_parser = qos)]
    pub qos: QoS,
    /// Leave after this many messages
    #[arg(short = 'C', long, value_name = "N")]
    pub count: Option<u64>,
    /// Print the topic before the payload
    #[arg(short, long)]
    pub verbose: bool,
    /// Print each message in this form instead
    ///
    /// %t topic, %p payload, %x payload in hexadecimal, %q QoS, %r retained (0 or 1), %l length of
    /// the payload, %P user properties, %R response topic, %C content type, %E message expiry, %%.
    #[arg(short = 'F', long, value_name = "FORMAT", conflicts_with = "verbose")]
    pub format: Option<String>,
    /// Do not ask for messages that this client publishes itself (MQTT 5.0)
    #[arg(long)]
    pub no_local: bool,
    /// Keep the retain flag of each message as it was published (MQTT 5.0)
    #[arg(long)]
    pub retain_as_published: bool,
    /// User property of the subscription (MQTT 5.0); may be repeated
    #[arg(short = 'D', long = "property", value_name = "NAME=VALUE")]
    pub properties: Vec<UserProperty>,
}

impl SubscribeArguments {
    /// Whether the flags make sense together, beyond what clap can tell.
    pub(super) fn check(&self) -> Result<(), String> {
        self.connection.check(&[
            ("--no-local", self.no_local),
            ("--retain-as-published", self.retain_as_published),
            ("--property", !self.properties.is_empty()),
        ])
    }
}

/// A user property, written `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserProperty {
    /// Before the first `=`.
    pub name: String,
    /// After the first `=`.
    pub value: String,
}

impl FromStr for UserProperty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("expected name=value")?;
        Ok(Self {
            name: name.into(),
            value: value.into(),
        })
    }
}

/// Where a client finds its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// What carries MQTT.
    pub transport: Transport,
    /// `host:port`, or the path of a unix socket.
    pub address: String,
    /// Path of the WebSocket endpoint.
    pub path: String,
}

impl ServerUrl {
    /// The host without its port and brackets, as TLS verifies it; empty for a unix socket.
    pub fn host(&self) -> &str {
        if self.transport == Transport::Unix {
            return "";
        }
        let host = self
            .address
            .rsplit_once(':')
            .map_or(self.address.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl FromStr for ServerUrl {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, ConfigError> {
        let refuse = |problem: &str| refusal(url, problem);
        let Scheme {
            transport,
            port,
            rest,
        } = Scheme::of(url)?;
        if transport == Transport::Unix {
            let path = (!rest.is_empty())
                .then_some(rest)
                .ok_or_else(|| refuse("has no path"))?;
            return Ok(Self {
                transport,
                address: path.into(),
                path: String::new(),
            });
        }
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.contains('@') {
            return Err(refuse(
                "holds credentials, give them as --user and --password",
            ));
        }
        let address = with_port(host, port);
        let valid = address
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty() && (!host.contains(':') || host.starts_with('[')));
        if valid.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(refuse(
                "has no usable host:port, an IPv6 address needs brackets",
            ));
        }
        let path = match (transport.is_websocket(), path) {
            (true, "") => "/mqtt".to_owned(),
            (true, path) => path.to_owned(),
            (false, "" | "/") => String::new(),
            (false, _) => return Err(refuse("has a path, which only ws and wss take")),
        };
        Ok(Self {
            transport,
            address,
            path,
        })
    }
}

/// Reads `3.1`, `3.1.1` or `5.0`, also as `mosquitto_pub` has them.
pub(super) fn version(text: &str) -> Result<ProtocolVersion, String> {
    match text {
        "3.1" | "31" | "mqttv31" => Ok(ProtocolVersion::V3_1),
        "3.1.1" | "311" | "mqttv311" => Ok(ProtocolVersion::V3_1_1),
        "5.0" | "5" | "mqttv5" => Ok(ProtocolVersion::V5),
        _ => Err("expected 3.1, 3.1.1 or 5.0".into()),
    }
}

/// Reads `0`, `1` or `2`.
pub(super) fn qos(text: &str) -> Result<QoS, String> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("expected 0, 1 or 2".into()),
    }
}
