//! What a client wants to do with a topic.

use std::fmt;

use crate::config::AclAction;

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message.
    Publish,
    /// Make a subscription.
    Subscribe,
    /// Be sent a message.
    Receive,
    /// Leave a will.
    Will,
    /// Send a message with RETAIN, which replaces or clears what is kept.
    Retain,
    /// Make a shared subscription.
    Share,
}

impl Action {
    /// The word for it in rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Receive => "receive",
            Self::Will => "will",
            Self::Retain => "retain",
            Self::Share => "share",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The actions that a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Actions(u8);

impl Actions {
    pub(super) const READ: Self = Self::of(&[Action::Subscribe, Action::Receive, Action::Share]);
    pub(super) const WRITE: Self = Self::of(&[Action::Publish, Action::Will, Action::Retain]);
    pub(super) const ALL: Self = Self(Self::READ.0 | Self::WRITE.0);

    const fn of(actions: &[Action]) -> Self {
        let mut bits = 0;
        let mut rest = actions;
        while let [first, others @ ..] = rest {
            bits |= 1 << (*first as u8);
            rest = others;
        }
        Self(bits)
    }

    pub(super) fn of_words(words: &[AclAction]) -> Self {
        let bits = words.iter().map(|word| match word {
            AclAction::All => Self::ALL,
            AclAction::Read => Self::READ,
            AclAction::Write => Self::WRITE,
            AclAction::Publish => Self::of(&[Action::Publish]),
            AclAction::Subscribe => Self::of(&[Action::Subscribe]),
            AclAction::Receive => Self::of(&[Action::Receive]),
            AclAction::Will => Self::of(&[Action::Will]),
            AclAction::Retain => Self::of(&[Action::Retain]),
            AclAction::Share => Self::of(&[Action::Share]),
        });
        Self(bits.fold(0, |all, one| all | one.0))
    }

    pub(super) fn has(self, action: Action) -> bool {
        self.0 & (1 << (action as u8)) != 0
    }
}
