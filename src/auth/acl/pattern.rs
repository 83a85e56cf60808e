//! The filter of a rule: a topic filter with `%u` and `%c` as whole levels.

use tidewire_protocol::topic::TopicFilter;

/// The filter of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    text: Box<str>,
    levels: Box<[Level]>,
}

/// One level of a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Literal(Box<str>),
    /// `%u`: the user name of the client.
    User,
    /// `%c`: the client id.
    Client,
    /// `+`.
    One,
    /// `#`, the last level.
    Rest,
}

/// What `%u` and `%c` stand for; `None` matches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Names<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) client: Option<&'a str>,
}

/// What is wrong with the filter of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not a topic filter.
    #[error("the topic filter is not valid")]
    NotAFilter,
    /// `%u` or `%c` beside other characters.
    #[error("%u and %c must be whole levels of the topic filter")]
    NotAWholeLevel,
    /// Subscription syntax instead of the topics that it leads to.
    #[error(
        "a rule is about topics: write the filter without $share, $queue, $exclusive, $delayed"
    )]
    SubscriptionSyntax,
}

/// Whether a user name or client id can stand for a level: it must be one, and mean nothing else.
pub(super) fn can_be_level(name: &str) -> bool {
    let has_meaning = |it: char| matches!(it, '/' | '+' | '#') || it.is_control();
    !name.is_empty() && !name.starts_with('$') && !name.contains(has_meaning)
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let filter = TopicFilter::parse(text, LEVELS_MAX).map_err(|_| PatternError::NotAFilter)?;
        let first = filter.levels().next().unwrap_or_default();
        if matches!(first, "$share" | "$queue" | "$exclusive" | "$delayed") {
            return Err(PatternError::SubscriptionSyntax);
        }
        Ok(Self {
            text: text.into(),
            levels: filter
                .levels()
                .map(Level::parse)
                .collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }

    pub(super) fn has_names(&self) -> bool {
        let is_name = |level: &Level| matches!(level, Level::User | Level::Client);
        self.levels.iter().any(is_name)
    }

    /// Whether every topic of the filter is one of the pattern.
    pub(super) fn covers(&self, filter: &str, names: Names<'_>) -> bool {
        if self.is_kept_apart(filter) {
            return false;
        }
        let mut theirs = filter.split('/');
        for level in &self.levels {
            let their = theirs.next();
            let fits = match (level, their) {
                (Level::Rest, _) => return true,
                (_, None | Some("#")) => false,
                (Level::One, Some(_)) => true,
                (_, Some("+")) => false,
                (level, Some(their)) => level.text(names) == Some(their),
            };
            if !fits {
                return false;
            }
        }
        theirs.next().is_none()
    }

    /// Whether any topic of the filter is one of the pattern.
    pub(super) fn overlaps(&self, filter: &str, names: Names<'_>) -> bool {
        if self.is_kept_apart(filter) {
            return false;
        }
        let mut theirs = filter.split('/');
        for level in &self.levels {
            let their = theirs.next();
            let fits = match (level, their) {
                (Level::Rest, _) | (_, Some("#")) => return true,
                (_, None) => false,
                (Level::One, Some(_)) => true,
                (level, Some("+")) => level.text(names).is_some(),
                (level, Some(their)) => level.text(names) == Some(their),
            };
            if !fits {
                return false;
            }
        }
        matches!(theirs.next(), None | Some("#"))
    }

    /// [MQTT-4.7.2-1]: what begins with a wildcard has no topic that begins with `$`.
    fn is_kept_apart(&self, filter: &str) -> bool {
        match self.levels.first() {
            Some(Level::Literal(first)) if first.starts_with('$') => filter.starts_with(['+', '#']),
            Some(Level::Literal(_)) | None => false,
            Some(_) => filter.starts_with('$'),
        }
    }
}

impl Level {
    fn parse(text: &str) -> Result<Self, PatternError> {
        Ok(match text {
            "+" => Self::One,
            "#" => Self::Rest,
            "%u" => Self::User,
            "%c" => Self::Client,
            other if other.contains("%u") || other.contains("%c") => {
                return Err(PatternError::NotAWholeLevel);
            }
            other => Self::Literal(other.into()),
        })
    }

    /// The only level it matches; `None` if there is none or more than one.
    fn text<'a>(&'a self, names: Names<'a>) -> Option<&'a str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::User => names.user,
            Self::Client => names.client,
            Self::One | Self::Rest => None,
        }
    }
}

/// No topic has more levels.
const LEVELS_MAX: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names {
        user: Some("u"),
        client: Some("c"),
    };

    fn relation(pattern: &str, filter: &str) -> (bool, bool) {
        let pattern = Pattern::parse(pattern).expect("a pattern");
        (
            pattern.covers(filter, NAMES),
            pattern.overlaps(filter, NAMES),
        )
    }

    #[test]
    fn a_pattern_covers_or_overlaps_a_filter_or_does_neither() {
        for (pattern, filter, covers, overlaps) in [
            ("a/b", "a/b", true, true),
            ("a/b", "a/+", false, true),
            ("a/b", "#", false, true),
            ("a/b", "a", false, false),
            ("a/b", "a/b/c", false, false),
            ("a/+", "a/b", true, true),
            ("a/+", "a/+", true, true),
            ("a/+", "a/#", false, true),
            ("a/+", "+/b", false, true),
            ("a/+", "a", false, false),
            ("a/#", "a", true, true),
            ("a/#", "a/#", true, true),
            ("a/#", "a/+/c", true, true),
            ("a/#", "+", false, true),
            ("a/#", "b/#", false, false),
            ("a/+/#", "a/#", false, true),
            ("#", "a/+", true, true),
            ("#", "$SYS/a", false, false),
            ("+/a", "$SYS/a", false, false),
            ("$SYS/#", "#", false, false),
            ("$SYS/#", "$SYS/a", true, true),
            ("$SYS/#", "$SYS/+/b", true, true),
            ("d/%c", "d/c", true, true),
            ("d/%c", "d/+", false, true),
            ("d/%u/#", "d/u/x", true, true),
            ("d/%u/#", "d/v/x", false, false),
        ] {
            assert_eq!(
                relation(pattern, filter),
                (covers, overlaps),
                "{pattern} {filter}"
            );
        }
    }

    #[test]
    fn a_name_that_cannot_be_a_level_matches_nothing() {
        let pattern = Pattern::parse("d/%c/x").expect("a pattern");
        for filter in ["d/+/x", "d//x", "d/c/x", "#", "d/#"] {
            let covers = pattern.covers(filter, Names::default());
            assert!(!covers, "{filter}");
        }
        assert!(!pattern.overlaps("d/+/x", Names::default()));
        for name in ["", "+", "#", "a/b", "$SYS", "a\nb", "a#", "\0"] {
            assert!(!can_be_level(name), "{name:?}");
        }
        for name in ["a", "a b", "%c", "%u", ".*", "a$", "ü"] {
            assert!(can_be_level(name), "{name:?}");
        }
    }

    #[test]
    fn names_beside_other_characters_are_refused() {
        for text in ["a%c", "%c%u", "d/x-%u/y"] {
            assert_eq!(Pattern::parse(text), Err(PatternError::NotAWholeLevel));
        }
        assert_eq!(Pattern::parse("a/#/b"), Err(PatternError::NotAFilter));
        assert_eq!(
            Pattern::parse("$share/g/a"),
            Err(PatternError::SubscriptionSyntax)
        );
    }
}
