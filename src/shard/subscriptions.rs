//! The subscriptions of one session.

use hashbrown::HashMap;

use super::client::Subscribed;

/// Subscriptions by filter as subscribed, `$share/group/` included.
///
/// # Shape
/// Most clients have few, found by looking at each; more than [`FEW_MAX`] move to a map.
#[derive(Debug)]
pub(crate) enum Subscriptions {
    Few(Vec<(Box<str>, Subscribed)>),
    /// And how many of them have wildcards.
    Many(HashMap<Box<str>, Subscribed>, usize),
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many, _) => many.len(),
        }
    }

    /// How many have wildcards.
    pub(crate) fn wildcards(&self) -> usize {
        match self {
            Self::Few(few) => few.iter().filter(|(it, _)| has_wildcards(it)).count(),
            Self::Many(_, wildcards) => *wildcards,
        }
    }

    pub(crate) fn get(&self, filter: &str) -> Option<&Subscribed> {
        match self {
            Self::Few(few) => few
                .iter()
                .find_map(|(it, subscribed)| (**it == *filter).then_some(subscribed)),
            Self::Many(many, _) => many.get(filter),
        }
    }

    /// Adds a subscription or replaces the one with the same filter.
    pub(crate) fn insert(&mut self, filter: &str, subscribed: Subscribed) {
        match self {
            Self::Few(few) => {
                if let Some((_, present)) = few.iter_mut().find(|(it, _)| **it == *filter) {
                    *present = subscribed;
                    return;
                }
                few.reserve_exact(1);
                few.push((filter.into(), subscribed));
                if few.len() > FEW_MAX {
                    let wildcards = few.iter().filter(|(it, _)| has_wildcards(it)).count();
                    *self = Self::Many(std::mem::take(few).into_iter().collect(), wildcards);
                }
            }
            Self::Many(many, wildcards) => {
                let is_new = many.insert(filter.into(), subscribed).is_none();
                *wildcards += usize::from(is_new && has_wildcards(filter));
            }
        }
    }

    pub(crate) fn remove(&mut self, filter: &str) -> Option<Subscribed> {
        match self {
            Self::Few(few) => {
                let at = few.iter().position(|(it, _)| **it == *filter)?;
                Some(few.swap_remove(at).1)
            }
            Self::Many(many, wildcards) => {
                let removed = many.remove(filter)?;
                *wildcards -= usize::from(has_wildcards(filter));
                Some(removed)
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Subscribed)> {
        let (few, many) = match self {
            Self::Few(few) => (&few[..], None),
            Self::Many(many, _) => (&[][..], Some(many)),
        };
        let few = few
            .iter()
            .map(|(filter, subscribed)| (&**filter, subscribed));
        let many = many.into_iter().flatten();
        few.chain(many.map(|(filter, subscribed)| (&**filter, subscribed)))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(filter, _)| filter)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Subscribed> {
        self.iter().map(|(_, subscribed)| subscribed)
    }
}

/// Whether a filter has wildcards, be it shared.
pub(crate) fn has_wildcards(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

const FEW_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidewire_protocol::codec::SubscriptionOptions;

    use super::*;

    fn subscribed(number: u32) -> Subscribed {
        Subscribed {
            options: SubscriptionOptions::default(),
            subscription_id: std::num::NonZeroU32::new(number),
            group: None,
        }
    }

    proptest! {
        #[test]
        fn few_and_many_behave_like_a_map(
            steps in prop::collection::vec((any::<bool>(), 0u8..20), 0..80),
        ) {
            let mut subscriptions = Subscriptions::default();
            let mut expected = std::collections::BTreeMap::new();
            for (number, (is_insert, filter)) in (1u32..).zip(steps) {
                let end = if filter % 3 == 0 { "/+" } else { "" };
                let filter = format!("f/{filter}{end}");
                if is_insert {
                    subscriptions.insert(&filter, subscribed(number));
                    expected.insert(filter, number);
                } else {
                    let removed = subscriptions.remove(&filter);
                    let id = removed.and_then(|it| it.subscription_id).map(|id| id.get());
                    prop_assert_eq!(id, expected.remove(&filter));
                }
                prop_assert_eq!(subscriptions.len(), expected.len());
                let wildcards = expected.keys().filter(|it| it.ends_with('+')).count();
                prop_assert_eq!(subscriptions.wildcards(), wildcards);
            }
            let mut keys: Vec<_> = subscriptions.keys().collect();
            keys.sort_unstable();
            prop_assert_eq!(keys, expected.keys().collect::<Vec<_>>());
            for (filter, number) in &expected {
                let id = subscriptions.get(filter).and_then(|it| it.subscription_id);
                prop_assert_eq!(id.map(|id| id.get()), Some(*number));
            }
        }
    }
}
