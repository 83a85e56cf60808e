//! Which user properties cross a bridge, and what they are called on the other side.

use tidewire_bridges::{Context, Record, Template, TemplateError};

use crate::config::BridgeRule;

/// The rules for user properties of one rule of a bridge, in the order in which they apply.
#[derive(Debug)]
pub(super) struct Headers {
    pass: Vec<String>,
    remove: Vec<String>,
    rename: Vec<(String, String)>,
    add: Vec<(String, Template)>,
}

impl Headers {
    pub(super) fn new(rule: &BridgeRule) -> Result<Self, TemplateError> {
        let pairs = |texts: &[String]| -> Vec<(String, String)> {
            let pairs = texts.iter().filter_map(|it| it.split_once('='));
            pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
        };
        let add = pairs(&rule.user_properties_add).into_iter();
        let add = add.map(|(name, text)| Ok((name, Template::parse(&text)?)));
        Ok(Self {
            pass: rule.user_properties_pass.clone(),
            remove: rule.user_properties_remove.clone(),
            rename: pairs(&rule.user_properties_rename),
            add: add.collect::<Result<_, TemplateError>>()?,
        })
    }

    /// What is to be added to a record that is as it came; what has no value is left out.
    pub(super) fn fill(&self, record: &Record, context: Context<'_>) -> Vec<(String, String)> {
        let added = self.add.iter();
        added
            .filter_map(|(name, text)| Some((name.clone(), text.fill(record, context).ok()?)))
            .collect()
    }

    /// Changes the headers of a record.
    pub(super) fn apply(&self, record: &mut Record, added: Vec<(String, String)>) {
        record
            .headers
            .retain(|(name, _)| is_in(&self.pass, name) && !is_in(&self.remove, name));
        for (name, _) in &mut record.headers {
            let renamed = self.rename.iter().find(|(old, _)| old == name);
            if let Some((_, new)) = renamed {
                name.clone_from(new);
            }
        }
        record.headers.extend(added);
    }
}

/// A list of names; `*` at the end of one stands for any rest.
fn is_in(names: &[String], wanted: &str) -> bool {
    names.iter().any(|name| match name.strip_suffix('*') {
        Some(start) => wanted.starts_with(start),
        None => name == wanted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_passed_removed_renamed_and_added_in_this_order() {
        let texts = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect();
        let rule = BridgeRule {
            user_properties_pass: texts(&["x-*", "site"]),
            user_properties_remove: texts(&["x-secret"]),
            user_properties_rename: texts(&["site=plant", "x-secret=never"]),
            user_properties_add: texts(&["line={2|upper}", "none={prop:missing}", "was={prop:b}"]),
            ..BridgeRule::default()
        };
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let before = [
            ("x-1", "1"),
            ("x-secret", "s"),
            ("site", "7"),
            ("b", "2"),
            ("x-1", "3"),
        ];
        let mut record = Record {
            topic: "s/a".into(),
            headers: before.map(pair).to_vec(),
            ..Record::default()
        };
        let context = Context {
            filter: "s/+",
            bridge: "b",
            node: "n",
            missing_is_empty: false,
        };
        let headers = Headers::new(&rule).unwrap();
        let added = headers.fill(&record, context);
        headers.apply(&mut record, added);
        let after = [
            ("x-1", "1"),
            ("plant", "7"),
            ("x-1", "3"),
            ("line", "A"),
            ("was", "2"),
        ];
        assert_eq!(record.headers, after.map(pair));
    }
}
