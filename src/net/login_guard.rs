//! Who has failed to log in too often, and which client ids connect too often.
//!
//! Owns three bounded tables for the whole broker. What is counted is forgotten after the time of a
//! ban, so nothing has to be undone by hand.

use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::{Equivalent, HashMap};
use parking_lot::Mutex;

use super::peer_limits::network_of;
use crate::clock::Clock;
use crate::config::Limits;

/// Counts of failures and connects; a limit of 0 counts nothing.
pub(crate) struct LoginGuard {
    clock: Clock,
    /// By network, as in limits by peer.
    addresses: Mutex<Tally<IpAddr>>,
    users: Mutex<Tally<Box<str>>>,
    clients: Mutex<Tally<Box<str>>>,
}

/// Who is banned by one more failure, and was not before.
#[derive(Debug, Default)]
pub(crate) struct NewBans {
    pub(crate) network: Option<IpAddr>,
    pub(crate) user: bool,
}

/// How often something happened to each key lately.
struct Tally<K> {
    counts: HashMap<K, Count>,
    swept_ms: u64,
}

struct Count {
    events: u32,
    /// When it is forgotten.
    ends_ms: u64,
}

impl LoginGuard {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            addresses: Mutex::default(),
            users: Mutex::default(),
            clients: Mutex::default(),
        }
    }

    /// Whether logins from the address failed too often. This machine is never banned: all clients
    /// of a proxy that tells nothing come from there.
    pub(crate) fn is_address_banned(&self, address: IpAddr, limits: &Limits) -> bool {
        let max = limits.login_failures_per_address_max;
        let now_ms = self.clock.now_ms();
        max > 0
            && !address.to_canonical().is_loopback()
            && self.addresses.lock().has(&network_of(address), max, now_ms)
    }

    /// Whether logins of the user failed too often.
    pub(crate) fn is_user_banned(&self, user_name: &str, limits: &Limits) -> bool {
        let max = limits.login_failures_per_user_max;
        max > 0 && self.users.lock().has(user_name, max, self.clock.now_ms())
    }

    /// How long the next login waits, after those that failed before. This machine waits for no
    /// address, as it is not banned.
    pub(crate) fn delay(
        &self,
        address: Option<IpAddr>,
        user_name: Option<&str>,
        limits: &Limits,
    ) -> Duration {
        let firsts = [
            limits.login_delay_milliseconds_per_address,
            limits.login_delay_milliseconds_per_user,
        ];
        if firsts == [0, 0] {
            return Duration::ZERO;
        }
        let now_ms = self.clock.now_ms();
        let address = address.filter(|it| !it.to_canonical().is_loopback());
        let of_address = address.map_or(0, |address| {
            self.addresses.lock().count(&network_of(address), now_ms)
        });
        let of_user = user_name.map_or(0, |it| self.users.lock().count(it, now_ms));
        let wait = |(first, failures): (u32, u32)| match failures {
            0 => 0,
            failures => u64::from(first) << (failures - 1).min(DOUBLINGS_MAX),
        };
        let waits = firsts.into_iter().zip([of_address, of_user]);
        let longest = waits.map(wait).max().unwrap_or(0);
        Duration::from_millis(longest.min(limits.login_delay_milliseconds_max.into()))
    }

    /// Counts a login that failed; answers who is banned from now on.
    pub(crate) fn failed(
        &self,
        address: Option<IpAddr>,
        user_name: &str,
        limits: &Limits,
    ) -> NewBans {
        let mut bans = NewBans::default();
        let now_ms = self.clock.now_ms();
        let ends_ms = now_ms + u64::from(limits.login_ban_seconds) * 1_000;
        if let Some(address) = address.filter(|_| counts_addresses(limits)) {
            let network = network_of(address);
            let failures = self.addresses.lock().add(network, now_ms, ends_ms);
            let is_banned = failures == limits.login_failures_per_address_max
                && !address.to_canonical().is_loopback();
            bans.network = Some(network).filter(|_| is_banned);
        }
        if limits.login_failures_per_user_max > 0 || limits.login_delay_milliseconds_per_user > 0 {
            let failures = self.users.lock().add(user_name.into(), now_ms, ends_ms);
            bans.user = failures == limits.login_failures_per_user_max;
        }
        bans
    }

    /// Counts a connect of a user's client id; false if there were too many within a minute.
    /// The client is told by its mount point and client id.
    pub(crate) fn may_connect(
        &self,
        user: Option<&str>,
        client: (Option<&str>, &str),
        limits: &Limits,
    ) -> bool {
        let max = limits.connects_per_minute_per_client_max;
        if max == 0 {
            return true;
        }
        // Of the user's own, so that nobody keeps others from their client id.
        let (mount_point, client_id) = client;
        let owner = (user.unwrap_or_default(), mount_point.unwrap_or_default());
        let key = format!("{}\0{}\0{client_id}", owner.0, owner.1);
        let now_ms = self.clock.now_ms();
        let mut clients = self.clients.lock();
        let is_allowed = !clients.has(key.as_str(), max, now_ms);
        if is_allowed {
            clients.add(key.into(), now_ms, now_ms + MINUTE_MS);
        }
        is_allowed
    }
}

fn counts_addresses(limits: &Limits) -> bool {
    limits.login_failures_per_address_max > 0 || limits.login_delay_milliseconds_per_address > 0
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self {
            counts: HashMap::new(),
            swept_ms: 0,
        }
    }
}

impl<K: Hash + Eq> Tally<K> {
    fn has<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q, max: u32, now_ms: u64) -> bool {
        self.count(key, now_ms) >= max
    }

    fn count<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q, now_ms: u64) -> u32 {
        let count = self.counts.get(key).filter(|it| it.ends_ms > now_ms);
        count.map_or(0, |it| it.events)
    }

    /// Counts once more, and answers how often it was; the time of a key runs from its first event.
    fn add(&mut self, key: K, now_ms: u64, ends_ms: u64) -> u32 {
        if self.counts.len() >= ENTRIES_MAX && now_ms >= self.swept_ms + SWEEP_MS {
            self.swept_ms = now_ms;
            self.counts.retain(|_, it| it.ends_ms > now_ms);
        }
        if self.counts.len() >= ENTRIES_MAX && !self.counts.contains_key(&key) {
            return 0;
        }
        let new = || Count { events: 0, ends_ms };
        let count = self.counts.entry(key).or_insert_with(new);
        if count.ends_ms <= now_ms {
            *count = new();
        }
        count.events = count.events.saturating_add(1);
        count.events
    }
}

/// Any longer wait is beyond every limit.
const DOUBLINGS_MAX: u32 = 16;
const MINUTE_MS: u64 = 60_000;
/// Keys remembered in one table; a full one looks for old entries at most once a second.
const ENTRIES_MAX: usize = 65_536;
const SWEEP_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_over_its_limit_until_its_time_ends() {
        let mut tally = Tally::<Box<str>>::default();
        for now_ms in 0..3 {
            assert!(!tally.has("a", 3, now_ms));
            tally.add("a".into(), now_ms, now_ms + 100);
        }
        assert!(tally.has("a", 3, 99));
        assert!(!tally.has("b", 3, 99));
        assert!(!tally.has("a", 3, 100));
        tally.add("a".into(), 100, 200);
        assert!(!tally.has("a", 3, 101));
    }

    #[test]
    fn the_table_is_bounded_and_old_keys_make_room() {
        let mut tally = Tally::default();
        for key in 0..ENTRIES_MAX * 2 {
            tally.add(key, 0, 10);
        }
        assert_eq!(tally.counts.len(), ENTRIES_MAX);
        tally.add(usize::MAX, 5_000, 6_000);
        assert_eq!(tally.counts.len(), 1);
    }
}
