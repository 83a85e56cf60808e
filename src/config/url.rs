//! Listeners written as URLs on the command line.

use super::masking::masked_url;
use super::{BridgeKind, ConfigError, Listener, Loader, Transport};

impl Listener {
    /// A listener written as a URL.
    ///
    /// `tcp://host:port`, `tls://host:port?cert=FILE&key=FILE`, `ws://host:port/path`,
    /// `wss://host:port/path?cert=FILE&key=FILE` or `unix:///path`. Any key of a listener may
    /// follow as a parameter; `cert`, `key` and `ca` are short for the certificate, its key and
    /// `client_ca`. Ports default to 1883 (tcp), 8883 (tls), 80 (ws) and 443 (wss).
    ///
    /// # Errors
    ///
    /// The scheme, address or a parameter is not one of these.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let refuse = |problem: &str| refusal(url, problem);
        let Scheme {
            transport,
            port,
            rest,
        } = Scheme::of(url)?;
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let address = decode(address).ok_or_else(|| refuse("has a broken % escape"))?;
        let mut listener = Self {
            transport,
            ..Self::default()
        };
        if transport == Transport::Unix {
            listener.bind = address;
        } else {
            let (host, path) = address.split_at(address.find('/').unwrap_or(address.len()));
            match (transport.is_websocket(), path) {
                (_, "") | (false, "/") => {}
                (true, path) => listener.path = path.to_owned(),
                (false, _) => return Err(refuse("has a path, which only ws and wss take")),
            }
            listener.bind = with_port(host, port);
        }
        let mut loader = Loader::default();
        loader.listeners(vec![listener]);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, "true"));
            let value = decode(value).ok_or_else(|| refuse("has a broken % escape"))?;
            let path = match name {
                "cert" => "listeners.0.certificates.0.certificate".to_owned(),
                "key" => "listeners.0.certificates.0.key".to_owned(),
                "ca" => "listeners.0.client_ca".to_owned(),
                name => format!("listeners.0.{name}"),
            };
            loader.argument(&format!("--listen {}", masked_url(url)), &path, &value)?;
        }
        let config = loader.finish().map_err(|error| match error {
            ConfigError::Rule { key, problem, .. } => {
                let key = key.strip_prefix("listeners.0.").unwrap_or(&key);
                refuse(&format!("is incomplete or wrong: {key} {problem}"))
            }
            other => other,
        })?;
        config
            .listeners
            .into_iter()
            .next()
            .ok_or_else(|| refuse("describes no listener"))
    }
}

/// The start of a URL, and what it stands for.
pub(crate) struct Scheme<'a> {
    pub(crate) transport: Transport,
    /// The port of a URL that names none.
    pub(crate) port: u16,
    /// What follows `://`.
    pub(crate) rest: &'a str,
}

impl<'a> Scheme<'a> {
    /// The scheme of `url`; `tcp` and `mqtt` are the same, so are `tls` and `mqtts`.
    pub(crate) fn of(url: &'a str) -> Result<Self, ConfigError> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| refusal(url, "has no scheme such as tcp://"))?;
        let (transport, port) = match scheme {
            "tcp" | "mqtt" => (Transport::Tcp, 1883),
            "tls" | "mqtts" => (Transport::Tls, 8883),
            "ws" => (Transport::Ws, 80),
            "wss" => (Transport::Wss, 443),
            "unix" => (Transport::Unix, 0),
            _ => return Err(refusal(url, UNKNOWN_SCHEME)),
        };
        Ok(Self {
            transport,
            port,
            rest,
        })
    }

    /// The scheme of a server that a bridge of this kind connects to.
    pub(crate) fn of_server(kind: BridgeKind, url: &'a str) -> Result<Self, ConfigError> {
        let own = schemes(kind);
        if own.is_empty() {
            return Self::of(url);
        }
        let (name, rest) = url.split_once("://").unwrap_or_default();
        let Some((_, transport, port)) = own.iter().find(|it| it.0 == name) else {
            let expected: Vec<&str> = own.iter().map(|it| it.0).collect();
            let expected = expected.join(" or ");
            return Err(refusal(
                url,
                &format!("has an unknown scheme, expected {expected}"),
            ));
        };
        Ok(Self {
            transport: *transport,
            port: *port,
            rest,
        })
    }
}

/// The schemes of servers of a kind, with what they stand for; those of MQTT are [`Scheme::of`]'s.
const fn schemes(kind: BridgeKind) -> &'static [(&'static str, Transport, u16)] {
    match kind {
        BridgeKind::Mqtt => &[],
        BridgeKind::Amqp091 | BridgeKind::Amqp10 => &[
            ("amqp", Transport::Tcp, 5672),
            ("amqps", Transport::Tls, 5671),
        ],
        BridgeKind::Kafka => &[
            ("kafka", Transport::Tcp, 9092),
            ("kafkas", Transport::Tls, 9093),
        ],
        BridgeKind::Rocketmq => &[
            ("rocketmq", Transport::Tcp, 8081),
            ("rocketmqs", Transport::Tls, 8081),
        ],
    }
}

pub(crate) fn refusal(url: &str, problem: &str) -> ConfigError {
    ConfigError::Url {
        url: masked_url(url),
        problem: problem.to_owned(),
    }
}

/// `host`, with `port` unless it has one.
pub(crate) fn with_port(host: &str, port: u16) -> String {
    let after_address = host.rsplit(']').next().unwrap_or(host);
    if after_address.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

const UNKNOWN_SCHEME: &str =
    "has an unknown scheme, expected tcp or mqtt, tls or mqtts, ws, wss or unix";
