//! From an accepted socket to a CONNECT at its client's home shard.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tidewire_protocol::codec::{
    ConnAck, ConnAckProperties, Connect, DecodeError, Packet, ProtocolVersion, ReasonCode,
    decode_connect, encode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::door::Entrance;
use super::login::{LoginError, log_in, shown};
use super::peer_limits::PeerRefusal;
use super::permit::Permit;
use super::proxy_protocol::{ProxyError, read_header};
use super::socket::{PeerAddress, Socket};
use super::tls::Tls;
use super::transport::Transport;
use super::waiting_room::{HeldBytes, WaitingRoom};
use super::websocket::{self, WebSocketError, WebSocketSettings};
use crate::auth::{Authenticator, Full, Identity};
use crate::config::{self, Authentication, Limits};
use crate::shard::{home_of, refusal, text_of};

/// What the connections of one listener go through.
pub(crate) struct Door {
    pub(crate) listener: config::Listener,
    pub(crate) tls: Option<Tls>,
    pub(crate) websocket: WebSocketSettings,
    pub(crate) anonymous: Anonymous,
    pub(crate) authenticator: Arc<Authenticator>,
    /// What credentials are shown to, in order.
    pub(crate) order: Vec<Authentication>,
    pub(crate) limits: Limits,
    /// Whether refusals are explained in words.
    pub(crate) reason_strings: bool,
    pub(crate) waiting_room: Arc<WaitingRoom>,
    /// Room for connections of this listener.
    pub(crate) room: Option<Arc<Semaphore>>,
}

/// Who may come without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anonymous {
    Allowed,
    /// Those that are on this machine, also when a proxy speaks for them.
    FromThisMachine,
    Refused,
}

/// A connection on its way to its home shard.
pub(crate) struct Arrival {
    pub(crate) entrance: Entrance,
    pub(crate) transport: Transport,
    /// The bytes of the CONNECT, checked once.
    packet: Zeroizing<Vec<u8>>,
    pub(crate) client_id: String,
    pub(crate) identity: Identity,
    pub(crate) mount_point: Option<String>,
    pub(crate) peer: String,
    /// What was read beyond the CONNECT.
    pub(crate) rest: Vec<u8>,
    pub(crate) permit: Permit,
}

impl Arrival {
    /// The CONNECT packet.
    pub(crate) fn connect(&self) -> Connect<'_> {
        connect_of(&self.packet)
    }

    /// How many bytes were read.
    pub(crate) fn bytes(&self) -> usize {
        self.packet.len() + self.rest.len()
    }

    /// The number of the shard where the client lives.
    pub(crate) fn home(&self, shards: usize) -> usize {
        home_of(&self.client_id, shards)
    }
}

/// Why a connection ended before it had a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Proxy(#[from] ProxyError),
    #[error("{0}")]
    WebSocket(#[from] WebSocketError),
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("no whole CONNECT within {seconds} s")]
    Late { seconds: u32 },
    #[error("tls handshake: {0}")]
    Tls(io::Error),
    #[error("a TLS handshake where no TLS is spoken")]
    UnexpectedTls,
    #[error(transparent)]
    Peer(#[from] PeerRefusal),
    #[error("connection closed before CONNECT was whole")]
    Closed,
    #[error("client {client_id:?} refused with {reason:?}")]
    Refused {
        client_id: String,
        reason: ReasonCode,
    },
    #[error("client {client_id:?}: {source}")]
    Login {
        client_id: String,
        source: LoginError,
    },
}

/// Everything before the session, within one deadline and one cap of bytes. `peer` becomes whom a
/// proxy speaks for.
pub(crate) async fn shake_hands(
    entrance: Entrance,
    socket: Socket,
    permit: Permit,
    peer: &Cell<PeerAddress>,
) -> Result<Arrival, HandshakeError> {
    let seconds = entrance.door.limits.connect_seconds;
    let deadline = Duration::from_secs(u64::from(seconds));
    tokio::time::timeout(deadline, receive_connect(entrance, socket, permit, peer))
        .await
        .unwrap_or(Err(HandshakeError::Late { seconds }))
}

async fn receive_connect(
    entrance: Entrance,
    mut socket: Socket,
    mut permit: Permit,
    peer: &Cell<PeerAddress>,
) -> Result<Arrival, HandshakeError> {
    let door = &*entrance.door;
    read_proxy_header(door, &mut socket).await?;
    peer.set(socket.peer());
    if let PeerAddress::Ip(address) = peer.get()
        && door.listener.proxy_protocol
    {
        permit.peer = door.admit_address(address.ip())?;
    }
    let mut transport = open_transport(door, socket).await?;
    let peer = transport.peer().to_string();
    let mut held = HeldBytes::default();
    let (packet, mut rest) = read_connect(door, &mut transport, &mut held).await?;
    let connect = connect_of(&packet);
    if let Some(reason) = refusal(&connect).or_else(|| door.refusal(&connect)) {
        refuse_connect(door, &mut transport, &connect, reason).await;
        let client_id = shown(connect.client_id);
        return Err(HandshakeError::Refused { client_id, reason });
    }
    let mut identity = match log_in(door, &mut transport, &packet, &mut rest, &mut held).await {
        Ok(identity) => identity,
        Err(source) => {
            if let Some(reason) = source.reason() {
                refuse_connect(door, &mut transport, &connect, reason).await;
            }
            let client_id = shown(connect.client_id);
            return Err(HandshakeError::Login { client_id, source });
        }
    };
    if let PeerAddress::Ip(address) = transport.peer() {
        identity.address = Some(address.ip().to_canonical());
    }
    let client_id = match connect.client_id {
        "" => match &identity.client_id {
            Some(client_id) => client_id.to_string(),
            None => assigned_client_id(),
        },
        client_id => client_id.to_owned(),
    };
    let mount_point = mount_point_of(door, identity.namespace.as_deref());
    let refused = door.last_refusal(&identity, mount_point.as_deref(), &client_id, &mut permit);
    if let Some(reason) = refused {
        refuse_connect(door, &mut transport, &connect, reason).await;
        let client_id = shown(&client_id);
        return Err(HandshakeError::Refused { client_id, reason });
    }
    transport.detach()?;
    Ok(Arrival {
        mount_point,
        entrance,
        transport,
        packet,
        client_id,
        identity,
        peer,
        rest,
        permit,
    })
}

/// The bytes of the CONNECT, and what was read beyond it.
async fn read_connect(
    door: &Door,
    transport: &mut Transport,
    held: &mut HeldBytes,
) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), HandshakeError> {
    let mut bytes = Vec::new();
    loop {
        if !read_more(door, transport, &mut bytes, held).await? {
            return Err(HandshakeError::Closed);
        }
        if bytes.starts_with(&TLS_HANDSHAKE) {
            return Err(HandshakeError::UnexpectedTls);
        }
        match decode_connect(&bytes, door.handshake_bytes_max()) {
            Ok(Some((_, length))) => {
                let rest = bytes.split_off(length);
                return Ok((bytes.into(), rest));
            }
            Ok(None) => {}
            Err(error) => {
                answer_malformed(transport, &bytes, &error).await;
                return Err(error.into());
            }
        }
    }
}

/// Waits for more bytes; false at the end of the connection.
pub(super) async fn read_more(
    door: &Door,
    transport: &mut Transport,
    bytes: &mut Vec<u8>,
    held: &mut HeldBytes,
) -> io::Result<bool> {
    // A connection that sends nothing holds no more than this.
    bytes.reserve(READ_BYTES);
    if !door.waiting_room.hold(held, bytes.capacity()) {
        return Err(io::Error::new(io::ErrorKind::QuotaExceeded, CROWDED));
    }
    Ok(transport.read_buf(bytes).await? > 0)
}

/// The CONNECT in bytes that were found to be one.
pub(super) fn connect_of(packet: &[u8]) -> Connect<'_> {
    let decoded = decode_connect(packet, usize::MAX).expect("these bytes were decoded before");
    decoded.expect("these bytes are one whole packet").0
}

impl Door {
    /// Bytes of everything that a client sends before its CONNACK.
    pub(super) fn handshake_bytes_max(&self) -> usize {
        let limits = &self.limits;
        limits.connect_bytes_max.min(limits.packet_bytes_max)
    }

    fn refusal(&self, connect: &Connect<'_>) -> Option<ReasonCode> {
        let is_spoken = self.listener.versions.contains(&connect.version);
        (!is_spoken).then_some(ReasonCode::UnsupportedProtocolVersion)
    }

    /// Counts a client whose identity is known; the reason if there is one too many.
    fn last_refusal(
        &self,
        identity: &Identity,
        mount_point: Option<&str>,
        client_id: &str,
        permit: &mut Permit,
    ) -> Option<ReasonCode> {
        let user_name = identity.user_name.as_deref();
        let client = (mount_point, client_id);
        let logins = &self.waiting_room.logins;
        if !logins.may_connect(user_name, client, &self.limits) {
            return Some(ReasonCode::ConnectionRateExceeded);
        }
        let namespace = identity.namespace.as_deref()?;
        match self.authenticator.namespaces().admit(namespace) {
            Ok(place) => permit.namespace = place,
            Err(Full) => return Some(ReasonCode::QuotaExceeded),
        }
        None
    }

    /// Whether client certificates count here.
    pub(super) fn asks_for_certificates(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(Tls::asks_for_certificates)
    }

    pub(super) fn allows_anonymous(&self, peer: PeerAddress) -> bool {
        match (self.anonymous, peer) {
            (Anonymous::Allowed, _) => true,
            (Anonymous::FromThisMachine, PeerAddress::Unix) => true,
            (Anonymous::FromThisMachine, PeerAddress::Ip(address)) => {
                address.ip().to_canonical().is_loopback()
            }
            (Anonymous::Refused, _) => false,
        }
    }
}

/// The namespace of a client is within the mount point of its listener.
pub(super) fn mount_point_of(door: &Door, namespace: Option<&str>) -> Option<String> {
    let listener = door.listener.mount_point.as_deref();
    match namespace {
        Some(namespace) => Some(format!("{}{namespace}/", listener.unwrap_or_default())),
        None => listener.map(str::to_owned),
    }
}

async fn read_proxy_header(door: &Door, socket: &mut Socket) -> Result<(), HandshakeError> {
    if !door.listener.proxy_protocol {
        return Ok(());
    }
    let trusted = &door.listener.proxy_trusted;
    if let PeerAddress::Ip(address) = socket.peer()
        && !trusted.contains(&address.ip().to_canonical())
    {
        return Err(ProxyError::Untrusted.into());
    }
    let original: Option<SocketAddr> = read_header(socket).await?;
    if let Some(original) = original {
        socket.set_peer(PeerAddress::Ip(original));
    }
    Ok(())
}

async fn open_transport(door: &Door, socket: Socket) -> Result<Transport, HandshakeError> {
    let is_websocket = door.listener.transport.is_websocket();
    Ok(match &door.tls {
        None if is_websocket => {
            Transport::WebSocket(Box::new(websocket::accept(socket, &door.websocket).await?))
        }
        None => Transport::Plain(socket),
        Some(tls) => {
            let stream = tls
                .acceptor
                .accept(socket)
                .await
                .map_err(HandshakeError::Tls)?;
            if is_websocket {
                let stream = websocket::accept(stream, &door.websocket).await?;
                Transport::SecureWebSocket(Box::new(stream))
            } else {
                Transport::Tls(Box::new(stream))
            }
        }
    })
}

/// A CONNECT that cannot be read gets an answer if it at least is a CONNECT. Before 5.0 only a
/// wrong level and a wrong client id have one, and all else none: 3.1.1 [MQTT-3.1.4-1].
async fn answer_malformed(transport: &mut Transport, bytes: &[u8], error: &DecodeError) {
    let Some(level) = level_of(bytes).filter(|_| bytes.first() == Some(&0x10)) else {
        return;
    };
    let reason = error.reason();
    let has_return_code = matches!(
        reason,
        ReasonCode::UnsupportedProtocolVersion | ReasonCode::ClientIdentifierNotValid
    );
    if level & !LEVEL_BRIDGE >= 5 {
        refuse(transport, ProtocolVersion::V5, reason).await;
    } else if has_return_code {
        refuse(transport, ProtocolVersion::V3_1_1, reason).await;
    }
}

/// The protocol level of a CONNECT whose protocol name is one of the two.
fn level_of(bytes: &[u8]) -> Option<u8> {
    let after = |name: &[u8]| {
        let at = bytes
            .windows(name.len())
            .take(8)
            .position(|window| window == name)?;
        bytes.get(at + name.len()).copied()
    };
    after(b"\x00\x04MQTT").or_else(|| after(b"\x00\x06MQIsdp"))
}

/// Refuses a CONNECT that was read, in words if these make no packet that the client does not take.
async fn refuse_connect(
    door: &Door,
    transport: &mut Transport,
    connect: &Connect<'_>,
    reason: ReasonCode,
) {
    let bytes_max = connect
        .properties
        .maximum_packet_size
        .map_or(u32::MAX, NonZeroU32::get);
    let reason_string = text_of(reason)
        .filter(|text| door.reason_strings && text.len() + CONNACK_BYTES <= bytes_max as usize);
    write_refusal(transport, connect.version, reason, reason_string).await;
}

async fn refuse(transport: &mut Transport, version: ProtocolVersion, reason: ReasonCode) {
    write_refusal(transport, version, reason, None).await;
}

async fn write_refusal(
    transport: &mut Transport,
    version: ProtocolVersion,
    reason: ReasonCode,
    reason_string: Option<&str>,
) {
    let packet = Packet::ConnAck(Box::new(ConnAck {
        session_present: false,
        reason,
        properties: ConnAckProperties {
            reason_string,
            ..ConnAckProperties::default()
        },
    }));
    let mut bytes = Vec::new();
    if encode(&packet, version, &mut bytes).is_ok() && transport.write_all(&bytes).await.is_ok() {
        // The peer may be gone already; there is nothing more to tell it.
        let _ = transport.flush().await;
        let _ = transport.shutdown().await;
    }
}

/// Unique and not to be guessed.
fn assigned_client_id() -> String {
    let random: [u8; 12] = random_bytes();
    random.iter().fold(String::from("tidewire-"), |id, byte| {
        format!("{id}{byte:02x}")
    })
}

/// Bytes that nobody can guess.
pub(crate) fn random_bytes<const COUNT: usize>() -> [u8; COUNT] {
    let mut random = [0; COUNT];
    SystemRandom::new()
        .fill(&mut random)
        .expect("the system gives random numbers");
    random
}

/// A CONNACK with a reason string, without its text.
const CONNACK_BYTES: usize = 8;
/// The bit of the protocol level by which a bridge of 3.1 or 3.1.1 says what it is.
const LEVEL_BRIDGE: u8 = 0x80;
/// What is read at once before CONNECT is whole.
const READ_BYTES: usize = 512;
const CROWDED: &str = "too much memory is held by CONNECT packets that are not whole";
/// A record of type handshake, version 3.
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];
