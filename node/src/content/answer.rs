//! What is answered to an [`Ask`]: plain synchronous code, shared with the simulation.
//!
//! Content is read from the user's own files, which may change at any moment. Danger: bytes of two versions sent as
//! one. So a file's stat must be the one the database recorded before the first byte is read and again after each piece
//! is read and before it is sent; the asker's hash is the second guard. Nothing is said of what the asker may not have.

use std::io;
use std::sync::Arc;

use ownmesh_crypto::{ContentHash, DeviceId, SpaceId};
use ownmesh_tiering::chunker::ONE_CHUNK;

use super::block::{Block, Pool};
use super::wire::{Ask, Head, LIST_ENTRY, MAX_PIECE, Status, list_to_bytes};
use crate::disk::hash::Chunk;
use crate::disk::{Disk, ReadAt, RelPath, Stat};

/// A file that holds a content, as the database knows it.
#[derive(Clone)]
pub struct Located {
    /// The folder.
    pub disk: Arc<dyn Disk>,
    /// Where in it.
    pub path: RelPath,
    /// What the file looked like when it was hashed.
    pub stat: Stat,
    /// Bytes of the content.
    pub size: u64,
    /// Its chunk list; none or an empty one for a content of one chunk.
    pub chunks: Option<Arc<Vec<Chunk>>>,
}

/// The database cannot say at present. The asker is told to come back.
#[derive(Debug, thiserror::Error)]
#[error("the content cannot be looked up at present")]
pub struct SourceError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What the answering side knows; the engine implements it on the database. Called on blocking threads.
pub trait Source: Send + Sync {
    /// Whether `peer` may read `space`. Asked for each single content, so that a removal takes effect within one.
    fn allowed(&self, peer: &DeviceId, space: &SpaceId) -> bool;
    /// The files that hold a content, the best first.
    fn locate(&self, space: &SpaceId, hash: &ContentHash) -> Result<Vec<Located>, SourceError>;
    /// The file at `path` is no longer what was recorded: look at it again.
    fn superseded(&self, space: &SpaceId, hash: &ContentHash, path: &RelPath);
}

/// The asker is gone; there is nobody to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream of answers is closed")]
pub struct Closed;

/// Where answers go, in blocks.
pub(super) struct Out<'a> {
    block: Block,
    pool: &'a Pool,
    send: &'a mut dyn FnMut(Block) -> Result<(), Closed>,
}

/// Below this much room a block is sent instead of being filled up with a very short piece (64 KiB).
const WORTH_FILLING: usize = 64 << 10;

impl<'a> Out<'a> {
    pub(super) fn new(
        pool: &'a Pool,
        send: &'a mut dyn FnMut(Block) -> Result<(), Closed>,
    ) -> Self {
        Self {
            block: pool.take(),
            pool,
            send,
        }
    }

    /// Sends what is left.
    pub(super) fn finish(mut self) -> Result<(), Closed> {
        self.flush()?;
        self.pool.give(self.block);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Closed> {
        if self.block.is_empty() {
            return Ok(());
        }
        (self.send)(std::mem::replace(&mut self.block, self.pool.take()))
    }

    fn bare(&mut self, n: u32, status: Status) -> Result<(), Closed> {
        self.piece(n, 0, status, |_| Ok(()))
            .map(|_: Result<usize, Closed>| ())
    }

    /// Appends one head and as many of the `left` bytes as fit, which `fill` provides.
    ///
    /// Returns: how many bytes it were. If `fill` fails nothing is appended.
    fn piece<E>(
        &mut self,
        n: u32,
        left: u64,
        end: Status,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Result<usize, E>, Closed> {
        let left = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(MAX_PIECE as usize + 1);
        if self.block.room() < Head::LEN + left.min(WORTH_FILLING) {
            self.flush()?;
        }
        let len = left
            .min(MAX_PIECE as usize)
            .min(self.block.room() - Head::LEN);
        let free = self.block.free(Head::LEN + len);
        if let Err(e) = fill(&mut free[Head::LEN..]) {
            return Ok(Err(e));
        }
        let status = if len < left { Status::More } else { end };
        let head = Head {
            n,
            status,
            len: u32::try_from(len).unwrap_or(0),
        };
        free[..Head::LEN].copy_from_slice(&head.to_bytes());
        self.block.advance(Head::LEN + len);
        Ok(Ok(len))
    }
}

/// Answers everything in `ask`, in order, handing out bytes as they are read; `send` returns false to stop.
///
/// For the simulation; [`serve`](super::serve::serve) does the same over a stream.
pub fn answer(
    ask: &Ask,
    peer: &DeviceId,
    source: &dyn Source,
    send: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), Closed> {
    let pool = Pool::new(1);
    let mut send = |block: Block| {
        let goes_on = send(block.filled());
        pool.give(block);
        if goes_on { Ok(()) } else { Err(Closed) }
    };
    let mut out = Out::new(&pool, &mut send);
    answer_into(ask, peer, source, &mut out)?;
    out.finish()
}

pub(super) fn answer_into(
    ask: &Ask,
    peer: &DeviceId,
    source: &dyn Source,
    out: &mut Out<'_>,
) -> Result<(), Closed> {
    let space = ask.space();
    let find = |hash| find(peer, source, space, hash);
    match ask {
        Ask::Files { wants, .. } => {
            for want in wants {
                match find(&want.hash) {
                    Ok(files) => {
                        let files: Vec<_> = files
                            .into_iter()
                            .filter(|file| file.size <= ONE_CHUNK as u64)
                            .collect();
                        let size = files.first().map_or(0, |file| file.size);
                        Reading {
                            source,
                            peer,
                            space,
                            hash: &want.hash,
                            files: &files,
                        }
                        .send(want.n, 0, size, out)?;
                    }
                    Err(status) => out.bare(want.n, status)?,
                }
            }
        }
        Ask::List { n, hash, .. } => match find(hash) {
            Ok(files) => send_list(*n, hash, &files, out)?,
            Err(status) => out.bare(*n, status)?,
        },
        Ask::Chunks { hash, parts, .. } => {
            for part in parts {
                match find(hash) {
                    Ok(files) => {
                        Reading {
                            source,
                            peer,
                            space,
                            hash,
                            files: &files,
                        }
                        .send(part.n, part.offset, part.len.into(), out)?;
                    }
                    Err(status) => out.bare(part.n, status)?,
                }
            }
        }
    }
    Ok(())
}

fn find(
    peer: &DeviceId,
    source: &dyn Source,
    space: &SpaceId,
    hash: &ContentHash,
) -> Result<Vec<Located>, Status> {
    if !source.allowed(peer, space) {
        return Err(Status::Absent);
    }
    source.locate(space, hash).map_err(|error| {
        tracing::warn!(%space, %hash, %error, "content could not be looked up");
        Status::Busy
    })
}

fn send_list(
    n: u32,
    hash: &ContentHash,
    files: &[Located],
    out: &mut Out<'_>,
) -> Result<(), Closed> {
    let one;
    let known = files
        .iter()
        .filter_map(|file| file.chunks.as_deref())
        .find(|chunks| !chunks.is_empty());
    let chunks: &[Chunk] = match known {
        Some(chunks) => chunks,
        None => match files.first().map(|file| u32::try_from(file.size)) {
            Some(Ok(len)) if (1..=ONE_CHUNK).contains(&(len as usize)) => {
                one = [Chunk {
                    id: (*hash).into(),
                    len,
                }];
                &one
            }
            _ => return out.bare(n, Status::Absent),
        },
    };
    const ENTRIES: usize = MAX_PIECE as usize / LIST_ENTRY;
    let mut groups = chunks.chunks(ENTRIES).peekable();
    while let Some(group) = groups.next() {
        let bytes = list_to_bytes(group);
        let end = if groups.peek().is_some() {
            Status::More
        } else {
            Status::Last
        };
        let mut at = 0;
        while at < bytes.len() {
            let fill = |to: &mut [u8]| {
                to.copy_from_slice(&bytes[at..at + to.len()]);
                Ok::<(), Closed>(())
            };
            at += out.piece(n, (bytes.len() - at) as u64, end, fill)??;
        }
    }
    Ok(())
}

/// One content being read, from whichever of its files still holds it.
struct Reading<'a> {
    source: &'a dyn Source,
    peer: &'a DeviceId,
    space: &'a SpaceId,
    hash: &'a ContentHash,
    files: &'a [Located],
}

/// Why a file cannot be read on.
enum Trouble {
    /// It is not the file that was hashed.
    Changed,
    /// The asker may not have it any more.
    Forbidden,
    Io(io::Error),
}

impl Reading<'_> {
    /// Sends a range, going over to another file where one fails.
    fn send(&self, n: u32, offset: u64, len: u64, out: &mut Out<'_>) -> Result<(), Closed> {
        let (mut done, mut changed, mut closed) = (0, false, false);
        for file in self.files {
            if offset.checked_add(len).is_none_or(|end| end > file.size) {
                continue;
            }
            match self.send_from(file, n, offset, len, &mut done, out)? {
                Ok(()) => return Ok(()),
                Err(Trouble::Changed) => {
                    changed = true;
                    self.source.superseded(self.space, self.hash, &file.path);
                }
                Err(Trouble::Forbidden) => break,
                Err(Trouble::Io(error)) => {
                    closed |= error.kind() == io::ErrorKind::PermissionDenied;
                    tracing::warn!(path = %file.path, %error, "a file could not be read for a peer");
                }
            }
        }
        out.bare(
            n,
            if changed {
                Status::Superseded
            } else if closed {
                // It is here, and who asks is not to take it for lost.
                Status::Busy
            } else {
                Status::Absent
            },
        )
    }

    fn send_from(
        &self,
        file: &Located,
        n: u32,
        offset: u64,
        len: u64,
        done: &mut u64,
        out: &mut Out<'_>,
    ) -> Result<Result<(), Trouble>, Closed> {
        let open = match file.disk.open(&file.path) {
            Ok(open) => open,
            Err(e) => return Ok(Err(e.into())),
        };
        if let Err(e) = unchanged(&*open, &file.stat) {
            return Ok(Err(e));
        }
        loop {
            // A part is up to 8 MiB, which takes minutes on a slow road: a pause or a block holds at once.
            if !self.source.allowed(self.peer, self.space) {
                return Ok(Err(Trouble::Forbidden));
            }
            let fill = |to: &mut [u8]| {
                read_exact(&*open, to, offset + *done)?;
                unchanged(&*open, &file.stat)
            };
            match out.piece(n, len - *done, Status::Last, fill)? {
                Ok(sent) => *done += sent as u64,
                Err(e) => return Ok(Err(e)),
            }
            if *done == len {
                return Ok(Ok(()));
            }
        }
    }
}

fn unchanged(file: &dyn ReadAt, stat: &Stat) -> Result<(), Trouble> {
    if stat.same_file_unchanged(&file.meta()?) {
        Ok(())
    } else {
        Err(Trouble::Changed)
    }
}

/// Fills `buf`; a file that ends before is an error of kind `UnexpectedEof`.
pub(super) fn read_exact(file: &dyn ReadAt, buf: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => done += got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

impl From<io::Error> for Trouble {
    /// A file that is gone, short, or no longer a regular file reached without symlinks has changed.
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, NotFound, UnexpectedEof};
        match error.kind() {
            NotFound | UnexpectedEof | NotADirectory | IsADirectory | InvalidInput => Self::Changed,
            _ => Self::Io(error),
        }
    }
}
