//! One file of the staging folder, from its first byte to "fetched" or to what is left of it.

use std::io;

use ownmesh_crdt::item::Content;

use super::assemble::Moved;
use super::fetch::{FetchError, FetchInto, FetchedOk, Want};
use crate::disk::hash::{Chunk, hash_file};
use crate::disk::{RelPath, Stage, TMP, private};

/// The names of a want in the staging folder, and what is done with them.
pub(super) struct Staging<'a> {
    into: &'a FetchInto,
    want: &'a Want,
    /// The staged file.
    pub(super) path: RelPath,
    /// What an earlier try left.
    pub(super) part: RelPath,
}

impl<'a> Staging<'a> {
    pub(super) fn new(into: &'a FetchInto, want: &'a Want) -> Result<Self, FetchError> {
        let name = |name: &str| {
            private(TMP)
                .join(name)
                .map_err(|e| FetchError::Io(io::Error::new(io::ErrorKind::InvalidInput, e)))
        };
        Ok(Self {
            path: name(&want.staged)?,
            part: name(&part_name(&want.staged))?,
            into,
            want,
        })
    }

    /// Bytes an earlier try left.
    pub(super) fn part_size(&self) -> u64 {
        self.into
            .disk
            .meta(&self.part)
            .ok()
            .flatten()
            .map_or(0, |meta| meta.size)
    }

    /// Stages a copy of a file of our own that has the content; the empty content is always at hand.
    ///
    /// Returns: `None` if there is none, or it turns out to be something else by now.
    pub(super) fn copy_whole(&self) -> Result<Option<FetchedOk>, FetchError> {
        let Self { into, want, .. } = self;
        if want.size == 0 {
            return self.small(&[]).map(Some);
        }
        let Some((from, stat)) = into.local.whole(&want.hash) else {
            return Ok(None);
        };
        if !matches!(into.disk.meta(&from), Ok(Some(now)) if stat.same_file_unchanged(&now) && now.size == want.size)
        {
            return Ok(None);
        }
        let mut stage = into.disk.stage(&want.staged)?;
        // What was staged is hashed, not what was copied from: that may change at any moment.
        let staged = match into.disk.copy_range(&from, 0, want.size, &mut *stage, 0) {
            Ok(()) => hash_file(&*into.disk, &self.path, &into.secret).ok(),
            Err(error) => match FetchError::from(error) {
                FetchError::NoSpace => {
                    self.drop_staged(stage);
                    return Err(FetchError::NoSpace);
                }
                _ => None,
            },
        };
        match staged {
            Some(hashed)
                if hashed.content
                    == (Content::File {
                        size: want.size,
                        hash: want.hash,
                    }) =>
            {
                let moved = Moved {
                    from_local: want.size,
                    ..Moved::default()
                };
                into.progress.moved(0, want.size);
                self.finish(stage, hashed.chunks, moved).map(Some)
            }
            _ => {
                self.drop_staged(stage);
                Ok(None)
            }
        }
    }

    /// Stages a content of one chunk which came as a whole.
    pub(super) fn small(&self, bytes: &[u8]) -> Result<FetchedOk, FetchError> {
        let Self { into, want, .. } = self;
        if bytes.len() as u64 != want.size || into.secret.content_hash(bytes) != want.hash {
            return Err(FetchError::Mismatch);
        }
        let mut stage = into.disk.stage(&want.staged)?;
        if !bytes.is_empty()
            && let Err(error) = stage.write_at(bytes, 0)
        {
            self.drop_staged(stage);
            return Err(error.into());
        }
        self.finish(
            stage,
            Vec::new(),
            Moved {
                from_net: want.size,
                ..Moved::default()
            },
        )
    }

    /// Closes a staged file whose content has been verified.
    pub(super) fn finish(
        &self,
        stage: Box<dyn Stage>,
        chunks: Vec<Chunk>,
        moved: Moved,
    ) -> Result<FetchedOk, FetchError> {
        match stage.finish(self.want.mode, self.want.mtime) {
            Ok(meta) => {
                if self.part_may_exist() {
                    self.remove(&self.part);
                }
                let Moved {
                    from_net,
                    from_local,
                    ..
                } = moved;
                Ok(FetchedOk {
                    chunks,
                    meta,
                    from_net,
                    from_local,
                })
            }
            Err(error) => {
                self.remove(&self.path);
                Err(error.into())
            }
        }
    }

    /// Keeps what was written of a large content for the next try, unless it is worthless or the disk is full.
    pub(super) fn give_up(&self, stage: Box<dyn Stage>, written: u64, why: &FetchError) {
        match why {
            FetchError::Mismatch => {
                self.drop_staged(stage);
                self.remove(&self.part);
            }
            // The user needs the room more than we need the bytes.
            FetchError::NoSpace => self.drop_staged(stage),
            _ if written <= self.part_size() => self.drop_staged(stage),
            _ => {
                let kept = stage.finish(PART_MODE, self.want.mtime).and_then(|_| {
                    self.remove(&self.part);
                    self.into.disk.rename_new(&self.path, &self.part)
                });
                if kept.is_err() {
                    self.remove(&self.path);
                }
            }
        }
    }

    fn drop_staged(&self, stage: Box<dyn Stage>) {
        drop(stage);
        self.remove(&self.path);
    }

    fn part_may_exist(&self) -> bool {
        self.want.size > ownmesh_tiering::chunker::ONE_CHUNK as u64
    }

    fn remove(&self, path: &RelPath) {
        match self.into.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%path, %error, "a staged file could not be removed");
            }
            _ => {}
        }
    }
}

/// The name of what an unfinished fetch leaves: the same for all tries, which have numbers (`~n`).
pub(crate) fn part_name(staged: &str) -> String {
    let stem = staged.rsplit_once('~').map_or(staged, |(stem, _)| stem);
    format!("{stem}.part")
}

/// Nobody but the user reads what is left of a try.
const PART_MODE: u32 = 0o600;
