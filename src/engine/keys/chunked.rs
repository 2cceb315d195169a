//! A list in pieces of equal length, so that growing copies no more than one of them. Pieces are large, so that the allocator's
//! own notes of each are nothing beside it. Must never move what lies in a full one.

use std::ops::{Index, IndexMut};

/// What a piece has room for.
const CHUNK: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Chunked<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Chunked<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of its pieces.
    pub(super) fn bytes(&self) -> usize {
        // One that another follows is full, and so is its room.
        let room = self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.capacity());
        room * size_of::<T>()
    }

    pub(super) fn push(&mut self, item: T) {
        if self.len.is_multiple_of(CHUNK) {
            // The first one grows: there may never be as many.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        self.chunks[self.len / CHUNK].push(item);
        self.len += 1;
    }

    /// Takes the last piece away, with what it has; false when there is none.
    pub(super) fn drop_chunk(&mut self) -> bool {
        let Some(chunk) = self.chunks.pop() else { return false };
        self.len -= chunk.len();
        true
    }
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Chunked { chunks: Vec::new(), len: 0 }
    }
}

impl<T> Index<usize> for Chunked<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.chunks[index / CHUNK][index % CHUNK]
    }
}

impl<T> IndexMut<usize> for Chunked<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }
}
