//! Reads a change before automerge does, and refuses what automerge would choke on.
//!
//! automerge 0.12 panics on some malformed changes and allocates gigabytes for others: a change of 57
//! bytes can claim 2^50 operations. [`prescan`] walks the bytes once, without allocating for anything
//! a length field claims, and lets only those through whose every run is bounded, whose checksum
//! holds and whose columns are the eight this crate writes (operations on keys of the root map).
//! It is no replacement for `catch_unwind` around automerge, but what makes its memory bounded.

use sha2::{Digest, Sha256};

use crate::limits::{
    MAX_ACTORS, MAX_CHANGE, MAX_COLUMNS, MAX_COUNTER, MAX_DEPS, MAX_KEY, MAX_OPS, MAX_VALUE,
};

/// Why a change was refused; the change is quarantined, its batch goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChange {
    /// Shorter than its lengths say, or a number that does not end.
    #[error("the change is cut off")]
    Truncated,
    /// Bytes after the end.
    #[error("the change has bytes after its end")]
    Trailing,
    /// The first four bytes are not automerge's.
    #[error("not an automerge chunk")]
    Magic,
    /// A document, a deflated change, a bundle or something unknown.
    #[error("chunk type {0} is not a plain change")]
    ChunkType(u8),
    /// The checksum in the header does not fit the bytes.
    #[error("the checksum of the change does not hold")]
    Checksum,
    /// A length, count or number beyond its limit.
    #[error("{what} of the change is {value}, beyond {limit}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// What the change claims.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A column this crate never writes: nested objects, lists, marks, deflated data.
    #[error("column {0} is not one of a flat map")]
    Column(u32),
    /// Columns disagree, numbers are out of range, or something is not in canonical order.
    #[error("the change is malformed: {0}")]
    Malformed(&'static str),
    /// automerge could not read it.
    #[error("automerge refuses the change")]
    Refused,
    /// automerge panicked on it.
    #[error("automerge panicked on the change")]
    Panicked,
}

/// What the header of a change says, checked, and which keys it touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeHead<'a> {
    /// SHA-256 that names the change.
    pub hash: [u8; 32],
    /// The changes it builds on, strictly ascending.
    pub deps: Vec<[u8; 32]>,
    /// Who wrote it.
    pub actor: [u8; 8],
    /// Its number among the actor's changes to this document, from 1.
    pub seq: u64,
    /// Counter of its first operation.
    pub start_op: u64,
    /// How many operations it has, at least 1.
    pub ops: u64,
    /// Unix milliseconds by the clock of whoever wrote it, unverified; 0 if it does not say.
    pub time: i64,
    /// Keys of its operations in order, each with the number of operations it counts for.
    keys: Vec<(&'a str, u64)>,
    /// Whether its operations put something, likewise.
    puts: Vec<(bool, u64)>,
}

impl ChangeHead<'_> {
    /// Counter of the last operation.
    #[must_use]
    pub fn max_op(&self) -> u64 {
        self.start_op + self.ops - 1
    }

    /// Whether the operation of this counter puts a value at `key`.
    #[must_use]
    pub fn puts(&self, counter: u64, key: &str) -> bool {
        counter.checked_sub(self.start_op).is_some_and(|index| {
            nth(&self.keys, index) == Some(&key) && nth(&self.puts, index) == Some(&true)
        })
    }
}

fn nth<T>(runs: &[(T, u64)], index: u64) -> Option<&T> {
    let mut end = 0;
    runs.iter().find_map(|(value, times)| {
        end += times;
        (index < end).then_some(value)
    })
}

/// Splits concatenated chunks at the lengths their headers state, without looking inside.
///
/// # Errors
/// If a header is cut off or foreign.
pub fn split(mut body: &[u8]) -> Result<Vec<&[u8]>, BadChange> {
    let mut chunks = Vec::new();
    while !body.is_empty() {
        let mut r = Reader(body);
        if r.take(4)? != MAGIC {
            return Err(BadChange::Magic);
        }
        r.take(5)?;
        let len = r.len("length", MAX_CHANGE as u64)?;
        r.take(len)?;
        let (chunk, rest) = body.split_at(body.len() - r.0.len());
        chunks.push(chunk);
        body = rest;
    }
    Ok(chunks)
}

/// Checks one change chunk and reads its header.
///
/// # Errors
/// The first rule that does not hold.
pub fn prescan(bytes: &[u8]) -> Result<ChangeHead<'_>, BadChange> {
    limit("length", bytes.len() as u64, MAX_CHANGE as u64)?;
    let mut r = Reader(bytes);
    if r.take(4)? != MAGIC {
        return Err(BadChange::Magic);
    }
    let checksum = r.take(4)?;
    let kind = r.byte()?;
    if kind != 1 {
        return Err(BadChange::ChunkType(kind));
    }
    let len = r.len("length", MAX_CHANGE as u64)?;
    match r.0.len().cmp(&len) {
        std::cmp::Ordering::Less => return Err(BadChange::Truncated),
        std::cmp::Ordering::Greater => return Err(BadChange::Trailing),
        std::cmp::Ordering::Equal => {}
    }
    // The hash covers type, length and data, in the bytes the header has them in.
    let hash: [u8; 32] = Sha256::digest(&bytes[8..]).into();
    if hash[..4] != *checksum {
        return Err(BadChange::Checksum);
    }

    let mut deps: Vec<[u8; 32]> = Vec::new();
    for _ in 0..r.len("dependencies", MAX_DEPS)? {
        let dep = r.array::<32>()?;
        if deps.last().is_some_and(|last| *last >= dep) {
            return Err(BadChange::Malformed("dependencies out of order"));
        }
        deps.push(dep);
    }
    let actor = r.actor()?;
    let seq = r.within("sequence number", 1, MAX_COUNTER)?;
    let start_op = r.within("first operation", 1, MAX_COUNTER)?;
    let time = r.signed()?; // nothing depends on it
    if r.unsigned()? != 0 {
        return Err(BadChange::Malformed("it carries a message"));
    }
    let others = r.len("actors", MAX_ACTORS - 1)?;
    let mut last = None;
    for _ in 0..others {
        let other = r.actor()?;
        if other == actor || last.is_some_and(|l| l >= other) {
            return Err(BadChange::Malformed("actors out of order"));
        }
        last = Some(other);
    }
    let found = columns(&mut r, others as u64 + 1, start_op)?;
    let ops = found.actions;
    limit("last operation", start_op + ops, MAX_COUNTER)?;
    Ok(ChangeHead {
        hash,
        deps,
        actor,
        seq,
        start_op,
        ops,
        time,
        keys: found.key_runs,
        puts: found.put_runs,
    })
}

/// Walks the column table and the columns.
fn columns<'a>(r: &mut Reader<'a>, actors: u64, start_op: u64) -> Result<Counts<'a>, BadChange> {
    let mut table: Vec<(u32, usize)> = Vec::new();
    for _ in 0..r.len("columns", MAX_COLUMNS)? {
        let raw = r.unsigned()?;
        let spec = u32::try_from(raw).map_err(|_| BadChange::Column(u32::MAX))?;
        if !COLUMNS.contains(&spec) {
            return Err(BadChange::Column(spec));
        }
        if table.last().is_some_and(|(last, _)| *last >= spec) {
            return Err(BadChange::Malformed("columns out of order"));
        }
        table.push((spec, r.len("column length", MAX_CHANGE as u64)?));
    }
    let mut counts = Counts::default();
    for (spec, len) in table {
        counts.column(spec, r.take(len)?, actors, start_op)?;
    }
    if !r.0.is_empty() {
        return Err(BadChange::Malformed("bytes after the columns"));
    }
    counts.agree()?;
    Ok(counts)
}

/// Entries of each column, to hold them against each other.
#[derive(Default)]
struct Counts<'a> {
    key_runs: Vec<(&'a str, u64)>,
    put_runs: Vec<(bool, u64)>,
    keys: u64,
    inserts: u64,
    actions: u64,
    metas: u64,
    value_bytes: u64,
    values: u64,
    groups: u64,
    preds: u64,
    pred_actors: u64,
    pred_counters: u64,
}

impl<'a> Counts<'a> {
    fn column(
        &mut self,
        spec: u32,
        data: &'a [u8],
        actors: u64,
        start_op: u64,
    ) -> Result<(), BadChange> {
        match spec {
            KEY => {
                let found = &mut self.key_runs;
                self.keys = runs(data, |r, times| {
                    let len = r.len("key", MAX_KEY as u64)?;
                    let key = std::str::from_utf8(r.take(len)?);
                    found.push((
                        key.map_err(|_| BadChange::Malformed("key is not text"))?,
                        times,
                    ));
                    Ok(())
                })?;
            }
            INSERT => {
                let mut r = Reader(data);
                self.inserts = r.unsigned()?;
                if !r.0.is_empty() {
                    return Err(BadChange::Malformed("it inserts into a list"));
                }
            }
            ACTION => {
                let found = &mut self.put_runs;
                self.actions = runs(data, |r, times| {
                    found.push(match r.unsigned()? {
                        PUT => (true, times),
                        DELETE => (false, times),
                        _ => return Err(BadChange::Malformed("neither put nor delete")),
                    });
                    Ok(())
                })?;
            }
            META => {
                let bytes = &mut self.value_bytes;
                self.metas = runs(data, |r, times| {
                    let meta = r.unsigned()?;
                    let len = meta >> 4;
                    limit("value", len, MAX_VALUE as u64)?;
                    // null (of a delete), false, true, int, text, bytes
                    if !matches!(meta & 15, 0 | 1 | 2 | 4 | 6 | 7) {
                        return Err(BadChange::Malformed("value of a foreign type"));
                    }
                    *bytes += len * times;
                    limit("values", *bytes, MAX_CHANGE as u64)
                })?;
            }
            VALUE => self.values = data.len() as u64,
            GROUP => {
                let preds = &mut self.preds;
                self.groups = runs(data, |r, times| {
                    let count = r.unsigned()?;
                    limit("predecessors", count, MAX_OPS)?;
                    *preds += count * times;
                    limit("predecessors", *preds, MAX_OPS)
                })?;
            }
            PRED_ACTOR => {
                self.pred_actors = runs(data, |r, _| {
                    if r.unsigned()? < actors {
                        Ok(())
                    } else {
                        Err(BadChange::Malformed("actor index"))
                    }
                })?;
            }
            PRED_COUNTER => {
                let mut counter = 0i64;
                let mut check = |delta: i64| {
                    counter = counter
                        .checked_add(delta)
                        .ok_or(BadChange::Malformed("predecessor"))?;
                    // What a change replaces is older than the change.
                    let inside = u64::try_from(counter).is_ok_and(|c| c > 0 && c < start_op);
                    if inside {
                        Ok(())
                    } else {
                        Err(BadChange::Malformed("predecessor"))
                    }
                };
                self.pred_counters = runs(data, |r, times| {
                    let delta = r.signed()?;
                    (0..times).try_for_each(|_| check(delta))
                })?;
            }
            other => return Err(BadChange::Column(other)),
        }
        Ok(())
    }

    fn agree(&self) -> Result<(), BadChange> {
        let ops = self.actions;
        if ops == 0 {
            return Err(BadChange::Malformed("no operation"));
        }
        let per_op = [self.keys, self.inserts, self.metas, self.groups];
        let per_pred = [self.pred_actors, self.pred_counters];
        if per_op.iter().any(|n| *n != ops)
            || per_pred.iter().any(|n| *n != self.preds)
            || self.values != self.value_bytes
        {
            return Err(BadChange::Malformed("columns of different lengths"));
        }
        Ok(())
    }
}

/// Walks a run-length column, calling `value` once per stored value with the times it counts; returns the entries.
fn runs<'a>(
    data: &'a [u8],
    mut value: impl FnMut(&mut Reader<'a>, u64) -> Result<(), BadChange>,
) -> Result<u64, BadChange> {
    let mut r = Reader(data);
    let mut entries = 0u64;
    while !r.0.is_empty() {
        let run = r.signed()?;
        let count = run.unsigned_abs();
        limit("run", count, MAX_OPS)?;
        entries += count;
        limit("entries", entries, MAX_OPS)?;
        match run {
            0 => return Err(BadChange::Malformed("a run of nothing")),
            1.. => value(&mut r, count)?,
            _ => (0..count).try_for_each(|_| value(&mut r, 1))?,
        }
    }
    Ok(entries)
}

fn limit(what: &'static str, value: u64, limit: u64) -> Result<(), BadChange> {
    if value > limit {
        Err(BadChange::Limit { what, value, limit })
    } else {
        Ok(())
    }
}

/// Bytes still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], BadChange> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(BadChange::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, BadChange> {
        let (first, rest) = self.0.split_first().ok_or(BadChange::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadChange> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(BadChange::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn actor(&mut self) -> Result<[u8; 8], BadChange> {
        if self.unsigned()? == 8 {
            self.array()
        } else {
            Err(BadChange::Malformed("actor is not of 8 bytes"))
        }
    }

    /// Unsigned LEB128 in its shortest form.
    fn unsigned(&mut self) -> Result<u64, BadChange> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(BadChange::Malformed("number"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || shift == 0;
                return if shortest {
                    Ok(value)
                } else {
                    Err(BadChange::Malformed("number"))
                };
            }
        }
        Err(BadChange::Malformed("number"))
    }

    /// Signed LEB128.
    fn signed(&mut self) -> Result<i64, BadChange> {
        let mut value = 0i64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = i64::from(byte & 0x7f);
            if shift == 63 && bits != 0 && bits != 0x7f {
                return Err(BadChange::Malformed("number"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if shift < 57 && byte & 0x40 != 0 {
                    value |= -1i64 << (shift + 7);
                }
                return Ok(value);
            }
        }
        Err(BadChange::Malformed("number"))
    }

    fn within(&mut self, what: &'static str, from: u64, to: u64) -> Result<u64, BadChange> {
        let value = self.unsigned()?;
        if value < from {
            return Err(BadChange::Malformed(what));
        }
        limit(what, value, to)?;
        Ok(value)
    }

    /// A length or count no higher than `max`.
    fn len(&mut self, what: &'static str, max: u64) -> Result<usize, BadChange> {
        let value = self.within(what, 0, max)?;
        usize::try_from(value).map_err(|_| BadChange::Limit {
            what,
            value,
            limit: max,
        })
    }
}

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const PUT: u64 = 1;
const DELETE: u64 = 3;

// Column specifications: column number times 16, plus the type.
const KEY: u32 = 21;
const INSERT: u32 = 52;
const ACTION: u32 = 66;
const META: u32 = 86;
const VALUE: u32 = 87;
const GROUP: u32 = 112;
const PRED_ACTOR: u32 = 113;
const PRED_COUNTER: u32 = 115;
const COLUMNS: [u32; 8] = [
    KEY,
    INSERT,
    ACTION,
    META,
    VALUE,
    GROUP,
    PRED_ACTOR,
    PRED_COUNTER,
];
