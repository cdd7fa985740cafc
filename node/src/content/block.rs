//! Buffers of one size which go round between a stream and the thread that reads or writes files.
//!
//! They keep memory bounded (a stream owns so many and no more) and spare the clearing of half a mebibyte for each one
//! that moves.

use std::sync::{Mutex, PoisonError};

use super::wire::{Head, MAX_PIECE};

/// Room in a block: the longest piece and its head.
const ROOM: usize = MAX_PIECE as usize + Head::LEN;

/// A buffer that is filled from the front.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Vec<u8>,
    used: usize,
}

impl Block {
    fn new() -> Self {
        // Zeroed by the system when first touched, so a nearly empty block costs little.
        Self {
            bytes: vec![0; ROOM],
            used: 0,
        }
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(super) fn room(&self) -> usize {
        ROOM - self.used
    }

    /// The next `len` free bytes, to be filled and then taken in with [`Self::advance`].
    pub(super) fn free(&mut self, len: usize) -> &mut [u8] {
        let end = ROOM.min(self.used + len);
        &mut self.bytes[self.used..end]
    }

    pub(super) fn advance(&mut self, len: usize) {
        self.used = ROOM.min(self.used + len);
    }
}

/// Blocks that are not in use.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<Vec<Block>>,
    keep: usize,
}

impl Pool {
    /// A pool that keeps up to `keep` blocks. How many there are in all is bounded by the channel they travel in.
    pub(super) fn new(keep: usize) -> Self {
        Self {
            idle: Mutex::new(Vec::new()),
            keep,
        }
    }

    pub(super) fn take(&self) -> Block {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        idle.unwrap_or_else(Block::new)
    }

    pub(super) fn give(&self, mut block: Block) {
        block.used = 0;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.keep {
            idle.push(block);
        }
    }
}
