//! Sockets, TLS and WebSocket below a bridge.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tidewire_bridges::{Credentials, Dial, Dialled, Failure, Stream};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::rustls;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::{BridgeError, encrypted};
use crate::config::url::{Scheme, with_port};
use crate::config::{Bridge, BridgeKind, Transport};
use crate::net::websocket;

/// One server of a bridge.
#[derive(Clone, Debug)]
struct Server {
    transport: Transport,
    /// `host:port`, or the path of a unix socket.
    address: String,
    path: String,
    url: String,
}

/// What all servers of a bridge have in common.
#[derive(Debug)]
struct Options {
    ca: Option<PathBuf>,
    pair: Option<(PathBuf, PathBuf)>,
    server_name: Option<String>,
    /// What is spoken within TLS, where the server wants to know.
    alpn: Vec<Vec<u8>>,
    tcp_keep_alive_seconds: u32,
    tcp_user_timeout_ms: u32,
}

/// A way to open streams to the servers of a bridge. Certificates are read here for the first time,
/// and again for each stream.
pub(super) fn dial(bridge: &Bridge) -> Result<Dial, BridgeError> {
    let wrong = |problem: String| BridgeError {
        bridge: bridge.name.clone(),
        problem,
    };
    let servers = bridge
        .servers
        .iter()
        .map(|url| server(bridge.kind, url))
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong)?;
    let options = Options {
        ca: bridge.ca.clone(),
        pair: bridge.certificate.clone().zip(bridge.key.clone()),
        server_name: bridge.server_name.clone(),
        alpn: match bridge.kind {
            BridgeKind::Rocketmq => vec![b"h2".to_vec()],
            _ => Vec::new(),
        },
        tcp_keep_alive_seconds: bridge.tcp_keep_alive_seconds,
        tcp_user_timeout_ms: bridge.tcp_user_timeout_ms,
    };
    if servers.iter().any(|it| it.transport.is_encrypted()) {
        tls_config(&options).map_err(wrong)?;
    }
    let options = Arc::new(options);
    Ok(Dial(Arc::new(move |index| {
        let server = servers.get(index).cloned();
        let options = Arc::clone(&options);
        Box::pin(async move {
            let server = server.ok_or_else(|| Failure::refused("no server is configured"))?;
            let stream = open(&server, &options).await?;
            Ok(Dialled {
                stream,
                remote: server.url,
            })
        })
    })))
}

/// `host:port` of each server of a bridge.
#[cfg(feature = "kafka")]
pub(super) fn addresses(bridge: &Bridge) -> Vec<String> {
    let servers = bridge.servers.iter();
    let servers = servers.filter_map(|url| server(bridge.kind, url).ok());
    servers.map(|it| it.address).collect()
}

/// The credentials of a bridge, read anew each time.
pub(super) fn credentials(bridge: &Bridge) -> Result<Credentials, Failure> {
    let mut password = bridge.password.as_ref().map(|it| it.0.clone().into_bytes());
    if let Some(file) = &bridge.password_file {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Failure::refused(format!("password_file {}: {error}", file.display()))
        })?;
        password = Some(text.trim_end_matches(['\r', '\n']).as_bytes().to_vec());
    }
    if let Some(name) = &bridge.password_env {
        let value = std::env::var(name)
            .map_err(|error| Failure::refused(format!("password_env {name}: {error}")))?;
        password = Some(value.into_bytes());
    }
    Ok(Credentials {
        user_name: bridge.user_name.clone(),
        password,
    })
}

fn server(kind: BridgeKind, url: &str) -> Result<Server, String> {
    let scheme = Scheme::of_server(kind, url).map_err(|error| error.to_string())?;
    if scheme.transport == Transport::Unix {
        return Ok(Server {
            transport: scheme.transport,
            address: scheme.rest.to_owned(),
            path: String::new(),
            url: url.to_owned(),
        });
    }
    let (host, path) = scheme
        .rest
        .split_at(scheme.rest.find('/').unwrap_or(scheme.rest.len()));
    let path = if path.is_empty() { "/mqtt" } else { path };
    Ok(Server {
        transport: scheme.transport,
        address: with_port(host, scheme.port),
        path: path.to_owned(),
        url: url.to_owned(),
    })
}

async fn open(server: &Server, options: &Options) -> Result<Box<dyn Stream>, Failure> {
    let lost = |error: std::io::Error| Failure::of_stream(&server.url, &error);
    if server.transport == Transport::Unix {
        let stream = UnixStream::connect(&server.address).await.map_err(lost)?;
        return Ok(Box::new(stream));
    }
    let tcp = TcpStream::connect(&server.address).await.map_err(lost)?;
    set_options(&tcp, options).map_err(lost)?;
    let mut stream: Box<dyn Stream> = Box::new(tcp);
    if server.transport.is_encrypted() {
        let config = tls_config(options).map_err(Failure::refused)?;
        let host = host_of(&server.address);
        let host = options.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(host)
            .map_err(|error| Failure::refused(format!("{}: {error}", server.url)))?;
        stream = encrypted::connect(config, name, stream)
            .await
            .map_err(lost)?;
    }
    if server.transport.is_websocket() {
        let upgraded = websocket::connect(stream, &server.address, &server.path).await;
        let failed = |error| Failure::retry(format!("{}: {error}", server.url));
        stream = Box::new(upgraded.map_err(failed)?);
    }
    Ok(stream)
}

fn set_options(stream: &TcpStream, options: &Options) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if options.tcp_keep_alive_seconds > 0 {
        let time = Duration::from_secs(u64::from(options.tcp_keep_alive_seconds));
        let keep_alive = TcpKeepalive::new().with_time(time);
        socket.set_tcp_keepalive(&keep_alive.with_interval(PROBE_INTERVAL))?;
    }
    #[cfg(target_os = "linux")]
    if options.tcp_user_timeout_ms > 0 {
        let timeout = Duration::from_millis(u64::from(options.tcp_user_timeout_ms));
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    Ok(())
}

fn tls_config(options: &Options) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let authorities = match &options.ca {
        Some(file) => certificates(file)?,
        None => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                return Err("the system trusts no authority: set ca".to_owned());
            }
            found.certs
        }
    };
    let (usable, _) = roots.add_parsable_certificates(authorities);
    if usable == 0 {
        let file = options
            .ca
            .as_deref()
            .unwrap_or_else(|| Path::new("the system's store"));
        return Err(format!("{} holds no usable authority", file.display()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match &options.pair {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| format!("{}: {error}", key.display()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, private)
                .map_err(|error| format!("{}: {error}", certificate.display()))?
        }
    };
    config.alpn_protocols.clone_from(&options.alpn);
    Ok(config)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{}: {error}", file.display()))
}

fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Between two probes of a silent peer.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
