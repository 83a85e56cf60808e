//! The checks of a login, with what they need at hand.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::enhanced::EnhancedAuthentication;
use super::hashing::{HashingPool, Job};
use super::password_file::PasswordFile;
use crate::config::{Auth, Limits};

/// Checks logins against the password file, if there is one.
#[derive(Debug, Default)]
pub struct Authenticator {
    users: Option<Arc<PasswordFile>>,
    pool: Option<Arc<HashingPool>>,
}

/// More logins wait than are allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many logins wait for their password to be checked")]
pub struct Busy;

impl Authenticator {
    /// With the users of a password file. The threads of `before` go on, if it has any.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        users: Option<PasswordFile>,
        auth: &Auth,
        limits: &Limits,
        before: Option<&Self>,
    ) -> io::Result<Self> {
        let mut pool = before.and_then(|it| it.pool.clone());
        if users.is_some() && pool.is_none() {
            let started = HashingPool::start(auth.hashing_threads, limits.logins_waiting_max)?;
            pool = Some(Arc::new(started));
        }
        Ok(Self {
            users: users.map(Arc::new),
            pool,
        })
    }

    /// Whose password is checked, if any.
    pub fn users(&self) -> Option<&Arc<PasswordFile>> {
        self.users.as_ref()
    }

    /// Begins the check of a password; the verdict comes later. `None` if there is nothing to check
    /// it against.
    ///
    /// # Errors
    /// Too many wait already.
    pub fn check_password(
        &self,
        user_name: &str,
        password: &[u8],
    ) -> Option<Result<oneshot::Receiver<bool>, Busy>> {
        let (users, pool) = (self.users.as_ref()?, self.pool.as_ref()?);
        let (verdict, receiver) = oneshot::channel();
        let job = Job {
            users: Arc::clone(users),
            user_name: user_name.to_owned(),
            password: password.to_owned(),
            verdict,
        };
        Some(pool.submit(job).map(|()| receiver).map_err(|_| Busy))
    }

    /// Begins enhanced authentication; `None` if nobody can log in by it. `secret` is random.
    pub fn enhanced(&self, secret: [u8; 32]) -> Option<EnhancedAuthentication> {
        let users = self.users.as_ref()?;
        users
            .has_verifiers()
            .then(|| EnhancedAuthentication::new(Arc::clone(users), secret))
    }
}
