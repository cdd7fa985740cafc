//! The comparison of listings with base.

mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ownmesh_crdt::item::{Content, Kind};
use ownmesh_crdt::limits::MAX_TARGET;
use ownmesh_crypto::ids::ItemId;
use ownmesh_crypto::space::SpaceSecret;

use super::settle::Pending;
use super::{
    Found, GROUP, GROUP_BYTES, Look, Parent, Problem, ProblemKind, ScanError, ScanReport, Scope,
    Stop,
};
use crate::disk::base::{BaseError, BaseReader, BaseRow, kind_on_disk};
use crate::disk::names::Traits;
use crate::disk::{Disk, Listed, Meta, Name, PRIVATE, RelPath, database};

/// A directory still to be listed.
struct Dir {
    path: RelPath,
    at: Parent,
    /// Together with all that is below it.
    whole: bool,
    /// An earlier look passed over it, or over a directory above it.
    was: bool,
    /// Another directory stands there than base knows.
    other: bool,
}

/// A row of base whose path vanished from its directory, or holds another kind.
pub(super) struct Missing {
    pub(super) row: BaseRow,
    /// It is nobody's deletion ([`Found::Forgotten`]).
    pub(super) nobodys: bool,
    /// The directory to be looked at again, if this look does not decide.
    pub(super) doubted: Option<RelPath>,
}

/// A scan under way.
pub(super) struct Walk<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) base: &'a dyn BaseReader,
    pub(super) secret: &'a SpaceSecret,
    pub(super) look: &'a Look,
    traits: Traits,
    pub(super) rules: &'a dyn Fn(&RelPath, bool) -> bool,
    pub(super) emit: &'a mut dyn FnMut(Vec<Found>) -> Result<(), Stop>,
    /// A stack: what was pushed last is listed next.
    dirs: Vec<Dir>,
    /// Directories of a scope that were listed; a walk of everything meets each only once.
    listed: Option<BTreeSet<RelPath>>,
    next_new: u32,
    /// Items that are elsewhere now, or may be: never gone.
    pub(super) claimed: BTreeSet<ItemId>,
    /// Directories that moved, and where they are now.
    moved_dirs: BTreeMap<ItemId, RelPath>,
    pub(super) missing: Vec<Missing>,
    /// Findings in their order, some of them still to be hashed.
    pub(super) pending: Vec<Pending>,
    pub(super) pending_bytes: u64,
    pub(super) report: ScanReport,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        disk: &'a dyn Disk,
        base: &'a dyn BaseReader,
        secret: &'a SpaceSecret,
        look: &'a Look,
        rules: &'a dyn Fn(&RelPath, bool) -> bool,
        emit: &'a mut dyn FnMut(Vec<Found>) -> Result<(), Stop>,
    ) -> Self {
        Self {
            disk,
            base,
            secret,
            look,
            // It was tried when the folder was opened.
            traits: disk.traits().unwrap_or_default(),
            rules,
            emit,
            dirs: Vec::new(),
            listed: None,
            next_new: 0,
            claimed: BTreeSet::new(),
            moved_dirs: BTreeMap::new(),
            missing: Vec::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            report: ScanReport::default(),
        }
    }

    /// Puts the directories of the scope on the stack.
    pub(super) fn start(&mut self, scope: &Scope) -> Result<(), ScanError> {
        let root = Dir {
            path: RelPath::ROOT,
            at: Parent::Item(ItemId::ROOT),
            whole: true,
            was: false,
            other: false,
        };
        match scope {
            Scope::All => self.dirs.push(root),
            Scope::Dirs(paths) => {
                self.listed = Some(BTreeSet::new());
                let mut known = BTreeMap::new();
                for path in paths {
                    if path.components().next() != Some(PRIVATE) {
                        for (path, id, other) in self.nearest(path)? {
                            if !(self.rules)(&path, true) {
                                known.insert(path, (id, other));
                            }
                        }
                    }
                }
                // The stack gives back the last first: parents before children.
                for (path, (id, other)) in known.into_iter().rev() {
                    let was = self.was_passed(&id)?;
                    self.dirs.push(Dir {
                        path,
                        at: Parent::Item(id),
                        whole: false,
                        was,
                        other,
                    });
                }
            }
        }
        Ok(())
    }

    /// The nearest directory at or above `path` that base knows and that stands on disk, and whether it is
    /// another one than base knows. With each such one comes the directory it is in: what had the name may
    /// stand beside it now.
    fn nearest(&self, path: &RelPath) -> Result<Vec<(RelPath, ItemId, bool)>, BaseError> {
        let mut above = Vec::new();
        let mut at = (RelPath::ROOT, ItemId::ROOT, false);
        for name in path.components() {
            let next = at.0.with(name);
            let Some(row) = self.base.child(&at.1, name)? else {
                break;
            };
            let other = match self.disk.meta(&next) {
                Ok(Some(meta)) if kind_on_disk(meta.kind) == Some(Kind::Dir) => {
                    self.is_other(&row, &meta)
                }
                // Unreadable: its own listing says so.
                Err(_) => false,
                Ok(_) => break,
            };
            if row.kind != Kind::Dir {
                break;
            }
            let parent = std::mem::replace(&mut at, (next, row.id, other));
            if other {
                above.push(parent);
            }
        }
        above.push(at);
        Ok(above)
    }

    /// Whether another file or directory stands there than base knows, where numbers tell.
    fn is_other(&self, row: &BaseRow, meta: &Meta) -> bool {
        self.traits.steady && row.stat.ino != meta.ino
    }

    /// Lists directories until none is left.
    pub(super) fn run(&mut self) -> Result<(), ScanError> {
        while let Some(dir) = self.dirs.pop() {
            let again = self
                .listed
                .as_mut()
                .is_some_and(|seen| !seen.insert(dir.path.clone()));
            if !again {
                self.compare(&dir)?;
            }
        }
        self.flush()
    }

    fn compare(&mut self, dir: &Dir) -> Result<(), ScanError> {
        let mut listing = match self.disk.list(&dir.path) {
            Ok(listing) => listing,
            Err(e) => {
                self.io_problem(&dir.path, &e);
                return Ok(());
            }
        };
        self.report.dirs += 1;
        listing.sort_by(|a, b| sort_key(a).cmp(sort_key(b)));
        let rows = match dir.at {
            Parent::Item(id) => self.base.children(&id)?,
            Parent::New(_) => Vec::new(),
        };
        // A row that was found elsewhere has left its name to another.
        let mut rows: BTreeMap<String, BaseRow> = rows
            .into_iter()
            .filter(|row| !self.claimed.contains(&row.id))
            .map(|row| (row.name.clone(), row))
            .collect();
        for name in database::fold(self.disk, &dir.path, &mut listing) {
            rows.remove(&name);
        }
        let mut alike = self.alike(&listing, &rows);
        let first_child = self.dirs.len();
        for Listed { name, meta } in listing {
            let name = match name {
                Ok(name) => name,
                Err(shown) => {
                    self.problem(
                        &dir.path.with(&shown.0),
                        ProblemKind::Name,
                        shown.to_string(),
                    );
                    continue;
                }
            };
            if dir.path.is_root() && name == PRIVATE {
                continue;
            }
            let row = match alike.remove(&name) {
                Some(was) => rows.remove(&was),
                None => rows.remove(&name),
            };
            let path = dir.path.with(&name);
            if let Err(bad) = Name::check(&name) {
                self.problem(&path, ProblemKind::Name, bad.to_string());
                continue;
            }
            let Some(kind) = kind_on_disk(meta.kind) else {
                if (self.rules)(&path, false) {
                    self.keep(dir.at)?;
                } else {
                    self.problem(
                        &path,
                        ProblemKind::Special,
                        "a FIFO, socket or device, or a dead mount".to_owned(),
                    );
                }
                continue;
            };
            // A conflict copy goes the way of its item, whatever it is called.
            let copy = row.as_ref().is_some_and(|row| row.copy_of.is_some());
            if !copy && (self.rules)(&path, kind == Kind::Dir) {
                self.pass_over(dir, &path, kind, row)?;
                continue;
            }
            self.report.files += u64::from(kind != Kind::Dir);
            match row {
                Some(row) if row.kind == kind => {
                    if row.name != name && !self.traits.rewrites {
                        self.moved(&row, dir.at, name, meta);
                    }
                    self.known(dir, row, path, meta)?;
                }
                row => {
                    if let Some(row) = row {
                        self.missed(dir, row, false);
                    }
                    self.appeared(dir, path, name, kind, meta)?;
                }
            }
            if self.pending.len() >= GROUP || self.pending_bytes >= GROUP_BYTES {
                self.flush()?;
            }
        }
        self.dirs[first_child..].reverse();
        for (name, row) in rows {
            let ignored =
                row.copy_of.is_none() && (self.rules)(&dir.path.with(&name), row.kind == Kind::Dir);
            self.missed(dir, row, ignored);
            if self.doubts(dir)
                && let Some(missing) = self.missing.last_mut()
                && (dir.other || missing.row.kind == Kind::Dir)
            {
                missing.doubted = Some(dir.path.clone());
            }
        }
        Ok(())
    }

    fn missed(&mut self, dir: &Dir, row: BaseRow, ignored: bool) {
        let nobodys = ignored || dir.was || self.look.passed.contains(&row.id);
        self.missing.push(Missing {
            row,
            nobodys,
            doubted: None,
        });
    }

    /// Whether what is missing in a directory may stand where this look does not come.
    fn doubts(&self, dir: &Dir) -> bool {
        self.listed.is_some() && !self.look.again.contains(&dir.path)
    }

    /// Something that is ignored stands there.
    fn pass_over(
        &mut self,
        dir: &Dir,
        path: &RelPath,
        kind: Kind,
        row: Option<BaseRow>,
    ) -> Result<(), BaseError> {
        self.keep(dir.at)?;
        match row {
            // A rule for directories alone: the file that stood there is gone all the same.
            Some(row) if row.kind != kind && !(self.rules)(path, row.kind == Kind::Dir) => {
                self.missed(dir, row, false);
            }
            Some(row) => {
                self.report.passed.insert(row.id);
            }
            None => {}
        }
        Ok(())
    }

    /// A directory, and those above it, hold something that is ignored.
    fn keep(&mut self, dir: Parent) -> Result<(), BaseError> {
        let Parent::Item(mut at) = dir else {
            return Ok(());
        };
        while at != ItemId::ROOT && self.report.keeps.insert(at) {
            match self.base.get(&at)? {
                Some(row) => at = row.parent,
                None => break,
            }
        }
        Ok(())
    }

    /// Whether an earlier look passed over an entry, or a directory above it.
    fn was_passed(&self, id: &ItemId) -> Result<bool, BaseError> {
        let mut at = *id;
        while !self.look.passed.is_empty() && at != ItemId::ROOT {
            if self.look.passed.contains(&at) {
                return Ok(true);
            }
            match self.base.get(&at)? {
                Some(row) => at = row.parent,
                None => break,
            }
        }
        Ok(false)
    }

    /// Where a row of base is to be looked for: base's path, with the directories that moved.
    ///
    /// Below a moved directory the name there decides, as it does below one that stayed.
    pub(super) fn path_now(&self, row: &BaseRow) -> Result<Option<RelPath>, BaseError> {
        if self.moved_dirs.is_empty() {
            return self.base.path_of(&row.id);
        }
        let mut names = vec![row.name.clone()];
        let mut at = row.parent;
        let above = loop {
            if let Some(path) = self.moved_dirs.get(&at) {
                break path.clone();
            }
            if at == ItemId::ROOT {
                break RelPath::ROOT;
            }
            let Some(dir) = self.base.get(&at)? else {
                return Ok(None);
            };
            names.push(dir.name);
            at = dir.parent;
        };
        Ok(Some(
            names.iter().rev().fold(above, |dir, name| dir.with(name)),
        ))
    }

    fn moved(&mut self, row: &BaseRow, parent: Parent, name: String, meta: Meta) {
        self.claimed.insert(row.id);
        self.ready(Found::Moved {
            id: row.id,
            parent,
            name,
            meta,
        });
        if was_touched(row, &meta) {
            self.ready(Found::Touched { id: row.id, meta });
        }
    }

    fn created(
        &mut self,
        parent: Parent,
        name: String,
        kind: Kind,
        content: Option<Content>,
        meta: Meta,
    ) -> u32 {
        let new = self.number();
        let chunks = Vec::new();
        self.ready(Found::Created {
            new,
            parent,
            name,
            kind,
            content,
            chunks,
            meta,
            racy: false,
        });
        new
    }

    fn number(&mut self) -> u32 {
        self.next_new += 1;
        self.next_new - 1
    }

    fn ready(&mut self, found: Found) {
        self.pending.push(Pending::Ready(found));
    }

    fn target(&mut self, path: &RelPath) -> Option<Content> {
        match self.disk.read_link(path) {
            Ok(target) if target.len() > MAX_TARGET => {
                let reason = "the target is too long".to_owned();
                self.problem(path, ProblemKind::Name, reason);
                None
            }
            Ok(target) => Some(Content::Link { target }),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                self.problem(
                    path,
                    ProblemKind::Name,
                    "the target is not UTF-8".to_owned(),
                );
                None
            }
            Err(e) => {
                self.io_problem(path, &e);
                None
            }
        }
    }

    pub(super) fn io_problem(&mut self, path: &RelPath, error: &io::Error) {
        let kind = match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput => ProblemKind::Changing,
            _ => ProblemKind::Unreadable,
        };
        self.problem(path, kind, error.to_string());
    }

    pub(super) fn problem(&mut self, path: &RelPath, kind: ProblemKind, reason: String) {
        self.report.problems.push(Problem {
            path: path.clone(),
            kind,
            reason,
        });
    }
}

/// Whether mode or mtime are others than those read back; the mode means nothing on a symlink, and
/// the mtime nothing on a directory.
pub(super) fn was_touched(row: &BaseRow, meta: &Meta) -> bool {
    match row.kind {
        Kind::File => row.mode != meta.mode || row.mtime != meta.mtime_ns,
        Kind::Dir => row.mode != meta.mode,
        Kind::Symlink => row.mtime != meta.mtime_ns,
    }
}

fn sort_key(entry: &Listed) -> &str {
    match &entry.name {
        Ok(name) => name,
        Err(shown) => &shown.0,
    }
}
