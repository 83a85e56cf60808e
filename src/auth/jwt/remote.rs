//! Keys that a server publishes: fetched where logins are checked, kept, and fetched again when
//! they are old or do not fit a token.
//!
//! Asking lasts as long as the time limit, so it happens on the threads of tokens, never on a
//! shard. One asks at a time, and not more often than the configuration says.

use std::sync::Arc;

use parking_lot::Mutex;
use ureq::Agent;

use super::key::Key;
use super::key_file::keys_of_set;
use crate::auth::web::{AuthoritiesError, agent, body_of};
use crate::clock::Clock;
use crate::config::{Jwt, masked_url};

/// A JSON Web Key Set at a URL.
pub(super) struct RemoteKeys {
    url: String,
    agent: Agent,
    clock: Clock,
    refresh_ms: u64,
    retry_ms: u64,
    keep_ms: u64,
    cached: Mutex<Cached>,
    /// Held by who asks.
    asking: Mutex<()>,
}

/// What the server said last.
#[derive(Clone, Default)]
struct Cached {
    keys: Arc<[Key]>,
    fetched_ms: Option<u64>,
    /// The end of the last try.
    tried_ms: Option<u64>,
}

impl RemoteKeys {
    /// `None` if no URL is configured. What was fetched by `before` from the same URL still counts.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub(super) fn new(
        config: &Jwt,
        clock: Clock,
        before: Option<&Self>,
    ) -> Result<Option<Self>, AuthoritiesError> {
        let Some(url) = config.jwks_url.clone() else {
            return Ok(None);
        };
        let authorities = config.jwks_ca_file.as_deref();
        let before = before.filter(|it| it.url == url);
        Ok(Some(Self {
            url,
            agent: agent(authorities, config.jwks_timeout_milliseconds, 1)?,
            clock,
            refresh_ms: u64::from(config.jwks_refresh_seconds) * 1_000,
            retry_ms: u64::from(config.jwks_retry_seconds) * 1_000,
            keep_ms: u64::from(config.jwks_keep_seconds) * 1_000,
            cached: Mutex::new(
                before
                    .map(|it| it.cached.lock().clone())
                    .unwrap_or_default(),
            ),
            asking: Mutex::default(),
        }))
    }

    /// The keys that count now, fetched again if they are due; `None` if the server has given none
    /// for too long.
    pub(super) fn current(&self) -> Option<Arc<[Key]>> {
        let is_due = |cached: &Cached, now_ms| match cached.fetched_ms {
            Some(fetched_ms) => now_ms >= fetched_ms + self.refresh_ms,
            None => true,
        };
        self.fetch_if(is_due);
        self.believed()
    }

    /// The keys after a look for new ones, since none has signed a token; `None` if it is too early
    /// to look again.
    pub(super) fn newer(&self) -> Option<Arc<[Key]>> {
        let before = self.cached.lock().tried_ms;
        self.fetch_if(|_, _| true);
        let is_newer = self.cached.lock().tried_ms != before;
        self.believed().filter(|_| is_newer)
    }

    /// The keys that count, without asking for them.
    pub(super) fn believed(&self) -> Option<Arc<[Key]>> {
        let now_ms = self.clock.now_ms();
        let cached = self.cached.lock();
        let fetched_ms = cached.fetched_ms?;
        (now_ms < fetched_ms + self.keep_ms).then(|| Arc::clone(&cached.keys))
    }

    /// Asks now, whenever it was tried last.
    ///
    /// # Errors
    /// The server gives no keys; those of before stay.
    pub(super) fn fetch(&self) -> Result<(), String> {
        let _only = self.asking.lock();
        self.ask()
    }

    fn fetch_if(&self, is_due: impl Fn(&Cached, u64) -> bool) {
        let is_wanted = || {
            let (cached, now_ms) = (self.cached.lock(), self.clock.now_ms());
            let is_early = |tried_ms| now_ms < tried_ms + self.retry_ms;
            is_due(&cached, now_ms) && !cached.tried_ms.is_some_and(is_early)
        };
        if !is_wanted() {
            return;
        }
        let _only = self.asking.lock();
        // Who asked meanwhile has asked for this one as well.
        if is_wanted()
            && let Err(error) = self.ask()
        {
            tracing::warn!(
                url = masked_url(&self.url),
                error,
                "the keys of tokens cannot be fetched"
            );
        }
    }

    fn ask(&self) -> Result<(), String> {
        let fetched = self.receive();
        let now_ms = self.clock.now_ms();
        let mut cached = self.cached.lock();
        cached.tried_ms = Some(now_ms);
        cached.keys = fetched?;
        cached.fetched_ms = Some(now_ms);
        Ok(())
    }

    fn receive(&self) -> Result<Arc<[Key]>, String> {
        let request = self
            .agent
            .get(&self.url)
            .header("accept", "application/json");
        let response = request.call().map_err(|it| masked_url(&it.to_string()))?;
        let mut keys = keys_of_set(&body_of(response, SET_BYTES_MAX)?)?;
        // What is published is no secret.
        keys.retain(|key| !key.algorithm.is_hmac());
        if keys.is_empty() {
            return Err("the key set has secrets only".into());
        }
        Ok(keys.into())
    }
}

const SET_BYTES_MAX: u64 = 1 << 20;
