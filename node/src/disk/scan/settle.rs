//! From what has to be hashed to what is emitted; and, at the end, what is gone.

use std::collections::BTreeSet;

use ownmesh_crdt::item::Kind;
use ownmesh_crdt::mutated;
use ownmesh_crypto::ids::ItemId;

use super::walk::{Missing, Walk, was_touched};
use super::{Found, GROUP, Parent, ProblemKind, ScanError, ScanReport};
use crate::disk::RelPath;
use crate::disk::base::{BaseError, BaseRow, kind_on_disk};
use crate::disk::hash::{HashError, Hashed, hash_files};

/// A finding, or a file that becomes one when it was read.
pub(super) enum Pending {
    /// Nothing to read.
    Ready(Found),
    /// A path of base whose stat does not vouch for its content.
    Known { path: RelPath, row: Box<BaseRow> },
    /// A file that moved, whose ctime does not vouch for its content. It is claimed.
    Moved {
        path: RelPath,
        parent: Parent,
        name: String,
        row: Box<BaseRow>,
    },
    /// A path that appeared, and what vanished with the same inode.
    Fresh {
        path: RelPath,
        parent: Parent,
        name: String,
        new: u32,
        was: Option<Box<BaseRow>>,
    },
}

impl Walk<'_> {
    /// Hashes and emits everything pending.
    pub(super) fn flush(&mut self) -> Result<(), ScanError> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let paths: Vec<RelPath> = pending
            .iter()
            .filter_map(|p| match p {
                Pending::Ready(_) => None,
                Pending::Known { path, .. }
                | Pending::Moved { path, .. }
                | Pending::Fresh { path, .. } => Some(path.clone()),
            })
            .collect();
        let mut hashes = hash_files(self.disk, &paths, self.secret).into_iter();
        let mut found = Vec::with_capacity(pending.len());
        for pending in pending {
            match pending {
                Pending::Ready(one) => found.push(one),
                Pending::Known { path, row } => {
                    if let Some(hashed) = self.hashed(&path, hashes.next()) {
                        settle_known(&row, hashed, &mut found);
                    }
                }
                Pending::Moved {
                    path,
                    parent,
                    name,
                    row,
                } => {
                    if let Some(hashed) = self.hashed(&path, hashes.next()) {
                        settle_moved(&row, parent, name, hashed, &mut found);
                    }
                }
                Pending::Fresh {
                    path,
                    parent,
                    name,
                    new,
                    was,
                } => {
                    let was = was.filter(|row| !self.claimed.contains(&row.id));
                    match self.hashed(&path, hashes.next()) {
                        Some(hashed) => {
                            self.settle_fresh(was, parent, name, new, hashed, &mut found);
                        }
                        // It may be what vanished.
                        None => self.claimed.extend(was.map(|row| row.id)),
                    }
                }
            }
        }
        self.emit_all(found)
    }

    fn hashed(
        &mut self,
        path: &RelPath,
        result: Option<Result<Hashed, HashError>>,
    ) -> Option<Hashed> {
        match result? {
            Ok(hashed) => {
                if let Some(why) = &hashed.damaged {
                    let why = format!("taken without what is in its log: {why}");
                    self.problem(path, ProblemKind::Database, why);
                }
                self.report.hashed_bytes += hashed.meta.size;
                return Some(hashed);
            }
            Err(HashError::Io(e)) => self.io_problem(path, &e),
            Err(e) => self.problem(path, ProblemKind::Changing, e.to_string()),
        }
        None
    }

    fn settle_fresh(
        &mut self,
        was: Option<Box<BaseRow>>,
        parent: Parent,
        name: String,
        new: u32,
        hashed: Hashed,
        found: &mut Vec<Found>,
    ) {
        if let Some(row) = was.filter(|row| row.content.as_ref() == Some(&hashed.content)) {
            self.claimed.insert(row.id);
            settle_moved(&row, parent, name, hashed, found);
            return;
        }
        let Hashed {
            content,
            chunks,
            meta,
            racy,
            damaged: _,
        } = hashed;
        let (kind, content) = (Kind::File, Some(content));
        found.push(Found::Created {
            new,
            parent,
            name,
            kind,
            content,
            chunks,
            meta,
            racy,
        });
    }

    fn emit_all(&mut self, found: Vec<Found>) -> Result<(), ScanError> {
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let group = found.by_ref().take(GROUP).collect();
            (self.emit)(group).map_err(|_| ScanError::Stopped)?;
        }
        Ok(())
    }

    /// Emits what is gone. The guards were checked once more before.
    pub(super) fn finish(mut self) -> Result<ScanReport, ScanError> {
        let mut gone = Vec::new();
        let mut done = BTreeSet::new();
        for missing in std::mem::take(&mut self.missing) {
            let Missing {
                row,
                nobodys,
                doubted,
            } = missing;
            if self.claimed.contains(&row.id) {
                continue;
            }
            let Some(path) = self.path_now(&row)? else {
                continue;
            };
            match self.disk.meta(&path) {
                Ok(now) if now.is_none_or(|now| kind_on_disk(now.kind) != Some(row.kind)) => {
                    if nobodys && !mutated!(GoneWhileIgnored) {
                        gone.push(Found::Forgotten { id: row.id });
                        continue;
                    }
                    if let Some(dir) = doubted {
                        self.report.doubted.insert(dir);
                        continue;
                    }
                    self.gone_with(row, &path, &mut done, &mut gone)?;
                }
                Ok(_) if nobodys => {}
                // It came back while the scan went on (editors unlink and create).
                Ok(_) => self.problem(
                    &path,
                    ProblemKind::Changing,
                    "it vanished and came back".to_owned(),
                ),
                Err(e) => self.io_problem(&path, &e),
            }
            if gone.len() >= GROUP {
                self.emit_all(std::mem::take(&mut gone))?;
            }
        }
        self.emit_all(gone)?;
        Ok(self.report)
    }

    /// A row and what vanished with it, children first.
    fn gone_with(
        &self,
        row: BaseRow,
        path: &RelPath,
        done: &mut BTreeSet<ItemId>,
        gone: &mut Vec<Found>,
    ) -> Result<(), BaseError> {
        // Depth first with a stack: (row, path, its children were pushed).
        let mut stack = vec![(row, path.clone(), false)];
        while let Some((row, path, children_done)) = stack.pop() {
            if children_done || row.kind != Kind::Dir {
                if done.insert(row.id) {
                    gone.push(Found::Gone { id: row.id });
                }
                continue;
            }
            let children = self.base.children(&row.id)?;
            stack.push((row, path.clone(), true));
            for child in children.into_iter().rev() {
                let below = path.with(&child.name);
                if self.claimed.contains(&child.id) || done.contains(&child.id) {
                    continue;
                }
                let ignored =
                    child.copy_of.is_none() && (self.rules)(&below, child.kind == Kind::Dir);
                if ignored || self.look.passed.contains(&child.id) {
                    done.insert(child.id);
                    gone.push(Found::Forgotten { id: child.id });
                } else {
                    stack.push((child, below, false));
                }
            }
        }
        Ok(())
    }
}

/// A file that has another name, and maybe other content too.
fn settle_moved(
    row: &BaseRow,
    parent: Parent,
    name: String,
    hashed: Hashed,
    found: &mut Vec<Found>,
) {
    let (id, meta, racy) = (row.id, hashed.meta, hashed.racy);
    found.push(Found::Moved {
        id,
        parent,
        name,
        meta,
    });
    if row.content.as_ref() != Some(&hashed.content) {
        settle_known(row, hashed, found);
        return;
    }
    if was_touched(row, &meta) {
        found.push(Found::Touched { id, meta });
    }
    if racy || row.racy {
        found.push(Found::Refreshed { id, meta, racy });
    }
}

fn settle_known(row: &BaseRow, hashed: Hashed, found: &mut Vec<Found>) {
    let Hashed {
        content,
        chunks,
        meta,
        racy,
        damaged: _,
    } = hashed;
    if row.content.as_ref() != Some(&content) {
        found.push(Found::Edited {
            id: row.id,
            content,
            chunks,
            meta,
            racy,
        });
        return;
    }
    let touched = was_touched(row, &meta);
    if touched {
        found.push(Found::Touched { id: row.id, meta });
    }
    if racy || !touched {
        found.push(Found::Refreshed {
            id: row.id,
            meta,
            racy,
        });
    }
}
