//! A group of steps on its way to the disk.
//!
//! Kept here (ARCHITECTURE.md, order 2): staged files flushed, then `placing` rows durable, then the
//! steps. Swapped in before it is flushed, a file could come out of a power failure empty under the
//! name of one that was whole; without its row, a step would be taken for the user's doing.

use ownmesh_crdt::item::{Content, Seen};
use ownmesh_crdt::mutated;
use ownmesh_crypto::{ContentHash, ItemId};

use super::plan::Wanted;
use super::space::{Busy, DISK, RETRY};
use super::{Effect, Engine, Job, Now};
use crate::db::base::Base;
use crate::db::placing::{self, Placing};
use crate::db::{DbError, chunks};
use crate::disk::RelPath;
use crate::disk::hash::Chunk;
use crate::disk::perform::Step;

/// What a step means for base once it is done.
#[derive(Clone, Debug)]
pub(super) struct Intent {
    /// Item whose plan it belongs to.
    pub(super) item: ItemId,
    pub(super) step: Step,
    pub(super) then: Then,
    /// Changes in the document when it was planned: if there are no more, the item may be clean.
    pub(super) changes: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) enum Then {
    Put {
        wanted: Wanted,
        chunks: Vec<Chunk>,
        old: Option<Content>,
    },
    Moved {
        row: Box<Base>,
        wanted: Wanted,
    },
    Parked,
    Meta {
        row: Box<Base>,
        wanted: Wanted,
    },
    Removed {
        row: Box<Base>,
    },
}

impl Then {
    /// The content that the step brings to the trash.
    pub(super) fn takes_away(&self) -> Option<&ContentHash> {
        let content = match self {
            Self::Put { old, .. } => old.as_ref(),
            Self::Removed { row } => row.row.content.as_ref(),
            _ => None,
        };
        match content? {
            Content::File { hash, .. } => Some(hash),
            Content::Link { .. } => None,
        }
    }

    /// What the disk shows once the step is taken.
    fn shown(&self) -> Option<Wanted> {
        match self {
            Self::Put { wanted, .. } => Some(wanted.clone()),
            // One step at a time: content, mode and time stay what they are, or the place does.
            Self::Moved { row, wanted } => Some(Wanted {
                content: row.row.content.clone(),
                seen: Seen {
                    p: wanted.seen.p.clone(),
                    ..row.row.seen.clone()
                },
                mode: row.row.mode,
                mtime: Some(row.row.mtime),
                ..wanted.clone()
            }),
            Self::Meta { row, wanted } => Some(Wanted {
                content: row.row.content.clone(),
                seen: row.row.seen.clone(),
                ..wanted.clone()
            }),
            Self::Parked | Self::Removed { .. } => None,
        }
    }
}

impl Engine {
    pub(super) fn start_group(&mut self, n: i64, group: Vec<Intent>) -> Result<(), DbError> {
        let staged: Vec<RelPath> = group
            .iter()
            .filter_map(|i| match &i.step {
                Step::Write { staged, .. } => {
                    Some(crate::disk::private(crate::disk::TMP).join(staged).ok()?)
                }
                _ => None,
            })
            .collect();
        if staged.is_empty() || mutated!(SwapUnflushed) {
            return self.perform_group(n, group);
        }
        let job = self.next_job();
        if let Some(space) = self.spaces.get_mut(&n) {
            space.busy = Some(Busy::SyncStaged { job, group });
        }
        // A handful is flushed one by one, more by one flush of the filesystem.
        let files = if staged.len() <= 8 {
            staged
        } else {
            Vec::new()
        };
        self.effects.push(Effect::Sync {
            space: n,
            job,
            files,
        });
        Ok(())
    }

    /// Staged files are flushed: now the rows, then the steps.
    pub(super) fn staged_synced(
        &mut self,
        now: Now,
        n: i64,
        job: Job,
        error: Option<String>,
    ) -> Result<(), DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let Some(group) = space.group_of(job) else {
            return Ok(());
        };
        if let Some(error) = error {
            space.problem("", DISK, format!("could not be flushed: {error}"), now.wall);
            space.retry_at = Some(now.mono + RETRY);
            return Ok(());
        }
        self.perform_group(n, group)
    }

    fn perform_group(&mut self, n: i64, group: Vec<Intent>) -> Result<(), DbError> {
        let ready = self.spaces.get(&n).map(|s| &s.ready);
        // A number that is another file's by the next start says nothing.
        let steady = self.spaces.get(&n).is_some_and(|s| s.traits.steady);
        self.db.write_as(!mutated!(PlacingNotDurable), |tx| {
            for intent in &group {
                let id = *intent.step.id();
                if let Then::Put { wanted, chunks, .. } = &intent.then
                    && let Some(Content::File { hash, .. }) = &wanted.content
                {
                    chunks::put(tx, n, hash, chunks)?;
                }
                let ino = match &intent.then {
                    Then::Put { .. } => ready.and_then(|r| r.get(&id)).map(|r| r.meta.ino),
                    Then::Moved { row, .. } | Then::Meta { row, .. } => Some(row.row.stat.ino),
                    Then::Parked | Then::Removed { .. } => None,
                };
                let ino = ino.filter(|_| steady);
                placing::put(
                    tx,
                    n,
                    &Placing {
                        id,
                        item: intent.item,
                        ino,
                        wanted: intent.then.shown(),
                    },
                )?;
            }
            Ok::<_, DbError>(())
        })?;
        let job = self.next_job();
        let steps = group.iter().map(|i| i.step.clone()).collect();
        let away = |i: &Intent| Some((*i.step.id(), *i.then.takes_away()?));
        let replaced = group.iter().filter_map(away).collect();
        if let Some(space) = self.spaces.get_mut(&n) {
            space.busy = Some(Busy::Perform { job, group });
        }
        self.effects.push(Effect::Perform {
            space: n,
            job,
            steps,
            replaced,
        });
        Ok(())
    }
}

/// Where on the disk a step is noted to happen.
pub(super) fn step_path(step: &Step) -> &RelPath {
    match step {
        Step::Move { to, .. } | Step::Unpark { to, .. } => to,
        Step::Park { from, .. } => from,
        Step::MakeDir { path, .. }
        | Step::Write { path, .. }
        | Step::Link { path, .. }
        | Step::Remove { path, .. }
        | Step::Meta { path, .. } => path,
    }
}
