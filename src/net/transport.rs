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

    /// The TLS session, if there is one: for the certificate of the client.
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
    /// Above a plain socket a layer may accept the bytes and still hold some of them: poll a flush
    /// from the connection's task later. It also replaces the write waker of that task, so a task
    /// that waits for writability must poll its write again after this call.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing was accepted, or the error of the stream.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(stream) => try_poll_write(stream.as_mut(), bytes),
            Self::WebSocket(stream) => try_poll_write(stream.as_mut(), bytes),
            Self::SecureWebSocket(stream) => try_poll_write(stream.as_mut(), bytes),
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

fn try_poll_write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<usize> {
    let mut context = Context::from_waker(Waker::noop());
    let mut stream = Pin::new(stream);
    let written = match stream.as_mut().poll_write(&mut context, bytes) {
        Poll::Ready(written) => written?,
        Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
    };
    // Pending here is no failure: the bytes are taken, and a later flush sends the rest.
    if let Poll::Ready(Err(error)) = stream.as_mut().poll_flush(&mut context) {
        return Err(error);
    }
    Ok(written)
}
