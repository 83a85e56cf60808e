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
    passwords: Option<Passwords>,
}

#[derive(Debug)]
struct Passwords {
    users: Arc<PasswordFile>,
    pool: HashingPool,
}

/// More logins wait than are allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many logins wait for their password to be checked")]
pub struct Busy;

impl Authenticator {
    /// With the users of a password file.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(users: Option<PasswordFile>, auth: &Auth, limits: &Limits) -> io::Result<Self> {
        let Some(users) = users else {
            return Ok(Self::default());
        };
        Ok(Self {
            passwords: Some(Passwords {
                users: Arc::new(users),
                pool: HashingPool::start(auth.hashing_threads, limits.logins_waiting_max)?,
            }),
        })
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
        let Passwords { users, pool } = self.passwords.as_ref()?;
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
        let users = &self.passwords.as_ref()?.users;
        users
            .has_verifiers()
            .then(|| EnhancedAuthentication::new(Arc::clone(users), secret))
    }
}
