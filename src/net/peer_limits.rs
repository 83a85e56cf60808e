//! How many connections each peer address may have, and how fast it may open them.
//!
//! Owns one table for the whole broker. An IPv6 peer is counted by its /64: whoever has one such
//! address has all of them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::config::Limits;

/// Counts of all peers; without a configured limit nothing is counted and no lock is taken.
pub(crate) struct PeerLimits {
    clock: Clock,
    /// 0 = unlimited.
    connections_max: u32,
    /// 0 = unlimited.
    connects_per_second: u64,
    connects_burst: u64,
    table: Mutex<Table>,
}

/// One connection in the count of its peer, taken out when dropped.
pub(crate) struct PeerPermit {
    limits: Arc<PeerLimits>,
    network: IpAddr,
}

/// Why a peer may not connect now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerRefusal {
    #[error("the address has too many connections")]
    Connections,
    #[error("the address connects too often")]
    Rate,
    #[error("too many logins from the address failed")]
    Banned,
}

/// # Shape
/// Every network with an open connection, and at most [`LINGERING_MAX`] others whose budget is not
/// yet full again. So the table is bounded by the connections of the broker.
#[derive(Default)]
struct Table {
    peers: HashMap<IpAddr, Peer>,
    lingering: usize,
    swept_ms: u64,
}

struct Peer {
    open: u32,
    /// Thousandths of a connect.
    tokens: u64,
    updated_ms: u64,
}

impl PeerLimits {
    pub(crate) fn new(limits: &Limits, clock: Clock) -> Self {
        Self {
            clock,
            connections_max: limits.connections_per_address_max,
            connects_per_second: limits.connects_per_second_per_address.into(),
            connects_burst: limits.connects_burst_per_address.into(),
            table: Mutex::default(),
        }
    }

    /// Counts a connection from `address`, or says why there may not be one now. Boxed, since every
    /// idle connection keeps it and most brokers have none.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<Option<Box<PeerPermit>>, PeerRefusal> {
        if self.connections_max == 0 && self.connects_per_second == 0 {
            return Ok(None);
        }
        let network = network_of(address);
        self.take(network, self.clock.now_ms())?;
        Ok(Some(Box::new(PeerPermit {
            limits: Arc::clone(self),
            network,
        })))
    }

    fn take(&self, network: IpAddr, now_ms: u64) -> Result<(), PeerRefusal> {
        let mut table = self.table.lock();
        let mut is_new = false;
        let peer = table.peers.entry(network).or_insert_with(|| {
            is_new = true;
            Peer {
                open: 0,
                tokens: self.tokens_max(),
                updated_ms: now_ms,
            }
        });
        self.refill(peer, now_ms);
        if self.connects_per_second > 0 {
            // A connect over the other limit costs a token as well: it is work too.
            peer.tokens = peer
                .tokens
                .checked_sub(TOKENS_PER_CONNECT)
                .ok_or(PeerRefusal::Rate)?;
        }
        if self.connections_max > 0 && peer.open >= self.connections_max {
            return Err(PeerRefusal::Connections);
        }
        let was_idle = peer.open == 0;
        peer.open += 1;
        if was_idle && !is_new {
            table.lingering -= 1;
        }
        Ok(())
    }

    fn give_back(&self, network: IpAddr, now_ms: u64) {
        let mut table = self.table.lock();
        let Some(peer) = table.peers.get_mut(&network) else {
            return;
        };
        peer.open -= 1;
        if peer.open > 0 {
            return;
        }
        self.refill(peer, now_ms);
        if peer.tokens == self.tokens_max() {
            table.peers.remove(&network);
            return;
        }
        if table.lingering >= LINGERING_MAX {
            self.sweep(&mut table, now_ms);
        }
        if table.lingering >= LINGERING_MAX {
            table.peers.remove(&network);
        } else {
            table.lingering += 1;
        }
    }

    /// Forgets networks that are idle and have their whole budget again; at most once a second,
    /// since it looks at every entry.
    fn sweep(&self, table: &mut Table, now_ms: u64) {
        if now_ms < table.swept_ms + SWEEP_MS {
            return;
        }
        table.swept_ms = now_ms;
        let before = table.peers.len();
        table.peers.retain(|_, peer| {
            self.refill(peer, now_ms);
            peer.open > 0 || peer.tokens < self.tokens_max()
        });
        table.lingering -= before - table.peers.len();
    }

    fn refill(&self, peer: &mut Peer, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(peer.updated_ms);
        let refilled = elapsed_ms.saturating_mul(self.connects_per_second);
        peer.tokens = peer.tokens.saturating_add(refilled).min(self.tokens_max());
        peer.updated_ms = now_ms;
    }

    fn tokens_max(&self) -> u64 {
        self.connects_burst * TOKENS_PER_CONNECT
    }
}

impl Drop for PeerPermit {
    fn drop(&mut self) {
        self.limits
            .give_back(self.network, self.limits.clock.now_ms());
    }
}

impl fmt::Debug for PeerPermit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PeerPermit({})", self.network)
    }
}

/// The unit in which peers are counted.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & (u128::MAX << 64);
            Ipv6Addr::from_bits(prefix).into()
        }
    }
}

const TOKENS_PER_CONNECT: u64 = 1_000;
/// Idle networks remembered for their rate: 4 MiB at most.
const LINGERING_MAX: usize = 65_536;
const SWEEP_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: u32, per_second: u32, burst: u32) -> PeerLimits {
        let limits = Limits {
            connections_per_address_max: connections,
            connects_per_second_per_address: per_second,
            connects_burst_per_address: burst,
            ..Limits::default()
        };
        PeerLimits::new(&limits, Clock::start())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn an_ipv6_peer_is_its_network_and_a_mapped_ipv4_peer_itself() {
        assert_eq!(network_of(ip("2001:db8:1:2:3::4")), ip("2001:db8:1:2::"));
        assert_eq!(network_of(ip("::ffff:1.2.3.4")), ip("1.2.3.4"));
        assert_ne!(
            network_of(ip("2001:db8:1:3::")),
            network_of(ip("2001:db8:1:2::"))
        );
    }

    #[test]
    fn connections_of_one_address_are_limited_and_those_of_others_are_not() {
        let limits = limits(2, 0, 1);
        assert_eq!(limits.take(ip("::1"), 0), Ok(()));
        assert_eq!(limits.take(ip("::1"), 0), Ok(()));
        assert_eq!(limits.take(ip("::1"), 0), Err(PeerRefusal::Connections));
        assert_eq!(limits.take(ip("1.1.1.1"), 0), Ok(()));
        limits.give_back(ip("::1"), 0);
        assert_eq!(limits.take(ip("::1"), 0), Ok(()));
        for address in ["::1", "::1", "1.1.1.1"] {
            limits.give_back(ip(address), 0);
        }
        assert!(limits.table.lock().peers.is_empty());
    }

    #[test]
    fn a_burst_of_connects_is_followed_by_the_configured_rate() {
        let limits = limits(0, 10, 3);
        let connects = |now_ms| {
            (0..10)
                .filter(|_| limits.take(ip("1.1.1.1"), now_ms).is_ok())
                .count()
        };
        assert_eq!(connects(0), 3);
        assert_eq!(connects(99), 0);
        assert_eq!(connects(200), 2);
        assert_eq!(connects(10_000), 3);
    }

    #[test]
    fn many_addresses_leave_a_bounded_table() {
        let limits = limits(0, 1, 2);
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let many = u32::try_from(LINGERING_MAX).expect("small") * 2;
        for number in 0..many {
            limits.take(address(number), 0).expect("first connect");
            limits.give_back(address(number), 0);
        }
        assert_eq!(limits.table.lock().peers.len(), LINGERING_MAX);
        // Long after, all budgets are full: one more goodbye sweeps them away.
        limits.take(address(many), 1_000_000).expect("connect");
        limits.give_back(address(many), 1_000_000);
        let table = limits.table.lock();
        assert_eq!((table.peers.len(), table.lingering), (1, 1));
    }
}
