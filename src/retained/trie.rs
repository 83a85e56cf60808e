//! Topics with a message, level by level.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use hashbrown::{Equivalent, HashMap};

use crate::message::Message;

/// Messages by topic, found by filter.
///
/// # Shape
/// Node 0 is the root. Children of a node form a doubly linked list, to walk them for a wildcard,
/// and are entries of `edges`, to find one. Freed nodes are used again.
#[derive(Debug)]
pub(super) struct TopicTrie {
    nodes: Vec<Node>,
    free: Vec<u32>,
    edges: HashMap<Edge, u32>,
    /// The messages that expire, earliest first, by the node that holds them.
    expiries: BTreeSet<(u64, u32)>,
}

/// A node to visit, for the filter level at `depth`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) node: u32,
    pub(super) depth: u32,
    /// Afterwards its next sibling is to be visited likewise.
    pub(super) then_siblings: bool,
}

/// One level of at least one topic; every index may be [`NONE`].
#[derive(Debug)]
struct Node {
    parent: u32,
    first_child: u32,
    next: u32,
    previous: u32,
    message: Option<Message>,
    /// Whether the level begins with `$`, which matters below the root.
    is_dollar: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Edge {
    parent: u32,
    level: Box<str>,
}

/// An [`Edge`] to look for, without a copy of the level.
struct EdgeKey<'a> {
    parent: u32,
    level: &'a str,
}

impl Default for TopicTrie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(NONE, "")],
            free: Vec::new(),
            edges: HashMap::new(),
            expiries: BTreeSet::new(),
        }
    }
}

impl TopicTrie {
    /// The message of a topic.
    pub(super) fn find(&self, topic: &str) -> Option<&Message> {
        self.nodes[self.node(topic)? as usize].message.as_ref()
    }

    /// Shows all messages, in no particular order.
    pub(super) fn for_each(&self, see: impl FnMut(&Message)) {
        let messages = self.nodes.iter().filter_map(|node| node.message.as_ref());
        messages.for_each(see);
    }

    /// Keeps a message in place of an earlier one. While somebody walks here, the places of
    /// removed nodes are not used again.
    pub(super) fn insert(&mut self, message: Message, is_walked: bool) {
        let mut at = ROOT;
        for level in message.topic().split('/') {
            at = self
                .child(at, level)
                .unwrap_or_else(|| self.add_child(at, level, is_walked));
        }
        self.take(at);
        if let Some(expires_at_ms) = message.expires_at_ms() {
            self.expiries.insert((expires_at_ms, at));
        }
        self.nodes[at as usize].message = Some(message);
    }

    /// Removes the message of a topic, and the nodes that only it needed.
    pub(super) fn remove(&mut self, topic: &str, is_walked: bool) -> Option<Message> {
        let mut at = self.node(topic)?;
        let message = self.take(at)?;
        for level in topic.rsplit('/') {
            let node = &self.nodes[at as usize];
            if node.message.is_some() || node.first_child != NONE {
                break;
            }
            let parent = node.parent;
            self.unlink(at);
            self.edges.remove(&EdgeKey { parent, level });
            self.free.push(at);
            at = parent;
        }
        if self.edges.is_empty() && !is_walked {
            *self = Self::default();
        }
        Some(message)
    }

    /// Visits nodes from where `open` was left, at most as many as `visits_left`, and appends the
    /// messages that match and are not expired.
    pub(super) fn advance(
        &self,
        levels: &[&str],
        open: &mut Vec<Step>,
        visits_left: &mut usize,
        now_ms: u64,
        out: &mut Vec<Message>,
    ) {
        while *visits_left > 0
            && let Some(step) = open.pop()
        {
            *visits_left -= 1;
            let Some(node) = self.nodes.get(step.node as usize) else {
                continue;
            };
            if step.then_siblings && node.next != NONE {
                open.push(Step {
                    node: node.next,
                    ..step
                });
            }
            // Below the root, no wildcard matches a level with `$` [MQTT-4.7.2-1].
            if step.then_siblings && node.parent == ROOT && node.is_dollar {
                continue;
            }
            self.visit(step, levels, open, now_ms, out);
        }
    }

    fn visit(
        &self,
        step: Step,
        levels: &[&str],
        open: &mut Vec<Step>,
        now_ms: u64,
        out: &mut Vec<Message>,
    ) {
        let node = &self.nodes[step.node as usize];
        let level = levels.get(step.depth as usize).copied();
        if matches!(level, None | Some("#")) {
            let message = node.message.as_ref();
            out.extend(message.filter(|it| !it.is_expired(now_ms)).cloned());
        }
        let below = match level {
            None => None,
            Some("#") | Some("+") => (node.first_child != NONE).then_some(node.first_child),
            Some(level) => self.child(step.node, level),
        };
        open.extend(below.map(|node| Step {
            node,
            // `#` stays the level to match for everything below.
            depth: step.depth + u32::from(level != Some("#")),
            then_siblings: matches!(level, Some("#" | "+")),
        }));
    }

    /// Whether [`Self::pop_expired`] would find a message.
    pub(super) fn has_expired(&self, now_ms: u64) -> bool {
        self.expiries
            .first()
            .is_some_and(|&(at_ms, _)| at_ms <= now_ms)
    }

    /// Removes one message whose time is over.
    pub(super) fn pop_expired(&mut self, now_ms: u64, is_walked: bool) -> Option<Message> {
        let &(_, node) = self
            .expiries
            .first()
            .filter(|(at_ms, _)| *at_ms <= now_ms)?;
        let message = self.nodes[node as usize].message.clone()?;
        self.remove(message.topic(), is_walked)
    }

    /// The nodes in use without the root, the edges and the expiries.
    #[cfg(test)]
    pub(super) fn parts(&self) -> [usize; 3] {
        let nodes = self.nodes.len() - self.free.len() - 1;
        [nodes, self.edges.len(), self.expiries.len()]
    }

    /// Takes the message out of a node, and its expiry with it.
    fn take(&mut self, at: u32) -> Option<Message> {
        let message = self.nodes[at as usize].message.take()?;
        if let Some(expires_at_ms) = message.expires_at_ms() {
            self.expiries.remove(&(expires_at_ms, at));
        }
        Some(message)
    }

    fn node(&self, topic: &str) -> Option<u32> {
        topic
            .split('/')
            .try_fold(ROOT, |at, level| self.child(at, level))
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        self.edges.get(&EdgeKey { parent, level }).copied()
    }

    fn add_child(&mut self, parent: u32, level: &str, is_walked: bool) -> u32 {
        let mut node = Node::new(parent, level);
        node.next = self.nodes[parent as usize].first_child;
        let next = node.next;
        let free = if is_walked { None } else { self.free.pop() };
        let child = match free {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                let index = u32::try_from(self.nodes.len() - 1).unwrap_or(NONE);
                assert!(index != NONE, "memory ends before four billion nodes");
                index
            }
        };
        if next != NONE {
            self.nodes[next as usize].previous = child;
        }
        self.nodes[parent as usize].first_child = child;
        self.edges.insert(
            Edge {
                parent,
                level: level.into(),
            },
            child,
        );
        child
    }

    /// Takes a node out of the list of its parent's children.
    fn unlink(&mut self, at: u32) {
        let Node {
            parent,
            next,
            previous,
            ..
        } = self.nodes[at as usize];
        if previous == NONE {
            self.nodes[parent as usize].first_child = next;
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
    }
}

impl Node {
    fn new(parent: u32, level: &str) -> Self {
        Self {
            parent,
            first_child: NONE,
            next: NONE,
            previous: NONE,
            message: None,
            is_dollar: level.starts_with('$'),
        }
    }
}

impl Hash for Edge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        EdgeKey {
            parent: self.parent,
            level: &self.level,
        }
        .hash(state);
    }
}

impl Hash for EdgeKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parent.hash(state);
        self.level.hash(state);
    }
}

impl Equivalent<Edge> for EdgeKey<'_> {
    fn equivalent(&self, edge: &Edge) -> bool {
        self.parent == edge.parent && self.level == &*edge.level
    }
}

/// Where every walk begins.
pub(super) const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;
