//! Listeners of the configuration, opened.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use super::handshake::{Anonymous, Door};
use super::listener::{BindAddress, Bound, LocalAddress, SocketFile, UnixAddress, bind};
use super::tls::{ClientCertificates, Tls, TlsError, TlsSettings};
use super::waiting_room::WaitingRoom;
use super::websocket::{Origins, WebSocketSettings};
use crate::auth::Authenticator;
use crate::clock::Clock;
use crate::config::{self, Config, Limits, Transport};

/// A bound listener and what its connections go through from now on.
pub(crate) struct OpenDoor {
    bound: Bound,
    door: CurrentDoor,
    file: Mutex<Option<SocketFile>>,
}

/// The door of a listener, known to its connections as well: they do not keep the listener open.
pub(crate) type CurrentDoor = Arc<RwLock<Arc<Door>>>;

/// What a listener is to become.
pub(crate) struct PlannedDoor {
    pub(crate) open: Arc<OpenDoor>,
    door: Arc<Door>,
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

/// Opens every listener that is not open yet, or none, and changes nothing of those that are.
pub(crate) fn plan_doors(
    config: &Config,
    authenticator: &Arc<Authenticator>,
    clock: Clock,
    open: &[Arc<OpenDoor>],
) -> Result<Vec<PlannedDoor>, OpenError> {
    let mut open = open.to_vec();
    let before = open.first().map(|it| it.door());
    let house = House {
        config,
        authenticator,
        waiting_room: match before {
            Some(door) if has_same_room(&door.limits, &config.limits) => {
                Arc::clone(&door.waiting_room)
            }
            _ => Arc::new(WaitingRoom::new(&config.limits, clock)),
        },
    };
    let plan = |listener| {
        let found = open.iter().position(|it| it.is_for(listener));
        let present = found.map(|place| open.remove(place));
        OpenDoor::plan(&house, listener, present)
    };
    config.listeners.iter().map(plan).collect()
}

fn has_same_room(one: &Limits, other: &Limits) -> bool {
    let room = |it: &Limits| {
        let addresses = [
            it.connections_per_address_max,
            it.connects_per_second_per_address,
            it.connects_burst_per_address,
        ];
        let networks = [
            it.connections_per_network_max,
            it.connects_per_second_per_network,
            it.connects_burst_per_network,
            it.network_ipv4_bits,
            it.network_ipv6_bits,
        ];
        (addresses, networks, it.connecting_bytes_max)
    };
    room(one) == room(other)
}

/// Reads the certificates and keys of a listener, without listening.
pub fn check_certificates(listener: &config::Listener) -> Result<(), TlsError> {
    tls_of(listener).map(drop)
}

impl fmt::Debug for OpenDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenDoor({})", self.url())
    }
}

impl PlannedDoor {
    /// Lets the connections that come from now on through the new door.
    pub(crate) fn open(self) -> Arc<OpenDoor> {
        *self.open.door.write() = self.door;
        self.open
    }
}

/// How a connection came in: through one door of a listener, which may have another by now.
#[derive(Clone)]
pub(crate) struct Entrance {
    pub(crate) current: CurrentDoor,
    pub(crate) door: Arc<Door>,
}

impl Entrance {
    /// Whether the listener has another door since.
    pub(crate) fn is_old(&self) -> bool {
        !Arc::ptr_eq(&self.door, &self.current.read())
    }
}

/// What all doors of one configuration share.
struct House<'a> {
    config: &'a Config,
    authenticator: &'a Arc<Authenticator>,
    waiting_room: Arc<WaitingRoom>,
}

impl OpenDoor {
    fn plan(
        house: &House<'_>,
        listener: &config::Listener,
        present: Option<Arc<Self>>,
    ) -> Result<PlannedDoor, OpenError> {
        let tls = tls_of(listener).map_err(|source| OpenError::Tls {
            address: listener.bind.clone(),
            source,
        })?;
        if let Some(open) = present {
            let before = open.door();
            let door = house.door(listener, tls, &open.bound, Some(&before));
            return Ok(PlannedDoor { open, door });
        }
        let mut bound = bound(listener)?;
        let file = Mutex::new(bound.take_socket_file());
        let door = house.door(listener, tls, &bound, None);
        let open = Self {
            bound,
            door: Arc::new(RwLock::new(Arc::clone(&door))),
            file,
        };
        Ok(PlannedDoor {
            open: Arc::new(open),
            door,
        })
    }

    /// What a connection that comes now goes through.
    pub(crate) fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door.read())
    }

    /// The way in for a connection that comes now.
    pub(crate) fn enter(&self) -> Entrance {
        Entrance {
            door: self.door(),
            current: Arc::clone(&self.door),
        }
    }

    /// A handle on the listening socket, for one shard.
    pub(crate) fn listening(&self) -> io::Result<Bound> {
        self.bound.try_clone()
    }

    /// The file of a unix socket, to be dropped when the broker stops.
    pub(crate) fn take_socket_file(&self) -> Option<SocketFile> {
        self.file.lock().take()
    }

    /// Whether it listens where the listener of a configuration wants to.
    fn is_for(&self, listener: &config::Listener) -> bool {
        let own = &self.door.read().listener;
        let is_unix = |it: &config::Listener| it.transport == Transport::Unix;
        own.bind == listener.bind && is_unix(own) == is_unix(listener)
    }

    /// Where clients connect to, with the port that the system chose.
    pub(crate) fn url(&self) -> String {
        let door = self.door.read();
        let scheme = match door.listener.transport {
            Transport::Tcp => "mqtt",
            Transport::Tls => "mqtts",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
            Transport::Unix => "unix",
        };
        let path = if door.listener.transport.is_websocket() {
            door.listener.path.as_str()
        } else {
            ""
        };
        format!(
            "{scheme}://{}{path}",
            local_text(self.bound.local_address())
        )
    }
}

impl House<'_> {
    fn door(
        &self,
        listener: &config::Listener,
        tls: Option<Tls>,
        bound: &Bound,
        before: Option<&Door>,
    ) -> Arc<Door> {
        let config = self.config;
        let anonymous = anonymous(listener, config, bound.local_address());
        let needs_login = matches!(anonymous, Anonymous::Refused);
        let is_unix = listener.transport == Transport::Unix;
        if listener.proxy_protocol && listener.proxy_trusted.is_empty() && !is_unix {
            tracing::warn!(
                bind = listener.bind,
                "no proxy is trusted: all will be refused"
            );
        }
        let same_room = before.filter(|it| it.listener.connections_max == listener.connections_max);
        Arc::new(Door {
            listener: listener.clone(),
            tls,
            websocket: WebSocketSettings {
                path: listener.path.clone(),
                origins: match listener.origins.as_slice() {
                    [] if !needs_login && is_local(bound.local_address()) => Origins::Local,
                    [] => Origins::Any,
                    origins if origins.iter().any(|it| it == "*") => Origins::Any,
                    origins => Origins::Listed(origins.to_vec()),
                },
                // A frame is not kept, so the bound of a packet is enough for it.
                frame_bytes_max: (config.limits.packet_bytes_max as u64).max(FRAME_BYTES_MIN),
                ..WebSocketSettings::default()
            },
            anonymous,
            authenticator: Arc::clone(self.authenticator),
            order: match &listener.auth {
                Some(order) => order.clone(),
                None => config.auth.order.clone(),
            },
            limits: config.limits.clone(),
            reason_strings: config.mqtt.reason_strings,
            waiting_room: Arc::clone(&self.waiting_room),
            room: match same_room {
                Some(before) => before.room.clone(),
                None => listener
                    .connections_max
                    .map(|it| Arc::new(Semaphore::new(it.min(Semaphore::MAX_PERMITS)))),
            },
        })
    }
}

fn bound(listener: &config::Listener) -> Result<Bound, OpenError> {
    let address = match listener.transport {
        Transport::Unix => BindAddress::Unix(UnixAddress {
            path: PathBuf::from(&listener.bind),
            owner: listener.unix_owner.clone(),
            mode: listener.unix_mode.0,
        }),
        _ => BindAddress::Tcp(listener.bind.clone()),
    };
    let backlog = i32::try_from(listener.backlog).unwrap_or(i32::MAX);
    bind(&address, backlog).map_err(|source| OpenError::Bind {
        address: listener.bind.clone(),
        source,
    })
}

fn anonymous(listener: &config::Listener, config: &Config, address: &LocalAddress) -> Anonymous {
    let is_checked = listener.auth.as_ref().is_none_or(|order| !order.is_empty());
    let has_logins = listener.client_ca.is_some() || is_checked && config.auth.has_logins();
    let is_shown = !listener.proxy_protocol && is_local(address);
    match listener.allow_anonymous.or(config.allow_anonymous) {
        Some(true) => Anonymous::Allowed,
        None if is_shown && !has_logins => Anonymous::FromThisMachine,
        Some(false) | None => Anonymous::Refused,
    }
}

fn is_local(address: &LocalAddress) -> bool {
    match address {
        LocalAddress::Ip(address) => address.ip().to_canonical().is_loopback(),
        LocalAddress::Unix(_) => true,
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

fn tls_of(listener: &config::Listener) -> Result<Option<Tls>, TlsError> {
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
        client_crl: listener.client_crl.clone(),
        version_min: listener.tls_version_min,
        alpn: match &listener.alpn {
            Some(protocols) => protocols.clone(),
            None if listener.transport.is_websocket() => vec!["http/1.1".into()],
            None => vec!["mqtt".into(), "x-amzn-mqtt-ca".into()],
        },
        client_certificates: match listener.client_certificates {
            config::ClientCertificates::Off => ClientCertificates::Off,
            config::ClientCertificates::Optional => ClientCertificates::Optional,
            config::ClientCertificates::Required => ClientCertificates::Required,
        },
    };
    Tls::new(&settings).map(Some)
}
