//! Encoded packets of one connection that are not yet written.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

/// Bytes to write, in order: shared runs and the connection's own.
///
/// # Shape
/// `first`, then `more`, then `tail`; of the first piece `written` bytes are gone already.
#[derive(Debug, Default)]
pub struct OutBuffer {
    first: Option<Chunk>,
    /// Empty without `first`.
    more: VecDeque<Chunk>,
    chunk_bytes: usize,
    tail: Vec<u8>,
    written: usize,
}

#[derive(Debug)]
enum Chunk {
    /// The same bytes for many receivers.
    Shared(Arc<[u8]>),
    /// Our own, sealed because something shared follows.
    Own(Vec<u8>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

impl OutBuffer {
    /// How many bytes are to be written.
    pub fn len(&self) -> usize {
        self.chunk_bytes + self.tail.len() - self.written
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where packets are appended.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends bytes without copying them.
    pub(crate) fn push_shared(&mut self, bytes: &Arc<[u8]>) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.push(Chunk::Own(tail));
        }
        self.push(Chunk::Shared(Arc::clone(bytes)));
    }

    fn push(&mut self, chunk: Chunk) {
        self.chunk_bytes += chunk.bytes().len();
        match self.first {
            None => self.first = Some(chunk),
            Some(_) => self.more.push_back(chunk),
        }
    }

    /// The first bytes to write, contiguous; empty if there are none.
    pub fn front(&self) -> &[u8] {
        let first = self.first.as_ref().map_or(&self.tail[..], Chunk::bytes);
        first.get(self.written..).unwrap_or_default()
    }

    /// Fills `slices` with what is to be written, in order, and returns how many it filled.
    pub fn fill_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let chunks = self.first.iter().chain(&self.more).map(Chunk::bytes);
        let pieces = chunks
            .chain(std::iter::once(&self.tail[..]))
            .filter(|piece| !piece.is_empty());
        let mut filled = 0;
        for (piece, slice) in pieces.zip(slices.iter_mut()) {
            let skipped = if filled == 0 { self.written } else { 0 };
            *slice = IoSlice::new(piece.get(skipped..).unwrap_or_default());
            filled += 1;
        }
        filled
    }

    /// Whether there is more than [`OutBuffer::front`].
    pub fn is_scattered(&self) -> bool {
        self.first.is_some() && (!self.more.is_empty() || !self.tail.is_empty())
    }

    /// So many bytes were written. Gives back the buffer of the connection once it is empty.
    pub(crate) fn advance(&mut self, mut count: usize) -> Option<Vec<u8>> {
        while let Some(chunk) = &self.first {
            let length = chunk.bytes().len();
            let left = length - self.written;
            if count < left {
                self.written += count;
                return None;
            }
            count -= left;
            self.written = 0;
            self.chunk_bytes -= length;
            self.first = self.more.pop_front();
        }
        self.written += count;
        if self.written >= self.tail.len() {
            let mut tail = std::mem::take(self).tail;
            tail.clear();
            return Some(tail);
        }
        if self.written > self.tail.len() / 2 {
            self.tail.drain(..self.written);
            self.written = 0;
        }
        None
    }

    /// Takes out all bytes that are not written.
    pub fn take(&mut self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len() + self.written);
        for chunk in self.first.iter().chain(&self.more) {
            all.extend_from_slice(chunk.bytes());
        }
        all.append(&mut self.tail);
        all.drain(..self.written);
        *self = Self::default();
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_appended_is_written_in_order(
            steps in prop::collection::vec((any::<bool>(), 0usize..50, 0usize..60), 0..60),
        ) {
            let mut buffer = OutBuffer::default();
            let (mut expected, mut seen) = (Vec::new(), Vec::new());
            for (next, (is_shared, length, written)) in (0u8..).zip(steps) {
                let bytes = vec![next; length];
                expected.extend_from_slice(&bytes);
                if is_shared {
                    buffer.push_shared(&Arc::from(bytes));
                } else {
                    buffer.tail().extend_from_slice(&bytes);
                }
                let count = written.min(buffer.front().len());
                seen.extend_from_slice(&buffer.front()[..count]);
                let spare = buffer.advance(count);
                prop_assert_eq!(spare.is_some(), buffer.is_empty());
                prop_assert_eq!(buffer.len(), expected.len() - seen.len());
                let mut slices = [IoSlice::new(&[]); 128];
                let filled = buffer.fill_slices(&mut slices);
                let parts = slices[..filled].iter();
                let vectored: Vec<u8> = parts.flat_map(|it| it.to_vec()).collect();
                prop_assert_eq!(&vectored[..], &expected[seen.len()..]);
            }
            seen.extend(buffer.take());
            prop_assert_eq!(seen, expected);
            prop_assert!(buffer.is_empty());
        }
    }
}
