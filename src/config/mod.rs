//! The typed tree of the configuration file, and [`Limits`].
//!
//! Owns every key: its name, type, range and default, and the rules between keys. It refuses to
//! know sockets and certificates: that an address can be bound or a key read is for `net` to say.

mod acl;
mod auth;
mod bridge;
mod bridge_amqp091;
mod bridge_amqp10;
mod bridge_kafka;
mod bridge_payload;
mod bridge_publisher;
mod bridge_rocketmq;
mod bridge_rules;
mod error;
mod keys;
mod limits;
mod listener;
mod load;
mod log;
mod masking;
mod mqtt;
mod network;
mod rfc3339;
mod rules;
pub(crate) mod spelling;
mod store;
#[cfg(test)]
mod tests;
pub(crate) mod url;
mod value;

use std::path::{Path, PathBuf};

pub use acl::{Acl, AclAction, AclEffect, AclGroup, AclRule, WideSubscriptions};
pub use auth::{
    Auth, Authentication, Http, Jwt, JwtAlgorithm, Namespace, SessionTakeover, TokenPlace,
    is_namespace,
};
pub use bridge::{
    Bridge, BridgeKind, BridgeOnMissing, BridgePayload, BridgeProtocol, BridgeRetain, BridgeRule,
    BridgeStart, ConnectionsBy, Secret, ServerOrder,
};
pub use bridge_amqp10::{Amqp10Dialect, Amqp10Mechanism, Amqp10Node, BridgeAmqp10};
pub use bridge_amqp091::{AmqpDeclare, AmqpExchangeKind, BridgeAmqp091};
pub use bridge_kafka::{
    BridgeKafka, KafkaAcks, KafkaCompression, KafkaGuarantee, KafkaIsolation, KafkaPartitioner,
    KafkaStart, SaslMechanism,
};
pub use bridge_rocketmq::BridgeRocketmq;
pub use error::{ConfigError, Origin};
pub use limits::{Limits, QueueOverflow};
pub use listener::{
    Certificate, CertificateAs, CertificateName, ClientCertificates, Listener, TlsVersion,
    Transport, UnixMode, UnixOwner,
};
pub use load::{Loader, file_holds_secret};
pub use log::{Log, LogLevel};
pub use masking::is_secret;
pub(crate) use masking::masked_url;
pub use mqtt::{Mqtt, ShareStrategy};
pub use network::Network;
pub use rules::Broken;
pub(crate) use rules::is_on_this_machine;
pub use store::{Flushes, StoreConfig, StoreEngine};

/// Everything an operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What other nodes call this one; `None` makes a name at every start.
    pub node: Option<String>,
    /// Threads that serve clients, 0 = one per core.
    pub shards: u16,
    /// Whether clients may come without credentials; `None` allows it on loopback only.
    pub allow_anonymous: Option<bool>,
    /// Seconds between two publications of `$SYS`, 0 = off.
    pub sys_interval_seconds: u32,
    /// Where the process id is written, for `tidewire reload`.
    pub pid_file: Option<PathBuf>,
    /// The socket that `tidewire bridge` and `tidewire reload` ask; `None` has none.
    pub control_socket: Option<PathBuf>,
    /// Seconds between two looks at the files of the configuration, 0 = off.
    pub watch_files_seconds: u32,
    /// Addresses that accept connections, at least one.
    pub listeners: Vec<Listener>,
    /// Connections to other brokers.
    pub bridges: Vec<Bridge>,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Who may do what.
    pub acl: Acl,
    /// What no client may exceed.
    pub limits: Limits,
    /// How MQTT is spoken.
    pub mqtt: Mqtt,
    /// What survives the process.
    pub store: StoreConfig,
    /// What is logged.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: None,
            shards: 0,
            allow_anonymous: None,
            sys_interval_seconds: 10,
            pid_file: None,
            control_socket: None,
            watch_files_seconds: 0,
            listeners: vec![Listener::default()],
            bridges: Vec::new(),
            auth: Auth::default(),
            acl: Acl::default(),
            limits: Limits::default(),
            mqtt: Mqtt::default(),
            store: StoreConfig::default(),
            log: Log::default(),
        }
    }
}

impl Config {
    /// The files that it names and that a running broker can read again.
    pub fn files(&self) -> Vec<&Path> {
        let mut files = Vec::new();
        for listener in &self.listeners {
            for pair in &listener.certificates {
                files.extend([pair.certificate.as_path(), pair.key.as_path()]);
            }
            files.extend(listener.client_ca.as_deref());
            files.extend(listener.client_crl.as_deref());
        }
        files.extend(self.auth.password_file.as_deref());
        files.extend(self.auth.jwt.key_file.as_deref());
        files.extend(self.auth.jwt.jwks_file.as_deref());
        files.extend(self.auth.jwt.jwks_ca_file.as_deref());
        files.extend(self.auth.http.ca_file.as_deref());
        files.extend(self.acl.file.as_deref());
        files
    }

    /// The defaults, changed by the file, then by the `TIDEWIRE_` variables of `environment`.
    ///
    /// # Errors
    ///
    /// The first unknown key, unusable value or broken rule, with its place.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut loader = Loader::default();
        if let Some(path) = path {
            loader.file(path)?;
        }
        loader.environment(environment)?;
        loader.finish()
    }
}
