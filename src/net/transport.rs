//! One stream of MQTT bytes, whatever lies between it and the socket.
//!
//! Owns the choice between plain, TLS and WebSocket; refuses to know who accepted it and why.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::net::socket::{PeerAddress, Socket};
use crate::net::websocket::WebSocket;
use crate::shard::OutBuffer;

/// A connection ready for MQTT bytes, movable between shards.
#[derive(Debug)]
pub enum Transport {
    /// The bare socket.
    Plain(Socket),
    /// TLS over the socket.
    Tls(Box<TlsStream<Socket>>),
    /// WebSocket over the socket.
    WebSocket(Box<WebSocket<Socket>>),
    /// WebSocket over TLS over the socket.
    SecureWebSocket(Box<WebSocket<TlsStream<Socket>>>),
}

/// What [`Transport::try_write`] took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Bytes that need not be written again.
    pub bytes: usize,
    /// A layer above the socket holds some of them: only a flush sends those.
    pub is_held: bool,
}

/// Calls one poll function on whichever stream is inside.
macro_rules! delegate {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport {
            Self::Plain($stream) => $call,
            Self::Tls($stream) => $call,
            Self::WebSocket($stream) => $call,
            Self::SecureWebSocket($stream) => $call,
        }
    };
}

impl Transport {
    /// The address of the other end.
    pub fn peer(&self) -> PeerAddress {
        self.socket().peer()
    }

    /// The socket at the bottom.
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
            Self::WebSocket(stream) => stream.inner(),
            Self::SecureWebSocket(stream) => stream.inner().get_ref().0,
        }
    }

    /// The certificate that the client showed, if there is one.
    pub fn certificate(&self) -> Option<&[u8]> {
        let certificates = self.tls_session()?.peer_certificates()?;
        certificates.first().map(|it| it.as_ref())
    }

    /// The TLS session, if there is one.
    pub fn tls_session(&self) -> Option<&tokio_rustls::rustls::ServerConnection> {
        match self {
            Self::Tls(stream) => Some(stream.get_ref().1),
            Self::SecureWebSocket(stream) => Some(stream.inner().get_ref().1),
            Self::Plain(_) | Self::WebSocket(_) => None,
        }
    }

    /// Takes the socket out of the current runtime, leaving TLS and WebSocket state in place.
    ///
    /// # Errors
    /// See [`Socket::detach`].
    pub fn detach(&mut self) -> io::Result<()> {
        self.socket_mut().detach()
    }

    /// Joins the runtime this is called on. Flush and read first: the layers may hold bytes.
    ///
    /// # Errors
    /// See [`Socket::attach`].
    pub fn attach(&mut self) -> io::Result<()> {
        self.socket_mut().attach()
    }

    /// Writes what fits now, without waiting.
    ///
    /// It replaces the write waker of the connection's task: unless all bytes were taken and none
    /// is held, that task must poll its write and flush again.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing was accepted, or the error of the stream.
    pub fn try_write(&mut self, buffer: &OutBuffer) -> io::Result<Taken> {
        match self {
            Self::Plain(socket) => try_write_pieces(socket, buffer),
            Self::Tls(stream) => try_poll_write(stream.as_mut(), buffer.front()),
            Self::WebSocket(stream) => try_poll_write(stream.as_mut(), buffer.front()),
            Self::SecureWebSocket(stream) => try_poll_write(stream.as_mut(), buffer.front()),
        }
    }

    fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_mut().0,
            Self::WebSocket(stream) => stream.inner_mut(),
            Self::SecureWebSocket(stream) => stream.inner_mut().get_mut().0,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut(), stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        delegate!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }
}

fn try_write_pieces(socket: &Socket, buffer: &OutBuffer) -> io::Result<Taken> {
    let bytes = if buffer.is_scattered() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = buffer.fill_slices(&mut slices);
        socket.try_write_vectored(slices.get(..filled).unwrap_or_default())?
    } else {
        socket.try_write(buffer.front())?
    };
    Ok(Taken {
        bytes,
        is_held: false,
    })
}

fn try_poll_write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<Taken> {
    let mut context = Context::from_waker(Waker::noop());
    let mut stream = Pin::new(stream);
    let bytes = match stream.as_mut().poll_write(&mut context, bytes) {
        Poll::Ready(written) => written?,
        Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
    };
    // Pending here is no failure: the bytes are taken, and a later flush sends the rest.
    let is_held = match stream.as_mut().poll_flush(&mut context) {
        Poll::Ready(flushed) => flushed.map(|()| false)?,
        Poll::Pending => true,
    };
    Ok(Taken { bytes, is_held })
}

/// Pieces written with one call.
const SLICES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::thread;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::runtime::{Builder, LocalRuntime};
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::cli::certs::write_development_certificates;
    use crate::net::tls::{Tls, TlsSettings};
    use crate::net::websocket::{WebSocketSettings, accept, connect};

    #[test]
    fn plain_echo_survives_moves_between_runtimes() {
        echo_across_moves("plain", |socket, _| {
            Box::pin(async { Transport::Plain(socket) })
        });
    }

    #[test]
    fn tls_echo_survives_moves_between_runtimes() {
        echo_across_moves("tls", |socket, acceptor| {
            Box::pin(async move {
                Transport::Tls(Box::new(acceptor.accept(socket).await.expect("tls")))
            })
        });
    }

    #[test]
    fn secure_websocket_echo_survives_moves_between_runtimes() {
        echo_across_moves("wss", |socket, acceptor| {
            Box::pin(async move {
                let stream = acceptor.accept(socket).await.expect("tls");
                let settings = WebSocketSettings::default();
                let stream = accept(stream, &settings).await.expect("websocket");
                Transport::SecureWebSocket(Box::new(stream))
            })
        });
    }

    #[test]
    fn detached_io_is_an_error() {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let address = listener.local_addr().expect("address");
            let stream = TcpStream::connect(address).await.expect("connected");
            let mut transport = Transport::Plain(Socket::tcp(stream, address));
            transport.detach().expect("detached");
            let error = transport.read_u8().await.expect_err("detached");
            assert_eq!(error.kind(), io::ErrorKind::NotConnected);
            assert!(transport.try_write(&OutBuffer::default()).is_err());
            let outside = thread::spawn(move || transport.attach().is_err()).join();
            assert!(outside.expect("no panic"));
        });
    }

    #[test]
    fn bytes_held_above_a_full_socket_are_reported_and_sent_by_a_flush() {
        runtime().block_on(async {
            let (near, far) = tokio::net::UnixStream::pair().expect("pair");
            let settings = WebSocketSettings::default();
            let (near, far) = tokio::join!(
                accept(Socket::unix(near), &settings),
                connect(far, "localhost", "/mqtt")
            );
            let mut transport = Transport::WebSocket(Box::new(near.expect("server")));
            let mut far = far.expect("client");
            let mut total = 0;
            let mut buffer = OutBuffer::default();
            buffer.tail().resize(60_000, b'x');
            loop {
                let taken = transport.try_write(&buffer).expect("room");
                total += taken.bytes;
                if taken.is_held {
                    break;
                }
            }
            let full = transport.try_write(&buffer).expect_err("no room");
            assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
            let mut received = vec![0; total];
            let (flushed, read) = tokio::join!(transport.flush(), far.read_exact(&mut received));
            flushed.expect("flushed");
            read.expect("read");
        });
    }

    type Accepted = Pin<Box<dyn Future<Output = Transport>>>;

    /// Two shards pass the connection on after every read, while the client writes all the time.
    fn echo_across_moves(kind: &'static str, open: fn(Socket, TlsAcceptor) -> Accepted) {
        let out = std::env::temp_dir().join(format!("tidewire-{kind}-{}", std::process::id()));
        write_development_certificates(&out, &[]).expect("certificates");
        let certificates = vec![(out.join("server.crt"), out.join("server.key"))];
        let settings = TlsSettings {
            certificates,
            ..TlsSettings::default()
        };
        let acceptor = Tls::new(&settings).expect("settings").acceptor;
        let authority = CertificateDer::from_pem_file(out.join("ca.crt")).expect("authority");
        std::fs::remove_dir_all(&out).expect("removed");

        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("address");
        let (to_first, first) = mpsc::sync_channel(1);
        let (to_second, second) = mpsc::sync_channel(1);
        let other = thread::spawn(move || shard(&runtime(), &second, &to_first));
        let one = thread::spawn(move || {
            let runtime = runtime();
            let mut transport = runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("listener");
                let (stream, peer) = listener.accept().await.expect("accepted");
                open(Socket::tcp(stream, peer), acceptor).await
            });
            transport.detach().expect("detached");
            to_second.send(transport).expect("sent");
            shard(&runtime, &first, &to_second)
        });
        runtime().block_on(client(kind, address, authority));
        let moves = one.join().expect("first") + other.join().expect("second");
        assert!(moves > 20, "moved {moves} times");
    }

    fn shard(
        runtime: &LocalRuntime,
        arrivals: &mpsc::Receiver<Transport>,
        next: &mpsc::SyncSender<Transport>,
    ) -> usize {
        let mut moves = 0;
        while let Ok(mut transport) = arrivals.recv() {
            moves += 1;
            let is_open = runtime.block_on(async {
                transport.attach().expect("attached");
                transport.flush().await.expect("flushed");
                let mut bytes = [0; 1500];
                let length = transport.read(&mut bytes).await.expect("read");
                transport
                    .write_all(&bytes[..length])
                    .await
                    .expect("written");
                if length == 0 {
                    // The client has all its bytes and may be gone already: it owes no answer.
                    let _ = transport.shutdown().await;
                }
                transport.detach().expect("detached");
                length > 0
            });
            if !is_open || next.send(transport).is_err() {
                break;
            }
        }
        moves
    }

    async fn client(kind: &str, address: std::net::SocketAddr, ca: CertificateDer<'static>) {
        let stream = TcpStream::connect(address).await.expect("connected");
        if kind == "plain" {
            return send_and_compare(stream).await;
        }
        let mut roots = RootCertStore::empty();
        roots.add(ca).expect("authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("name");
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.expect("tls");
        match kind {
            "tls" => send_and_compare(stream).await,
            _ => {
                let stream = connect(stream, "localhost", "/mqtt")
                    .await
                    .expect("websocket");
                send_and_compare(stream).await;
            }
        }
    }

    async fn send_and_compare<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
        let sent: Vec<u8> = (0..TOTAL)
            .map(|at| ((at * 31) >> 3).to_le_bytes()[0])
            .collect();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let write = async {
            for block in sent.chunks(5000) {
                writer.write_all(block).await.expect("written");
                writer.flush().await.expect("flushed");
            }
        };
        let mut received = vec![0; TOTAL];
        let (_, read) = tokio::join!(write, reader.read_exact(&mut received));
        read.expect("read");
        assert!(received == sent, "bytes lost or out of order");
        writer.shutdown().await.expect("shut");
    }

    fn runtime() -> LocalRuntime {
        Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
            .expect("runtime")
    }

    const TOTAL: usize = 1 << 20;
}
