//! The routes a shard looked up before.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Routes;

/// Routes by topic, owned by one shard; bounded, and emptied when full.
#[derive(Debug)]
pub struct RouteCache {
    routes: HashMap<Box<str>, Arc<Routes>>,
    entries_max: usize,
    targets: usize,
}

impl RouteCache {
    /// An empty cache for `entries_max` topics and a fixed multiple of that many targets.
    pub fn new(entries_max: usize) -> Self {
        Self {
            routes: HashMap::new(),
            entries_max,
            targets: 0,
        }
    }

    /// The number of topics held, current or not.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether no topic is held.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    pub(super) fn find(&self, topic: &str) -> Option<&Arc<Routes>> {
        self.routes.get(topic)
    }

    pub(super) fn insert(&mut self, topic: &str, routes: &Arc<Routes>) {
        let targets = routes.len();
        let targets_max = self.entries_max.saturating_mul(TARGETS_PER_ENTRY);
        if let Some(old) = self.routes.get_mut(topic) {
            self.targets = self.targets - old.len() + targets;
            *old = Arc::clone(routes);
            if self.targets <= targets_max {
                return;
            }
        }
        // One topic above the limit is held alone: to look it up costs most.
        if self.routes.len() >= self.entries_max || self.targets + targets > targets_max {
            self.routes.clear();
            self.targets = 0;
        }
        self.targets += targets;
        self.routes.insert(topic.into(), Arc::clone(routes));
    }
}

/// Keeps many topics with large fan-out from filling the memory.
const TARGETS_PER_ENTRY: usize = 64;
