//! Topic aliases: those that the peer defines, and those that we define for the peer.

use std::collections::HashMap;
use std::num::NonZeroU16;

/// The topics behind the aliases of one connection; gone with it [MQTT-3.3.2-7].
#[derive(Debug, Default)]
pub struct InboundAliases {
    topics: Vec<Option<Box<str>>>,
}

/// A topic alias that stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// Above the maximum that we announced [MQTT-3.3.2-9].
    #[error("topic alias {alias} exceeds the maximum of {alias_max}")]
    AboveMaximum {
        /// What was sent.
        alias: u16,
        /// What is accepted.
        alias_max: u16,
    },
    /// Used without a topic before it was given one.
    #[error("topic alias {alias} is not defined")]
    Undefined {
        /// What was sent.
        alias: u16,
    },
}

impl InboundAliases {
    /// The topic that `topic` and `alias` mean together; remembers it when both are given.
    pub fn resolve<'a>(
        &'a mut self,
        topic: &'a str,
        alias: NonZeroU16,
        alias_max: u16,
    ) -> Result<&'a str, AliasError> {
        let alias = alias.get();
        if alias > alias_max {
            return Err(AliasError::AboveMaximum { alias, alias_max });
        }
        let index = usize::from(alias) - 1;
        if topic.is_empty() {
            return self
                .topics
                .get(index)
                .and_then(Option::as_deref)
                .ok_or(AliasError::Undefined { alias });
        }
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        if let Some(slot) = self.topics.get_mut(index)
            && slot.as_deref() != Some(topic)
        {
            *slot = Some(topic.into());
        }
        Ok(topic)
    }
}

/// The aliases that we gave the topics of one connection; gone with it [MQTT-3.3.2-7].
///
/// # Shape
/// The first topics get the aliases 1 to the maximum and keep them.
#[derive(Debug)]
pub struct OutboundAliases {
    by_topic: HashMap<Box<[u8]>, NonZeroU16>,
    alias_max: NonZeroU16,
}

/// What stands for a topic in a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Its number.
    pub value: NonZeroU16,
    /// The peer has not seen it: the topic goes with it this time.
    pub is_new: bool,
}

impl OutboundAliases {
    /// For a peer that takes so many [MQTT-3.1.2-26].
    pub fn new(alias_max: NonZeroU16) -> Self {
        Self {
            by_topic: HashMap::new(),
            alias_max,
        }
    }

    /// The alias of a topic; `None` if it has none and gets none.
    pub fn assign(&mut self, topic: &[u8]) -> Option<Alias> {
        if let Some(value) = self.by_topic.get(topic) {
            return Some(Alias {
                value: *value,
                is_new: false,
            });
        }
        let value = u16::try_from(self.by_topic.len() + 1).ok()?;
        let value = NonZeroU16::new(value).filter(|value| *value <= self.alias_max)?;
        if topic.len() <= ALIAS_BYTES {
            return None;
        }
        self.by_topic.insert(topic.into(), value);
        Some(Alias {
            value,
            is_new: true,
        })
    }
}

/// What an alias takes of a packet; a shorter topic gains nothing.
const ALIAS_BYTES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_defined_used_and_redefined() {
        let mut aliases = InboundAliases::default();
        let one = NonZeroU16::MIN;
        assert_eq!(
            aliases.resolve("", one, 5),
            Err(AliasError::Undefined { alias: 1 })
        );
        assert_eq!(aliases.resolve("a", one, 5), Ok("a"));
        assert_eq!(aliases.resolve("", one, 5), Ok("a"));
        assert_eq!(aliases.resolve("b", one, 5), Ok("b"));
        assert_eq!(aliases.resolve("", one, 5), Ok("b"));
        assert_eq!(
            aliases.resolve("a", one, 0),
            Err(AliasError::AboveMaximum {
                alias: 1,
                alias_max: 0
            })
        );
    }

    #[test]
    fn the_first_topics_get_aliases_and_keep_them() {
        let mut aliases = OutboundAliases::new(NonZeroU16::MIN.saturating_add(1));
        let mut assign = |topic: &str| {
            let alias = aliases.assign(topic.as_bytes());
            alias.map(|alias| (alias.value.get(), alias.is_new))
        };
        assert_eq!(assign("a/b"), None);
        assert_eq!(assign("first"), Some((1, true)));
        assert_eq!(assign("second"), Some((2, true)));
        assert_eq!(assign("third"), None);
        assert_eq!(assign("first"), Some((1, false)));
        assert_eq!(assign("second"), Some((2, false)));
    }
}
