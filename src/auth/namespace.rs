//! Which part of the topics a client lives in: a namespace has its own topics, client ids, shares
//! and retained messages.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::certificate::{ORGANIZATION, ORGANIZATIONAL_UNIT, attributes_of};
use crate::config::{self, is_namespace};

/// The namespaces of the configuration, and the room in each.
#[derive(Debug, Default)]
pub struct Namespaces {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    config: config::Namespace,
    name: Arc<str>,
    room: Option<Arc<Semaphore>>,
}

/// A namespace has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the namespace has too many connections")]
pub struct Full;

impl Namespaces {
    /// A namespace that `before` has with the same limit keeps count of its connections.
    pub fn new(entries: &[config::Namespace], before: Option<&Self>) -> Self {
        let room_of = |entry: &config::Namespace| {
            let is_same = |it: &&Entry| {
                it.config.name == entry.name && it.config.connections_max == entry.connections_max
            };
            match before.and_then(|it| it.entries.iter().find(is_same)) {
                Some(same) => same.room.clone(),
                None => entry.connections_max.map(|max| {
                    let max = usize::try_from(max).unwrap_or(usize::MAX);
                    Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)))
                }),
            }
        };
        let entries = entries.iter().map(|entry| Entry {
            config: entry.clone(),
            name: entry.name.as_str().into(),
            room: room_of(entry),
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// The first that holds the client of these names; `certificate` is what it showed.
    pub fn find(
        &self,
        user_name: Option<&str>,
        certificate_name: Option<&str>,
        certificate: Option<&[u8]>,
    ) -> Option<Arc<str>> {
        let holds = |list: &[String], name: Option<&str>| {
            name.is_some_and(|name| list.iter().any(|it| it == name))
        };
        let holds_any = |list: &[String], kind| {
            let names = certificate.filter(|_| !list.is_empty());
            let names = names.map_or_else(Vec::new, |it| attributes_of(it, kind));
            names.iter().any(|name| list.contains(name))
        };
        let entry = self.entries.iter().find(|Entry { config, .. }| {
            holds(&config.users, user_name)
                || holds(&config.certificates, certificate_name)
                || holds_any(&config.organizations, ORGANIZATION)
                || holds_any(&config.organizational_units, ORGANIZATIONAL_UNIT)
        });
        entry.map(|it| Arc::clone(&it.name))
    }

    /// A place for one more connection; nothing is counted in a namespace without a limit.
    ///
    /// # Errors
    /// There is none.
    pub fn admit(&self, name: &str) -> Result<Option<OwnedSemaphorePermit>, Full> {
        let entry = self.entries.iter().find(|it| *it.name == *name);
        let room = entry.and_then(|it| it.room.as_ref());
        let place = room.map(|room| Arc::clone(room).try_acquire_owned());
        place.transpose().map_err(|_| Full)
    }
}

/// A name that somebody else gives: as a level of topics it can mean nothing else.
pub(super) fn namespace_of(name: &str) -> Option<Arc<str>> {
    is_namespace(name).then(|| name.into())
}
