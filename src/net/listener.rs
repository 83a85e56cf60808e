//! Where clients are accepted: listening sockets.
//!
//! Owns binding and accepting. What a connection speaks follows from the address, and is set up
//! elsewhere.

mod unix;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use crate::net::socket::Socket;
pub use unix::{SocketFile, UnixAddress, check_owner};
pub(crate) use unix::{bind as bind_unix, user_name_of};

/// What to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindAddress {
    /// Host and port.
    Tcp(String),
    /// A socket file.
    Unix(UnixAddress),
}

/// A bound, non-blocking listening socket, not yet part of a runtime.
#[derive(Debug)]
pub struct Bound {
    socket: BoundSocket,
    local: LocalAddress,
    file: Option<SocketFile>,
}

/// Where a listener can be reached, with the port the system chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAddress {
    /// A TCP address.
    Ip(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// The listener of one shard, registered with its runtime.
#[derive(Debug)]
pub enum Listener {
    /// Accepts over TCP.
    Tcp(tokio::net::TcpListener),
    /// Accepts over a unix socket.
    Unix(tokio::net::UnixListener),
}

/// Options of accepted TCP sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// Send small packets at once.
    pub no_delay: bool,
    /// Probe a silent peer after so many seconds; none leaves probing off.
    pub keep_alive_seconds: Option<u32>,
}

#[derive(Debug)]
enum BoundSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Binds and listens, with room for `backlog` connections not yet accepted.
///
/// A unix socket file is replaced only if nobody answers behind it.
///
/// # Errors
/// The name does not resolve, or the system refuses the address.
pub fn bind(address: &BindAddress, backlog: i32) -> io::Result<Bound> {
    let authority = match address {
        BindAddress::Tcp(authority) => authority,
        BindAddress::Unix(address) => {
            let (listener, file) = unix::bind(address, backlog)?;
            return Ok(Bound {
                socket: BoundSocket::Unix(listener),
                local: LocalAddress::Unix(address.path.clone()),
                file: Some(file),
            });
        }
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in authority.to_socket_addrs()? {
        match bind_tcp(candidate, backlog) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Bound {
    /// Where the listener can be reached.
    pub fn local_address(&self) -> &LocalAddress {
        &self.local
    }

    /// The file of a unix socket, to be dropped when the broker stops. A clone has none.
    pub fn take_socket_file(&mut self) -> Option<SocketFile> {
        self.file.take()
    }

    /// A second handle on the same listening socket, for another shard.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            BoundSocket::Tcp(listener) => BoundSocket::Tcp(listener.try_clone()?),
            BoundSocket::Unix(listener) => BoundSocket::Unix(listener.try_clone()?),
        };
        Ok(Self {
            socket,
            local: self.local.clone(),
            file: None,
        })
    }

    /// Registers the listener with the runtime this is called on.
    ///
    /// # Errors
    /// Called outside a runtime, or the registration fails.
    pub fn into_listener(self) -> io::Result<Listener> {
        tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        Ok(match self.socket {
            BoundSocket::Tcp(socket) => Listener::Tcp(tokio::net::TcpListener::from_std(socket)?),
            BoundSocket::Unix(socket) => {
                Listener::Unix(tokio::net::UnixListener::from_std(socket)?)
            }
        })
    }
}

impl Listener {
    /// Waits for the next connection. Cancel-safe: a connection is not lost.
    ///
    /// # Errors
    /// The system has no file descriptor left, or the connection is already gone.
    pub async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Socket::tcp(stream, peer))
            }
            Self::Unix(listener) => Ok(Socket::unix(listener.accept().await?.0)),
        }
    }
}

impl TcpOptions {
    /// Sets the options on an attached TCP socket; no effect on others.
    ///
    /// # Errors
    /// The system refuses an option.
    pub fn apply(&self, socket: &Socket) -> io::Result<()> {
        let Some(stream) = socket.tcp_stream() else {
            return Ok(());
        };
        stream.set_nodelay(self.no_delay)?;
        let Some(seconds) = self.keep_alive_seconds else {
            return Ok(());
        };
        let time = Duration::from_secs(seconds.max(1).into());
        let keep_alive = TcpKeepalive::new()
            .with_time(time)
            .with_interval(time / 4 + SECOND);
        SockRef::from(stream).set_tcp_keepalive(&keep_alive)
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            no_delay: true,
            keep_alive_seconds: None,
        }
    }
}

fn bind_tcp(address: SocketAddr, backlog: i32) -> io::Result<Bound> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // [::] serves IPv4 as well, whatever the system default says.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    let listener = std::net::TcpListener::from(socket);
    let local = LocalAddress::Ip(listener.local_addr()?);
    Ok(Bound {
        socket: BoundSocket::Tcp(listener),
        local,
        file: None,
    })
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn port_zero_is_resolved_and_a_clone_shares_it() {
        let address = BindAddress::Tcp("127.0.0.1:0".to_owned());
        let bound = bind(&address, 16).expect("bound");
        let LocalAddress::Ip(local) = *bound.local_address() else {
            unreachable!("tcp")
        };
        assert_ne!(local.port(), 0);
        let clone = bound.try_clone().expect("clone");
        drop(bound);
        let client = std::net::TcpStream::connect(local).expect("connected");
        drop((client, clone));
    }

    #[test]
    fn one_blocked_shard_does_not_stop_the_others_from_accepting() {
        let bound = bind(&BindAddress::Tcp("127.0.0.1:0".to_owned()), 64).expect("bound");
        let LocalAddress::Ip(local) = *bound.local_address() else {
            unreachable!("tcp")
        };
        let (accepted, accepts) = mpsc::channel();
        let (unblock, blocked) = mpsc::channel::<()>();
        let mut blocked = Some(blocked);
        let shards: Vec<_> = (0..3)
            .map(|shard| {
                let bound = bound.try_clone().expect("clone");
                let (accepted, blocked) = (accepted.clone(), blocked.take());
                thread::spawn(move || accept_all(shard, bound, &accepted, blocked))
            })
            .collect();
        for _ in 0..3 {
            // Registered, and the first one blocked.
            assert_eq!(accepts.recv().expect("ready"), None);
        }
        let clients: Vec<_> = (0..60)
            .map(|_| std::net::TcpStream::connect(local).expect("connected"))
            .collect();
        for _ in 0..60 {
            let shard = accepts.recv_timeout(PATIENCE).expect("accepted");
            assert_ne!(shard, Some(0), "blocked");
        }
        drop((clients, unblock, accepts));
        // Each takes one more connection to notice that the test is over.
        while !shards.iter().all(thread::JoinHandle::is_finished) {
            let _ = std::net::TcpStream::connect(local);
        }
    }

    /// A shard that does nothing but accept, after it has been blocked if it is to be.
    fn accept_all(
        shard: usize,
        bound: Bound,
        accepted: &mpsc::Sender<Option<usize>>,
        blocked: Option<mpsc::Receiver<()>>,
    ) {
        runtime().block_on(async {
            let listener = bound.into_listener().expect("listener");
            accepted.send(None).expect("test runs");
            if let Some(blocked) = blocked {
                // On purpose without an await: the thread stands still.
                let _ = blocked.recv();
            }
            while listener.accept().await.is_ok() {
                if accepted.send(Some(shard)).is_err() {
                    break;
                }
            }
        });
    }

    #[test]
    fn options_reach_the_accepted_socket() {
        runtime().block_on(async {
            for (no_delay, keep_alive_seconds) in [(true, Some(60)), (false, None)] {
                let bound = bind(&BindAddress::Tcp("127.0.0.1:0".to_owned()), 1).expect("bound");
                let LocalAddress::Ip(local) = *bound.local_address() else {
                    unreachable!("tcp")
                };
                let listener = bound.into_listener().expect("listener");
                let _client = std::net::TcpStream::connect(local).expect("connected");
                let socket = listener.accept().await.expect("accepted");
                let options = TcpOptions {
                    no_delay,
                    keep_alive_seconds,
                };
                options.apply(&socket).expect("applied");
                let stream = SockRef::from(socket.tcp_stream().expect("tcp"));
                assert_eq!(stream.tcp_nodelay().expect("option"), no_delay);
                let is_probed = keep_alive_seconds.is_some();
                assert_eq!(stream.keepalive().expect("option"), is_probed);
                if is_probed {
                    let time = stream.tcp_keepalive_time().expect("option");
                    assert_eq!(time, Duration::from_secs(60));
                }
            }
        });
    }

    #[test]
    fn the_system_holds_as_many_connections_as_the_backlog_says() {
        let wait = Duration::from_millis(200);
        let held = |backlog| {
            let bound = bind(&BindAddress::Tcp("127.0.0.1:0".to_owned()), backlog).expect("bound");
            let LocalAddress::Ip(local) = *bound.local_address() else {
                unreachable!("tcp")
            };
            let mut clients = Vec::new();
            while clients.len() < 12
                && let Ok(client) = std::net::TcpStream::connect_timeout(&local, wait)
            {
                clients.push(client);
            }
            clients.len()
        };
        assert!((1..=3).contains(&held(1)), "one, and what Linux adds");
        assert_eq!(held(64), 12);
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime")
    }

    const PATIENCE: Duration = Duration::from_secs(20);
}
