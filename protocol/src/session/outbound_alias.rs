//! Topic aliases that we define for the peer.

use std::collections::HashMap;
use std::num::NonZeroU16;

/// The aliases of one connection, first come; gone with it [MQTT-3.3.2-7].
///
/// An alias keeps its topic: a table that is rewritten all the time would only add bytes.
#[derive(Debug)]
pub struct OutboundAliases {
    aliases: HashMap<Box<[u8]>, NonZeroU16>,
    alias_max: u16,
}

/// How a topic is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicForm {
    /// The topic alone.
    Full,
    /// The topic, and the alias that stands for it from now on.
    Defines(NonZeroU16),
    /// The alias in place of the topic.
    Alias(NonZeroU16),
}

impl TopicForm {
    /// The alias, if it has one.
    pub fn alias(self) -> Option<NonZeroU16> {
        match self {
            Self::Full => None,
            Self::Defines(alias) | Self::Alias(alias) => Some(alias),
        }
    }
}

impl OutboundAliases {
    /// No alias yet, and at most `alias_max` [MQTT-3.1.2-26].
    pub fn new(alias_max: NonZeroU16) -> Self {
        Self {
            aliases: HashMap::new(),
            alias_max: alias_max.get(),
        }
    }

    /// How to write a topic; [`OutboundAliases::define`] follows once a defining packet is sent.
    pub fn form_of(&self, topic: &[u8]) -> TopicForm {
        if topic.len() <= ALIAS_BYTES {
            return TopicForm::Full;
        }
        if let Some(alias) = self.aliases.get(topic) {
            return TopicForm::Alias(*alias);
        }
        self.next().map_or(TopicForm::Full, TopicForm::Defines)
    }

    /// The peer is told the alias that [`OutboundAliases::form_of`] named for this topic.
    pub fn define(&mut self, topic: &[u8]) {
        if let Some(alias) = self.next() {
            self.aliases.entry(topic.into()).or_insert(alias);
        }
    }

    fn next(&self) -> Option<NonZeroU16> {
        let used = u16::try_from(self.aliases.len()).ok()?;
        NonZeroU16::new(used.checked_add(1)?).filter(|alias| alias.get() <= self.alias_max)
    }
}

/// What an alias takes in a packet: a shorter topic is better written in full.
const ALIAS_BYTES: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::InboundAliases;

    proptest! {
        #[test]
        fn the_peer_resolves_every_packet_to_its_topic(
            topics in prop::collection::vec(("[a-d]{1,5}", any::<bool>()), 0..200),
            alias_max in 1u16..6,
        ) {
            let mut ours = OutboundAliases::new(NonZeroU16::new(alias_max).unwrap());
            let mut theirs = InboundAliases::default();
            for (topic, is_sent) in &topics {
                let form = ours.form_of(topic.as_bytes());
                if !is_sent {
                    continue;
                }
                if let TopicForm::Defines(_) = form {
                    ours.define(topic.as_bytes());
                }
                let written = if let TopicForm::Alias(_) = form { "" } else { topic };
                let resolved = match form.alias() {
                    Some(alias) => theirs.resolve(written, alias, alias_max).unwrap(),
                    None => written,
                };
                prop_assert_eq!(resolved, topic);
            }
        }
    }

    #[test]
    fn aliases_are_given_first_come_and_stay() {
        let mut aliases = OutboundAliases::new(NonZeroU16::MIN);
        let one = NonZeroU16::MIN;
        assert_eq!(aliases.form_of(b"a/b/c"), TopicForm::Defines(one));
        aliases.define(b"a/b/c");
        assert_eq!(aliases.form_of(b"a/b/c"), TopicForm::Alias(one));
        assert_eq!(aliases.form_of(b"a/b/d"), TopicForm::Full);
        assert_eq!(aliases.form_of(b"a/b"), TopicForm::Full);
    }
}
