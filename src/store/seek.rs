//! The way of a filter through topics in the order of their bytes.

/// What follows from comparing a filter with the topic at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It matches.
    Match,
    /// It does not; the next one may.
    Next,
    /// Nothing before this text matches.
    Seek(String),
    /// Nothing further matches.
    End,
}

/// Compares level by level, and finds how far to go where a level differs.
///
/// Topics below `a/b` are those between `a/b/` and `a/b0`, since `0` follows `/`. Those between
/// `a/b` and `a/b/`, such as `a/b-c`, are neighbours.
pub(super) fn step(filter: &str, topic: &str) -> Step {
    let wanted: Vec<&str> = filter.split('/').collect();
    if topic.starts_with('$') && matches!(wanted.first(), Some(&("+" | "#"))) {
        return Step::Seek(AFTER_DOLLAR.into()); // [MQTT-4.7.2-1]
    }
    // Where the level at hand begins, and what is below the level that the last `+` took.
    let mut begin = 0;
    let mut last_plus_end = None;
    for (index, wanted_level) in wanted.iter().enumerate() {
        if *wanted_level == "#" {
            return Step::Match;
        }
        let Some(rest) = topic.get(begin..) else {
            return shorter(&wanted, index, topic);
        };
        let level = rest.split('/').next().unwrap_or_default();
        let end = begin + level.len();
        if *wanted_level == "+" {
            last_plus_end = Some(end);
        } else if level != *wanted_level {
            let prefix = topic.get(..begin).unwrap_or_default();
            return toward(prefix, wanted_level, topic, last_plus_end);
        }
        if index + 1 == wanted.len() {
            return if end == topic.len() {
                Step::Match
            } else {
                Step::Seek(after_subtree(topic, end))
            };
        }
        // Beyond the end if this was the last level of the topic.
        begin = end + 1;
    }
    Step::End
}

/// Where topics that match can begin at the earliest.
pub(super) fn start(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    let prefix = filter.get(..end).unwrap_or_default();
    // `a/#` matches `a` as well.
    if filter.get(end..) == Some("#") {
        prefix.strip_suffix('/').unwrap_or(prefix)
    } else {
        prefix
    }
}

/// The topic ended before the filter did.
fn shorter(wanted: &[&str], index: usize, topic: &str) -> Step {
    if wanted.get(index - 1) == Some(&"+") {
        Step::Next
    } else {
        Step::Seek(format!("{topic}/"))
    }
}

/// Below `prefix`, only `level` will do.
fn toward(prefix: &str, level: &str, topic: &str, last_plus_end: Option<usize>) -> Step {
    let target = format!("{prefix}{level}");
    if *target > *topic {
        return Step::Seek(target);
    }
    let below = target + "/";
    if *below > *topic {
        return Step::Seek(below);
    }
    match last_plus_end {
        Some(end) => Step::Seek(after_subtree(topic, end)),
        None => Step::End,
    }
}

/// The first text after everything below the first `end` bytes of a topic.
fn after_subtree(topic: &str, end: usize) -> String {
    format!("{}{AFTER_SLASH}", topic.get(..end).unwrap_or_default())
}

const AFTER_SLASH: char = '0';
const AFTER_DOLLAR: &str = "%";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use tidewire_protocol::topic::matches;

    use super::*;

    fn found<'a>(topics: &BTreeSet<&'a str>, filter: &str) -> (Vec<&'a str>, usize) {
        let mut found = Vec::new();
        let mut visited = 0;
        let mut from = std::ops::Bound::Included(start(filter).to_owned());
        loop {
            let next = topics
                .range::<str, _>((
                    from.as_ref().map(String::as_str),
                    std::ops::Bound::Unbounded,
                ))
                .next();
            let Some(topic) = next else {
                return (found, visited);
            };
            visited += 1;
            from = match step(filter, topic) {
                Step::End => return (found, visited),
                Step::Match => {
                    found.push(*topic);
                    std::ops::Bound::Excluded((*topic).to_owned())
                }
                Step::Next => std::ops::Bound::Excluded((*topic).to_owned()),
                Step::Seek(target) => {
                    assert!(
                        *target > **topic,
                        "{filter}: {target:?} is not after {topic:?}"
                    );
                    std::ops::Bound::Included(target)
                }
            };
        }
    }

    #[test]
    fn a_plus_in_the_middle_skips_what_cannot_match() {
        let topics: Vec<String> = (0..100)
            .flat_map(|site| (0..100).map(move |line| format!("site/{site:03}/line/{line:02}")))
            .collect();
        let topics: BTreeSet<&str> = topics.iter().map(String::as_str).collect();
        let (found, visited) = found(&topics, "site/+/line/03");
        assert_eq!(found.len(), 100);
        assert!(visited <= 301, "{visited}");
    }

    fn text(level: &'static str) -> impl Strategy<Value = String> {
        proptest::collection::vec(level, 1..5).prop_map(|levels| levels.join("/"))
    }

    proptest! {
        #[test]
        fn seeking_finds_what_the_plain_matcher_finds(
            topics in proptest::collection::btree_set(text("[$]?[a0 /-]{0,2}"), 1..60),
            filters in proptest::collection::vec((text("[+]|[a0 -]{0,2}"), any::<bool>()), 1..20),
        ) {
            let topics: BTreeSet<&str> =
                topics.iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
            for (filter, in_hash) in filters {
                let filter = match (in_hash, filter.as_str()) {
                    (true, "") | (false, "") => "#".to_owned(),
                    (true, _) => format!("{filter}/#"),
                    (false, _) => filter,
                };
                let expected: Vec<&str> =
                    topics.iter().filter(|it| matches(&filter, it)).copied().collect();
                prop_assert_eq!(found(&topics, &filter).0, expected, "{}", filter);
            }
        }
    }
}
