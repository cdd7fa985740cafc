//! The user's file, read once: its content hash and the chunks it is cut into.
//!
//! The danger guarded against is a hash of bytes that never stood in the file together: the open
//! file must look the same before and after, or nothing is said of it. And a write that falls into
//! the same tick of the filesystem's clock as the hashing leaves no trace in the stat: such a file
//! is *racy* (git's rule) and hashed again by the next scan.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use ownmesh_crdt::item::Content;
use ownmesh_crypto::ids::{ChunkId, ContentHash};
use ownmesh_crypto::space::SpaceSecret;
use ownmesh_tiering::chunker::{self, Cutter};

use super::{Disk, Meta, ReadAt, RelPath, database, snapshot};

/// Bytes of one read.
const BLOCK: usize = 1 << 20;

/// Clocks of filesystems tick with the kernel (1 to 10 ms); two ticks and some reserve.
const RACY_NS: i64 = 20_000_000;

/// Filesystems that keep whole seconds only; FAT's are two seconds long.
const RACY_COARSE_NS: i64 = 2_000_000_000;

/// A content from here on gets a thread of its own for its hash, beside the one that cuts.
const TWO_THREADS: u64 = 8 << 20;

/// One piece of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Keyed hash of its bytes.
    pub id: ChunkId,
    /// Its length.
    pub len: u32,
}

/// A file that was read as a whole and did not change meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct Hashed {
    /// Always a file's.
    pub content: Content,
    /// Its chunks in order; empty if it is one chunk, whose id then has the content hash's bytes.
    pub chunks: Vec<Chunk>,
    /// The file as it looked after the last read.
    pub meta: Meta,
    /// Written so recently that a further write might not show in `meta`.
    pub racy: bool,
    /// A database with a log that SQLite cannot read, and why: what is in the log is left out.
    pub damaged: Option<String>,
}

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// It was written to while it was read.
    #[error("the file changed while it was read")]
    Changed,
    /// Nothing is there any more.
    #[error("the file is gone")]
    Gone,
    /// Something else is there.
    #[error("not a regular file")]
    NotAFile,
    /// It cannot be read.
    #[error("the file cannot be read")]
    Io(#[source] io::Error),
}

impl From<io::Error> for HashError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Gone,
            // What `Disk::open` says of FIFOs and directories.
            io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => Self::NotAFile,
            _ => Self::Io(error),
        }
    }
}

/// Whether a file that looked like this when hashing began at `start` may be written unseen.
///
/// An mtime in the future was set by a program and says nothing; every write moves the ctime.
pub fn is_racy(meta: &Meta, start: i64) -> bool {
    /// The coarsest clock's tick divides both stamps only where the filesystem has no finer one.
    const SECOND: i64 = 1_000_000_000;
    if ownmesh_crdt::mutated!(RacyIgnored) {
        return false;
    }
    let written = if meta.mtime_ns > start {
        meta.ctime_ns
    } else {
        meta.mtime_ns.max(meta.ctime_ns)
    };
    let coarse = meta.mtime_ns % SECOND == 0 && meta.ctime_ns % SECOND == 0;
    written >= start - if coarse { RACY_COARSE_NS } else { RACY_NS }
}

/// Hashes and cuts one file; a large one with a second thread.
pub fn hash_file(
    disk: &dyn Disk,
    path: &RelPath,
    secret: &SpaceSecret,
) -> Result<Hashed, HashError> {
    hash_one(disk, path, secret, true)
}

/// Hashes many files at once, on as many threads as the disk allows.
///
/// Memory: at most 4 MiB a thread. The results come in the order of the paths.
pub fn hash_files(
    disk: &dyn Disk,
    paths: &[RelPath],
    secret: &SpaceSecret,
) -> Vec<Result<Hashed, HashError>> {
    let workers = disk.readers().min(paths.len());
    if workers <= 1 {
        return paths
            .iter()
            .map(|path| hash_file(disk, path, secret))
            .collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((n, path)) = {
            let n = next.fetch_add(1, Ordering::Relaxed);
            paths.get(n).map(|path| (n, path))
        } {
            done.push((n, hash_one(disk, path, secret, false)));
        }
        done
    };
    let mut all: Vec<(usize, Result<Hashed, HashError>)> = thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            match other.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(n, _)| *n);
    all.into_iter().map(|(_, hashed)| hashed).collect()
}

fn hash_one(
    disk: &dyn Disk,
    path: &RelPath,
    secret: &SpaceSecret,
    may_spawn: bool,
) -> Result<Hashed, HashError> {
    let file = disk.open(path)?;
    if let Some(header) = database::header_of(&*file, &file.meta()?)? {
        // Not open twice: closing a file takes its locks away.
        drop(file);
        return snapshot::hash_database(disk, path, &header, secret);
    }
    hash_open(disk, &*file, secret, may_spawn)
}

/// Hashes and cuts a file as it is, whatever it is.
pub(super) fn hash_plain(
    disk: &dyn Disk,
    path: &RelPath,
    secret: &SpaceSecret,
) -> Result<Hashed, HashError> {
    hash_open(disk, &*disk.open(path)?, secret, true)
}

fn hash_open(
    disk: &dyn Disk,
    file: &dyn ReadAt,
    secret: &SpaceSecret,
    may_spawn: bool,
) -> Result<Hashed, HashError> {
    let start = disk.now_ns();
    let before = file.meta()?;
    let read = Exact {
        file,
        size: before.size,
    };
    let (hash, chunks) = if before.size <= chunker::ONE_CHUNK as u64 {
        (read.all(secret)?, Vec::new())
    } else if may_spawn && before.size >= TWO_THREADS {
        read.cut_beside(secret)?
    } else {
        let mut hasher = secret.content_hasher();
        let mut chunks = Vec::new();
        read.cut(secret, |part| match part {
            Part::Block(bytes) => hasher.update(bytes),
            Part::Chunk(bytes) => chunks.push(Chunk {
                id: secret.chunk_id(bytes),
                len: length(bytes.len()),
            }),
        })?;
        (hasher.finalize(), chunks)
    };
    let meta = file.meta()?;
    if meta.stat() != before.stat() {
        return Err(HashError::Changed);
    }
    let racy = is_racy(&meta, start);
    Ok(Hashed {
        content: Content::File {
            size: meta.size,
            hash,
        },
        chunks,
        meta,
        racy,
        damaged: None,
    })
}

/// A file that has to have exactly this size.
struct Exact<'a> {
    file: &'a dyn ReadAt,
    size: u64,
}

impl Exact<'_> {
    /// Reads at `offset` until `buf` is full.
    fn fill(&self, buf: &mut [u8], offset: u64) -> Result<(), HashError> {
        let mut len = 0;
        while len < buf.len() {
            match self.file.read_at(&mut buf[len..], offset + len as u64)? {
                0 => return Err(HashError::Changed),
                got => len += got,
            }
        }
        Ok(())
    }

    /// A file of one chunk.
    fn all(&self, secret: &SpaceSecret) -> Result<ContentHash, HashError> {
        let mut buf = vec![0; usize::try_from(self.size).map_err(|_| HashError::Changed)?];
        self.fill(&mut buf, 0)?;
        Ok(secret.content_hash(&buf))
    }

    /// A longer one, in blocks as it is read and in chunks as it is cut; a chunk comes after its blocks.
    fn cut(&self, secret: &SpaceSecret, mut part: impl FnMut(Part<'_>)) -> Result<(), HashError> {
        let mut cutter = Cutter::new(&secret.cut_seed());
        // From MAX bytes on there is always a cut, so that a block more is always room enough; with
        // two, what is left over is moved to the front half as often.
        let mut buf = vec![0; chunker::MAX + 2 * BLOCK];
        let (mut start, mut end, mut read) = (0, 0, 0);
        loop {
            while let Some(len) = cutter.next(&buf[start..end], read == self.size) {
                part(Part::Chunk(&buf[start..start + len]));
                start += len;
                if start == end {
                    break;
                }
            }
            if read == self.size {
                return Ok(());
            }
            if end + BLOCK > buf.len() {
                buf.copy_within(start..end, 0);
                (start, end) = (0, end - start);
            }
            let want = usize::try_from(self.size - read)
                .unwrap_or(BLOCK)
                .min(BLOCK);
            self.fill(&mut buf[end..end + want], read)?;
            part(Part::Block(&buf[end..end + want]));
            end += want;
            read += want as u64;
        }
    }

    /// [`Self::cut`] with the hashes on a second thread: cutting and hashing cost about the same.
    fn cut_beside(&self, secret: &SpaceSecret) -> Result<(ContentHash, Vec<Chunk>), HashError> {
        // A chunk's length comes between the blocks; half a MiB of them is the mean.
        let (parts, inbox) = mpsc::sync_channel::<Result<Vec<u8>, usize>>(4);
        let (spent, spares) = mpsc::sync_channel::<Vec<u8>>(8);
        let mut hasher = secret.content_hasher();
        thread::scope(|scope| {
            let beside = scope.spawn(move || {
                let mut chunks = Vec::new();
                // What was read since the last cut; of the first, this much is before it.
                let (mut blocks, mut past) = (VecDeque::<Vec<u8>>::new(), 0);
                for part in inbox {
                    let len = match part {
                        Ok(block) => {
                            hasher.update(&block);
                            blocks.push_back(block);
                            continue;
                        }
                        Err(len) => len,
                    };
                    let (mut one, mut left) = (secret.content_hasher(), len);
                    while let Some(first) = blocks.front().filter(|_| left > 0) {
                        let take = left.min(first.len() - past);
                        one.update(&first[past..past + take]);
                        (past, left) = (past + take, left - take);
                        if past == first.len()
                            && let Some(block) = blocks.pop_front()
                        {
                            past = 0;
                            // The other side is gone only if it failed.
                            let _ = spent.try_send(block);
                        }
                    }
                    chunks.push(Chunk {
                        id: one.finalize().into(),
                        len: length(len),
                    });
                }
                (hasher.finalize(), chunks)
            });
            let cut = self.cut(secret, |part| {
                let part = match part {
                    Part::Block(block) => {
                        let mut copy = spares.try_recv().unwrap_or_default();
                        copy.clear();
                        copy.extend_from_slice(block);
                        Ok(copy)
                    }
                    Part::Chunk(bytes) => Err(bytes.len()),
                };
                // Fails only if the other thread panicked, which the join tells.
                let _ = parts.send(part);
            });
            drop(parts);
            match beside.join() {
                Ok(hashed) => cut.map(|()| hashed),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

/// A piece of a file on its way through [`Exact::cut`].
enum Part<'a> {
    Block(&'a [u8]),
    Chunk(&'a [u8]),
}

/// No chunk is longer than [`chunker::MAX`].
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MetaKind;

    #[test]
    fn racy_is_what_a_later_write_would_not_show() {
        let ms = 1_000_000;
        let start = 1_700_000_000_500 * ms;
        let racy = |mtime_ns, ctime_ns| {
            let meta = Meta {
                kind: MetaKind::File,
                size: 1,
                mtime_ns,
                ctime_ns,
                ino: 1,
                dev: 1,
                mode: 0o644,
                nlink: 1,
            };
            is_racy(&meta, start)
        };
        assert!(racy(start, start) && racy(start - 19 * ms, start - 19 * ms));
        assert!(!racy(start - 21 * ms, start - 21 * ms));
        assert!(racy(5, start - ms), "an old mtime was set just now");
        assert!(
            !racy(start + 1_000 * ms, start - 21 * ms),
            "a clock that was wrong is no reason for ever"
        );
        let second = 1_700_000_000_000 * ms;
        assert!(racy(second, second), "a filesystem of whole seconds");
        assert!(!racy(second - 2_000 * ms, second - 2_000 * ms));
    }
}
