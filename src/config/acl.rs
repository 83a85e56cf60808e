//! Who may do what.

use std::path::PathBuf;

use super::Network;

/// Who may do what; without rules and without a file, everyone may do everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// Rules in mosquitto's format; they come after [`Acl::rules`].
    pub file: Option<PathBuf>,
    /// Users whom no rule concerns.
    pub superusers: Vec<String>,
    /// What becomes of a subscription that is wider than the rights.
    pub wide_subscriptions: WideSubscriptions,
    /// Users under one name.
    pub groups: Vec<AclGroup>,
    /// The first that matches decides.
    pub rules: Vec<AclRule>,
}

/// Users under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclGroup {
    /// What rules call it.
    pub name: String,
    /// User names.
    pub members: Vec<String>,
}

/// One rule: every list that is not empty has to hold the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclRule {
    /// What it decides.
    pub effect: AclEffect,
    /// User names.
    pub users: Vec<String>,
    /// Names of [`Acl::groups`]; together with `users`.
    pub groups: Vec<String>,
    /// Client ids.
    pub clients: Vec<String>,
    /// Names in client certificates.
    pub certificates: Vec<String>,
    /// Where clients are.
    pub addresses: Vec<Network>,
    /// Whether it is about clients without a user name alone.
    pub anonymous: bool,
    /// What clients want to do.
    pub actions: Vec<AclAction>,
    /// Topic filters, with `%u` and `%c` as whole levels.
    pub topics: Vec<String>,
}

/// What a rule decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AclEffect {
    /// The action is allowed.
    #[default]
    Allow,
    /// The action is refused.
    Deny,
}

/// What a client wants to do, in the words of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclAction {
    /// Everything.
    All,
    /// Subscribe, receive and share.
    Read,
    /// Publish, will and retain.
    Write,
    /// Send a message.
    Publish,
    /// Make a subscription.
    Subscribe,
    /// Be sent a message.
    Receive,
    /// Leave a will.
    Will,
    /// Send a message with RETAIN.
    Retain,
    /// Make a shared subscription.
    Share,
}

impl AclAction {
    /// The action that a rule means by a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "all" => Self::All,
            "read" => Self::Read,
            "write" => Self::Write,
            "publish" => Self::Publish,
            "subscribe" => Self::Subscribe,
            "receive" => Self::Receive,
            "will" => Self::Will,
            "retain" => Self::Retain,
            "share" => Self::Share,
            _ => return None,
        })
    }
}

/// What becomes of a subscription that is wider than the rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WideSubscriptions {
    /// It is made, and receives what the client has a right to.
    #[default]
    Filter,
    /// It is refused.
    Refuse,
}
