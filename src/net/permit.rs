//! Whether there is a place for one more connection.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::handshake::Door;
use super::peer_limits::{PeerPermit, PeerRefusal};
use super::room::{Place, Room};
use super::socket::PeerAddress;

/// A place among the connections of the broker, the listener and the peer, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _broker: Place,
    _listener: Option<OwnedSemaphorePermit>,
    pub(super) namespace: Option<OwnedSemaphorePermit>,
    pub(super) peer: Option<Box<Places>>,
}

/// In the counts of an address and its network. Boxed, since every idle connection keeps it and
/// most brokers count neither.
type Places = (Option<PeerPermit>, Option<PeerPermit>);

/// Why there is no place for one more connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error(transparent)]
    Peer(#[from] PeerRefusal),
    #[error("the listener has too many connections")]
    ListenerFull,
    #[error("the broker has too many connections")]
    BrokerFull,
}

impl Door {
    /// A place for one more connection from `peer`; if that is a proxy, who is behind it is counted
    /// once it has told.
    pub(crate) fn admit(
        &self,
        broker: &Arc<Room>,
        peer: PeerAddress,
    ) -> Result<Permit, AdmitError> {
        let peer = match peer {
            PeerAddress::Ip(address) if !self.listener.proxy_protocol => {
                self.admit_address(address.ip())?
            }
            PeerAddress::Ip(_) | PeerAddress::Unix => None,
        };
        let place = |room: &Arc<Semaphore>| Arc::clone(room).try_acquire_owned();
        let listener = self.room.as_ref().map(place).transpose();
        Ok(Permit {
            _listener: listener.map_err(|_| AdmitError::ListenerFull)?,
            _broker: broker.take().map_err(|_| AdmitError::BrokerFull)?,
            peer,
            namespace: None,
        })
    }

    pub(super) fn admit_address(
        &self,
        address: IpAddr,
    ) -> Result<Option<Box<Places>>, PeerRefusal> {
        let room = &*self.waiting_room;
        let is_listed = self
            .limits
            .banned_addresses
            .iter()
            .any(|it| it.has(address));
        if is_listed {
            return Err(PeerRefusal::Listed);
        }
        if room.logins.is_address_banned(address, &self.limits) {
            return Err(PeerRefusal::Banned);
        }
        let places = (room.peers.admit(address)?, room.networks.admit(address)?);
        let is_counted = places.0.is_some() || places.1.is_some();
        Ok(is_counted.then(|| Box::new(places)))
    }
}
