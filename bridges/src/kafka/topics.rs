//! Topics of ours as topics of Kafka, which have no levels.

/// The name of a topic over there: `/` is `.` there.
pub fn topic_of(topic: &str) -> String {
    topic.replace('/', ".")
}

/// The name of a topic, or the regular expression of several, for what a filter of ours wants.
pub fn topics_of(filter: &str) -> String {
    if !filter.contains(['+', '#']) {
        return topic_of(filter);
    }
    let mut expression = String::from("^");
    for (index, level) in filter.split('/').enumerate() {
        let is_first = index == 0;
        match level {
            // Names that begin with `_` are Kafka's own, as those with `$` are ours.
            "#" if is_first => expression += "[^_].*",
            "#" => expression += r"(\..*)?",
            "+" if is_first => expression += r"[^_.][^.]*",
            "+" => expression += r"\.[^.]*",
            level => {
                if !is_first {
                    expression += r"\.";
                }
                escape(level, &mut expression);
            }
        }
    }
    expression + "$"
}

fn escape(level: &str, expression: &mut String) {
    for character in level.chars() {
        let is_plain = character.is_alphanumeric() || matches!(character, '_' | '-');
        if !is_plain {
            expression.push('\\');
        }
        expression.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_without_wildcards_is_one_topic() {
        assert_eq!(topics_of("commands/valve"), "commands.valve");
    }

    #[test]
    fn wildcards_become_regular_expressions() {
        assert_eq!(topics_of("commands/#"), r"^commands(\..*)?$");
        assert_eq!(topics_of("site/+/cmd"), r"^site\.[^.]*\.cmd$");
        assert_eq!(topics_of("+/cmd"), r"^[^_.][^.]*\.cmd$");
        assert_eq!(topics_of("#"), "^[^_].*$");
        assert_eq!(topics_of("a.b/#"), r"^a\.b(\..*)?$");
    }
}
