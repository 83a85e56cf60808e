//! From a listening socket to a connection at its client's home shard.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::log_limit::LogKind;
use crate::net::door::{Entrance, OpenDoor};
use crate::net::driver::Driver;
use crate::net::handshake::{Arrival, shake_hands};
use crate::net::listener::{Bound, TcpOptions};
use crate::net::permit::Permit;
use crate::net::room::Room;
use crate::net::socket::Socket;

/// Takes connections in until it is aborted.
pub(super) async fn accept(
    driver: Rc<Driver>,
    open: Arc<OpenDoor>,
    homes: Vec<mpsc::Sender<Arrival>>,
    connections: Arc<Room>,
) {
    let listener = match open.listening().and_then(Bound::into_listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "listener lost");
            return;
        }
    };
    loop {
        let socket = match listener.accept().await {
            Ok(socket) => socket,
            // The peer has given up: the next one waits already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                if driver.may_log(LogKind::Refused) {
                    tracing::warn!(%error, "cannot accept");
                }
                // Most likely no file descriptor is left, and the next try fails as well.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let entrance = open.enter();
        let door = &entrance.door;
        let permit = match door.admit(&connections, socket.peer()) {
            Ok(permit) => permit,
            Err(error) => {
                driver.refused(socket.peer(), &error);
                continue;
            }
        };
        let options = TcpOptions {
            no_delay: door.listener.nodelay,
            keep_alive_seconds: Some(door.listener.tcp_keep_alive_seconds).filter(|it| *it > 0),
        };
        if let Err(error) = options.apply(&socket) {
            tracing::debug!(%error, "socket options not set");
        }
        let driver = Rc::clone(&driver);
        spawn_local(welcome(driver, entrance, socket, permit, homes.clone()));
    }
}

async fn welcome(
    driver: Rc<Driver>,
    entrance: Entrance,
    socket: Socket,
    permit: Permit,
    homes: Vec<mpsc::Sender<Arrival>>,
) {
    let peer = Cell::new(socket.peer());
    match shake_hands(entrance, socket, permit, &peer).await {
        Ok(arrival) => {
            if let Some(home) = homes.get(arrival.home(homes.len())) {
                // The home shard is gone only while the broker stops.
                let _ = home.send(arrival).await;
            }
        }
        Err(error) => driver.refused(peer.get(), &error),
    }
}

/// How long a shard does not accept after it could not.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
