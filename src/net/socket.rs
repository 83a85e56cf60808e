//! A connected socket that can leave one runtime and join another.
//!
//! Owns the file descriptor and its registration with the I/O driver of a shard. Knows nothing of
//! the bytes it carries.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;

/// A TCP or unix socket, attached to the runtime of a shard or detached for a move.
///
/// I/O on a detached socket fails with [`io::ErrorKind::NotConnected`].
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    peer: PeerAddress,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    /// The address and port of a TCP peer, or the one announced by a trusted proxy.
    Ip(SocketAddr),
    /// A process on this host, over a unix socket.
    Unix,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    DetachedTcp(std::net::TcpStream),
    DetachedUnix(std::os::unix::net::UnixStream),
    /// A conversion failed and took the file descriptor with it.
    Lost,
}

impl Socket {
    /// Wraps an accepted or connected TCP stream.
    pub fn tcp(stream: TcpStream, peer: SocketAddr) -> Self {
        Self {
            stream: Stream::Tcp(stream),
            peer: PeerAddress::Ip(peer),
        }
    }

    /// Wraps an accepted or connected unix stream.
    pub fn unix(stream: UnixStream) -> Self {
        Self {
            stream: Stream::Unix(stream),
            peer: PeerAddress::Unix,
        }
    }

    /// The address of the other end.
    pub fn peer(&self) -> PeerAddress {
        self.peer
    }

    /// Replaces the address of the other end by the one a trusted proxy announced.
    pub fn set_peer(&mut self, peer: PeerAddress) {
        self.peer = peer;
    }

    /// Takes the socket out of the I/O driver of the current shard; no effect when detached.
    ///
    /// No future that reads or writes this socket may be alive: its waker is forgotten.
    ///
    /// # Errors
    /// The system refuses the change of registration; the socket is then closed.
    pub fn detach(&mut self) -> io::Result<()> {
        self.stream = match mem::replace(&mut self.stream, Stream::Lost) {
            Stream::Tcp(stream) => Stream::DetachedTcp(stream.into_std()?),
            Stream::Unix(stream) => Stream::DetachedUnix(stream.into_std()?),
            Stream::Lost => return Err(detached()),
            already @ (Stream::DetachedTcp(_) | Stream::DetachedUnix(_)) => already,
        };
        Ok(())
    }

    /// Registers the socket with the runtime this is called on; no effect when attached.
    ///
    /// Afterwards flush, then read before waiting for readiness: a layer above may hold bytes.
    ///
    /// # Errors
    /// Called outside a runtime (the socket stays detached), or the registration fails (the socket
    /// is then closed).
    pub fn attach(&mut self) -> io::Result<()> {
        Handle::try_current().map_err(io::Error::other)?;
        self.stream = match mem::replace(&mut self.stream, Stream::Lost) {
            Stream::DetachedTcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Stream::DetachedUnix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
            Stream::Lost => return Err(detached()),
            already @ (Stream::Tcp(_) | Stream::Unix(_)) => already,
        };
        Ok(())
    }

    /// Writes what the system takes now, without a waker and without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing fits, or the error of the socket.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
            _ => Err(detached()),
        }
    }

    /// As [`Socket::try_write`], for bytes in several places.
    ///
    /// # Errors
    /// As there.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => stream.try_write_vectored(slices),
            Stream::Unix(stream) => stream.try_write_vectored(slices),
            _ => Err(detached()),
        }
    }

    /// Lends the TCP stream to set options on it; none for a unix or detached socket.
    /// The user id of the process behind a unix socket.
    pub(crate) fn peer_user_id(&self) -> Option<u32> {
        match &self.stream {
            Stream::Unix(stream) => stream.peer_cred().ok().map(|it| it.uid()),
            _ => None,
        }
    }

    pub(crate) fn tcp_stream(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Tcp(stream) => Some(stream),
            _ => None,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            _ => Poll::Ready(Err(detached())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            _ => Poll::Ready(Err(detached())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            _ => Poll::Ready(Err(detached())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            _ => Poll::Ready(Err(detached())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            _ => Poll::Ready(Err(detached())),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Unix => formatter.write_str("unix"),
        }
    }
}

fn detached() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "socket is detached from its runtime",
    )
}
