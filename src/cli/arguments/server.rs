//! Arguments that tell a client where its server is.

use std::str::FromStr;

use clap::Args;

use super::client::{Credentials, ServerUrl};
use crate::config::{ConfigError, Transport};

/// Where the server is: a URL, or host and port as `mosquitto_pub` takes them.
#[derive(Args, Clone, Debug)]
pub struct ServerArguments {
    /// Server: mqtt://HOST:PORT, mqtts://, ws://HOST:PORT/PATH, wss:// or unix:///PATH
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    #[arg(conflicts_with_all = ["host", "port"])]
    url: ServerUrl,
    /// Host of the server instead of a URL; over TLS if --ca, --insecure or --cert is given
    #[arg(short = 'h', long, value_name = "HOST")]
    host: Option<HostName>,
    /// Port instead of a URL; without it 1883, over TLS 8883
    #[arg(short, long, value_name = "PORT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

impl ServerArguments {
    /// Whether `credentials` can do what they are meant to do on the way to the server.
    pub(super) fn check(&self, credentials: &Credentials) -> Result<(), String> {
        let transport = self.url(credentials).transport;
        if credentials.ask_for_tls() && !transport.is_encrypted() {
            return Err("--ca, --insecure and --cert need --host, mqtts:// or wss://".into());
        }
        Ok(())
    }

    /// The server's URL; `credentials` tell whether a host without a URL is reached over TLS.
    pub fn url(&self, credentials: &Credentials) -> ServerUrl {
        if self.host.is_none() && self.port.is_none() {
            return self.url.clone();
        }
        let (transport, port) = if credentials.ask_for_tls() {
            (Transport::Tls, 8883)
        } else {
            (Transport::Tcp, 1883)
        };
        let host = self.host.as_ref().map_or("127.0.0.1", |host| &host.0);
        ServerUrl {
            transport,
            address: format!("{host}:{}", self.port.unwrap_or(port)),
            path: String::new(),
        }
    }
}

/// A host as URLs have it: an IPv6 address in brackets.
#[derive(Clone, Debug)]
struct HostName(String);

impl FromStr for HostName {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let host = if text.contains(':') && !text.starts_with('[') {
            format!("[{text}]")
        } else {
            text.to_owned()
        };
        ServerUrl::from_str(&format!("mqtt://{host}:1883")).map(|_| Self(host))
    }
}
