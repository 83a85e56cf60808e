//! Values as they are found, and how each type of key reads and shows one.

use std::net::IpAddr;
use std::path::PathBuf;

use tidewire_protocol::codec::ProtocolVersion;
use toml::de::DeValue;

use super::{
    AclAction, AclEffect, Amqp10Dialect, Amqp10Mechanism, Amqp10Node, AmqpDeclare,
    AmqpExchangeKind, Authentication, BridgeKind, BridgeOnMissing, BridgePayload, BridgeProtocol,
    BridgeRetain, BridgeStart, CertificateAs, CertificateName, ClientCertificates, ConnectionsBy,
    JwtAlgorithm, KafkaAcks, KafkaCompression, KafkaGuarantee, KafkaIsolation, KafkaPartitioner,
    LogLevel, Network, QueueOverflow, SaslMechanism, Secret, ServerOrder, SessionTakeover,
    ShareStrategy, StoreEngine, TlsVersion, TokenPlace, Transport, UnixMode, UnixOwner,
    WideSubscriptions,
};

/// A value before its key has given it a type.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// From a file, with a type.
    Text(String),
    /// From a file, with a type.
    Integer(i128),
    /// From a file, with a type.
    Boolean(bool),
    /// From a file.
    List(Vec<Self>),
    /// From a file, of a type that no key has.
    Other(String),
    /// From the environment or the command line, without a type.
    Word(String),
}

impl Found {
    pub(super) fn from_file(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Boolean(flag) => Self::Boolean(*flag),
            DeValue::Integer(number) => {
                match i128::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Self::Integer(number),
                    Err(_) => Self::Other(number.to_string()),
                }
            }
            DeValue::Array(list) => Self::List(
                list.iter()
                    .map(|item| Self::from_file(item.get_ref()))
                    .collect(),
            ),
            DeValue::Float(number) => Self::Other(number.to_string()),
            DeValue::Datetime(time) => Self::Other(time.to_string()),
            DeValue::Table(_) => Self::Other("a table".into()),
        }
    }

    pub(super) fn show(&self) -> String {
        match self {
            Self::Text(text) | Self::Word(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
            Self::Other(text) => text.clone(),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::show).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Word(text) => Some(text),
            _ => None,
        }
    }

    /// Its own text, or those of a list.
    pub(super) fn texts(&self) -> Vec<&str> {
        match self {
            Self::List(items) => items.iter().filter_map(Self::text).collect(),
            Self::Word(word) => word.split(',').map(str::trim).collect(),
            found => found.text().into_iter().collect(),
        }
    }
}

/// Least and greatest value of an integer key.
pub(super) type Range = (u64, u64);

/// A type of key.
pub(super) trait Value: Sized {
    /// The typed value, or `None` if `found` is not one in `range`.
    fn read(found: &Found, range: Range) -> Option<Self>;
    /// The value as TOML, or `None` if it is unset.
    fn show(&self) -> Option<String>;
    /// What `read` takes, in words.
    fn expected(range: Range) -> String;
    /// The words that it takes, if it takes a few words and nothing else.
    fn words() -> &'static [&'static str] {
        &[]
    }
}

/// A value in its place in the tree.
pub(super) trait Field {
    /// Replaces the value, or says what was expected.
    fn set(&mut self, found: &Found, range: Range) -> Result<(), String>;
    /// The value as TOML, or `None` if it is unset.
    fn show(&self) -> Option<String>;
    /// The words that it takes, if it takes a few words and nothing else.
    fn words(&self) -> &'static [&'static str];
}

impl<T: Value> Field for T {
    fn set(&mut self, found: &Found, range: Range) -> Result<(), String> {
        *self = T::read(found, range).ok_or_else(|| T::expected(range))?;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Value::show(self)
    }

    fn words(&self) -> &'static [&'static str] {
        T::words()
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn read(found: &Found, range: Range) -> Option<Self> {
                let number = match found {
                    Found::Integer(number) => *number,
                    Found::Word(word) => word.replace('_', "").parse().ok()?,
                    _ => return None,
                };
                let in_range = number >= range.0.into() && number <= range.1.into();
                Self::try_from(number).ok().filter(|_| in_range)
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }

            fn expected(range: Range) -> String {
                let most = Self::try_from(range.1).unwrap_or(Self::MAX);
                format!("an integer from {} to {most}", range.0)
            }
        }
    )*};
}

integers!(u16, u32, u64, usize);

impl Value for bool {
    fn read(found: &Found, _: Range) -> Option<Self> {
        match found {
            Found::Boolean(flag) => Some(*flag),
            Found::Word(word) => word.parse().ok(),
            _ => None,
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn expected(_: Range) -> String {
        "true or false".into()
    }
}

/// Types that are a string in the file: how to read one, how to show one, and what it is called.
macro_rules! texts {
    ($($type:ty: $expected:literal, $read:expr, $show:expr;)*) => {$(
        impl Value for $type {
            fn read(found: &Found, _: Range) -> Option<Self> {
                let read: fn(&str) -> Option<Self> = $read;
                read(found.text()?)
            }

            fn show(&self) -> Option<String> {
                let show: fn(&Self) -> String = $show;
                Some(format!("{:?}", show(self)))
            }

            fn expected(_: Range) -> String {
                $expected.into()
            }
        }
    )*};
}

texts! {
    String: "a string", |text| Some(text.to_owned()), Clone::clone;
    PathBuf: "a path", |text| (!text.is_empty()).then(|| text.into()),
        |path| path.display().to_string();
    Network: "an IP address or a network such as 10.0.0.0/8", Network::parse, ToString::to_string;
    JwtAlgorithm: "an algorithm such as \"HS256\", \"RS256\", \"PS256\", \"ES256\" or \"EdDSA\"",
        JwtAlgorithm::of_name, |it| it.name().to_owned();
    IpAddr: "an IP address", |text| text.parse().ok(), ToString::to_string;
    UnixOwner: "a user and group such as \"mqtt:mqtt\", each a name or a number",
        |text| text.parse().ok(), ToString::to_string;
    Secret: "a string", |text| Some(Secret(text.to_owned())), |_| "..".to_owned();
    UnixMode: "an octal string of permission bits such as \"0660\"",
        |text| u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).map(UnixMode),
        |mode| format!("{:04o}", mode.0);
}

impl<T: Value> Value for Option<T> {
    fn read(found: &Found, range: Range) -> Option<Self> {
        match found {
            Found::Word(word) if word.is_empty() => Some(None),
            found => T::read(found, range).map(Some),
        }
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(Value::show)
    }

    fn expected(range: Range) -> String {
        T::expected(range)
    }

    fn words() -> &'static [&'static str] {
        T::words()
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(found: &Found, range: Range) -> Option<Self> {
        // What is empty where it has to name something would mean everything.
        let may_be_empty = range.0 == 0;
        match found {
            Found::List(items) if items.is_empty() && !may_be_empty => None,
            Found::List(items) => items.iter().map(|item| T::read(item, range)).collect(),
            Found::Word(word) if word.is_empty() => may_be_empty.then(Self::new),
            Found::Word(word) => word
                .split(',')
                .map(|item| T::read(&Found::Word(item.trim().to_owned()), range))
                .collect(),
            _ => None,
        }
    }

    fn show(&self) -> Option<String> {
        let items: Vec<_> = self.iter().filter_map(Value::show).collect();
        Some(format!("[{}]", items.join(", ")))
    }

    fn expected(range: Range) -> String {
        let count = if range.0 == 0 { "" } else { " of at least one" };
        format!("a list{count}, each {}", T::expected(range))
    }

    fn words() -> &'static [&'static str] {
        T::words()
    }
}

/// Types that are one of a few words.
macro_rules! words {
    ($($type:ty { $($word:literal => $value:ident),* })*) => {$(
        impl Value for $type {
            fn read(found: &Found, _: Range) -> Option<Self> {
                match found.text()? {
                    $($word => Some(Self::$value),)*
                    _ => None,
                }
            }

            fn show(&self) -> Option<String> {
                let word = match self { $(Self::$value => $word),* };
                Some(format!("{word:?}"))
            }

            fn expected(_: Range) -> String {
                format!("one of {}", [$(concat!("\"", $word, "\"")),*].join(", "))
            }

            fn words() -> &'static [&'static str] {
                &[$($word),*]
            }
        }
    )*};
}

words! {
    Transport { "tcp" => Tcp, "tls" => Tls, "ws" => Ws, "wss" => Wss, "unix" => Unix }
    ClientCertificates { "off" => Off, "optional" => Optional, "required" => Required }
    CertificateName {
        "common_name" => CommonName, "subject" => Subject, "dns_name" => DnsName,
        "email" => Email, "uri" => Uri
    }
    CertificateAs {
        "nothing" => Nothing, "user_name" => UserName, "client_id" => ClientId, "both" => Both
    }
    ProtocolVersion { "3.1" => V3_1, "3.1.1" => V3_1_1, "5.0" => V5 }
    QueueOverflow {
        "drop_oldest" => DropOldest, "drop_newest" => DropNewest, "reject" => Reject,
        "disconnect" => Disconnect
    }
    SessionTakeover {
        "anyone" => Anyone, "not_other_users" => NotOtherUsers, "same_user" => SameUser
    }
    ShareStrategy {
        "balanced" => Balanced, "sticky" => Sticky, "hash_topic" => HashTopic,
        "hash_property" => HashProperty
    }
    Authentication { "password" => Password, "jwt" => Jwt, "http" => Http }
    TlsVersion { "1.2" => V1_2, "1.3" => V1_3 }
    TokenPlace { "password" => Password, "user_name" => UserName }
    StoreEngine { "lmdb" => Lmdb, "memory" => Memory }
    BridgeKind { "mqtt" => Mqtt, "amqp091" => Amqp091, "amqp10" => Amqp10, "kafka" => Kafka,
        "rocketmq" => Rocketmq }
    Amqp10Dialect {
        "plain" => Plain, "artemis" => Artemis, "activemq" => ActiveMq, "rabbitmq3" => RabbitMq3,
        "rabbitmq4" => RabbitMq4, "azure" => Azure
    }
    Amqp10Mechanism { "plain" => Plain, "anonymous" => Anonymous, "external" => External }
    Amqp10Node { "topic" => Topic, "queue" => Queue }
    SaslMechanism {
        "plain" => Plain, "scram-sha-256" => ScramSha256, "scram-sha-512" => ScramSha512,
        "oauthbearer" => OauthBearer
    }
    AmqpDeclare { "passive" => Passive, "none" => None, "create" => Create }
    AmqpExchangeKind {
        "topic" => Topic, "direct" => Direct, "fanout" => Fanout, "headers" => Headers
    }
    KafkaAcks { "all" => All, "leader" => Leader, "none" => None }
    KafkaCompression {
        "none" => None, "gzip" => Gzip, "snappy" => Snappy, "lz4" => Lz4, "zstd" => Zstd
    }
    KafkaGuarantee { "at_least_once" => AtLeastOnce, "exactly_once" => ExactlyOnce }
    KafkaPartitioner { "murmur2" => Murmur2, "crc32" => Crc32, "random" => Random }
    KafkaIsolation {
        "read_committed" => ReadCommitted, "read_uncommitted" => ReadUncommitted
    }
    BridgeOnMissing { "dead_letter" => DeadLetter, "drop" => Drop, "empty" => Empty }
    BridgePayload {
        "raw" => Raw, "text" => Text, "base64" => Base64, "template" => Template,
        "json_envelope" => JsonEnvelope, "cbor_envelope" => CborEnvelope
    }
    BridgeProtocol { "auto" => Auto, "5.0" => V5, "3.1.1" => V3_1_1, "3.1" => V3_1 }
    BridgeRetain { "keep" => Keep, "strip" => Strip, "set" => Set }
    ConnectionsBy { "client" => Client, "topic" => Topic }
    BridgeStart { "automatic" => Automatic, "lazy" => Lazy, "once" => Once }
    ServerOrder { "failover" => Failover, "round_robin" => RoundRobin }
    AclEffect { "allow" => Allow, "deny" => Deny }
    AclAction {
        "all" => All, "read" => Read, "write" => Write, "publish" => Publish,
        "subscribe" => Subscribe, "receive" => Receive, "will" => Will, "retain" => Retain,
        "share" => Share
    }
    WideSubscriptions { "filter" => Filter, "refuse" => Refuse }
    LogLevel {
        "off" => Off, "error" => Error, "warn" => Warn, "info" => Info, "debug" => Debug,
        "trace" => Trace
    }
}
