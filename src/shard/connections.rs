//! The connections of a shard, and which of them have something to write.

use super::client::Connection;
use super::slots::{Key, Slots};

/// Owns the connections and the buffers that idle ones do not hold.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Slots<Connection>,
    touched: Vec<Key>,
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
}

impl Connections {
    pub(super) fn insert(&mut self, connection: Connection) -> Key {
        self.slots.insert(connection)
    }

    pub(super) fn lookup(&self, key: Key) -> Option<&Connection> {
        self.slots.lookup(key)
    }

    pub(super) fn lookup_mut(&mut self, key: Key) -> Option<&mut Connection> {
        self.slots.lookup_mut(key)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Connection> {
        self.slots.remove(key)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.slots.keys()
    }

    /// A connection to append packets to: it is written at the end of this turn.
    pub(super) fn writable(&mut self, key: Key) -> Option<&mut Connection> {
        let connection = self.slots.lookup_mut(key)?;
        if !connection.is_touched {
            connection.is_touched = true;
            self.touched.push(key);
            let tail = connection.out.tail();
            if tail.capacity() == 0
                && let Some(spare) = self.spare.pop()
            {
                self.spare_bytes -= spare.capacity();
                *tail = spare;
            }
        }
        Some(connection)
    }

    /// Appends those touched since the last call to `keys`.
    pub(super) fn take_touched(&mut self, keys: &mut Vec<Key>) {
        for key in &self.touched {
            if let Some(connection) = self.slots.lookup_mut(*key) {
                connection.is_touched = false;
            }
        }
        keys.append(&mut self.touched);
    }

    /// So many bytes of a connection were written.
    pub(super) fn written(&mut self, key: Key, count: usize) {
        let Some(connection) = self.slots.lookup_mut(key) else {
            return;
        };
        if let Some(buffer) = connection.out.advance(count)
            && buffer.capacity() > 0
            && self.spare_bytes + buffer.capacity() <= SPARE_BYTES_MAX
        {
            self.spare_bytes += buffer.capacity();
            self.spare.push(buffer);
        }
    }
}

/// Buffers kept for the next connections that have something to write.
const SPARE_BYTES_MAX: usize = 1 << 20;
