//! One rule: whom it is about, what, where, and what it decides.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Subject;
use super::action::Actions;
use super::pattern::Pattern;
pub use crate::config::AclEffect as Effect;
use crate::config::Network;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) effect: Effect,
    pub(super) who: Who,
    pub(super) actions: Actions,
    pub(super) pattern: Pattern,
    pub(super) origin: RuleOrigin,
}

/// Where a rule is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RuleOrigin {
    /// An entry of `acl.rules`, counted from 0 as in the paths of keys.
    Key(usize),
    /// A line of the ACL file, counted from 1.
    Line(Arc<PathBuf>, usize),
    /// The proof of an identity.
    Proof,
}

/// Whom a rule is about: every list that is not empty has to hold the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Who {
    /// Users, those of the groups included.
    pub(super) users: Vec<Box<str>>,
    /// Groups that an identity itself may name.
    pub(super) groups: Vec<Box<str>>,
    pub(super) clients: Vec<Box<str>>,
    pub(super) certificates: Vec<Box<str>>,
    pub(super) addresses: Vec<Network>,
    /// Clients without a user name alone.
    pub(super) is_anonymous: bool,
}

impl Who {
    pub(super) fn has(&self, subject: &Subject) -> bool {
        let is_in = |list: &[Box<str>], name: Option<&str>| {
            list.is_empty() || name.is_some_and(|name| list.iter().any(|it| **it == *name))
        };
        self.has_user(subject)
            && is_in(&self.clients, Some(&subject.client_id))
            && is_in(&self.certificates, subject.certificate.as_deref())
            && (self.addresses.is_empty()
                || subject.address.is_some_and(|address| {
                    self.addresses.iter().any(|network| network.has(address))
                }))
    }

    fn has_user(&self, subject: &Subject) -> bool {
        let user_name = subject.user_name.as_deref();
        if self.is_anonymous && user_name.is_some() {
            return false;
        }
        let in_group = |group: &str| subject.groups.iter().any(|it| **it == *group);
        (self.users.is_empty() && self.groups.is_empty())
            || user_name.is_some_and(|name| self.users.iter().any(|it| **it == *name))
            || self.groups.iter().any(|it| in_group(it))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            RuleOrigin::Key(number) => write!(f, "acl.rules.{number}")?,
            RuleOrigin::Proof => write!(f, "proof of the identity")?,
            RuleOrigin::Line(file, line) => write!(f, "{}:{line}", file.display())?,
        }
        let effect = match self.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        write!(f, " ({effect} {})", self.pattern.text())
    }
}
