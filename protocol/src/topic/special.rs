//! What a SUBSCRIBE may ask for: a filter, a share of a group, or a topic of its own.

use super::{TopicError, TopicFilter};

/// What a subscription binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subscribable<'a> {
    /// Every message that matches.
    Plain(TopicFilter<'a>),
    /// `$share/group/filter`: the members of the group share the messages.
    ///
    /// # Source
    /// MQTT 5.0 section 4.8.2.
    Shared {
        /// The name of the group.
        group: &'a str,
        /// What the group receives.
        filter: TopicFilter<'a>,
    },
    /// `$exclusive/topic`: at most one session at a time; never with wildcards.
    Exclusive(TopicFilter<'a>),
}

impl<'a> Subscribable<'a> {
    /// Reads the text of a subscription; `levels_max` applies to the filter inside.
    ///
    /// # Errors
    /// [`TopicError`] names the first rule broken.
    pub fn parse(text: &'a str, levels_max: usize) -> Result<Self, TopicError> {
        if let Some(rest) = text.strip_prefix("$share/") {
            return Self::parse_shared(rest, levels_max);
        }
        if let Some(rest) = text.strip_prefix("$exclusive/") {
            let filter = TopicFilter::parse(rest, levels_max)?;
            if filter.has_wildcard() {
                return Err(TopicError::ExclusiveWildcard);
            }
            return Ok(Self::Exclusive(filter));
        }
        Ok(Self::Plain(TopicFilter::parse(text, levels_max)?))
    }

    /// The filter that messages must match.
    pub fn filter(self) -> TopicFilter<'a> {
        match self {
            Self::Plain(filter) | Self::Shared { filter, .. } | Self::Exclusive(filter) => filter,
        }
    }

    fn parse_shared(rest: &'a str, levels_max: usize) -> Result<Self, TopicError> {
        let (group, text) = rest.split_once('/').ok_or(TopicError::InvalidShare)?;
        // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
        let is_group = !group.is_empty() && !group.bytes().any(|b| matches!(b, 0 | b'+' | b'#'));
        if !is_group || text.is_empty() {
            return Err(TopicError::InvalidShare);
        }
        let filter = TopicFilter::parse(text, levels_max)?;
        Ok(Self::Shared { group, filter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_subscriptions_have_group_and_filter() {
        let Ok(Subscribable::Shared { group, filter }) = Subscribable::parse("$share/g/a/+", 2)
        else {
            unreachable!("a valid share");
        };
        assert_eq!((group, filter.as_str()), ("g", "a/+"));
        for bad in [
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
            "$share/g#/a",
        ] {
            assert_eq!(
                Subscribable::parse(bad, 8),
                Err(TopicError::InvalidShare),
                "{bad}"
            );
        }
        assert!(matches!(Subscribable::parse("$share/g//a", 8),
            Ok(Subscribable::Shared { filter, .. }) if filter.as_str() == "/a"));
        assert!(matches!(
            Subscribable::parse("$shared/g/a", 8),
            Ok(Subscribable::Plain(_))
        ));
    }

    #[test]
    fn exclusive_subscriptions_have_no_wildcards() {
        assert!(matches!(Subscribable::parse("$exclusive/a/b", 8),
            Ok(Subscribable::Exclusive(filter)) if filter.as_str() == "a/b"));
        assert_eq!(
            Subscribable::parse("$exclusive/a/#", 8),
            Err(TopicError::ExclusiveWildcard)
        );
        assert_eq!(
            Subscribable::parse("$exclusive/", 8),
            Err(TopicError::Empty)
        );
    }
}
