//! The one table of limits of this crate: unit and reason for each.
//!
//! Every length that somebody else chooses is held against one of these before memory is taken for it.
//! Raising one is harmless for old data; lowering one makes what others already wrote unreadable.

/// Bytes of one sealed batch or page: one frame of the log stream, one envelope of a mailbox.
pub const MAX_SEALED: usize = 1 << 20;
/// Bytes of a batch or page once opened and decompressed: bounds what one hostile frame can make us hold.
pub const MAX_OPEN: usize = 8 << 20;
/// Decompressed bytes per compressed byte: history of one item packs about 100 times, bombs 1,000 times and more.
pub const MAX_RATIO: usize = 512;
/// Decompressed bytes that are allowed whatever the ratio: what could have been sent plainly may also be
/// unpacked, so that no batch filled to less is ever unsendable for packing too well.
pub const RATIO_FREE: usize = 1 << 20;
/// Changes of one batch: one database transaction stays below 50 ms.
pub const MAX_BATCH_CHANGES: usize = 1_000;
/// Logs a batch names as seen, marks of a page, entries of a vector: 32 devices with many incarnations each.
pub const MAX_LOGS: usize = 4_096;
/// Documents of one page: items of the smallest possible size fill a page long before.
pub const MAX_PAGE_DOCS: usize = 65_536;

/// Bytes of one change: it has to fit a batch alone, with its envelope.
pub const MAX_CHANGE: usize = (1 << 20) - (64 << 10);
/// Bytes no change is shorter than: bounds how many a page can claim to hold, each of which costs memory.
pub const MIN_CHANGE: usize = 40;
/// Operations of one change, and entries of each of its run-length columns: a 57-byte change can claim 2^50.
pub const MAX_OPS: u64 = 10_000;
/// Actors one change may name: 32 devices and their older incarnations.
pub const MAX_ACTORS: u64 = 64;
/// Columns of one change; automerge writes at most 14, this crate 8.
pub const MAX_COLUMNS: u64 = 32;
/// Changes one change may directly depend on: as many heads as there can be concurrent writers.
pub const MAX_DEPS: u64 = 256;
/// Highest operation counter and sequence number: automerge keeps both in 32 bits and panics beyond.
pub const MAX_COUNTER: u64 = 1 << 30;
/// Bytes of a register's name.
pub const MAX_KEY: usize = 64;
/// Bytes of a register's value.
pub const MAX_VALUE: usize = 64 << 10;
/// Bytes of one document's changes together: a file touched every minute for ten years stays below.
pub const MAX_BODY: usize = 256 << 20;

/// Bytes of an item's name: four bytes for each of 255 characters, rounded up.
pub const MAX_NAME: usize = 1_024;
/// Bytes of a symlink's target: PATH_MAX of Linux.
pub const MAX_TARGET: usize = 4_096;

/// Bytes of one control message.
pub const MAX_MESSAGE: usize = 4 << 20;
/// Statements or statement hashes of one message: the registry's own limit.
pub const MAX_STATEMENTS: usize = 4_096;
/// Bytes of one registry statement.
pub const MAX_STATEMENT: usize = 64 << 10;
/// Batches of one message: 4 MiB filled with the smallest batches there are.
pub const MAX_MESSAGE_BATCHES: usize = 16_384;
/// Bytes of the reason given with a goodbye: one line of text.
pub const MAX_REASON: usize = 256;
