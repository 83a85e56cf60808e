//! The checks of a login, with what they need at hand.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::credentials::{Credentials, Denial, Proof, Verdict};
use super::enhanced::EnhancedAuthentication;
use super::http::HttpBackEnd;
use super::identity::Ground;
use super::jwt::{TokenError, Tokens};
use super::namespace::Namespaces;
use super::password_file::PasswordFile;
use super::workers::{Job, Workers};
use crate::clock::Clock;
use crate::config::{Auth, Authentication, Limits, TokenPlace};

/// Checks logins in every way that is set up.
#[derive(Debug)]
pub struct Authenticator {
    known: Known,
    namespaces: Namespaces,
    clock: Clock,
    hashing: Option<Arc<Workers>>,
    /// Threads of their own: a slow server keeps no password waiting.
    asking: Option<Arc<Workers>>,
    /// For tokens whose keys a server publishes.
    fetching: Option<Arc<Workers>>,
}

/// What logins are checked against.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The users of the password file, if there is one.
    pub users: Option<Arc<PasswordFile>>,
    /// The keys of tokens, if there are any.
    pub tokens: Option<Arc<Tokens>>,
    /// The server that is asked, if there is one.
    pub http: Option<Arc<HttpBackEnd>>,
}

/// More logins wait than are allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many logins wait to be checked")]
pub struct Busy;

impl Authenticator {
    /// The threads of `before` go on, if it has any.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        known: Known,
        auth: &Auth,
        limits: &Limits,
        clock: Clock,
        before: Option<&Self>,
    ) -> io::Result<Self> {
        let threads = |before: Option<&Arc<Workers>>, count, is_used| match before {
            Some(threads) => Ok(Some(Arc::clone(threads))),
            None if is_used => {
                Workers::start(count, limits.logins_waiting_max).map(|it| Some(Arc::new(it)))
            }
            None => Ok::<_, io::Error>(None),
        };
        let hashing = before.and_then(|it| it.hashing.as_ref());
        let asking = before.and_then(|it| it.asking.as_ref());
        let fetching = before.and_then(|it| it.fetching.as_ref());
        let is_hashing = known.users.is_some() || known.tokens.is_some();
        Ok(Self {
            namespaces: Namespaces::new(&auth.namespaces, before.map(Self::namespaces)),
            clock,
            hashing: threads(hashing, auth.hashing_threads, is_hashing)?,
            asking: threads(asking, auth.http.requests_max, known.http.is_some())?,
            fetching: threads(fetching, TOKEN_THREADS, auth.jwt.jwks_url.is_some())?,
            known,
        })
    }

    /// The namespaces of clients.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// The keys of tokens, if there are any.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.known.tokens.as_deref()
    }

    /// Whose password is checked, if any.
    pub fn users(&self) -> Option<&Arc<PasswordFile>> {
        self.known.users.as_ref()
    }

    /// Whether a way is set up.
    pub fn has(&self, way: Authentication) -> bool {
        match way {
            Authentication::Password => self.known.users.is_some(),
            Authentication::Jwt => self.known.tokens.is_some(),
            Authentication::Http => self.known.http.is_some(),
        }
    }

    /// Whether what a login rests on is still there; what the connection itself shows is for others
    /// to ask about.
    pub fn still_has(&self, ground: Ground) -> bool {
        match (ground, ground.way()) {
            (Ground::Token(mark), _) => self.tokens().is_some_and(|it| it.has_key(mark)),
            (_, way) => way.is_none_or(|way| self.has(way)),
        }
    }

    /// Begins to check credentials in one way; the verdict comes later. `None` if that way is not
    /// set up, or has nothing to look at.
    ///
    /// # Errors
    /// Too many wait already.
    pub fn ask(
        &self,
        way: Authentication,
        credentials: &Arc<Credentials>,
    ) -> Option<Result<oneshot::Receiver<Verdict>, Busy>> {
        let (work, threads) = match way {
            Authentication::Password => (self.password_work(credentials)?, &self.hashing),
            Authentication::Jwt => (self.token_work(credentials)?, self.token_threads()),
            Authentication::Http => (self.question(credentials)?, &self.asking),
        };
        let (verdict, receiver) = oneshot::channel();
        let job = Job { work, verdict };
        let submitted = threads.as_ref()?.submit(job);
        Some(submitted.map(|()| receiver).map_err(|_| Busy))
    }

    fn token_threads(&self) -> &Option<Arc<Workers>> {
        let is_remote = self
            .tokens()
            .is_some_and(|it| it.config().jwks_url.is_some());
        if is_remote {
            &self.fetching
        } else {
            &self.hashing
        }
    }

    fn password_work(&self, credentials: &Arc<Credentials>) -> Option<Work> {
        credentials.user_name.as_ref()?;
        let users = Arc::clone(self.known.users.as_ref()?);
        let credentials = Arc::clone(credentials);
        Some(Box::new(move || check_password(&users, &credentials)))
    }

    fn token_work(&self, credentials: &Arc<Credentials>) -> Option<Work> {
        let tokens = Arc::clone(self.known.tokens.as_ref()?);
        token_in(tokens.config().token_in, credentials).filter(|it| Tokens::is_token(it))?;
        let (credentials, clock) = (Arc::clone(credentials), self.clock);
        Some(Box::new(move || check_token(&tokens, &credentials, clock)))
    }

    fn question(&self, credentials: &Arc<Credentials>) -> Option<Work> {
        let http = Arc::clone(self.known.http.as_ref()?);
        let credentials = Arc::clone(credentials);
        Some(Box::new(move || http.check(&credentials)))
    }

    /// Begins enhanced authentication; `None` if nobody can log in by it. `secret` is random.
    pub fn enhanced(&self, secret: [u8; 32]) -> Option<EnhancedAuthentication> {
        let users = self.known.users.as_ref()?;
        users
            .has_verifiers()
            .then(|| EnhancedAuthentication::new(Arc::clone(users), secret))
    }
}

/// A check, to be made on another thread.
type Work = Box<dyn FnOnce() -> Verdict + Send>;

fn check_password(users: &PasswordFile, credentials: &Credentials) -> Verdict {
    let user_name = credentials.user_name.as_deref().unwrap_or_default();
    let password = credentials.password.as_ref();
    let password = password.map_or(&[][..], |it| it.as_slice());
    // Before anything else, and for unknown users as well: time tells nobody who exists.
    if users.has(user_name, password) {
        return Verdict::Allowed(Box::new(Proof {
            ground: Ground::Password,
            user_name: Some(user_name.into()),
            password_mark: users.mark(user_name),
            ..Proof::default()
        }));
    }
    if users.knows(user_name) {
        Verdict::Denied(Denial::Password)
    } else {
        Verdict::Ignored
    }
}

fn token_in(place: TokenPlace, credentials: &Credentials) -> Option<&[u8]> {
    match place {
        TokenPlace::Password => credentials.password.as_ref().map(|it| it.as_slice()),
        TokenPlace::UserName => credentials.user_name.as_deref().map(str::as_bytes),
    }
}

/// One may wait for keys while the other goes on with those that are there.
const TOKEN_THREADS: u16 = 2;

fn check_token(tokens: &Tokens, credentials: &Credentials, clock: Clock) -> Verdict {
    let Some(token) = token_in(tokens.config().token_in, credentials) else {
        return Verdict::Ignored;
    };
    let (unix_ms, now_ms) = (clock.calendar_unix_ms(), clock.now_ms());
    let claimed = match tokens.config().token_in {
        // Before MQTT 5.0 a password comes with a user name, be it empty.
        TokenPlace::Password => credentials.user_name.as_deref().filter(|it| !it.is_empty()),
        TokenPlace::UserName => None,
    };
    match tokens.check(token, &credentials.client_id, unix_ms) {
        Ok(claims) if claimed.is_some_and(|it| *it != *claims.user_name) => {
            Verdict::Denied(TokenError::OtherUserName.into())
        }
        Ok(claims) => Verdict::Allowed(Box::new(Proof {
            ground: Ground::Token(claims.key_mark),
            user_name: Some(claims.user_name),
            client_id: claims.client_id,
            groups: claims.groups,
            namespace: claims.namespace,
            own_rules: claims.rules,
            expires_at_ms: claims
                .expires_unix_ms
                .map(|it| now_ms.saturating_add(it.saturating_sub(unix_ms))),
            ..Proof::default()
        })),
        Err(error) => Verdict::Denied(error.into()),
    }
}
