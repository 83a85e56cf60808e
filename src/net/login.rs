//! Who the client of a CONNECT is: its password is checked, or AUTH packets are exchanged.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tidewire_protocol::codec::{
    Connect, DecodeError, EncodeError, Packet, ProtocolVersion, ReasonCode, Receiver, decode,
    encode,
};
use tokio::io::AsyncWriteExt;

use super::handshake::{Door, connect_of, random_bytes, read_more};
use super::listener::user_name_of;
use super::socket::PeerAddress;
use super::transport::Transport;
use super::waiting_room::HeldBytes;
use crate::auth::{
    Answer, Busy, Credentials, Denial, Enhanced, EnhancedAuthentication, EnhancedError, Ground,
    Identity, METHOD, Proof, TokenError, Verdict, name_of_certificate,
};
use crate::config::{Authentication, CertificateAs};

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("no user name, and anonymous clients are not allowed here")]
    Anonymous,
    #[error("wrong password or unknown user {user_name:?}")]
    Password { user_name: String },
    #[error("{0}")]
    Token(TokenError),
    #[error("{0}")]
    Unavailable(Denial),
    #[error("the certificate has no name of the kind that counts here")]
    NoName,
    #[error("the client belongs to no namespace, and this listener needs one")]
    NoNamespace,
    #[error("too many logins of the user failed")]
    Banned,
    #[error("another user name than the one that the connection proves")]
    OtherName,
    #[error("another client id than the one that the certificate or token stands for")]
    OtherClientId,
    #[error("{0}")]
    Busy(#[from] Busy),
    #[error("passwords are not checked any more")]
    Stopped,
    #[error("authentication method {method:?} is not offered")]
    Method { method: String },
    #[error("login of {user_name:?} failed: {source}")]
    Enhanced {
        user_name: String,
        source: EnhancedError,
    },
    #[error("a packet other than AUTH before CONNACK")]
    NotAuth,
    #[error("connection closed during authentication")]
    Closed,
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    Encode(#[from] EncodeError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl LoginError {
    fn denied(denial: Denial, connect: &Connect<'_>) -> Self {
        match denial {
            Denial::Password => Self::Password {
                user_name: shown(connect.user_name.unwrap_or_default()),
            },
            Denial::Token(TokenError::OtherClientId) => Self::OtherClientId,
            Denial::Token(TokenError::OtherUserName) => Self::OtherName,
            Denial::Token(TokenError::NoKeys) => Self::Unavailable(denial),
            Denial::Token(source) => Self::Token(source),
            Denial::Unavailable(_) => Self::Unavailable(denial),
        }
    }

    fn failed(authentication: &EnhancedAuthentication, source: EnhancedError) -> Self {
        Self::Enhanced {
            user_name: shown(authentication.claimed_name()),
            source,
        }
    }

    /// What the client is told, if it is still there.
    pub(crate) fn reason(&self) -> Option<ReasonCode> {
        Some(match self {
            Self::Anonymous | Self::NoName | Self::OtherName | Self::NoNamespace => {
                ReasonCode::NotAuthorized
            }
            Self::Banned => ReasonCode::Banned,
            Self::OtherClientId => ReasonCode::ClientIdentifierNotValid,
            Self::Password { .. } | Self::Token(_) => ReasonCode::BadUserNameOrPassword,
            Self::Busy(_) | Self::Stopped => ReasonCode::ServerBusy,
            Self::Unavailable(_) => ReasonCode::ServerUnavailable,
            Self::Method { .. } => ReasonCode::BadAuthenticationMethod,
            Self::Enhanced { source, .. } => source.reason(),
            // [MQTT-3.1.2-30]
            Self::NotAuth => ReasonCode::ProtocolError,
            Self::Decode(error) => error.reason(),
            Self::Encode(_) => ReasonCode::UnspecifiedError,
            Self::Closed | Self::Io(_) => return None,
        })
    }
}

/// Finds out who the client is, unless it has failed too often. `packet` is its CONNECT, `rest`
/// what was read beyond.
pub(super) async fn log_in(
    door: &Door,
    transport: &mut Transport,
    packet: &[u8],
    rest: &mut Vec<u8>,
    held: &mut HeldBytes,
) -> Result<Identity, LoginError> {
    let logins = &door.waiting_room.logins;
    let user_name = connect_of(packet).user_name;
    if user_name.is_some_and(|it| logins.is_user_banned(it, &door.limits)) {
        return Err(LoginError::Banned);
    }
    let delay = logins.delay(address_of(transport), user_name, &door.limits);
    if !delay.is_zero() && proves_something(&connect_of(packet)) {
        tokio::time::sleep(delay).await;
    }
    let identity = identify(door, transport, packet, rest, held).await;
    let failed = match &identity {
        Err(LoginError::Password { .. }) => user_name,
        // Its user name may be the token itself.
        Err(LoginError::Token(error)) if error.is_forged() => Some(""),
        Err(LoginError::Enhanced { user_name, .. }) => Some(user_name.as_str()),
        _ => None,
    };
    if let Some(user_name) = failed {
        let address = address_of(transport);
        let bans = logins.failed(address, user_name, &door.limits);
        let seconds = door.limits.login_ban_seconds;
        if let Some(network) = bans.network {
            tracing::warn!(%network, seconds, "too many failed logins: the address is banned");
        }
        if bans.user {
            let user_name = shown(user_name);
            tracing::warn!(
                ?user_name,
                seconds,
                "too many failed logins: the user is banned"
            );
        }
    }
    let mut identity = identity?;
    if identity.namespace.is_none() {
        let namespaces = door.authenticator.namespaces();
        identity.namespace = namespaces.find(
            identity.user_name.as_deref(),
            identity.certificate.as_deref(),
            transport.certificate(),
        );
    }
    if identity.namespace.is_none() && door.listener.namespace_required {
        return Err(LoginError::NoNamespace);
    }
    Ok(identity)
}

async fn identify(
    door: &Door,
    transport: &mut Transport,
    packet: &[u8],
    rest: &mut Vec<u8>,
    held: &mut HeldBytes,
) -> Result<Identity, LoginError> {
    let connect = connect_of(packet);
    if let Some(method) = connect.properties.authentication_method {
        let authentication = begin_enhanced(door, method)?;
        let mut dialogue = Dialogue {
            bytes_max: door.handshake_bytes_max().saturating_sub(packet.len()),
            door,
            transport,
            rest,
            held,
        };
        let proved = dialogue.run(&connect, authentication).await?;
        let shown = shown_identity(door, transport, &connect)?;
        if shown.user_name.is_some() && shown.user_name != proved.user_name {
            return Err(LoginError::OtherName);
        }
        return Ok(Identity {
            ground: Ground::Password,
            user_name: proved.user_name,
            password_mark: proved.password_mark,
            enhanced: proved.enhanced,
            ..shown
        });
    }
    let mut identity = shown_identity(door, transport, &connect)?;
    if identity.user_name.is_some() {
        return Ok(identity);
    }
    if let Some(proof) = check_credentials(door, transport, &connect, &identity).await? {
        proof.apply(&mut identity);
        return Ok(identity);
    }
    // A verified client certificate is an identity; without one the client is anonymous.
    let has_certificate = transport.certificate().is_some();
    if !door.allows_anonymous(transport.peer()) && !has_certificate {
        return Err(LoginError::Anonymous);
    }
    Ok(identity)
}

fn proves_something(connect: &Connect<'_>) -> bool {
    let method = connect.properties.authentication_method;
    connect.user_name.is_some() || connect.password.is_some() || method.is_some()
}

/// What the transport itself proves: the name in a certificate, or the user of a process.
fn shown_identity(
    door: &Door,
    transport: &Transport,
    connect: &Connect<'_>,
) -> Result<Identity, LoginError> {
    let mut identity = Identity::default();
    let listener = &door.listener;
    if let Some(certificate) = transport.certificate() {
        let name = name_of_certificate(certificate, listener.certificate_name);
        let name: Option<Arc<str>> = name.map(Into::into);
        let has_use = listener.certificate_as != CertificateAs::Nothing;
        if name.is_none() && has_use {
            return Err(LoginError::NoName);
        }
        let stands_for = listener.certificate_as;
        identity.user_name = name.clone().filter(|_| stands_for.is_user_name());
        identity.client_id = name.clone().filter(|_| stands_for.is_client_id());
        identity.certificate = name;
        identity.ground = Ground::Certificate;
    }
    if listener.unix_peer_as_user
        && let Some(id) = transport.socket().peer_user_id()
    {
        identity.user_name = Some(user_name_of(id).into());
        identity.ground = Ground::Process;
    }
    let is_other = |claimed: Option<&str>, proved: &Option<Arc<str>>| {
        claimed.is_some() && proved.is_some() && claimed != proved.as_deref()
    };
    let client_id = Some(connect.client_id).filter(|it| !it.is_empty());
    if is_other(connect.user_name, &identity.user_name) {
        return Err(LoginError::OtherName);
    }
    if is_other(client_id, &identity.client_id) {
        return Err(LoginError::OtherClientId);
    }
    Ok(identity)
}

/// [MQTT-4.12.0-1]
fn begin_enhanced(door: &Door, method: &str) -> Result<EnhancedAuthentication, LoginError> {
    let is_checked = door.order.contains(&Authentication::Password);
    let offered = door.authenticator.enhanced(random_bytes());
    let offered = offered.filter(|_| is_checked);
    let refused = || LoginError::Method {
        method: shown(method),
    };
    offered.filter(|_| method == METHOD).ok_or_else(refused)
}

/// Shows the credentials to one after the other until one decides; `None` for a client without a
/// user name whom nobody knows, and where nothing is checked.
async fn check_credentials(
    door: &Door,
    transport: &Transport,
    connect: &Connect<'_>,
    shown_already: &Identity,
) -> Result<Option<Proof>, LoginError> {
    if connect.user_name.is_none() && connect.password.is_none() {
        return Ok(None);
    }
    let credentials = Arc::new(Credentials {
        client_id: connect.client_id.to_owned(),
        user_name: connect.user_name.map(str::to_owned),
        password: connect.password.map(|it| it.to_vec().into()),
        address: address_of(transport),
        certificate: shown_already.certificate.clone(),
    });
    for way in &door.order {
        let Some(verdict) = door.authenticator.ask(*way, &credentials) else {
            continue;
        };
        match verdict?.await.map_err(|_| LoginError::Stopped)? {
            Verdict::Allowed(proof) => return accepted(*proof, shown_already).map(Some),
            Verdict::Denied(denial) => return Err(LoginError::denied(denial, connect)),
            Verdict::Ignored => {}
        }
    }
    let is_checked = door.order.iter().any(|way| door.authenticator.has(*way));
    if is_checked && connect.user_name.is_some() {
        return Err(LoginError::denied(Denial::Password, connect));
    }
    Ok(None)
}

/// A proof that names a client id has to agree with the certificate.
fn accepted(proof: Proof, shown_already: &Identity) -> Result<Proof, LoginError> {
    match (&proof.client_id, &shown_already.client_id) {
        (Some(one), Some(other)) if one != other => Err(LoginError::OtherClientId),
        _ => Ok(proof),
    }
}

fn address_of(transport: &Transport) -> Option<IpAddr> {
    match transport.peer() {
        PeerAddress::Ip(address) => Some(address.ip().to_canonical()),
        PeerAddress::Unix => None,
    }
}

/// AUTH packets between CONNECT and CONNACK.
struct Dialogue<'a> {
    door: &'a Door,
    transport: &'a mut Transport,
    rest: &'a mut Vec<u8>,
    held: &'a mut HeldBytes,
    /// What the client may still send.
    bytes_max: usize,
}

impl Dialogue<'_> {
    async fn run(
        &mut self,
        connect: &Connect<'_>,
        mut authentication: EnhancedAuthentication,
    ) -> Result<Identity, LoginError> {
        let data = connect.properties.authentication_data;
        let mut step = authentication.begin(data);
        let last_data = loop {
            match step {
                Err(source) => return Err(LoginError::failed(&authentication, source)),
                Ok(answer) if answer.reason == ReasonCode::Success => break answer.data,
                Ok(answer) => self.send(&answer).await?,
            }
            step = self.receive(&mut authentication).await?;
        };
        // What was sent before our CONNACK may only be an end [MQTT-3.1.2-30].
        if self.rest.first().is_some_and(|byte| *byte != DISCONNECT) {
            return Err(LoginError::NotAuth);
        }
        let user_name = authentication.user_name().cloned();
        if connect.user_name.is_some() && connect.user_name != user_name.as_deref() {
            let source = EnhancedError::OtherUser;
            return Err(LoginError::failed(&authentication, source));
        }
        Ok(Identity {
            password_mark: authentication.password_mark(),
            user_name,
            enhanced: Some(Enhanced {
                last_data,
                authentication,
            }),
            ..Identity::default()
        })
    }

    async fn send(&mut self, answer: &Answer) -> Result<(), LoginError> {
        let mut bytes = Vec::new();
        encode(&answer.packet(), ProtocolVersion::V5, &mut bytes)?;
        self.transport.write_all(&bytes).await?;
        self.transport.flush().await?;
        Ok(())
    }

    /// Waits for the next packet, which has to be AUTH.
    async fn receive(
        &mut self,
        authentication: &mut EnhancedAuthentication,
    ) -> Result<Result<Answer, EnhancedError>, LoginError> {
        loop {
            let version = ProtocolVersion::V5;
            match decode(self.rest, version, Receiver::Server, self.bytes_max)? {
                Some((Packet::Auth(auth), length)) => {
                    let answer = authentication.receive(&auth);
                    self.bytes_max = self.bytes_max.saturating_sub(length);
                    self.rest.drain(..length);
                    return Ok(answer);
                }
                Some((Packet::Disconnect(_), _)) => return Err(LoginError::Closed),
                Some(_) => return Err(LoginError::NotAuth),
                None => {}
            }
            if !read_more(self.door, self.transport, self.rest, self.held).await? {
                return Err(LoginError::Closed);
            }
        }
    }
}

/// As much of a peer's text as a log line needs.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}

const SHOWN_CHARACTERS: usize = 64;
/// The first byte of a DISCONNECT.
const DISCONNECT: u8 = 0xE0;
