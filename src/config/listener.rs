//! One address the broker accepts connections on.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use tidewire_protocol::codec::ProtocolVersion;

use super::Authentication;

/// One address the broker accepts connections on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `host:port`, or the path of a unix socket.
    pub bind: String,
    /// What carries MQTT here.
    pub transport: Transport,
    /// Path of the WebSocket endpoint.
    pub path: String,
    /// Certificates offered to clients; the name a client asks for picks one, the first is the
    /// default.
    pub certificates: Vec<Certificate>,
    /// Authorities that sign client certificates, a PEM file.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_certificates: ClientCertificates,
    /// Certificates that their authorities have revoked, a PEM file.
    pub client_crl: Option<PathBuf>,
    /// The oldest version of TLS that clients may speak.
    pub tls_version_min: TlsVersion,
    /// Protocols that clients may ask for by ALPN; `None` has those of the transport.
    pub alpn: Option<Vec<String>>,
    /// Which name of a client certificate counts.
    pub certificate_name: CertificateName,
    /// What the name of a client certificate stands for.
    pub certificate_as: CertificateAs,
    /// Whether the user of the process behind a unix socket is the user name.
    pub unix_peer_as_user: bool,
    /// What credentials are shown to here; `None` follows [`super::Auth::order`].
    pub auth: Option<Vec<Authentication>>,
    /// Whether clients may come without credentials; `None` follows [`super::Config`].
    pub allow_anonymous: Option<bool>,
    /// Put before the topics of all clients of this listener, so that they see nothing else.
    pub mount_point: Option<String>,
    /// Whether clients that belong to no namespace are refused.
    pub namespace_required: bool,
    /// Open connections of this listener; `None` leaves [`super::Limits::connections_max`].
    pub connections_max: Option<usize>,
    /// Protocol versions spoken here, at least one.
    pub versions: Vec<ProtocolVersion>,
    /// Whether small segments are sent at once (TCP_NODELAY).
    pub nodelay: bool,
    /// Connections the system holds until they are accepted.
    pub backlog: u32,
    /// Idle seconds before TCP probes the peer, 0 = off.
    pub tcp_keep_alive_seconds: u32,
    /// Whether each connection starts with a PROXY protocol header, version 1 or 2.
    pub proxy_protocol: bool,
    /// Addresses whose PROXY header is believed; empty believes nobody.
    pub proxy_trusted: Vec<IpAddr>,
    /// Origins of web pages that may connect by WebSocket; empty allows all, but only those of this
    /// machine where clients need no credentials because they are on this machine.
    pub origins: Vec<String>,
    /// Owner of the unix socket; `None` leaves it to the user of the broker.
    pub unix_owner: Option<UnixOwner>,
    /// Permission bits of the unix socket.
    pub unix_mode: UnixMode,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:1883".into(),
            transport: Transport::Tcp,
            path: "/mqtt".into(),
            certificates: Vec::new(),
            client_ca: None,
            client_certificates: ClientCertificates::Off,
            client_crl: None,
            tls_version_min: TlsVersion::default(),
            alpn: None,
            certificate_name: CertificateName::CommonName,
            certificate_as: CertificateAs::Nothing,
            unix_peer_as_user: false,
            auth: None,
            allow_anonymous: None,
            mount_point: None,
            namespace_required: false,
            connections_max: None,
            versions: vec![
                ProtocolVersion::V3_1,
                ProtocolVersion::V3_1_1,
                ProtocolVersion::V5,
            ],
            nodelay: true,
            backlog: 1024,
            tcp_keep_alive_seconds: 60,
            proxy_protocol: false,
            proxy_trusted: Vec::new(),
            origins: Vec::new(),
            unix_owner: None,
            unix_mode: UnixMode(0o660),
        }
    }
}

/// What carries MQTT on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Plain TCP.
    #[default]
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// A unix socket.
    Unix,
}

impl Transport {
    /// Whether connections are encrypted and certificates are needed.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether MQTT travels in WebSocket frames.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// A certificate chain and its private key, both PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// None is asked for.
    #[default]
    Off,
    /// A client may show one; what it shows must be valid.
    Optional,
    /// A client without a valid one is refused.
    Required,
}

/// User and group of a file, as in `chown`: `user`, `user:group` or `:group`, names or numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixOwner {
    /// Name or number of the user; `None` leaves it as it is.
    pub user: Option<String>,
    /// Name or number of the group; `None` leaves it as it is.
    pub group: Option<String>,
}

impl FromStr for UnixOwner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let is_wrong = |part: &str| part.contains([':', ' ', '/']);
        if is_wrong(user) || is_wrong(group) || (user.is_empty() && group.is_empty()) {
            return Err(());
        }
        let named = |part: &str| (!part.is_empty()).then(|| part.to_owned());
        Ok(Self {
            user: named(user),
            group: named(group),
        })
    }
}

impl fmt::Display for UnixOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.user.as_deref().unwrap_or_default())?;
        match &self.group {
            Some(group) => write!(formatter, ":{group}"),
            None => Ok(()),
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2.
    #[default]
    V1_2,
    /// 1.3.
    V1_3,
}

/// Which name of a client certificate counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateName {
    /// The common name of the subject.
    #[default]
    CommonName,
    /// The whole subject, as in RFC 4514: `CN=device,O=Acme`.
    Subject,
    /// The DNS name among the alternative names.
    DnsName,
    /// The mail address among the alternative names.
    Email,
    /// The URI among the alternative names.
    Uri,
}

/// What the name of a client certificate stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateAs {
    /// Nothing but itself, for rules.
    #[default]
    Nothing,
    /// The user name.
    UserName,
    /// The client id.
    ClientId,
    /// The user name and the client id.
    Both,
}

impl CertificateAs {
    /// Whether it stands for the user name.
    pub fn is_user_name(self) -> bool {
        matches!(self, Self::UserName | Self::Both)
    }

    /// Whether it stands for the client id.
    pub fn is_client_id(self) -> bool {
        matches!(self, Self::ClientId | Self::Both)
    }
}

/// Permission bits of a file, as in `chmod`; written as an octal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixMode(pub u32);
