//! What one client may do.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::action::Action;
use super::pattern::{Names, can_be_level};
use super::rule::{Effect, Rule};
use super::rule_set::{Reach, RuleSet, Verdict};

/// Everything about a client that rules ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Proved with the CONNECT; `None` for anonymous clients.
    pub user_name: Option<Arc<str>>,
    /// Whether the user name was proved by the password file.
    pub has_password: bool,
    /// What the password file had of the user then; `None` if that is not known any more.
    pub password_mark: Option<u64>,
    /// As in CONNECT, or assigned.
    pub client_id: Arc<str>,
    /// Name in the certificate that the client showed.
    pub certificate: Option<Arc<str>>,
    /// Groups that the proof of the identity itself names.
    pub groups: Arc<[Box<str>]>,
    /// The namespace it lives in, if there is one.
    pub namespace: Option<Arc<str>>,
    /// Where the client is; `None` for unix sockets.
    pub address: Option<IpAddr>,
    /// Rules that the proof itself names: they come before all others.
    pub own_rules: Option<Arc<[Rule]>>,
    /// Whether the proof says that no rule concerns the client.
    pub is_superuser: bool,
}

/// What one client may do: a plain value that never waits and never fails.
#[derive(Clone)]
pub struct Rights {
    subject: Subject,
    grant: Grant,
    is_provisional: bool,
}

#[derive(Clone)]
pub(super) enum Grant {
    /// There are no rules, or the client is a superuser.
    Everything,
    Nothing,
    Rules(Rules),
}

#[derive(Clone)]
pub(super) struct Rules {
    pub(super) set: Arc<RuleSet>,
    pub(super) reach: Reach,
}

/// What decides about one action, for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There are no rules, or the client is a superuser.
    Everything,
    /// No rule matches: denied.
    NoRule,
    /// The rule with this number, and what it says.
    Rule(Effect, u32),
}

impl Decision {
    /// Whether the action is allowed.
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Everything | Self::Rule(Effect::Allow, _))
    }

    fn of(verdict: Option<Verdict>) -> Self {
        verdict.map_or(Self::NoRule, |it| Self::Rule(it.effect, it.number))
    }
}

impl Rights {
    pub(super) fn new(subject: Subject, grant: Grant) -> Self {
        Self {
            subject,
            grant,
            is_provisional: false,
        }
    }

    /// For a session of an earlier process: what it may do is known once its client comes back and
    /// shows its certificate and address. Until then nothing leaves the session.
    pub fn provisional(subject: Subject) -> Self {
        Self {
            is_provisional: true,
            ..Self::everything(subject)
        }
    }

    /// Whether they hold until the client comes back only.
    pub fn is_provisional(&self) -> bool {
        self.is_provisional
    }

    /// The rights of a client that may do everything.
    pub fn everything(subject: Subject) -> Self {
        Self::new(subject, Grant::Everything)
    }

    /// The rights of a client that may do nothing.
    pub fn nothing(subject: Subject) -> Self {
        Self::new(subject, Grant::Nothing)
    }

    /// Whose rights they are.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether no rule concerns the client.
    pub fn is_everything(&self) -> bool {
        matches!(self.grant, Grant::Everything)
    }

    /// Whether the client may do this with the topic.
    pub fn allows(&self, action: Action, topic: &str) -> bool {
        match &self.grant {
            Grant::Everything => true,
            Grant::Nothing => false,
            Grant::Rules(rules) => rules
                .set
                .decide(action, topic, self.names())
                .is_some_and(|verdict| verdict.effect == Effect::Allow),
        }
    }

    /// Whether the client may subscribe to the filter, or share it.
    pub fn allows_filter(&self, action: Action, filter: &str) -> bool {
        self.explain(action, filter).is_allowed()
    }

    /// Whether the client may receive every topic of the filter.
    pub fn receives_all(&self, filter: &str) -> bool {
        match &self.grant {
            Grant::Everything => true,
            Grant::Nothing => false,
            Grant::Rules(rules) => rules.set.allows_all(Action::Receive, filter, self.names()),
        }
    }

    /// Whether the same is allowed to both.
    pub fn are_same(&self, other: &Self) -> bool {
        match (&self.grant, &other.grant) {
            (Grant::Everything, Grant::Everything) | (Grant::Nothing, Grant::Nothing) => true,
            (Grant::Rules(one), Grant::Rules(another)) => {
                let (mine, theirs) = (&self.subject, &other.subject);
                Arc::ptr_eq(&one.set, &another.set)
                    && mine.user_name == theirs.user_name
                    && mine.client_id == theirs.client_id
            }
            _ => false,
        }
    }

    /// What decides about a topic, or about the filter of a subscription.
    pub fn explain(&self, action: Action, filter: &str) -> Decision {
        let rules = match &self.grant {
            Grant::Everything => return Decision::Everything,
            Grant::Nothing => return Decision::NoRule,
            Grant::Rules(rules) => rules,
        };
        Decision::of(if filter.contains(['+', '#']) {
            rules
                .set
                .decide_filter(action, filter, self.names(), rules.reach)
        } else {
            rules.set.decide(action, filter, self.names())
        })
    }

    #[cfg(test)]
    pub(super) fn shared_set(&self) -> Option<Arc<RuleSet>> {
        match &self.grant {
            Grant::Rules(rules) => Some(Arc::clone(&rules.set)),
            Grant::Everything | Grant::Nothing => None,
        }
    }

    fn names(&self) -> Names<'_> {
        let level = |name: &Arc<str>| can_be_level(name);
        Names {
            user: self
                .subject
                .user_name
                .as_ref()
                .filter(|it| level(it))
                .map(|it| &**it),
            client: Some(&self.subject.client_id)
                .filter(|it| level(it))
                .map(|it| &**it),
        }
    }
}

impl PartialEq for Rights {
    fn eq(&self, other: &Self) -> bool {
        self.are_same(other)
    }
}

impl Eq for Rights {}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grant = match self.grant {
            Grant::Everything => "everything",
            Grant::Nothing => "nothing",
            Grant::Rules(_) => "by rules",
        };
        write!(f, "Rights({:?}: {grant})", self.subject.client_id)
    }
}
