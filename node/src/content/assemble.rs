//! Puts a large file together from its plan, in one pass: plain synchronous code, shared with the simulation.
//!
//! Every chunk is compared with its id and the whole with the content hash while it is written, so that nothing is read
//! a second time. Where one of our own files turns out to have changed, the chunk stays a hole, the pass goes on (the
//! bytes that were asked for are coming and have to go somewhere), and a second pass fills the holes. Danger: a file
//! that was never what the log names; [`Outcome::Whole`] is returned for no other.

use std::io;

use ownmesh_crypto::SpaceSecret;
use ownmesh_tiering::chunker::MAX;

use super::answer::read_exact;
use super::plan::{From, Plan, Step};
use crate::disk::{Disk, ReadAt, RelPath, Stage, Stat};

/// Delivers what the plan has from the network, in order.
pub trait Supply {
    /// Everything before `offset` of the file is done: the moment to ask for what comes soon.
    fn reached(&mut self, offset: u64);
    /// The next bytes, at least one and at most `max`.
    fn next(&mut self, max: usize) -> Result<&[u8], SupplyError>;
}

/// No more bytes will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the supply of bytes has ended")]
pub struct SupplyError;

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The supply ended; ask it why.
    #[error(transparent)]
    Supply(#[from] SupplyError),
    /// What came is not what was asked for.
    #[error("the bytes do not match their hash")]
    Mismatch,
    /// The staged file could not be written.
    #[error("a staged file could not be written")]
    Io(#[from] io::Error),
}

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The staged file has the content hash of the plan.
    Whole,
    /// These steps are missing; go on with [`Plan::again`].
    Holes(Vec<usize>),
}

/// Bytes a pass has dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// From the network.
    pub from_net: u64,
    /// From own files and earlier tries.
    pub from_local: u64,
    /// The file is written, without holes, up to here.
    pub written: u64,
}

/// Where the bytes of a pass come from and go to.
pub struct Place<'a> {
    /// The folder.
    pub disk: &'a dyn Disk,
    /// The space's hashes.
    pub secret: &'a SpaceSecret,
    /// The path of the staged file, for [`From::Staged`].
    pub staged: &'a RelPath,
    /// The path of an earlier try, for [`From::Part`].
    pub part: &'a RelPath,
}

/// Runs one pass of `plan` into `stage`; `moved` tells how far it came, also if it fails.
pub fn assemble(
    plan: &Plan,
    place: &Place<'_>,
    stage: &mut dyn Stage,
    supply: &mut dyn Supply,
    moved: &mut Moved,
) -> Result<Outcome, AssembleError> {
    let mut whole = place.secret.content_hasher();
    let mut holes = Vec::new();
    let mut sources = Sources::default();
    for (at, step) in plan.steps.iter().enumerate() {
        supply.reached(step.offset);
        let len = u64::from(step.chunk.len);
        if step.from == From::Net {
            let mut one = place.secret.content_hasher();
            let mut done = 0;
            while done < len {
                let bytes = supply.next(usize::try_from(len - done).unwrap_or(MAX))?;
                one.update(bytes);
                if holes.is_empty() {
                    whole.update(bytes);
                }
                stage.write_at(bytes, step.offset + done)?;
                done += bytes.len() as u64;
            }
            if step.chunk.id != one.finalize().into() {
                return Err(AssembleError::Mismatch);
            }
            moved.from_net += len;
        } else {
            match sources.read(step, place) {
                Ok(bytes) => {
                    if holes.is_empty() {
                        whole.update(bytes);
                    }
                    if step.from != From::Staged {
                        stage.write_at(bytes, step.offset)?;
                        moved.from_local += len;
                    }
                }
                Err(NotThere) => holes.push(at),
            }
        }
        if holes.is_empty() {
            moved.written = step.offset + len;
        }
    }
    supply.reached(plan.size);
    if !holes.is_empty() {
        return Ok(Outcome::Holes(holes));
    }
    if whole.finalize() == plan.hash {
        Ok(Outcome::Whole)
    } else {
        Err(AssembleError::Mismatch)
    }
}

/// A local source does not hold the chunk, whatever the reason: the network will.
struct NotThere;

impl std::convert::From<io::Error> for NotThere {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// The local file that was read last stays open: adjoining chunks mostly lie in the same one.
#[derive(Default)]
struct Sources {
    open: Option<(RelPath, Box<dyn ReadAt>)>,
    buf: Vec<u8>,
}

impl Sources {
    /// Reads a chunk and compares it with its id.
    fn read(&mut self, step: &Step, place: &Place<'_>) -> Result<&[u8], NotThere> {
        let (path, offset, stat): (_, _, Option<&Stat>) = match &step.from {
            From::Local { path, offset, stat } => (path, *offset, Some(stat)),
            From::Part => (place.part, step.offset, None),
            From::Staged => (place.staged, step.offset, None),
            From::Net => return Err(NotThere),
        };
        if self.open.as_ref().is_none_or(|(open, _)| open != path) {
            self.open = None;
            let file = place.disk.open(path)?;
            // Only spares reading what cannot be right; the hash decides.
            if let Some(stat) = stat
                && !stat.same_file_unchanged(&file.meta()?)
            {
                return Err(NotThere);
            }
            self.open = Some((path.clone(), file));
        }
        let (_, file) = self.open.as_ref().ok_or(NotThere)?;
        let len = usize::try_from(step.chunk.len).map_err(|_| NotThere)?;
        if self.buf.len() < len {
            self.buf.resize(len, 0);
        }
        let bytes = &mut self.buf[..len];
        read_exact(&**file, bytes, offset)?;
        if place.secret.chunk_id(bytes) == step.chunk.id {
            Ok(bytes)
        } else {
            Err(NotThere)
        }
    }
}
