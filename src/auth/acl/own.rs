//! Rules that come with the proof of an identity, as JSON.

use serde_json::Value;

use super::action::Actions;
use super::pattern::{Pattern, PatternError};
use super::rule::{Effect, Rule, RuleOrigin, Who};
use crate::config::AclAction;

/// Why rules of a proof are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnRulesError {
    /// Not an array of objects.
    #[error("rules must be an array of objects with `actions` and `topics`")]
    Shape,
    /// A member of a rule.
    #[error("`{0}` of a rule cannot be used")]
    Member(&'static str),
    /// A member that no rule has.
    #[error("a rule has an unknown member")]
    Unknown,
    /// A topic filter.
    #[error("a topic of a rule: {0}")]
    Pattern(#[from] PatternError),
    /// Too many.
    #[error("more than {RULES_MAX} rules")]
    TooMany,
}

/// Reads rules with the members of `acl.rules`: `effect` (else "allow"), `actions`, `topics`.
///
/// # Errors
/// Anything is not as expected: a rule that is not understood must not be left out.
pub fn own_rules(json: &Value) -> Result<Vec<Rule>, OwnRulesError> {
    let mut rules = Vec::new();
    for entry in json.as_array().ok_or(OwnRulesError::Shape)? {
        let entry = entry.as_object().ok_or(OwnRulesError::Shape)?;
        let is_known = |it: &String| ["effect", "actions", "topics"].contains(&it.as_str());
        if !entry.keys().all(is_known) {
            return Err(OwnRulesError::Unknown);
        }
        let effect = match entry.get("effect").map(Value::as_str) {
            None | Some(Some("allow")) => Effect::Allow,
            Some(Some("deny")) => Effect::Deny,
            Some(_) => return Err(OwnRulesError::Member("effect")),
        };
        let words = texts(entry.get("actions")).ok_or(OwnRulesError::Member("actions"))?;
        let words: Option<Vec<_>> = words.into_iter().map(AclAction::of_word).collect();
        let actions = Actions::of_words(&words.ok_or(OwnRulesError::Member("actions"))?);
        for topic in texts(entry.get("topics")).ok_or(OwnRulesError::Member("topics"))? {
            rules.push(Rule {
                effect,
                who: Who::default(),
                actions,
                pattern: Pattern::parse(topic)?,
                origin: RuleOrigin::Proof,
            });
        }
        if rules.len() > RULES_MAX {
            return Err(OwnRulesError::TooMany);
        }
    }
    Ok(rules)
}

fn texts(value: Option<&Value>) -> Option<Vec<&str>> {
    value?.as_array()?.iter().map(Value::as_str).collect()
}

/// Each client with rules of its own holds them in memory.
const RULES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_that_is_not_understood_refuses_all() {
        let rule = |json: Value| own_rules(&json).map(|rules| rules.len());
        let fine = json!([{"actions": ["read"], "topics": ["a/#", "b"]}]);
        assert_eq!(rule(fine), Ok(2));
        assert_eq!(rule(json!([])), Ok(0));
        let (actions, topics) = (
            OwnRulesError::Member("actions"),
            OwnRulesError::Member("topics"),
        );
        for (wrong, error) in [
            (json!("all"), OwnRulesError::Shape),
            (json!([1]), OwnRulesError::Shape),
            (json!([{"actions": ["read"]}]), topics),
            (json!([{"topics": ["a"]}]), actions.clone()),
            (json!([{"actions": ["fly"], "topics": ["a"]}]), actions),
            (
                json!([{"effect": 1, "actions": ["read"], "topics": ["a"]}]),
                OwnRulesError::Member("effect"),
            ),
            (
                json!([{"actions": ["read"], "topics": ["a"], "users": ["b"]}]),
                OwnRulesError::Unknown,
            ),
            (
                json!([{"actions": ["read"], "topics": ["a/#/b"]}]),
                OwnRulesError::Pattern(PatternError::NotAFilter),
            ),
            (
                json!([{"actions": ["read"], "topics": vec!["a"; 257]}]),
                OwnRulesError::TooMany,
            ),
        ] {
            assert_eq!(rule(wrong), Err(error));
        }
    }
}
