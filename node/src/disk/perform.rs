//! Writes into the user's folder: the only code that does.
//!
//! Order 2 of the orders that never change ends here: temp files synced, `placing` rows durable
//! (both the engine's), **swapped in, directories synced** (here), base rows (the engine's again).
//! The danger guarded against is a save that slips in between the look and the act. So every step
//! looks again right before it acts, and what comes out of a swap is compared once more; if it is
//! not what base says, it goes back. Nothing is ever unlinked outside `.mesh/tmp`, and by a step
//! nothing at all: what is replaced or removed goes to the trash.
//!
//! # What a crash after each operation leaves, and how it heals
//!
//! The engine holds a durable `placing` row for each step until base has the outcome: after a crash
//! base gets it from the row, if the disk shows it, or else the item is made again. [`salvage`] comes
//! first:
//!
//! | step | after | left behind | heals by |
//! |---|---|---|---|
//! | `Write`, `Link`, free path | rename | the new file | its row: it is known by its inode number |
//! | `Write`, `Link` over | ours made ready | old at the path, ours in tmp | `salvage`: trash; then again |
//! | | exchange | new at the path, **the user's old file in tmp** | `salvage`: trash; its row |
//! | | exchange back | the user's save at the path, ours in tmp | scan: an edit |
//! | | old to trash | done but for the sync | again |
//! | ... without exchange, or a database | target parked | nothing at the path, the user's file in parked | `salvage`: trash; then again |
//! | | compared unequal, put back | the user's save at the path | scan: an edit |
//! | ... a database | its log to the trash | nothing at the path | the same |
//! | | staged renamed in | new at the path, old in parked | `salvage`: trash; its row |
//! | `Remove` of a file | rename | nothing at the path, the user's file in tmp | `salvage`: trash; the step is repeated and finds nothing |
//! | | to trash | done but for the sync, or a log without its database | again; before a database comes there |
//! | `Move` | rename | done, or a save that slipped in under the new name | its row, or a scan |
//! | `Park` | rename | the item in parked, under its id | brought back to its place, or aside, before `salvage` |
//! | `MakeDir`, `Remove` of a directory, `Meta` | the call | done but for the sync | again |
//!
//! A loss of power leaves the state after some of the operations, and an exchange or rename is one
//! operation to every filesystem that has a journal. Under the name of a staged file there never
//! stands anything else: it is renamed before it is swapped.

mod database;
mod place;
mod step;

pub use step::{Outcome, Refused, Step};

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ownmesh_crdt::item::Kind;
use ownmesh_crypto::ids::ItemId;

use super::base::kind_on_disk;
use super::database::Beside;
use super::{Disk, Meta, MetaKind, PARKED, RelPath, Stat, TMP, TRASH, private, trash};

/// Does the steps in order, then syncs each directory that was touched.
///
/// A refused step does not stop the later ones, but for those below the directory it was to put
/// there: another one may stand under that name. `trash_name` gives the name in the trash of what an
/// item's step replaces ([`trash::name`]).
///
/// Returns: one outcome a step, in order. What is done is durable; a step whose directory could not
/// be synced counts as refused.
pub fn perform(
    disk: &dyn Disk,
    steps: &[Step],
    trash_name: &dyn Fn(&ItemId) -> String,
) -> Vec<Outcome> {
    let mut performer = Performer {
        disk,
        trash_name,
        step: 0,
        touched: BTreeMap::new(),
        acted: BTreeSet::new(),
    };
    let mut outcomes = Vec::with_capacity(steps.len());
    // Directories that are not where later steps of the group take them to be.
    let mut lost = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        performer.step = n;
        let done = match step {
            Step::Unpark { id, .. } if step.is_below(&lost) => performer.set_aside(id),
            _ if step.is_below(&lost) => Err(Refused::Missing),
            _ => performer.act(step),
        };
        let done = match (done, step.names()) {
            (Err(Refused::Occupied), Some(path)) if performer.is_alias(path) => Err(Refused::Alias),
            (done, _) => done,
        };
        if done.is_ok() {
            performer.acted.insert(*step.id());
        } else {
            lost.extend(step.puts_dir());
        }
        outcomes.push(Outcome {
            id: *step.id(),
            done,
        });
    }
    performer.sync(&mut outcomes);
    // A directory that may be gone after a loss of power takes along what was put below it.
    lost.clear();
    for (step, outcome) in steps.iter().zip(&mut outcomes) {
        if outcome.done.is_ok() && step.is_below(&lost) {
            outcome.done = Err(Refused::Missing);
        }
        if outcome.done.is_err() {
            lost.extend(step.puts_dir());
        }
    }
    outcomes
}

/// Where [`Step::Park`] puts an item.
pub fn parked(id: &ItemId) -> RelPath {
    private(PARKED).with(&id.to_string())
}

/// The name of an entry that is not where base has it: nothing else on the disk is called so.
pub fn nowhere(id: &ItemId) -> String {
    format!(".mesh-{id}")
}

/// Where a parked item stands whose new place was taken meanwhile, until it is moved on.
pub fn aside(id: &ItemId) -> RelPath {
    RelPath::ROOT.with(&nowhere(id))
}

/// Brings what a crash left of the user's in `.mesh/tmp` and `.mesh/parked` to the trash.
///
/// `ours` says of a path there that it is exactly what mesh put there and still needs or may
/// delete: a staged file.
/// `trash_name` gets the file's name there. Call it before anything is staged.
///
/// Returns: what was brought to the trash.
pub fn salvage(
    disk: &dyn Disk,
    ours: &dyn Fn(&RelPath, &Meta) -> bool,
    trash_name: &dyn Fn(&str) -> String,
) -> io::Result<Vec<RelPath>> {
    let mut saved = Vec::new();
    for dir in [private(TMP), private(PARKED)] {
        let mut entries = disk.list(&dir)?;
        entries.sort_by(|a, b| a.name.as_ref().ok().cmp(&b.name.as_ref().ok()));
        for entry in entries {
            let Ok(name) = entry.name else { continue };
            let path = dir.with(&name);
            if !ours(&path, &entry.meta) {
                saved.push(trash::put(disk, &path, &trash_name(&name))?);
            }
        }
        disk.sync_dir(&dir)?;
    }
    disk.sync_dir(&private(TRASH))?;
    Ok(saved)
}

/// A group of steps under way.
struct Performer<'a> {
    disk: &'a dyn Disk,
    trash_name: &'a dyn Fn(&ItemId) -> String,
    /// Number of the present step.
    step: usize,
    /// Directories to sync, and the steps that touched them.
    touched: BTreeMap<RelPath, BTreeSet<usize>>,
    /// Items that earlier steps of the group changed: their ctime is not base's any more.
    acted: BTreeSet<ItemId>,
}

type Done = Result<Option<Meta>, Refused>;

impl Performer<'_> {
    fn act(&mut self, step: &Step) -> Done {
        match step {
            Step::MakeDir { path, mode, .. } => {
                self.disk.mkdir(path, *mode)?;
                self.touch_parent(path);
                // Gone again already: that is for the next look to tell of.
                Ok(Some(self.disk.meta_lifted(path)?.ok_or(Refused::Missing)?))
            }
            Step::Write {
                id,
                path,
                staged,
                over,
                mode,
                mtime,
            } => self.write(id, path, staged, over.as_ref(), *mode, *mtime),
            Step::Link {
                id,
                path,
                target,
                over,
                mtime,
            } => self.link(id, path, target, over.as_ref(), *mtime),
            Step::Move {
                id,
                from,
                to,
                expect,
            } => self.rename(id, from, to, expect),
            Step::Park { id, from, expect } => self.rename(id, from, &parked(id), expect),
            Step::Unpark { id, to } => {
                let from = parked(id);
                if self.holds_database(&from)? {
                    self.clear_beside(id, to)?;
                }
                if self.disk.rename_new(&from, to).is_err() {
                    return self.set_aside(id);
                }
                self.renamed(&from, to);
                Ok(self.disk.meta_lifted(to)?)
            }
            Step::Remove {
                id,
                path,
                kind,
                expect,
            } => self.remove(id, path, *kind, expect),
            Step::Meta {
                id,
                path,
                mode,
                mtime,
                expect,
            } => self.set_meta(id, path, *mode, *mtime, expect),
        }
    }

    /// Whether a name is taken by something that is listed under another one.
    fn is_alias(&self, path: &RelPath) -> bool {
        let Some(listed) = path.parent().and_then(|dir| self.disk.list(&dir).ok()) else {
            return false;
        };
        let name = path.name();
        !listed.iter().any(|l| l.name.as_deref().ok() == name)
    }

    /// Nothing of the user's stays in the private folder, where he does not see it.
    fn set_aside(&mut self, id: &ItemId) -> Done {
        let (from, here) = (parked(id), aside(id));
        self.disk.rename_new(&from, &here)?;
        self.renamed(&from, &here);
        Err(Refused::Aside)
    }

    fn rename(&mut self, id: &ItemId, from: &RelPath, to: &RelPath, expect: &Stat) -> Done {
        let now = self.expect(id, from, expect)?;
        if now.kind == MetaKind::File {
            self.refuse_in_use(from)?;
            self.refuse_beside_database(to)?;
            if self.holds_database(from)? {
                self.clear_beside(id, to)?;
            }
        }
        self.disk.rename_new(from, to)?;
        self.renamed(from, to);
        let out = self.disk.meta_lifted(to)?.ok_or(Refused::Missing)?;
        if came_out(expect, &out) {
            return Ok(Some(out));
        }
        match self.disk.rename_new(to, from) {
            Ok(()) => self.renamed(to, from),
            // Saved under the old name once more: both stay, and the scan tells them apart. Nothing
            // may stay in the private folder, where nobody sees it.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if to.starts_with(&private(PARKED)) {
                    self.discard(id, to)?;
                }
            }
            Err(e) => return Err(e.into()),
        }
        Err(Refused::Changed)
    }

    fn remove(&mut self, id: &ItemId, path: &RelPath, kind: Kind, expect: &Stat) -> Done {
        let now = self.expect(id, path, expect)?;
        if kind_on_disk(now.kind) != Some(kind) {
            return Err(Refused::Changed);
        }
        if kind == Kind::Dir {
            return match self.disk.rmdir(path) {
                Ok(()) => {
                    self.touch_parent(path);
                    Ok(None)
                }
                // Some systems say EEXIST for what others call ENOTEMPTY.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Refused::NotEmpty),
                Err(e) => Err(e.into()),
            };
        }
        let aside = private(TMP).with(&format!("rm-{id}"));
        self.clear(id, &aside)?;
        let beside = self.holds_database(path)?;
        let beside = beside.then(|| Beside::of(self.disk, path)).transpose()?;
        self.disk.rename_new(path, &aside)?;
        self.renamed(path, &aside);
        let out = self.disk.meta_lifted(&aside)?.ok_or(Refused::Missing)?;
        let mut as_expected = came_out(expect, &out);
        if let Some(beside) = &beside {
            as_expected &= self.same_beside(path, beside)?;
        }
        if !as_expected && !ownmesh_crdt::mutated!(RemoveUnseen) {
            self.put_back(id, &aside, path)?;
            return Err(Refused::Changed);
        }
        let to = match self.discard(id, &aside) {
            Ok(to) => to,
            Err(e) => {
                self.put_back(id, &aside, path)?;
                return Err(e);
            }
        };
        if beside.is_some() {
            // The file is gone: a log that cannot go too is of no harm, and passed over by scans.
            match self.take_along(id, path) {
                Ok(along) => self.fold_in_trash(&to, &along),
                Err(error) => tracing::warn!(%path, %error, "the log of a removed database stays"),
            }
        }
        Ok(None)
    }

    fn set_meta(
        &mut self,
        id: &ItemId,
        path: &RelPath,
        mode: u32,
        mtime: i64,
        expect: &Stat,
    ) -> Done {
        let now = self.expect(id, path, expect)?;
        if now.mode != mode && now.kind != MetaKind::Symlink {
            self.disk.set_mode(path, mode)?;
        }
        if now.kind == MetaKind::File && now.mtime_ns != mtime {
            self.disk.set_mtime(path, mtime)?;
        }
        if now.kind == MetaKind::Symlink {
            self.set_link_time(path, Some(mtime));
        }
        self.touch_parent(path);
        let after = self.disk.meta_lifted(path)?.ok_or(Refused::Missing)?;
        if after.kind != now.kind
            || after.ino != now.ino
            || (now.kind == MetaKind::File && after.size != now.size)
        {
            return Err(Refused::Changed);
        }
        Ok(Some(after))
    }

    /// Not every system can: then a symlink has the time at which it was made.
    fn set_link_time(&self, path: &RelPath, mtime: Option<i64>) {
        if let Some(mtime) = mtime
            && let Err(error) = self.disk.set_mtime(path, mtime)
        {
            tracing::debug!(%path, %error, "the time of a symlink could not be set");
        }
    }

    /// The precondition of a step that finds something.
    fn expect(&self, id: &ItemId, path: &RelPath, expect: &Stat) -> Result<Meta, Refused> {
        let now = self.disk.meta_lifted(path)?.ok_or(Refused::Missing)?;
        let now = self.with_beside(path, now)?;
        let as_expected = match now.kind {
            MetaKind::Dir => expect.ino == now.ino,
            MetaKind::Other => false,
            _ if ownmesh_crdt::mutated!(RemoveUnseen) => true,
            _ if self.acted.contains(id) => expect.same_content_likely(&now),
            _ => expect.same_file_unchanged(&now),
        };
        if as_expected {
            Ok(now)
        } else {
            Err(Refused::Changed)
        }
    }

    /// Puts a user's file back; into the trash, if its place was taken meanwhile.
    fn put_back(&mut self, id: &ItemId, from: &RelPath, to: &RelPath) -> Result<(), Refused> {
        match self.disk.rename_new(from, to) {
            Ok(()) => {
                self.renamed(from, to);
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.discard(id, from).map(drop),
            Err(e) => Err(e.into()),
        }
    }

    fn discard(&mut self, id: &ItemId, from: &RelPath) -> Result<RelPath, Refused> {
        let to = trash::put(self.disk, from, &(self.trash_name)(id))?;
        self.renamed(from, &to);
        Ok(to)
    }

    /// Brings what a crash left at a private path to the trash.
    fn clear(&mut self, id: &ItemId, path: &RelPath) -> Result<(), Refused> {
        match self.disk.meta_lifted(path)? {
            Some(_) => self.discard(id, path).map(drop),
            None => Ok(()),
        }
    }

    fn touch_parent(&mut self, path: &RelPath) {
        if let Some(parent) = path.parent() {
            self.touched.entry(parent).or_default().insert(self.step);
        }
    }

    /// Notes both parents, and that directories below `from` are now below `to`.
    fn renamed(&mut self, from: &RelPath, to: &RelPath) {
        let moved: Vec<RelPath> = self
            .touched
            .keys()
            .filter(|dir| dir.starts_with(from))
            .cloned()
            .collect();
        for dir in moved {
            let steps = self.touched.remove(&dir).unwrap_or_default();
            let now = dir
                .components()
                .skip(from.components().count())
                .fold(to.clone(), |at, name| at.with(name));
            self.touched.entry(now).or_default().extend(steps);
        }
        self.touch_parent(from);
        self.touch_parent(to);
    }

    fn sync(&self, outcomes: &mut [Outcome]) {
        for (dir, steps) in &self.touched {
            let Err(error) = self.disk.sync_dir(dir) else {
                continue;
            };
            // Removed by a later step: the sync of its parent makes that durable.
            if error.kind() == io::ErrorKind::NotFound {
                continue;
            }
            let refused = Refused::from(error);
            for &step in steps {
                if let Some(outcome) = outcomes
                    .get_mut(step)
                    .filter(|outcome| outcome.done.is_ok())
                {
                    outcome.done = Err(refused.clone());
                }
            }
        }
    }
}

/// Whether what came out of a rename is what base says; the rename itself has moved the ctime.
fn came_out(expect: &Stat, out: &Meta) -> bool {
    match out.kind {
        _ if ownmesh_crdt::mutated!(IgnoreOutOfSwap) => true,
        MetaKind::Dir => expect.ino == out.ino,
        MetaKind::Other => false,
        _ => expect.same_content_likely(out),
    }
}
