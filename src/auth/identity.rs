//! Who a client has proved to be.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use super::EnhancedAuthentication;
use super::acl::{Rule, Subject};
use crate::config::{Authentication, SessionTakeover};

/// Who a client has proved to be with its CONNECT.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Why the client was let in.
    pub ground: Ground,
    /// `None` for a client that proved nothing.
    pub user_name: Option<Arc<str>>,
    /// What the password file had of the user: another password ends the connection.
    pub password_mark: Option<u64>,
    /// Name in the certificate that the client showed.
    pub certificate: Option<Arc<str>>,
    /// The only client id that it may have, if there is one.
    pub client_id: Option<Arc<str>>,
    /// Groups that the proof itself names.
    pub groups: Arc<[Box<str>]>,
    /// The part of the topics that it lives in, if not in all.
    pub namespace: Option<Arc<str>>,
    /// Where the client is; `None` for unix sockets.
    pub address: Option<IpAddr>,
    /// Rules that the proof itself names.
    pub own_rules: Option<Arc<[Rule]>>,
    /// Whether the proof says that no rule concerns the client.
    pub is_superuser: bool,
    /// When the proof ends, by the broker's clock.
    pub expires_at_ms: Option<u64>,
    /// For a client that named an authentication method.
    pub enhanced: Option<Enhanced>,
}

/// What a login rests on: whether it still holds is asked after each change of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ground {
    /// Nothing was proved: anonymous clients are let in.
    #[default]
    Nothing,
    /// A valid client certificate.
    Certificate,
    /// The user of the process behind a unix socket.
    Process,
    /// A password of the password file.
    Password,
    /// A token, signed with the key of this mark.
    Token(u64),
    /// The answer of the authentication server.
    Server,
}

/// A client that logged in by enhanced authentication.
#[derive(Clone, Debug)]
pub struct Enhanced {
    /// The last word of the exchange, for CONNACK.
    pub last_data: Vec<u8>,
    /// For authentication again on the same connection.
    pub authentication: EnhancedAuthentication,
}

impl Ground {
    /// The way of logging in that it is of; what the connection itself shows is of none.
    pub fn way(self) -> Option<Authentication> {
        match self {
            Self::Nothing | Self::Certificate | Self::Process => None,
            Self::Password => Some(Authentication::Password),
            Self::Token(_) => Some(Authentication::Jwt),
            Self::Server => Some(Authentication::Http),
        }
    }
}

impl Identity {
    /// Whom the rules are asked about.
    pub fn subject(&self, client_id: &Arc<str>) -> Subject {
        Subject {
            user_name: self.user_name.clone(),
            has_password: self.ground == Ground::Password,
            password_mark: self.password_mark,
            client_id: Arc::clone(client_id),
            certificate: self.certificate.clone(),
            groups: Arc::clone(&self.groups),
            namespace: self.namespace.clone(),
            address: self.address,
            own_rules: self.own_rules.clone(),
            is_superuser: self.is_superuser,
        }
    }
}

/// The groups in an array of strings; `None` if it is anything else.
pub(super) fn groups_of(names: &Value) -> Option<Arc<[Box<str>]>> {
    let name = |it: &Value| it.as_str().map(Into::into);
    names.as_array()?.iter().map(name).collect()
}

/// Whether a client may take the session of its client id from who had it last. By user name, and
/// as well by the name in the certificate; `None` for what was not proved.
pub fn may_take_over(rule: SessionTakeover, owner: Option<&str>, newcomer: Option<&str>) -> bool {
    match rule {
        SessionTakeover::Anyone => true,
        SessionTakeover::NotOtherUsers => owner.is_none() || owner == newcomer,
        SessionTakeover::SameUser => owner == newcomer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_decides_who_takes_a_session_over() {
        use SessionTakeover::{Anyone, NotOtherUsers, SameUser};
        for (owner, newcomer, allowed) in [
            (Some("a"), Some("a"), [true, true, true]),
            (Some("a"), Some("b"), [true, false, false]),
            (Some("a"), None, [true, false, false]),
            (None, Some("a"), [true, true, false]),
            (None, None, [true, true, true]),
        ] {
            let found =
                [Anyone, NotOtherUsers, SameUser].map(|rule| may_take_over(rule, owner, newcomer));
            assert_eq!(found, allowed, "{owner:?} {newcomer:?}");
        }
    }
}
