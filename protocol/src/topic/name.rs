//! Topic names, as in PUBLISH.

use std::str::Split;

use super::{TopicError, check_text};

/// A valid topic name: not empty, no wildcard, no null character, not too deep.
///
/// # Source
/// MQTT 5.0 section 4.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic<'a>(&'a str);

impl<'a> Topic<'a> {
    /// Checks `text` as a topic name with at most `levels_max` levels.
    ///
    /// # Errors
    /// [`TopicError`] names the first rule broken.
    pub fn parse(text: &'a str, levels_max: usize) -> Result<Self, TopicError> {
        check_text(text, levels_max)?;
        if text.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
            return Err(TopicError::Wildcard); // [MQTT-3.3.2-2]
        }
        Ok(Self(text))
    }

    /// The text of the name.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels from left to right; empty levels count.
    pub fn levels(self) -> Split<'a, char> {
        self.0.split('/')
    }
}

/// A publish to `$delayed/<seconds>/<topic>`: `topic`, after that many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedTopic<'a> {
    /// How long the message waits.
    pub seconds: u32,
    /// Where it is published then.
    pub topic: Topic<'a>,
}

impl<'a> DelayedTopic<'a> {
    /// Reads a delayed topic; `None` if `text` does not begin with `$delayed/`.
    ///
    /// # Errors
    /// [`TopicError::InvalidDelay`] if the seconds or the topic are missing or no number fits, else
    /// what is wrong with the inner topic.
    pub fn parse(text: &'a str, levels_max: usize) -> Option<Result<Self, TopicError>> {
        let rest = text.strip_prefix("$delayed/")?;
        Some(Self::parse_rest(rest, levels_max))
    }

    fn parse_rest(rest: &'a str, levels_max: usize) -> Result<Self, TopicError> {
        let (digits, inner) = rest.split_once('/').ok_or(TopicError::InvalidDelay)?;
        // `u32::from_str` would take a leading plus sign.
        if inner.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(TopicError::InvalidDelay);
        }
        let seconds = digits.parse().map_err(|_| TopicError::InvalidDelay)?;
        let topic = Topic::parse(inner, levels_max)?;
        Ok(Self { seconds, topic })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_wildcards_nulls_or_no_text_are_refused() {
        assert_eq!(Topic::parse("", 8), Err(TopicError::Empty));
        assert_eq!(Topic::parse("a/+", 8), Err(TopicError::Wildcard));
        assert_eq!(Topic::parse("a#", 8), Err(TopicError::Wildcard));
        assert_eq!(Topic::parse("a\0", 8), Err(TopicError::Null));
        let long = "a".repeat(65_536);
        assert_eq!(
            Topic::parse(&long, 8),
            Err(TopicError::TooLong { bytes: 65_536 })
        );
        assert!(Topic::parse(&long[1..], 8).is_ok());
    }

    #[test]
    fn empty_levels_count_towards_the_limit() {
        let topic = Topic::parse("/a//", 4).expect("four levels");
        assert_eq!(topic.levels().collect::<Vec<_>>(), ["", "a", "", ""]);
        assert_eq!(
            Topic::parse("/a//", 3),
            Err(TopicError::TooManyLevels { levels_max: 3 })
        );
    }

    #[test]
    fn delayed_topics_carry_seconds_and_topic() {
        let delayed = DelayedTopic::parse("$delayed/15/a/b", 2)
            .expect("delayed")
            .expect("valid");
        assert_eq!((delayed.seconds, delayed.topic.as_str()), (15, "a/b"));
        assert_eq!(DelayedTopic::parse("a/b", 8), None);
        for bad in [
            "$delayed/",
            "$delayed/5",
            "$delayed/5/",
            "$delayed/+5/a",
            "$delayed//a",
            "$delayed/4294967296/a",
        ] {
            assert_eq!(
                DelayedTopic::parse(bad, 8),
                Some(Err(TopicError::InvalidDelay)),
                "{bad}"
            );
        }
        assert_eq!(
            DelayedTopic::parse("$delayed/1/#", 8),
            Some(Err(TopicError::Wildcard))
        );
    }
}
