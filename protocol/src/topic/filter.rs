//! Topic filters, as in SUBSCRIBE.

use std::str::Split;

use super::{TopicError, check_text};

/// A valid topic filter: `+` and `#` only as whole levels, `#` only as the last.
///
/// # Source
/// MQTT 5.0 section 4.7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Checks `text` as a topic filter with at most `levels_max` levels.
    ///
    /// # Errors
    /// [`TopicError`] names the first rule broken.
    pub fn parse(text: &'a str, levels_max: usize) -> Result<Self, TopicError> {
        check_text(text, levels_max)?;
        let mut after_hash = false;
        for level in text.split('/') {
            let holds_wildcard = level.bytes().any(|byte| matches!(byte, b'+' | b'#'));
            // [MQTT-4.7.1-1], [MQTT-4.7.1-2]
            if after_hash || (holds_wildcard && level.len() > 1) {
                return Err(TopicError::MisplacedWildcard);
            }
            after_hash = level == "#";
        }
        Ok(Self(text))
    }

    /// The text of the filter.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels from left to right; empty levels count.
    pub fn levels(self) -> Split<'a, char> {
        self.0.split('/')
    }

    /// Whether the filter can match more than the topic of the same text.
    pub fn has_wildcard(self) -> bool {
        self.0.bytes().any(|byte| matches!(byte, b'+' | b'#'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_alone_and_hash_is_last() {
        for good in ["+", "#", "/", "a/+/b", "+/+", "a/#", "/+", "+/#", "$SYS/#"] {
            assert!(TopicFilter::parse(good, 8).is_ok(), "{good}");
        }
        for bad in ["a+", "+a", "a/b#", "#/a", "a/#/b", "##", "a/#/", "++"] {
            assert_eq!(
                TopicFilter::parse(bad, 8),
                Err(TopicError::MisplacedWildcard),
                "{bad}"
            );
        }
        assert_eq!(TopicFilter::parse("", 8), Err(TopicError::Empty));
        assert!(TopicFilter::parse("a/b/#", 2).is_err());
    }
}
