//! What all connections without a session share, whichever listener they came through.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::login_guard::LoginGuard;
use super::peer_limits::PeerLimits;
use crate::clock::Clock;
use crate::config::Limits;

/// The limits before CONNECT that hold for the whole broker.
pub(crate) struct WaitingRoom {
    pub(crate) peers: Arc<PeerLimits>,
    pub(crate) networks: Arc<PeerLimits>,
    pub(crate) logins: LoginGuard,
    /// Memory for CONNECT packets that are large and not yet whole.
    bytes: Arc<Semaphore>,
}

/// The memory that one connection holds before its CONNECT is whole.
#[derive(Default)]
pub(crate) struct HeldBytes {
    shared: Option<OwnedSemaphorePermit>,
}

impl WaitingRoom {
    pub(crate) fn new(limits: &Limits, clock: Clock) -> Self {
        let bytes = limits.connecting_bytes_max.min(Semaphore::MAX_PERMITS);
        Self {
            peers: Arc::new(PeerLimits::of_addresses(limits, clock)),
            networks: Arc::new(PeerLimits::of_networks(limits, clock)),
            logins: LoginGuard::new(clock),
            bytes: Arc::new(Semaphore::new(bytes)),
        }
    }

    /// Lets a connection hold `bytes` in all; false when others hold too much.
    pub(crate) fn hold(&self, held: &mut HeldBytes, bytes: usize) -> bool {
        let already = held.shared.as_ref().map_or(0, |it| it.num_permits());
        let more = bytes
            .saturating_sub(BYTES_OF_ITS_OWN)
            .saturating_sub(already);
        if more == 0 {
            return true;
        }
        let Ok(more) = u32::try_from(more) else {
            return false;
        };
        let Ok(permit) = Arc::clone(&self.bytes).try_acquire_many_owned(more) else {
            return false;
        };
        match &mut held.shared {
            Some(shared) => shared.merge(permit),
            None => held.shared = Some(permit),
        }
        true
    }
}

/// More than ordinary clients need: no flood of large CONNECT packets keeps them out.
const BYTES_OF_ITS_OWN: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_packets_share_a_budget_and_small_ones_need_none() {
        let limits = Limits {
            connecting_bytes_max: 10_000,
            ..Limits::default()
        };
        let room = WaitingRoom::new(&limits, Clock::start());
        let (mut first, mut second) = (HeldBytes::default(), HeldBytes::default());
        assert!(room.hold(&mut first, 8_192));
        assert!(room.hold(&mut first, 14_096));
        assert!(!room.hold(&mut first, 14_097));
        assert!(room.hold(&mut second, 4_096));
        assert!(!room.hold(&mut second, 4_097));
        drop(first);
        assert!(room.hold(&mut second, 14_096));
    }
}
