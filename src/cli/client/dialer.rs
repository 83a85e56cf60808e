//! Opens connections to one server; what they share is made once.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tidewire_protocol::codec::Connect;
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::tls::tls_config;
use super::{BoxedStream, ClientError, Connection};
use crate::cli::arguments::{Credentials, ServerUrl};
use crate::config::Transport;
use crate::net::websocket;

/// The way to one server.
pub(in crate::cli) struct Dialer {
    url: ServerUrl,
    credentials: Credentials,
    tls: Option<TlsConnector>,
}

impl Dialer {
    pub(in crate::cli) fn new(
        url: &ServerUrl,
        credentials: &Credentials,
    ) -> Result<Self, ClientError> {
        let tls = match url.transport.is_encrypted() {
            true => Some(TlsConnector::from(Arc::new(tls_config(credentials)?))),
            false => None,
        };
        Ok(Self {
            url: url.clone(),
            credentials: credentials.clone(),
            tls,
        })
    }

    /// Opens the transport, from `source` if given, sends `connect` with the credentials and awaits
    /// the answer.
    pub(in crate::cli) async fn open(
        &self,
        mut connect: Connect<'_>,
        source: Option<IpAddr>,
    ) -> Result<Connection, ClientError> {
        connect.user_name = self.credentials.user.as_deref();
        connect.password = self.credentials.password.as_deref().map(str::as_bytes);
        Connection::greet(self.stream(source).await?, connect).await
    }

    /// Where the server is, unless that is a unix socket.
    pub(in crate::cli) async fn server_address(&self) -> io::Result<Option<SocketAddr>> {
        if self.url.transport == Transport::Unix {
            return Ok(None);
        }
        Ok(lookup_host(&self.url.address).await?.next())
    }

    async fn stream(&self, source: Option<IpAddr>) -> Result<BoxedStream, ClientError> {
        let url = &self.url;
        if url.transport == Transport::Unix {
            let stream = UnixStream::connect(&url.address).await;
            return Ok(Box::new(stream.map_err(|source| unreachable(url, source))?));
        }
        let tcp = self.tcp(source).await;
        let tcp = tcp.map_err(|source| unreachable(url, source))?;
        tcp.set_nodelay(true)?;
        let mut stream: BoxedStream = Box::new(tcp);
        if let Some(connector) = &self.tls {
            let host = url.host();
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| ClientError::Host(host.to_owned()))?;
            stream = Box::new(connector.connect(name, stream).await?);
        }
        if url.transport.is_websocket() {
            stream = Box::new(websocket::connect(stream, &url.address, &url.path).await?);
        }
        Ok(stream)
    }

    async fn tcp(&self, source: Option<IpAddr>) -> io::Result<TcpStream> {
        let (Some(source), Some(server)) = (source, self.server_address().await?) else {
            return TcpStream::connect(&self.url.address).await;
        };
        let socket = match source {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind(SocketAddr::new(source, 0))?;
        socket.connect(server).await
    }
}

fn unreachable(url: &ServerUrl, source: io::Error) -> ClientError {
    ClientError::Connect {
        address: url.address.clone(),
        source,
    }
}
