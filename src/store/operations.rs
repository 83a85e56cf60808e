//! What a shard does in one turn.

use super::few::Few;
use super::id::{MessageId, QueueId};
use super::operation::Operation;

/// Changes in the order in which they happened, and what they are all together: looked at as they
/// come, while they are at hand.
#[derive(Clone, Debug, Default)]
pub struct Operations {
    list: Vec<Operation>,
    bytes: usize,
    changes_retained: bool,
}

impl Operations {
    /// Appends one.
    pub fn push(&mut self, operation: Operation) {
        self.bytes += operation.bytes();
        self.changes_retained |= operation.changes_retained();
        self.list.push(operation);
    }

    /// A receiver is done with a message: of many one after the other, one operation tells.
    pub fn settle(&mut self, queue: QueueId, id: MessageId) {
        let last = self.list.last_mut();
        if last.is_some_and(|it| it.settles_too(queue, id)) {
            self.bytes += size_of::<MessageId>();
        } else {
            let ids = Few::One(id);
            self.push(Operation::Settle { queue, ids });
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// For how many there is memory.
    pub fn capacity(&self) -> usize {
        self.list.capacity()
    }

    /// Forgets all but the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes = 0;
        self.changes_retained = false;
    }

    /// About how many bytes they take, in memory and on disk.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn changes_retained(&self) -> bool {
        self.changes_retained
    }

    pub(super) fn as_slice(&self) -> &[Operation] {
        &self.list
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Operation] {
        &mut self.list
    }
}

impl From<Vec<Operation>> for Operations {
    fn from(list: Vec<Operation>) -> Self {
        let bytes = list.iter().map(Operation::bytes).sum();
        let changes_retained = list.iter().any(Operation::changes_retained);
        Self {
            list,
            bytes,
            changes_retained,
        }
    }
}

impl IntoIterator for Operations {
    type Item = Operation;
    type IntoIter = std::vec::IntoIter<Operation>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}
