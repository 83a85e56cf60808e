//! Filters with wildcards: an arena trie with interned levels and one edge table.

use hashbrown::HashMap;

use super::set::{BindingSet, Removal};
use super::{Binding, Destination};

/// Wildcard filters, level by level.
///
/// # Shape
/// Node 0 is the root. A literal level is an entry of `edges`, `+` a field of its parent, and a
/// final `#` belongs to the node before it. Freed nodes, sets and level ids are used again.
#[derive(Debug)]
pub(super) struct FilterTrie {
    nodes: Vec<Node>,
    free_nodes: Vec<u32>,
    edges: HashMap<(u32, u32), u32>,
    levels: Levels,
    sets: Vec<Option<BindingSet>>,
    free_sets: Vec<u32>,
    filters: usize,
}

/// One level of at least one filter; every field is an index or [`NONE`], `literals` a count.
#[derive(Clone, Copy, Debug)]
struct Node {
    parent: u32,
    literals: u32,
    plus: u32,
    ends_here: u32,
    ends_in_hash: u32,
}

/// Level texts and their ids, counted by the edges that use them.
#[derive(Debug, Default)]
struct Levels {
    ids: HashMap<Box<str>, Interned>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Interned {
    id: u32,
    edges: u32,
}

impl Default for FilterTrie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(NONE)],
            free_nodes: Vec::new(),
            edges: HashMap::new(),
            levels: Levels::default(),
            sets: Vec::new(),
            free_sets: Vec::new(),
            filters: 0,
        }
    }
}

impl FilterTrie {
    /// Adds or replaces a binding; true if its destination is new for the filter.
    pub(super) fn bind(&mut self, filter: &str, binding: Binding) -> bool {
        let (levels, in_hash) = split_hash(filter);
        let mut at = ROOT;
        for level in levels.into_iter().flat_map(|text| text.split('/')) {
            at = self.child_or_insert(at, level);
        }
        let set = self.nodes[at as usize].set(in_hash);
        if set != NONE {
            return self.sets[set as usize]
                .as_mut()
                .is_some_and(|set| set.insert(binding));
        }
        let set = take_slot(
            &mut self.free_sets,
            &mut self.sets,
            Some(BindingSet::One(binding)),
        );
        *self.nodes[at as usize].set_mut(in_hash) = set;
        self.filters += 1;
        true
    }

    /// Removes a binding and whatever only it needed; true if it existed.
    pub(super) fn unbind(&mut self, filter: &str, destination: Destination) -> bool {
        let (levels, in_hash) = split_hash(filter);
        let mut at = ROOT;
        for level in levels.into_iter().flat_map(|text| text.split('/')) {
            match self.child(at, level) {
                Some(child) => at = child,
                None => return false,
            }
        }
        let index = self.nodes[at as usize].set(in_hash);
        let Some(set) = self.sets.get_mut(index as usize).and_then(Option::as_mut) else {
            return false;
        };
        let removal = set.remove(destination);
        if removal == Removal::Emptied {
            self.sets[index as usize] = None;
            self.free_sets.push(index);
            *self.nodes[at as usize].set_mut(in_hash) = NONE;
            self.filters -= 1;
            self.prune(at, levels);
        }
        removal != Removal::Missing
    }

    /// Appends the bindings of every filter that matches.
    pub(super) fn collect(&self, topic: &str, out: &mut Vec<Binding>) {
        if self.filters == 0 {
            return;
        }
        let levels: Vec<u32> = topic
            .split('/')
            .map(|level| self.levels.id(level))
            .collect();
        // [MQTT-4.7.2-1]: a leading wildcard does not match a topic that begins with `$`.
        let mut wildcards_apply = !topic.starts_with('$');
        let mut open = vec![(ROOT, 0)];
        while let Some((at, depth)) = open.pop() {
            let node = &self.nodes[at as usize];
            if wildcards_apply {
                self.collect_set(node.ends_in_hash, out);
            }
            if let Some(&level) = levels.get(depth) {
                if wildcards_apply && node.plus != NONE {
                    open.push((node.plus, depth + 1));
                }
                if level != NONE
                    && node.literals > 0
                    && let Some(&child) = self.edges.get(&(at, level))
                {
                    open.push((child, depth + 1));
                }
            } else {
                self.collect_set(node.ends_here, out);
            }
            wildcards_apply = true;
        }
    }

    /// The number of filters.
    pub(super) fn len(&self) -> usize {
        self.filters
    }

    /// The nodes in use without the root, the edges and the level texts.
    #[cfg(test)]
    pub(super) fn parts(&self) -> [usize; 3] {
        let nodes = self.nodes.len() - self.free_nodes.len() - 1;
        [nodes, self.edges.len(), self.levels.ids.len()]
    }

    fn collect_set(&self, index: u32, out: &mut Vec<Binding>) {
        if let Some(Some(set)) = self.sets.get(index as usize) {
            set.collect(out);
        }
    }

    fn child(&self, at: u32, level: &str) -> Option<u32> {
        if level == "+" {
            return Some(self.nodes[at as usize].plus).filter(|&plus| plus != NONE);
        }
        self.edges.get(&(at, self.levels.id(level))).copied()
    }

    fn child_or_insert(&mut self, at: u32, level: &str) -> u32 {
        if let Some(child) = self.child(at, level) {
            return child;
        }
        let child = take_slot(&mut self.free_nodes, &mut self.nodes, Node::new(at));
        if level == "+" {
            self.nodes[at as usize].plus = child;
        } else {
            let id = self.levels.acquire(level);
            self.edges.insert((at, id), child);
            self.nodes[at as usize].literals += 1;
        }
        child
    }

    /// Frees the nodes from `at` upwards that nothing needs any more.
    fn prune(&mut self, mut at: u32, levels: Option<&str>) {
        for level in levels.into_iter().flat_map(|text| text.rsplit('/')) {
            if !self.nodes[at as usize].is_unused() {
                return;
            }
            let parent = self.nodes[at as usize].parent;
            self.free_nodes.push(at);
            if level == "+" {
                self.nodes[parent as usize].plus = NONE;
            } else {
                let id = self.levels.release(level);
                self.edges.remove(&(parent, id));
                self.nodes[parent as usize].literals -= 1;
            }
            at = parent;
        }
        if self.filters == 0 {
            *self = Self::default();
        }
    }
}

impl Node {
    fn new(parent: u32) -> Self {
        Self {
            parent,
            literals: 0,
            plus: NONE,
            ends_here: NONE,
            ends_in_hash: NONE,
        }
    }

    fn set(&self, in_hash: bool) -> u32 {
        if in_hash {
            self.ends_in_hash
        } else {
            self.ends_here
        }
    }

    fn set_mut(&mut self, in_hash: bool) -> &mut u32 {
        if in_hash {
            &mut self.ends_in_hash
        } else {
            &mut self.ends_here
        }
    }

    fn is_unused(&self) -> bool {
        self.literals == 0
            && [self.plus, self.ends_here, self.ends_in_hash]
                .iter()
                .all(|&index| index == NONE)
    }
}

impl Levels {
    /// The id of a level, [`NONE`] if no edge has it.
    fn id(&self, level: &str) -> u32 {
        self.ids.get(level).map_or(NONE, |interned| interned.id)
    }

    fn acquire(&mut self, level: &str) -> u32 {
        if let Some(interned) = self.ids.get_mut(level) {
            interned.edges += 1;
            return interned.id;
        }
        // Ids are dense: those in use and those free are all below the sum of both counts.
        let id = self
            .free
            .pop()
            .unwrap_or_else(|| index_after(self.ids.len()));
        self.ids.insert(level.into(), Interned { id, edges: 1 });
        id
    }

    /// Gives up one use and returns the id, which is free after the last.
    fn release(&mut self, level: &str) -> u32 {
        let Some(interned) = self.ids.get_mut(level) else {
            return NONE;
        };
        let id = interned.id;
        interned.edges -= 1;
        if interned.edges == 0 {
            self.ids.remove(level);
            self.free.push(id);
        }
        id
    }
}

/// Splits a final `#` off; no levels are left of the filter `#` itself.
fn split_hash(filter: &str) -> (Option<&str>, bool) {
    match filter.strip_suffix('#') {
        Some(before) => (before.strip_suffix('/'), true),
        None => (Some(filter), false),
    }
}

/// Puts `value` into a free slot, or a new one at the end.
fn take_slot<T>(free: &mut Vec<u32>, slots: &mut Vec<T>, value: T) -> u32 {
    if let Some(index) = free.pop() {
        slots[index as usize] = value;
        return index;
    }
    slots.push(value);
    index_after(slots.len() - 1)
}

fn index_after(count: usize) -> u32 {
    let index = u32::try_from(count).expect("memory ends before four billion entries");
    assert!(index != NONE, "the last index stands for none");
    index
}

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;
