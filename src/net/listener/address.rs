//! Listener addresses as URLs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::net::tls::{ClientCertificates, TlsSettings};

/// What to listen on, and what is spoken there.
///
/// # Shape
/// `tcp://host:port`, `tls://host:port?cert=F&key=F`, `ws://host:port/path`,
/// `wss://host:port/path?cert=F&key=F`, `unix:///path?mode=660`. TLS also takes `client_ca=F` and
/// `client_certificates=off|optional|required` (required when there is a `client_ca`); `cert` and
/// `key` may repeat. `%XX` stands for one byte in paths and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// MQTT over TCP.
    Tcp {
        /// Host and port.
        authority: String,
    },
    /// MQTT over TLS.
    Tls {
        /// Host and port.
        authority: String,
        /// Certificates.
        tls: TlsSettings,
    },
    /// MQTT over WebSocket.
    WebSocket {
        /// Host and port.
        authority: String,
        /// Path of the endpoint.
        path: String,
    },
    /// MQTT over WebSocket over TLS.
    SecureWebSocket {
        /// Host and port.
        authority: String,
        /// Path of the endpoint.
        path: String,
        /// Certificates.
        tls: TlsSettings,
    },
    /// MQTT over a unix socket.
    Unix {
        /// The socket file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Why a text is no listener address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no known scheme before `://`.
    #[error("address needs one of tcp://, tls://, ws://, wss:// or unix://")]
    Scheme,
    /// Host or port is missing or malformed.
    #[error("address needs host:port, not {0:?}")]
    Authority(String),
    /// The path does not fit the scheme.
    #[error("path {0:?} does not fit the scheme")]
    Path(String),
    /// A parameter is unknown here or its value malformed.
    #[error("parameter {0:?} is unknown or malformed")]
    Parameter(String),
    /// The number of certificates differs from the number of keys, or there is none.
    #[error("every cert needs a key, and there must be one")]
    Certificates,
}

impl ListenAddress {
    /// Host and port; none for a unix socket.
    pub fn authority(&self) -> Option<&str> {
        match self {
            Self::Tcp { authority }
            | Self::Tls { authority, .. }
            | Self::WebSocket { authority, .. }
            | Self::SecureWebSocket { authority, .. } => Some(authority),
            Self::Unix { .. } => None,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let decoded = decode(path)?;
        if scheme == "unix" {
            return unix(authority, decoded, query);
        }
        let authority = checked_authority(authority)?;
        let path = match (scheme, decoded.as_str()) {
            ("tcp" | "tls", "" | "/") => String::new(),
            ("tcp" | "tls", _) => return Err(AddressError::Path(decoded)),
            (_, "" | "/") => DEFAULT_PATH.to_owned(),
            _ => decoded,
        };
        match scheme {
            "tcp" | "ws" if !query.is_empty() => Err(AddressError::Parameter(query.to_owned())),
            "tcp" => Ok(Self::Tcp { authority }),
            "ws" => Ok(Self::WebSocket { authority, path }),
            "tls" => Ok(Self::Tls {
                authority,
                tls: tls(query)?,
            }),
            "wss" => Ok(Self::SecureWebSocket {
                authority,
                path,
                tls: tls(query)?,
            }),
            _ => Err(AddressError::Scheme),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { authority } => write!(formatter, "tcp://{authority}"),
            Self::WebSocket { authority, path } => {
                write!(formatter, "ws://{authority}{}", encode(path))
            }
            Self::Tls { authority, tls } => {
                write!(formatter, "tls://{authority}")?;
                write_tls(formatter, tls)
            }
            Self::SecureWebSocket {
                authority,
                path,
                tls,
            } => {
                write!(formatter, "wss://{authority}{}", encode(path))?;
                write_tls(formatter, tls)
            }
            Self::Unix { path, mode } => {
                write!(
                    formatter,
                    "unix://{}?mode={mode:o}",
                    encode(&path.to_string_lossy())
                )
            }
        }
    }
}

fn write_tls(formatter: &mut fmt::Formatter<'_>, tls: &TlsSettings) -> fmt::Result {
    let mut separator = '?';
    for (certificate, key) in &tls.certificates {
        let (certificate, key) = (certificate.to_string_lossy(), key.to_string_lossy());
        write!(
            formatter,
            "{separator}cert={}&key={}",
            encode(&certificate),
            encode(&key)
        )?;
        separator = '&';
    }
    if let Some(path) = &tls.client_ca {
        write!(
            formatter,
            "{separator}client_ca={}",
            encode(&path.to_string_lossy())
        )?;
        separator = '&';
    }
    let word = match tls.client_certificates {
        ClientCertificates::Off if tls.client_ca.is_none() => return Ok(()),
        ClientCertificates::Off => "off",
        ClientCertificates::Optional => "optional",
        ClientCertificates::Required => "required",
    };
    write!(formatter, "{separator}client_certificates={word}")
}

fn unix(authority: &str, path: String, query: &str) -> Result<ListenAddress, AddressError> {
    if !authority.is_empty() || path.len() < 2 {
        return Err(AddressError::Path(format!("{authority}{path}")));
    }
    let mode = match query.split_once('=') {
        None if query.is_empty() => Some(DEFAULT_MODE),
        Some(("mode", mode)) => u32::from_str_radix(mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o777),
        _ => None,
    };
    let mode = mode.ok_or_else(|| AddressError::Parameter(query.to_owned()))?;
    Ok(ListenAddress::Unix {
        path: path.into(),
        mode,
    })
}

fn checked_authority(authority: &str) -> Result<String, AddressError> {
    let wrong = || AddressError::Authority(authority.to_owned());
    let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().map_err(|_| wrong())?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains('@') || (host.contains(':') && !is_bracketed) {
        return Err(wrong());
    }
    Ok(authority.to_owned())
}

fn tls(query: &str) -> Result<TlsSettings, AddressError> {
    let (mut certificates, mut keys) = (Vec::new(), Vec::new());
    let (mut client_ca, mut chosen) = (None, None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let wrong = || AddressError::Parameter(parameter.to_owned());
        let (name, value) = parameter.split_once('=').ok_or_else(wrong)?;
        let value = decode(value)?;
        match (name, value.as_str()) {
            (_, "") => return Err(wrong()),
            ("cert", _) => certificates.push(PathBuf::from(value)),
            ("key", _) => keys.push(PathBuf::from(value)),
            ("client_ca", _) => client_ca = Some(PathBuf::from(value)),
            ("client_certificates", "off") => chosen = Some(ClientCertificates::Off),
            ("client_certificates", "optional") => chosen = Some(ClientCertificates::Optional),
            ("client_certificates", "required") => chosen = Some(ClientCertificates::Required),
            _ => return Err(wrong()),
        }
    }
    if certificates.is_empty() || certificates.len() != keys.len() {
        return Err(AddressError::Certificates);
    }
    let client_certificates = chosen.unwrap_or(match client_ca {
        Some(_) => ClientCertificates::Required,
        None => ClientCertificates::Off,
    });
    let certificates = certificates.into_iter().zip(keys).collect();
    Ok(TlsSettings {
        certificates,
        client_ca,
        client_certificates,
    })
}

fn decode(text: &str) -> Result<String, AddressError> {
    let wrong = || AddressError::Path(text.to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or_else(wrong)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn encode(text: &str) -> String {
    let escape = |character: char| match character {
        '%' | '?' | '&' | '#' | ' ' => format!("%{:02X}", u32::from(character)),
        _ => character.to_string(),
    };
    text.chars().map(escape).collect()
}

const DEFAULT_PATH: &str = "/mqtt";
const DEFAULT_MODE: u32 = 0o660;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_display_and_parse() {
        for text in [
            "tcp://0.0.0.0:1883",
            "tcp://[::]:0",
            "ws://localhost:8080/mqtt",
            "tls://host:8883?cert=/a%20b.crt&key=/a.key&cert=c&key=d",
            "wss://host:443/x?cert=a&key=b&client_ca=ca&client_certificates=optional",
            "unix:///run/tidewire.sock?mode=660",
        ] {
            let address: ListenAddress = text.parse().expect("valid");
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for text in [
            "localhost:1883",
            "http://host:80",
            "tcp://host",
            "tcp://::1:1883",
            "tcp://host:99999",
            "tcp://host:1/path",
            "tcp://host:1?cert=a",
            "tls://host:1",
            "tls://host:1?cert=a",
            "tls://host:1?cert=a&key=%ZZ",
            "unix://relative",
            "unix:///a?mode=999",
        ] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}
