//! How many connections each peer address may have, and how fast it may open them.
//!
//! One table for the whole broker counts addresses, another their networks. An IPv6 peer is counted
//! by its /64 at least: whoever has one such address has all of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::config::Limits;

/// Counts of all peers; without a configured limit nothing is counted and no lock is taken.
pub(crate) struct PeerLimits {
    clock: Clock,
    caps: Caps,
    unit: Unit,
    table: Mutex<Table>,
}

/// What each peer may do; 0 = unlimited.
#[derive(Clone, Copy, Debug)]
struct Caps {
    connections_max: u32,
    connects_per_second: u64,
    connects_burst: u64,
}

/// What counts as one peer: the bits of an address that tell it from others.
#[derive(Clone, Copy, Debug)]
struct Unit {
    name: &'static str,
    ipv4_bits: u32,
    ipv6_bits: u32,
}

/// One connection in the count of its peer, taken out when dropped.
pub(crate) struct PeerPermit {
    limits: Arc<PeerLimits>,
    network: IpAddr,
}

/// Why a peer may not connect now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerRefusal {
    #[error("the {0} has too many connections")]
    Connections(&'static str),
    #[error("the {0} connects too often")]
    Rate(&'static str),
    #[error("too many logins from the address failed")]
    Banned,
    #[error("the address is banned by the configuration")]
    Listed,
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
    /// Counts each address.
    pub(crate) fn of_addresses(limits: &Limits, clock: Clock) -> Self {
        let caps = Caps {
            connections_max: limits.connections_per_address_max,
            connects_per_second: limits.connects_per_second_per_address.into(),
            connects_burst: limits.connects_burst_per_address.into(),
        };
        Self::new(caps, ADDRESS, clock)
    }

    /// Counts the networks of addresses.
    pub(crate) fn of_networks(limits: &Limits, clock: Clock) -> Self {
        let caps = Caps {
            connections_max: limits.connections_per_network_max,
            connects_per_second: limits.connects_per_second_per_network.into(),
            connects_burst: limits.connects_burst_per_network.into(),
        };
        let unit = Unit {
            name: "network",
            ipv4_bits: limits.network_ipv4_bits,
            ipv6_bits: limits.network_ipv6_bits,
        };
        Self::new(caps, unit, clock)
    }

    fn new(caps: Caps, unit: Unit, clock: Clock) -> Self {
        Self {
            clock,
            caps,
            unit,
            table: Mutex::default(),
        }
    }

    /// Counts a connection from `address`, or says why there may not be one now.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<Option<PeerPermit>, PeerRefusal> {
        if self.caps.connections_max == 0 && self.caps.connects_per_second == 0 {
            return Ok(None);
        }
        let network = self.unit.of(address);
        self.take(network, self.clock.now_ms())?;
        Ok(Some(PeerPermit {
            limits: Arc::clone(self),
            network,
        }))
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
        if self.caps.connects_per_second > 0 {
            // A connect over the other limit costs a token as well: it is work too.
            peer.tokens = peer
                .tokens
                .checked_sub(TOKENS_PER_CONNECT)
                .ok_or(PeerRefusal::Rate(self.unit.name))?;
        }
        if self.caps.connections_max > 0 && peer.open >= self.caps.connections_max {
            return Err(PeerRefusal::Connections(self.unit.name));
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
        let refilled = elapsed_ms.saturating_mul(self.caps.connects_per_second);
        peer.tokens = peer.tokens.saturating_add(refilled).min(self.tokens_max());
        peer.updated_ms = now_ms;
    }

    fn tokens_max(&self) -> u64 {
        self.caps.connects_burst * TOKENS_PER_CONNECT
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

impl Unit {
    /// The peer that an address belongs to.
    fn of(self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX
                    .checked_shl(32 - self.ipv4_bits.min(32))
                    .unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX
                    .checked_shl(128 - self.ipv6_bits.min(128))
                    .unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }
}

/// The unit in which single peers are counted.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    ADDRESS.of(address)
}

const ADDRESS: Unit = Unit {
    name: "address",
    ipv4_bits: 32,
    ipv6_bits: 64,
};

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
        PeerLimits::of_addresses(&limits, Clock::start())
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
    fn a_network_is_as_wide_as_the_configuration_says() {
        let network = |text, ipv4_bits, ipv6_bits| {
            let unit = Unit {
                ipv4_bits,
                ipv6_bits,
                ..ADDRESS
            };
            unit.of(ip(text)).to_string()
        };
        assert_eq!(network("192.0.2.9", 24, 48), "192.0.2.0");
        assert_eq!(network("::ffff:192.0.2.9", 31, 48), "192.0.2.8");
        assert_eq!(network("2001:db8:1:2::9", 24, 48), "2001:db8:1::");
        assert_eq!(network("192.0.2.9", 0, 0), "0.0.0.0");
        assert_eq!(network("2001:db8::", 0, 0), "::");
        assert_eq!(network("192.0.2.9", 32, 128), "192.0.2.9");
    }

    #[test]
    fn connections_of_one_address_are_limited_and_those_of_others_are_not() {
        let limits = limits(2, 0, 1);
        assert_eq!(limits.take(ip("::1"), 0), Ok(()));
        assert_eq!(limits.take(ip("::1"), 0), Ok(()));
        assert_eq!(
            limits.take(ip("::1"), 0),
            Err(PeerRefusal::Connections("address"))
        );
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
