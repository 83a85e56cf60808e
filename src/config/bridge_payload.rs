//! Rules about how a bridge writes payloads.

use super::bridge_rules::check_template;
use super::rules::{Broken, demand};
use super::{BridgePayload, BridgeRule};

/// `prefix` is that of the side that messages come from.
pub(super) fn check(rule: &BridgeRule, prefix: &str) -> Result<(), Broken> {
    let is_template = rule.payload == BridgePayload::Template;
    let Some(text) = &rule.payload_template else {
        let problem = "is missing: payload = \"template\" needs a text";
        return demand("payload_template", !is_template, problem);
    };
    let problem = "is for payload = \"template\"";
    demand("payload_template", is_template, problem)?;
    check_template("payload_template", text, rule, prefix)
}

#[cfg(test)]
mod tests {
    use crate::config::tests::assert_refused;

    const RULE: &str = "[[bridges]]\nname = \"b\"\nservers = [\"mqtt://h\"]\n\
                        [[bridges.out]]\nfilters = [\"a/+\"]\n";

    #[test]
    fn what_a_rule_says_of_payloads_is_checked() {
        let cases = [
            (
                "payload = \"template\"",
                "payload_template` is missing: payload = \"template\" needs a text",
            ),
            (
                "payload_template = \"{topic}\"",
                "t.toml:6: `bridges.0.out.0.payload_template` is for payload = \"template\"",
            ),
            (
                "payload = \"template\"\npayload_template = \"{3}\"",
                "t.toml:7: `bridges.0.out.0.payload_template` is \"{3}\": {3} never exists for",
            ),
            (
                "payload = \"json\"",
                "t.toml:6: `bridges.0.out.0.payload` is \"json\", expected one of \"raw\",",
            ),
            (
                "topic = \"{1|hash(65)}\"",
                "t.toml:6: `bridges.0.out.0.topic` is \"{1|hash(65)}\": |hash(65) is not known",
            ),
        ];
        let texts = cases.map(|(lines, part)| (format!("{RULE}{lines}\n"), part));
        assert_refused(&texts.each_ref().map(|(text, part)| (&**text, *part)));
    }
}
