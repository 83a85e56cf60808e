//! Topic aliases: those that the peer defines, and those that we define for the peer.

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
}
