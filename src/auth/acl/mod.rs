//! Who may do what: rules, compiled for each client into [`Rights`].
//!
//! Owns the rules of the configuration and of the ACL file. A client's rights are made once, with
//! its CONNECT or when the rules change; to ask them is pure, takes no lock and never waits.

mod action;
mod file;
mod own;
mod pattern;
mod rights;
mod rule;
mod rule_set;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

pub use action::Action;
pub use file::{AclFileError, AclLineError};
pub use own::{OwnRulesError, own_rules};
pub use pattern::PatternError;
pub use rights::{Decision, Rights, Subject};
pub use rule::{Effect, Rule};

use crate::config::{self, AclRule, WideSubscriptions};
use action::Actions;
use pattern::Pattern;
use rights::{Grant, Rules};
use rule::{RuleOrigin, Who};
use rule_set::{Reach, RuleSet};

/// All rules, in the order in which they decide.
#[derive(Debug, Default)]
pub struct Acl {
    /// `None`: nobody wrote rules, and everything is allowed.
    rules: Option<Box<[Rule]>>,
    /// Rules about certain users alone, ascending.
    by_user: HashMap<Box<str>, Vec<u32>>,
    /// All other rules, ascending.
    others: Vec<u32>,
    superusers: HashSet<Box<str>>,
    reach: Option<Reach>,
    /// Clients that are subject to the same rules share their set.
    sets: Mutex<HashMap<Box<[u32]>, Weak<RuleSet>>>,
}

/// Why rules are refused.
#[derive(Debug, thiserror::Error)]
pub enum AclError {
    /// The ACL file.
    #[error(transparent)]
    File(#[from] AclFileError),
    /// An entry of the configuration.
    #[error("acl.rules.{number}: {topic:?}: {problem}")]
    Rule {
        /// Counted from 0, as in the paths of keys.
        number: usize,
        /// The filter.
        topic: String,
        /// What is wrong with it.
        problem: PatternError,
    },
    /// A rule names a group that is not there.
    #[error("acl.rules.{number}: unknown group {group:?}: list it in acl.groups")]
    Group {
        /// Counted from 0, as in the paths of keys.
        number: usize,
        /// The name.
        group: String,
    },
}

impl Acl {
    /// The rules of the configuration, then those of its ACL file.
    ///
    /// # Errors
    /// The file cannot be read or has no rule; a rule cannot be used.
    pub fn load(config: &config::Acl) -> Result<Self, AclError> {
        let mut rules = Vec::new();
        for (number, rule) in config.rules.iter().enumerate() {
            compile(config, number, rule, &mut rules)?;
        }
        if let Some(path) = &config.file {
            rules.extend(file::read(path)?);
        }
        let is_open = config.rules.is_empty() && config.file.is_none();
        let mut this = Self::of(rules);
        if is_open {
            this.rules = None;
        }
        this.superusers = config
            .superusers
            .iter()
            .map(|it| it.as_str().into())
            .collect();
        this.reach = Some(match config.wide_subscriptions {
            WideSubscriptions::Filter => Reach::Part,
            WideSubscriptions::Refuse => Reach::Whole,
        });
        Ok(this)
    }

    fn of(rules: Vec<Rule>) -> Self {
        let mut this = Self::default();
        for (number, rule) in (0u32..).zip(&rules) {
            // Groups may come with an identity, so their rules are not found by user.
            if rule.who.users.is_empty() || !rule.who.groups.is_empty() {
                this.others.push(number);
                continue;
            }
            for user in &rule.who.users {
                let numbers = this.by_user.entry_ref(&**user).or_default();
                if numbers.last() != Some(&number) {
                    numbers.push(number);
                }
            }
        }
        this.rules = Some(rules.into());
        this
    }

    /// What a client may do.
    pub fn rights(&self, subject: Subject) -> Rights {
        let user_name = subject.user_name.as_deref();
        let is_superuser = |it| self.superusers.contains(it);
        if subject.is_superuser || user_name.is_some_and(is_superuser) {
            return Rights::everything(subject);
        }
        let own = subject.own_rules.clone();
        let rules = match (&self.rules, &own) {
            (None, None) => return Rights::everything(subject),
            (rules, _) => rules.as_deref().unwrap_or_default(),
        };
        let of_user = user_name.and_then(|it| self.by_user.get(it));
        let mut numbers: Vec<u32> = of_user.into_iter().flatten().copied().collect();
        numbers.extend(&self.others);
        numbers.sort_unstable();
        numbers.retain(|number| {
            let rule = rules.get(*number as usize);
            rule.is_some_and(|rule| rule.who.has(&subject))
        });
        let grant = Grant::Rules(Rules {
            set: match own {
                Some(own) => Arc::new(RuleSet::with_own(&own, rules, &numbers)),
                None => self.set_of(rules, &numbers),
            },
            reach: self.reach.unwrap_or(Reach::Whole),
        });
        Rights::new(subject, grant)
    }

    /// Whether a client may do this with the topic; who asks more than once keeps the rights.
    pub fn allows(&self, subject: &Subject, action: Action, topic: &str) -> bool {
        self.rights(subject.clone()).allows(action, topic)
    }

    /// Whether there are rules at all.
    pub fn has_rules(&self) -> bool {
        self.rules.is_some()
    }

    /// Whether both decide the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.rules == other.rules
            && self.superusers == other.superusers
            && self.reach == other.reach
    }

    /// How many rules there are; each topic of an entry counts.
    pub fn rule_count(&self) -> usize {
        self.rules.as_deref().map_or(0, <[Rule]>::len)
    }

    /// A rule by its number in a [`Decision`].
    pub fn rule(&self, number: u32) -> Option<&Rule> {
        self.rules.as_deref()?.get(number as usize)
    }

    fn set_of(&self, rules: &[Rule], numbers: &[u32]) -> Arc<RuleSet> {
        let mut sets = self.sets.lock();
        if let Some(set) = sets.get(numbers).and_then(Weak::upgrade) {
            return set;
        }
        if sets.len() >= SETS_SWEPT_AT && sets.len() == sets.capacity() {
            sets.retain(|_, set| set.strong_count() > 0);
        }
        let set = Arc::new(RuleSet::new(rules, numbers));
        sets.insert(numbers.into(), Arc::downgrade(&set));
        set
    }
}

/// One rule for each topic of an entry.
fn compile(
    config: &config::Acl,
    number: usize,
    rule: &AclRule,
    rules: &mut Vec<Rule>,
) -> Result<(), AclError> {
    let boxed = |names: &[String]| names.iter().map(|it| it.as_str().into()).collect();
    let mut users: Vec<Box<str>> = boxed(&rule.users);
    for name in &rule.groups {
        let group = config.groups.iter().find(|group| group.name == *name);
        let Some(group) = group else {
            let group = name.clone();
            return Err(AclError::Group { number, group });
        };
        users.extend(group.members.iter().map(|it| Box::from(it.as_str())));
    }
    for topic in &rule.topics {
        let pattern = Pattern::parse(topic).map_err(|problem| AclError::Rule {
            number,
            topic: topic.clone(),
            problem,
        })?;
        rules.push(Rule {
            effect: rule.effect,
            who: Who {
                users: users.clone(),
                groups: boxed(&rule.groups),
                clients: boxed(&rule.clients),
                certificates: boxed(&rule.certificates),
                addresses: rule.addresses.clone(),
                is_anonymous: rule.anonymous,
            },
            actions: Actions::of_words(&rule.actions),
            pattern,
            origin: RuleOrigin::Key(number),
        });
    }
    Ok(())
}

/// Below this, sets without clients are not worth looking for.
const SETS_SWEPT_AT: usize = 1_024;
