//! Content-defined cutting: where a file's bytes are parted into chunks.
//!
//! Stands between a reader of a file and the keyed hash that names each chunk. Two dangers are guarded against: that
//! two devices cut the same bytes differently (then nothing is shared, so the cuts are a function of the seed and the
//! bytes alone, whatever the sizes of the blocks they were read in, and a frozen vector holds them), and that an
//! insertion early in a file changes every later chunk (so cuts depend on the last [`WINDOW`] bytes alone).
//!
//! The rule, in full also in `docs/format/chunks.md`: a file of at most [`ONE_CHUNK`] bytes is one chunk. In a longer
//! one the Gear hash `h = (h << 1) + T[byte]` runs over the bytes, and a chunk ends behind the first byte, at a length
//! of at least [`MIN`], where `h & mask == 0`; the mask has [`HARD_BITS`] bits below [`NORMAL`] and [`EASY_BITS`] from
//! there on, which gathers the lengths around the mean (512 KiB). At [`MAX`] a chunk ends in any case.
//!
//! The table `T` comes from the space secret. That hides chunk lengths from somebody who has not got it only until he
//! collects enough of them: an obstacle, not a proof. Packs are what hides lengths.

use std::fmt;
use std::sync::Arc;

use ownmesh_crypto::Label;

/// Files up to this many bytes are a single chunk (1 MiB): below it, cutting saves less than the list costs, and the
/// chunk's id has the same bytes as the content hash, so no list is needed at all.
pub const ONE_CHUNK: usize = 1 << 20;
/// No chunk but the last of a file is shorter, in bytes (128 KiB); the bytes before it are not looked at, a quarter of
/// the work.
pub const MIN: usize = 128 << 10;
/// From this length on, in bytes (416 KiB), the easy mask holds; chosen so that the mean length on random bytes is
/// 512 KiB with the two masks below.
pub const NORMAL: usize = 416 << 10;
/// No chunk is longer, in bytes (2 MiB): the buffer a reader needs, and the largest piece of a pack.
pub const MAX: usize = 2 << 20;
/// The bytes a cut depends on: a 64-bit Gear hash has shifted a byte out after as many steps.
pub const WINDOW: usize = 64;
/// Bits of the mask below [`NORMAL`]: a cut at one byte in 2 Mi.
pub const HARD_BITS: u32 = 21;
/// Bits of the mask from [`NORMAL`] on: a cut at one byte in 128 Ki.
pub const EASY_BITS: u32 = 17;

/// The top bits of the hash depend on the most bytes. Bit 63 stays free, so that the test of the first of two bytes
/// can be made one position to the left.
const HARD: u64 = mask(HARD_BITS);
const EASY: u64 = mask(EASY_BITS);

const fn mask(bits: u32) -> u64 {
    ((1u64 << bits) - 1) << (63 - bits)
}

/// Cuts the bytes of one file after another.
///
/// Cheap to clone: the table is shared, the position is not.
#[derive(Clone)]
pub struct Cutter {
    table: Arc<Table>,
    /// Bytes of the present chunk already in `hash`; 0 before the first look.
    at: usize,
    hash: u64,
    /// Nothing was cut off the present file yet.
    first: bool,
}

impl Cutter {
    /// Builds the table of a space from its cut seed.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        Self {
            table: Arc::new(Table::expand(seed)),
            at: 0,
            hash: 0,
            first: true,
        }
    }

    /// Says how long the next chunk is, given the bytes since the last cut that are at hand.
    ///
    /// Every call passes the bytes of the one before and more behind them; no byte is looked at twice. `eof` says that
    /// the file ends with `data`. When it is set and the returned length is all of `data`, the file is over and the
    /// cutter is ready for another one.
    ///
    /// Returns: the length of the chunk at the front of `data`, never zero; `None` if more bytes are needed, which
    /// never happens from [`MAX`] bytes on, and at the end of a file only if `data` is empty.
    pub fn next(&mut self, data: &[u8], eof: bool) -> Option<usize> {
        if self.first && data.len() <= ONE_CHUNK {
            return self.at_end(data, eof);
        }
        let len = data.len().min(MAX);
        if len <= MIN {
            return self.at_end(data, eof);
        }
        // Up to MIN no cut is possible: warm up over the window before it. `at` MIN - 1 means that the next byte
        // makes a chunk of exactly MIN.
        if self.at < MIN - 1 {
            self.hash = data[MIN - 1 - WINDOW..MIN - 1]
                .iter()
                .fold(0, |hash, &byte| self.table.step(hash, byte));
            self.at = MIN - 1;
        }
        // A chunk of length l is tested with the hard mask if l < NORMAL.
        let cut = self
            .scan(&data[..len.min(NORMAL - 1)], HARD)
            .or_else(|| self.scan(&data[..len], EASY))
            .or((len == MAX).then_some(MAX));
        match cut {
            Some(cut) => {
                self.cut(cut == data.len() && eof);
                Some(cut)
            }
            None => self.at_end(data, eof),
        }
    }

    /// Forgets the file at hand, for one that was given up half way.
    pub fn reset(&mut self) {
        self.cut(true);
    }

    fn at_end(&mut self, data: &[u8], eof: bool) -> Option<usize> {
        if !eof {
            return None;
        }
        self.cut(true);
        (!data.is_empty()).then_some(data.len())
    }

    fn cut(&mut self, over: bool) {
        self.at = 0;
        self.hash = 0;
        self.first = over;
    }

    /// Goes on to the end of `data`, two bytes a step; returns the length at the first cut.
    fn scan(&mut self, data: &[u8], mask: u64) -> Option<usize> {
        let rest = data.get(self.at..)?;
        let Table { one, two } = &*self.table;
        let mut hash = self.hash;
        let pairs = rest.chunks_exact(2);
        let odd = pairs.remainder();
        for (n, pair) in pairs.enumerate() {
            // (h << 2) + (T[a] << 1) is the hash behind `a`, one position to the left.
            hash = (hash << 2).wrapping_add(two[usize::from(pair[0])]);
            if hash & (mask << 1) == 0 {
                return Some(self.at + 2 * n + 1);
            }
            hash = hash.wrapping_add(one[usize::from(pair[1])]);
            if hash & mask == 0 {
                return Some(self.at + 2 * n + 2);
            }
        }
        if let [byte] = odd {
            hash = self.table.step(hash, *byte);
            if hash & mask == 0 {
                return Some(data.len());
            }
        }
        self.hash = hash;
        self.at = data.len();
        None
    }
}

impl fmt::Debug for Cutter {
    /// The table is derived from a secret and stays out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutter")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// The Gear table, and the same shifted by one for the first byte of a pair.
struct Table {
    one: [u64; 256],
    two: [u64; 256],
}

impl Table {
    /// Four entries a hash: `SHA-256(label ‖ seed ‖ counter)`, the counter and the entries little-endian.
    fn expand(seed: &[u8; 32]) -> Self {
        let mut one = [0; 256];
        for (counter, entries) in (0u32..).zip(one.chunks_exact_mut(4)) {
            let hash = ownmesh_crypto::hash(Label::SPACE_CUT, &[seed, &counter.to_le_bytes()]);
            for (entry, bytes) in entries.iter_mut().zip(hash.as_chunks::<8>().0) {
                *entry = u64::from_le_bytes(*bytes);
            }
        }
        Self {
            one,
            two: one.map(|entry| entry << 1),
        }
    }

    fn step(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.one[usize::from(byte)])
    }
}
