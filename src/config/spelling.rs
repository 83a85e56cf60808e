//! What may have been meant by a word that is not known.

/// The name that is spelled most like `word`.
pub(super) fn nearest(word: &str, names: impl Iterator<Item = String>) -> String {
    names
        .min_by_key(|name| distance(word, name))
        .unwrap_or_default()
}

/// The name that is spelled most like `word`, if it may be what was meant: one begins with the
/// other, or at most a third is spelled otherwise.
pub(crate) fn similar<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let word = word.to_lowercase();
    let near = |name: &&str| {
        let is_begun = word.len() > 1 && (name.starts_with(&word) || word.starts_with(name));
        is_begun || distance(&word, &name.to_lowercase()) <= name.len().div_ceil(3)
    };
    let names = names.filter(near);
    names.min_by_key(|name| distance(&word, name))
}

/// Insertions, deletions and replacements from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (b, above) in to.bytes().zip(row.iter_mut().skip(1)) {
            let cost = (diagonal + usize::from(a != b))
                .min(*above + 1)
                .min(left + 1);
            diagonal = std::mem::replace(above, cost);
            left = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Loader;
    use super::*;

    #[test]
    fn a_word_that_is_spelled_much_like_a_name_may_mean_it() {
        let names = ["drop_oldest", "drop_newest", "reject"];
        let meant = |word| similar(word, names.into_iter());
        assert_eq!(meant("drop-oldest"), Some("drop_oldest"));
        assert_eq!(meant("Reject"), Some("reject"));
        assert_eq!(meant("rejct"), Some("reject"));
        assert_eq!(meant("drop_new"), Some("drop_newest"));
        assert_eq!(meant("block"), None);
        assert_eq!(meant(""), None);
    }

    #[test]
    fn a_value_or_a_placeholder_that_is_not_known_is_answered_with_what_may_be_meant() {
        let refusal = |line: &str, rule: &str| {
            let text = format!(
                "[[bridges]]\nname = \"b\"\nservers = [\"mqtt://h\"]\n{line}\n\
                 [[bridges.out]]\nfilters = [\"a/+\"]\n{rule}\n"
            );
            let mut loader = Loader::default();
            let read = loader.text(Path::new("t.toml"), &text);
            let refused = read.and_then(|()| loader.finish().map(drop));
            refused.unwrap_err().to_string()
        };
        let cases = [
            (
                "start = \"autmatic\"",
                "",
                "\"once\", did you mean \"automatic\"?",
            ),
            (
                "queue_overflow = \"drop-oldest\"",
                "",
                "did you mean \"drop_oldest\"?",
            ),
            (
                "",
                "topic = \"x/{bridg}\"",
                "json:/POINTER; did you mean \"bridge\"?",
            ),
            (
                "",
                "topic = \"{1|lowercase}\"",
                "default('TEXT'); did you mean \"lower\"?",
            ),
        ];
        for (line, rule, expected) in cases {
            let refusal = refusal(line, rule);
            assert!(refusal.contains(expected), "{refusal}\nnot: {expected}");
        }
        assert!(!refusal("kind = \"nats\"", "").contains("did you mean"));
    }
}
