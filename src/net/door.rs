//! Listeners of the configuration, opened.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::handshake::{Anonymous, Door};
use super::listener::{BindAddress, Bound, LocalAddress, UnixAddress, bind};
use super::tls::{ClientCertificates, TlsError, TlsSettings, server_config};
use super::waiting_room::WaitingRoom;
use super::websocket::{Origins, WebSocketSettings};
use crate::auth::Authenticator;
use crate::clock::Clock;
use crate::config::{self, Config, Transport};

/// A bound listener and what its connections go through.
pub(crate) struct OpenDoor {
    pub(crate) bound: Bound,
    pub(crate) door: Arc<Door>,
}

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is taken, not ours or not allowed.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// As configured.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// Certificates or keys cannot be used.
    #[error("cannot listen on {address}: {source}")]
    Tls {
        /// As configured.
        address: String,
        /// What is wrong.
        source: TlsError,
    },
}

/// Opens every listener, or none.
pub(crate) fn open_doors(
    config: &Config,
    authenticator: &Arc<Authenticator>,
    clock: Clock,
) -> Result<Vec<OpenDoor>, OpenError> {
    let waiting_room = Arc::new(WaitingRoom::new(&config.limits, clock));
    config
        .listeners
        .iter()
        .map(|listener| OpenDoor::open(listener, config, authenticator, &waiting_room))
        .collect()
}

/// Reads the certificates and keys of every TLS listener, without listening.
pub fn check_certificates(config: &Config) -> Result<(), OpenError> {
    config
        .listeners
        .iter()
        .try_for_each(|listener| acceptor(listener).map(drop))
}

impl OpenDoor {
    fn open(
        listener: &config::Listener,
        config: &Config,
        authenticator: &Arc<Authenticator>,
        waiting_room: &Arc<WaitingRoom>,
    ) -> Result<Self, OpenError> {
        let tls = acceptor(listener)?;
        let address = match listener.transport {
            Transport::Unix => BindAddress::Unix(UnixAddress {
                path: PathBuf::from(&listener.bind),
                owner: listener.unix_owner.clone(),
                mode: listener.unix_mode.0,
            }),
            _ => BindAddress::Tcp(listener.bind.clone()),
        };
        let backlog = i32::try_from(listener.backlog).unwrap_or(i32::MAX);
        let bound = bind(&address, backlog).map_err(|source| OpenError::Bind {
            address: listener.bind.clone(),
            source,
        })?;
        let is_unix = listener.transport == Transport::Unix;
        let is_local = match bound.local_address() {
            LocalAddress::Ip(address) => address.ip().to_canonical().is_loopback(),
            LocalAddress::Unix(_) => true,
        };
        let anonymous = match listener.allow_anonymous.or(config.allow_anonymous) {
            Some(true) => Anonymous::Allowed,
            None if is_local => Anonymous::FromThisMachine,
            Some(false) | None => Anonymous::Refused,
        };
        if listener.proxy_protocol && listener.proxy_trusted.is_empty() && !is_unix {
            tracing::warn!(
                bind = listener.bind,
                "no proxy is trusted: all will be refused"
            );
        }
        let door = Arc::new(Door {
            listener: listener.clone(),
            tls,
            websocket: WebSocketSettings {
                path: listener.path.clone(),
                origins: match (listener.origins.as_slice(), anonymous) {
                    ([], Anonymous::FromThisMachine) => Origins::Local,
                    ([], _) => Origins::Any,
                    (origins, _) => Origins::Listed(origins.to_vec()),
                },
                // A frame is not kept, so the bound of a packet is enough for it.
                frame_bytes_max: (config.limits.packet_bytes_max as u64).max(FRAME_BYTES_MIN),
                ..WebSocketSettings::default()
            },
            anonymous,
            authenticator: Arc::clone(authenticator),
            limits: config.limits.clone(),
            reason_strings: config.mqtt.reason_strings,
            waiting_room: Arc::clone(waiting_room),
            room: listener
                .connections_max
                .map(|it| Arc::new(Semaphore::new(it.min(Semaphore::MAX_PERMITS)))),
        });
        Ok(Self { bound, door })
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            bound: self.bound.try_clone()?,
            door: Arc::clone(&self.door),
        })
    }

    /// Where clients connect to, with the port that the system chose.
    pub(crate) fn url(&self) -> String {
        let scheme = match self.door.listener.transport {
            Transport::Tcp => "mqtt",
            Transport::Tls => "mqtts",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
            Transport::Unix => "unix",
        };
        let path = if self.door.listener.transport.is_websocket() {
            self.door.listener.path.as_str()
        } else {
            ""
        };
        format!(
            "{scheme}://{}{path}",
            local_text(self.bound.local_address())
        )
    }
}

fn local_text(address: &LocalAddress) -> String {
    match address {
        LocalAddress::Ip(address) => address.to_string(),
        LocalAddress::Unix(path) => path.display().to_string(),
    }
}

/// Clients that gather packets into frames gather more than one small packet.
const FRAME_BYTES_MIN: u64 = 1 << 20;

fn acceptor(listener: &config::Listener) -> Result<Option<TlsAcceptor>, OpenError> {
    if !listener.transport.is_encrypted() {
        return Ok(None);
    }
    let settings = TlsSettings {
        certificates: listener
            .certificates
            .iter()
            .map(|pair| (pair.certificate.clone(), pair.key.clone()))
            .collect(),
        client_ca: listener.client_ca.clone(),
        client_certificates: match listener.client_certificates {
            config::ClientCertificates::Off => ClientCertificates::Off,
            config::ClientCertificates::Optional => ClientCertificates::Optional,
            config::ClientCertificates::Required => ClientCertificates::Required,
        },
    };
    server_config(&settings)
        .map(|config| Some(TlsAcceptor::from(config)))
        .map_err(|source| OpenError::Tls {
            address: listener.bind.clone(),
            source,
        })
}
