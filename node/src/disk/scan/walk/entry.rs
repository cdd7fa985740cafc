//! One entry of a listing, against the row that base has of it, or of what it may have been.

use std::collections::{BTreeMap, BTreeSet};

use ownmesh_crdt::item::Kind;

use super::super::settle::Pending;
use super::super::{Found, Parent, ScanError};
use super::{Dir, Walk, was_touched};
use crate::disk::base::{BaseError, BaseRow, kind_on_disk};
use crate::disk::{Listed, Meta, RelPath, names};

impl Walk<'_> {
    /// A path that base knows, with the same kind: that item, whatever its inode.
    pub(super) fn known(
        &mut self,
        dir: &Dir,
        row: BaseRow,
        path: RelPath,
        meta: Meta,
    ) -> Result<(), ScanError> {
        let other_file = row.stat.ino != meta.ino || row.stat.dev != meta.dev;
        match row.kind {
            Kind::Dir => {
                if row.mode != meta.mode {
                    self.ready(Found::Touched { id: row.id, meta });
                } else if other_file {
                    self.ready(Found::Refreshed {
                        id: row.id,
                        meta,
                        racy: false,
                    });
                }
                // Another directory under the old name holds other things.
                if dir.whole || row.stat.ino != meta.ino {
                    let was = dir.was || self.look.passed.contains(&row.id);
                    self.dirs.push(Dir {
                        path,
                        at: Parent::Item(row.id),
                        whole: true,
                        was,
                        other: self.is_other(&row, &meta),
                    });
                }
            }
            _ if !row.racy
                && row.content.is_some()
                && self.unchanged(&row, &meta)
                && !was_touched(&row, &meta) =>
            {
                if other_file {
                    self.ready(Found::Refreshed {
                        id: row.id,
                        meta,
                        racy: false,
                    });
                }
            }
            Kind::File if self.look.held.contains(&row.id) => {
                self.report.held.extend(path.parent());
            }
            Kind::File => {
                self.pending_bytes = self.pending_bytes.saturating_add(meta.size);
                self.pending.push(Pending::Known {
                    path,
                    row: Box::new(row),
                });
            }
            Kind::Symlink => {
                if let Some(content) = self.target(&path) {
                    let same = row.content.as_ref() == Some(&content);
                    if same && was_touched(&row, &meta) {
                        self.ready(Found::Touched { id: row.id, meta });
                    }
                    self.ready(if same {
                        Found::Refreshed {
                            id: row.id,
                            meta,
                            racy: false,
                        }
                    } else {
                        Found::Edited {
                            id: row.id,
                            content,
                            chunks: Vec::new(),
                            meta,
                            racy: false,
                        }
                    });
                }
            }
        }
        Ok(())
    }

    /// Names that are listed where base has another one which this filesystem takes for the same: that
    /// item, renamed in case or in form only. What stands under its own name is left alone.
    pub(super) fn alike(
        &self,
        listing: &[Listed],
        rows: &BTreeMap<String, BaseRow>,
    ) -> BTreeMap<String, String> {
        if !self.traits.folds {
            return BTreeMap::new();
        }
        let listed: BTreeSet<&str> = listing
            .iter()
            .filter_map(|l| l.name.as_deref().ok())
            .collect();
        let left = rows.keys().filter(|name| !listed.contains(name.as_str()));
        let mut left: BTreeMap<String, &String> = left.map(|n| (names::fold(n), n)).collect();
        let mut out = BTreeMap::new();
        for name in listed.into_iter().filter(|name| !rows.contains_key(*name)) {
            if left.is_empty() {
                break;
            }
            if let Some(was) = left.remove(&names::fold(name)) {
                out.insert(name.to_owned(), was.clone());
            }
        }
        out
    }

    /// Whether nothing was written since, by all that the filesystem tells.
    fn unchanged(&self, row: &BaseRow, meta: &Meta) -> bool {
        let ino = if self.traits.steady {
            meta.ino
        } else {
            row.stat.ino
        };
        row.stat.same_file_unchanged(&Meta { ino, ..*meta })
    }

    /// A path that base does not know: something that moved here, or something new.
    pub(super) fn appeared(
        &mut self,
        dir: &Dir,
        path: RelPath,
        name: String,
        kind: Kind,
        meta: Meta,
    ) -> Result<(), ScanError> {
        let parent = dir.at;
        let was = self.vanished_twin(kind, &meta)?;
        match (kind, was) {
            (Kind::Dir, Some(row)) if self.holds_what_it_held(&row, &path)? => {
                self.moved(&row, parent, name, meta);
                self.moved_dirs.insert(row.id, path.clone());
                self.dirs.push(Dir {
                    path,
                    at: Parent::Item(row.id),
                    whole: true,
                    was: false,
                    other: false,
                });
            }
            (Kind::Dir, _) => {
                let new = self.created(parent, name, kind, None, meta);
                self.dirs.push(Dir {
                    path,
                    at: Parent::New(new),
                    whole: true,
                    was: false,
                    other: false,
                });
            }
            (Kind::File, Some(row))
                if self.traits.steady && row.stat.same_content_likely(&meta) =>
            {
                if !row.racy && row.stat.same_file_unchanged(&meta) {
                    self.moved(&row, parent, name, meta);
                } else {
                    // Before it is read: its name may be another file's by now.
                    self.claimed.insert(row.id);
                    self.pending_bytes = self.pending_bytes.saturating_add(meta.size);
                    self.pending.push(Pending::Moved {
                        path,
                        parent,
                        name,
                        row: Box::new(row),
                    });
                }
            }
            (Kind::File, was) => {
                self.pending_bytes = self.pending_bytes.saturating_add(meta.size);
                let new = self.number();
                self.pending.push(Pending::Fresh {
                    path,
                    parent,
                    name,
                    new,
                    was: was.map(Box::new),
                });
            }
            (Kind::Symlink, was) => match (self.target(&path), was) {
                (Some(content), Some(row)) if row.content.as_ref() == Some(&content) => {
                    self.moved(&row, parent, name, meta);
                }
                (Some(content), _) => {
                    self.created(parent, name, kind, Some(content), meta);
                }
                // It cannot be read now: it may be what vanished.
                (None, was) => self.claimed.extend(was.map(|row| row.id)),
            },
        }
        Ok(())
    }

    /// Whether a directory with the file number of one that vanished is that one: filesystems give numbers out
    /// again, at once even. Something in it has a name that was in it, or is a file that was.
    fn holds_what_it_held(&self, was: &BaseRow, path: &RelPath) -> Result<bool, ScanError> {
        let held = self.base.children(&was.id)?;
        if held.is_empty() {
            return Ok(true);
        }
        let Ok(listing) = self.disk.list(path) else {
            return Ok(true);
        };
        let held: BTreeMap<&str, &BaseRow> = held.iter().map(|r| (r.name.as_str(), r)).collect();
        for one in listing {
            let kind = kind_on_disk(one.meta.kind);
            let named = one.name.as_deref().ok().and_then(|name| held.get(name));
            if named.is_some_and(|row| Some(row.kind) == kind) {
                return Ok(true);
            }
            let row = self.base.by_inode(one.meta.dev, one.meta.ino)?;
            let inside = |row: &BaseRow| row.parent == was.id && Some(row.kind) == kind;
            if row.is_some_and(|row| inside(&row) && row.stat.same_content_likely(&one.meta)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The row with the file number of something that appeared, if its own path is free now.
    fn vanished_twin(&self, kind: Kind, meta: &Meta) -> Result<Option<BaseRow>, BaseError> {
        if meta.ino == 0 {
            return Ok(None);
        }
        let Some(row) = self.base.by_inode(meta.dev, meta.ino)? else {
            return Ok(None);
        };
        if row.kind != kind || self.claimed.contains(&row.id) {
            return Ok(None);
        }
        let Some(path) = self.path_now(&row)? else {
            return Ok(None);
        };
        // What was moved out of an ignored place is told of as new, and nothing of the place.
        if (self.rules)(&path, kind == Kind::Dir) || self.was_passed(&row.id)? {
            return Ok(None);
        }
        let still_there = match self.disk.meta(&path) {
            Ok(now) => now.is_some_and(|now| kind_on_disk(now.kind) == Some(kind)),
            Err(_) => true,
        };
        Ok((!still_there).then_some(row))
    }
}
