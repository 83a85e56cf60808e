//! What a client shows, and what is found out about it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::acl::Rule;
use super::identity::{Ground, Identity};
use super::jwt::TokenError;

/// What a client shows with its CONNECT.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Empty if one is to be assigned.
    pub client_id: String,
    /// As claimed.
    pub user_name: Option<String>,
    /// Or a token.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// Where the client is; `None` for unix sockets.
    pub address: Option<IpAddr>,
    /// Name in the certificate that the client showed.
    pub certificate: Option<Arc<str>>,
}

/// What one way of authentication says.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The credentials are good.
    Allowed(Box<Proof>),
    /// They are not, whatever others would say.
    Denied(Denial),
    /// They are for others to check.
    Ignored,
}

/// What good credentials prove.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// What it rests on.
    pub ground: Ground,
    /// Who the client is.
    pub user_name: Option<Arc<str>>,
    /// What the password file has of the user.
    pub password_mark: Option<u64>,
    /// The only client id that the client may have, if there is one.
    pub client_id: Option<Arc<str>>,
    /// The groups that it names.
    pub groups: Arc<[Box<str>]>,
    /// The namespace that it names.
    pub namespace: Option<Arc<str>>,
    /// Rules that come before all others.
    pub own_rules: Option<Arc<[Rule]>>,
    /// Whether no rule concerns the client.
    pub is_superuser: bool,
    /// When the proof ends, by the broker's clock.
    pub expires_at_ms: Option<u64>,
}

/// Why credentials are not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// They do not belong together.
    #[error("wrong password")]
    Password,
    /// Nobody can say so far.
    #[error("the authentication server gives no answer: {0}")]
    Unavailable(String),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Proof {
    /// Adds what is proved to what the connection itself shows.
    pub fn apply(self, identity: &mut Identity) {
        identity.ground = self.ground;
        identity.user_name = self.user_name;
        identity.password_mark = self.password_mark;
        identity.client_id = self.client_id.or_else(|| identity.client_id.take());
        identity.groups = self.groups;
        identity.namespace = self.namespace;
        identity.own_rules = self.own_rules;
        identity.is_superuser = self.is_superuser;
        identity.expires_at_ms = self.expires_at_ms;
    }
}

/// Not for logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.client_id)
    }
}
