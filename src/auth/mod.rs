//! Who a client is, and what it may do.
//!
//! Owns the password file, the keys of tokens, the check of logins on threads of their own, and
//! SCRAM-SHA-256. It refuses to know client connections: a login comes in as text and bytes, and is
//! answered by a verdict.

pub mod acl;
mod authenticator;
mod certificate;
mod credentials;
mod der;
mod enhanced;
mod http;
mod identity;
mod jwt;
mod namespace;
mod password;
mod password_file;
mod scram;
mod validity;
pub(crate) mod web;
mod workers;

pub use authenticator::{Authenticator, Busy, Known};
pub use certificate::name_of as name_of_certificate;
pub use credentials::{Credentials, Denial, Proof, Verdict};
pub use enhanced::{Answer, EnhancedAuthentication, EnhancedError, METHOD};
pub use http::{HttpBackEnd, HttpBackEndError};
pub use identity::{Enhanced, Ground, Identity, may_take_over};
pub use jwt::{Claims, KeyError, TokenError, Tokens};
pub use namespace::{Full, Namespaces};
pub use password::{HashError, PasswordHash};
pub(crate) use password_file::user_of_line;
pub use password_file::{
    LineError, PasswordFile, PasswordFileError, User, UserNameError, check_user_name,
};
pub use scram::{ClientFirst, Exchange, ScramError, ScramVerifier, ScramVerifierError};
pub use validity::{Moment, Validity, next_update};
pub use web::AuthoritiesError;

/// Whether clients may publish to a topic: the broker's own topics and the prefixes that are
/// subscription syntax are not theirs.
pub fn may_publish(topic: &str) -> bool {
    let first = topic.split('/').next().unwrap_or(topic);
    !matches!(
        first,
        "$SYS" | "$share" | "$exclusive" | "$delayed" | "$queue"
    )
}

#[cfg(test)]
mod tests {
    use super::may_publish;

    #[test]
    fn clients_cannot_publish_to_the_brokers_topics() {
        assert!(may_publish("a/b"));
        assert!(may_publish("$other"));
        assert!(!may_publish("$SYS/broker/uptime"));
        assert!(!may_publish("$share/g/a"));
    }
}
