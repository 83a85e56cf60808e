//! The rules that one kind of client is subject to, by topic.

use hashbrown::HashMap;

use super::action::{Action, Actions};
use super::pattern::{Level, Names, Pattern};
use super::rule::{Effect, Rule};

/// Rules in order, and a trie of their filters that finds the first for a topic.
///
/// # Shape
/// Node 0 of `nodes` is the root. The lists of a node hold places in `rules`, ascending.
#[derive(Debug, Default)]
pub(super) struct RuleSet {
    rules: Box<[SetRule]>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct SetRule {
    effect: Effect,
    actions: Actions,
    pattern: Pattern,
    /// Its place among all rules.
    number: u32,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, u32>,
    one: Option<u32>,
    user: Option<u32>,
    client: Option<u32>,
    ends_here: Vec<u32>,
    ends_in_rest: Vec<u32>,
}

/// What the first rule that matches says, and its place among all rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) effect: Effect,
    pub(super) number: u32,
}

/// When a rule that allows matches the filter of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Only if every topic of the filter is allowed.
    Whole,
    /// If any topic is; deliveries are checked one by one.
    Part,
}

impl RuleSet {
    /// `numbers` says which of all rules, ascending.
    pub(super) fn new(all: &[Rule], numbers: &[u32]) -> Self {
        Self::of(Self::chosen(all, numbers).collect())
    }

    /// Rules of one client alone, then others as in [`RuleSet::new`].
    pub(super) fn with_own(own: &[Rule], all: &[Rule], numbers: &[u32]) -> Self {
        let own = own.iter().map(|rule| SetRule::new(rule, u32::MAX));
        let others = Self::chosen(all, numbers);
        Self::of(own.chain(others).collect())
    }

    fn chosen(all: &[Rule], numbers: &[u32]) -> impl Iterator<Item = SetRule> {
        let rule = |number: &u32| Some(SetRule::new(all.get(*number as usize)?, *number));
        numbers.iter().filter_map(rule)
    }

    fn of(rules: Box<[SetRule]>) -> Self {
        let mut this = Self {
            rules,
            nodes: vec![Node::default()],
        };
        for (place, rule) in (0u32..).zip(&this.rules) {
            insert(&mut this.nodes, rule.pattern.levels(), place);
        }
        this
    }

    /// The first rule about the topic.
    pub(super) fn decide(&self, action: Action, topic: &str, names: Names<'_>) -> Option<Verdict> {
        let mut first = u32::MAX;
        // [MQTT-4.7.2-1]: a leading wildcard does not match a topic that begins with `$`.
        let is_plain = !topic.starts_with('$');
        let mut open = Vec::new();
        let mut next = Some((0, Some(topic)));
        while let Some((at, rest)) = next.take().or_else(|| open.pop()) {
            let Some(node): Option<&Node> = self.nodes.get(at as usize) else {
                break;
            };
            let wildcards_apply = is_plain || at != 0;
            if wildcards_apply {
                self.earlier(&node.ends_in_rest, action, &mut first);
            }
            let Some(rest) = rest else {
                self.earlier(&node.ends_here, action, &mut first);
                continue;
            };
            let (level, after) = match rest.split_once('/') {
                Some((level, after)) => (level, Some(after)),
                None => (rest, None),
            };
            if let Some(child) = node.one
                && wildcards_apply
            {
                open.push((child, after));
            }
            for (child, name) in [(node.user, names.user), (node.client, names.client)] {
                if let Some(child) = child
                    && name == Some(level)
                {
                    open.push((child, after));
                }
            }
            next = node.literals.get(level).map(|child| (*child, after));
        }
        let rule = self.rules.get(first as usize)?;
        Some(rule.verdict())
    }

    /// The first rule about the filter of a subscription. A rule that denies has to deny all of it.
    pub(super) fn decide_filter(
        &self,
        action: Action,
        filter: &str,
        names: Names<'_>,
        reach: Reach,
    ) -> Option<Verdict> {
        let matches = |rule: &&SetRule| {
            rule.actions.has(action)
                && match (rule.effect, reach) {
                    (Effect::Allow, Reach::Part) => rule.pattern.overlaps(filter, names),
                    _ => rule.pattern.covers(filter, names),
                }
        };
        self.rules.iter().find(matches).map(SetRule::verdict)
    }

    /// Whether the action is allowed with every topic of the filter.
    pub(super) fn allows_all(&self, action: Action, filter: &str, names: Names<'_>) -> bool {
        for rule in &self.rules {
            if !rule.actions.has(action) {
                continue;
            }
            match rule.effect {
                Effect::Deny if rule.pattern.overlaps(filter, names) => return false,
                Effect::Allow if rule.pattern.covers(filter, names) => return true,
                Effect::Deny | Effect::Allow => {}
            }
        }
        false
    }

    /// Lowers `first` to the first place in `places` that is about the action.
    fn earlier(&self, places: &[u32], action: Action, first: &mut u32) {
        for place in places {
            if place >= first {
                return;
            }
            let rule = self.rules.get(*place as usize);
            if rule.is_some_and(|rule| rule.actions.has(action)) {
                *first = *place;
                return;
            }
        }
    }
}

impl SetRule {
    fn new(rule: &Rule, number: u32) -> Self {
        Self {
            effect: rule.effect,
            actions: rule.actions,
            pattern: rule.pattern.clone(),
            number,
        }
    }

    fn verdict(&self) -> Verdict {
        Verdict {
            effect: self.effect,
            number: self.number,
        }
    }
}

fn insert(nodes: &mut Vec<Node>, levels: &[Level], place: u32) {
    let mut at = 0;
    for level in levels {
        let added = u32::try_from(nodes.len()).expect("rules have fewer levels than that");
        let Some(node) = nodes.get_mut(at as usize) else {
            return;
        };
        let child = match level {
            Level::Rest => {
                node.ends_in_rest.push(place);
                return;
            }
            Level::Literal(text) => *node.literals.entry_ref(&**text).or_insert(added),
            Level::User => *node.user.get_or_insert(added),
            Level::Client => *node.client.get_or_insert(added),
            Level::One => *node.one.get_or_insert(added),
        };
        if child == added {
            nodes.push(Node::default());
        }
        at = child;
    }
    if let Some(node) = nodes.get_mut(at as usize) {
        node.ends_here.push(place);
    }
}
