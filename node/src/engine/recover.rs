//! After a crash: what was under way on the disk is looked at before anything else.
//!
//! A `placing` row says that a step was about to be taken, and what base is to say afterwards. Two
//! things are guarded against. What the step has put in place must not be taken for the user's doing
//! by the first scan, whatever has become of the item in the mesh meanwhile: it would come back after
//! a deletion, or keep a name it has lost. And a path that is empty because the step was half done
//! must not be read as the user's deletion: its base row goes instead, and the item is made again.
//!
//! A power loss in here finds the rows as they were, since all that base gets is one durable write.

use ownmesh_crdt::item::{Content, ItemState, Kind};
use ownmesh_crypto::{ContentHash, ItemId};

use super::Engine;
use super::author::forget_content;
use super::fetch;
use super::settle::make_room;
use crate::db::base::{self, Base};
use crate::db::placing::{self, Placing};
use crate::db::{Connection, DbError, dirty, items};
use crate::disk::base::{BaseRow, kind_on_disk};
use crate::disk::names::fold;
use crate::disk::{Disk, Meta, MetaKind, RelPath, TMP, lift, perform, private, trash};

/// Forgets that an entry, and all below it, stands on the disk; it is made again.
pub(super) fn forget_subtree(tx: &Connection, n: i64, id: &ItemId) -> Result<(), DbError> {
    let mut open = vec![*id];
    while let Some(at) = open.pop() {
        open.extend(base::child_ids(tx, n, &at)?);
        let item = base::get(tx, n, &at)?
            .and_then(|b| b.row.copy_of)
            .map_or(at, |c| c.0);
        base::remove(tx, n, &at)?;
        dirty::mark(tx, n, &item, 0)?;
    }
    Ok(())
}

/// What was parked stands aside now, or (if it does not) is forgotten and made again.
pub(super) fn unparked(tx: &Connection, n: i64, id: &ItemId, stands: bool) -> Result<(), DbError> {
    match base::get(tx, n, id)? {
        Some(mut b) if stands => {
            b.row.parent = ItemId::ROOT;
            b.row.name = base::nowhere(id);
            base::put(tx, n, &b)?;
            dirty::mark(tx, n, &b.row.copy_of.map_or(*id, |c| c.0), 0)
        }
        _ => forget_subtree(tx, n, id),
    }
}

impl Engine {
    /// Heals what a crash left of steps in a space. To be called before its first scan, with its
    /// disk; the time in seconds only names files in the trash.
    ///
    /// # Errors
    /// If the disk cannot be read: the space is not to be used then.
    pub fn recover(&mut self, n: i64, disk: &dyn Disk, seconds: u64) -> Result<(), String> {
        if ownmesh_crdt::mutated!(NoRecovery) || !self.spaces.contains_key(&n) {
            return Ok(());
        }
        let rows = placing::all(self.db.read(), n).map_err(|e| e.to_string())?;
        let moved = self.bring_back(n, disk, &rows)?;
        // What is staged is always ours; anything else there was on its way from or to its place.
        let ours = |path: &RelPath, _: &Meta| {
            path.parent() == Some(private(TMP)) && path.name().is_some_and(fetch::is_staged)
        };
        let saved = perform::salvage(disk, &ours, &|name| {
            trash::name(seconds, &ItemId::ROOT, name)
        })
        .map_err(|e| e.to_string())?;
        for path in &saved {
            tracing::warn!(%path, "a crash left this half done; it was brought to the trash");
        }
        self.db
            .write_as(!rows.is_empty(), |tx| {
                for (id, stands) in &moved {
                    unparked(tx, n, id, *stands)?;
                }
                for id in base::orphans(tx, n)? {
                    forget_subtree(tx, n, &id)?;
                }
                if !ownmesh_crdt::mutated!(PlacedForgotten) {
                    remember_all(tx, n, disk, &rows)?;
                }
                rows.iter()
                    .try_for_each(|row| give_back_modes(tx, n, disk, row))?;
                rows.iter().try_for_each(|row| clear(tx, n, disk, row))
            })
            .map_err(|e: DbError| e.to_string())?;
        self.sweep(n, disk)?;
        let all = trash::list(disk).unwrap_or_default();
        self.set_kept(n, all.into_iter().filter_map(|one| one.content).collect());
        Ok(())
    }

    /// Parked entries, and those that a step has set aside, go back where base has them, or stand
    /// aside if that place is taken. Returns what is elsewhere than base says, and whether it stands.
    fn bring_back(
        &self,
        n: i64,
        disk: &dyn Disk,
        rows: &[Placing],
    ) -> Result<Vec<(ItemId, bool)>, String> {
        let mut moved = Vec::new();
        for row in rows {
            let home = base::path(self.db.read(), n, &row.id).map_err(|e| e.to_string())?;
            let aside = perform::aside(&row.id);
            for from in [perform::parked(&row.id), aside.clone()] {
                if home.as_ref() == Some(&from)
                    || ownmesh_crdt::mutated!(AsideForgotten) && from == aside
                    || disk.meta(&from).map_err(|e| e.to_string())?.is_none()
                {
                    continue;
                }
                let free = home
                    .as_ref()
                    .filter(|home| disk.meta(home).ok().flatten().is_none());
                if let Some(home) = free
                    && disk.rename_new(&from, home).is_ok()
                {
                    drop(disk.sync_dir(&home.parent().unwrap_or(RelPath::ROOT)));
                    continue;
                }
                let stands = from == aside || disk.rename_new(&from, &aside).is_ok();
                if stands {
                    drop(disk.sync_dir(&RelPath::ROOT));
                }
                moved.push((row.id, stands));
            }
        }
        Ok(moved)
    }

    /// Removes what lies staged: it is fetched again. Only the beginnings of large contents that are
    /// still wanted stay.
    fn sweep(&mut self, n: i64, disk: &dyn Disk) -> Result<(), String> {
        let fail = |e: DbError| e.to_string();
        for entry in disk.list(&private(TMP)).map_err(|e| e.to_string())? {
            let Ok(name) = entry.name else { continue };
            if !fetch::is_staged(&name) {
                continue;
            }
            if let Some(id) = fetch::part_of(&name) {
                let item = items::get(self.db.read(), n, &id).map_err(fail)?;
                let state = item.and_then(|item| ItemState::from_registers(&item.doc.regs));
                let named = |hash: &ContentHash| fetch::part_name(hash, &id) == name;
                let hash = state
                    .iter()
                    .flat_map(|s| &s.versions)
                    .find_map(|(_, c)| match c {
                        Content::File { hash, .. } if named(hash) => Some(*hash),
                        _ => None,
                    });
                if let (Some(hash), Some(space)) = (hash, self.spaces.get_mut(&n)) {
                    space.begun.insert((id, id), hash);
                    continue;
                }
            }
            drop(disk.remove(&private(TMP).join(&name).map_err(|e| e.to_string())?));
        }
        Ok(())
    }
}

/// Base gets what it would have got at the end of the steps, for those that the disk shows. In
/// rounds, since a place is only known when the directories above it are.
fn remember_all(tx: &Connection, n: i64, disk: &dyn Disk, rows: &[Placing]) -> Result<(), DbError> {
    let mut left: Vec<&Placing> = rows.iter().filter(|row| row.wanted.is_some()).collect();
    loop {
        let before = left.len();
        let mut still = Vec::new();
        for row in left {
            if !remember(tx, n, disk, row)? {
                still.push(row);
            }
        }
        left = still;
        if left.len() == before {
            return Ok(());
        }
    }
}

/// Returns whether the disk shows the step as taken, and base says so now.
fn remember(tx: &Connection, n: i64, disk: &dyn Disk, row: &Placing) -> Result<bool, DbError> {
    let Some(wanted) = &row.wanted else {
        return Ok(false);
    };
    let dir = base::path(tx, n, &wanted.parent)?;
    let Some(path) = dir.and_then(|dir| dir.join(&wanted.name).ok()) else {
        return Ok(false);
    };
    let Some(meta) = disk.meta(&path).ok().flatten() else {
        return Ok(false);
    };
    // A name that only differs in case may be found although the old one stands there still.
    let before = base::get(tx, n, &row.id)?;
    let alike = |b: &Base| {
        b.row.parent == wanted.parent
            && b.row.name != wanted.name
            && fold(&b.row.name) == fold(&wanted.name)
    };
    let listed = || {
        let dir = path.parent().unwrap_or(RelPath::ROOT);
        let listed = disk.list(&dir).unwrap_or_default();
        listed.iter().any(|l| l.name.as_ref() == Ok(&wanted.name))
    };
    if before.as_ref().is_some_and(alike) && !listed() {
        return Ok(false);
    }
    // What was to make way for it stands there still.
    let other = base::at(tx, n, &wanted.parent, &wanted.name)?.filter(|b| b.row.id != row.id);
    if other.is_some_and(|b| b.row.stat.ino == meta.ino && b.row.stat.dev == meta.dev) {
        return Ok(false);
    }
    let target = |target: &String| disk.read_link(&path).is_ok_and(|is| is == *target);
    let shown = kind_on_disk(meta.kind) == Some(wanted.kind)
        && row.ino.is_none_or(|ino| ino == meta.ino)
        && match &wanted.content {
            Some(Content::Link { target: to }) => target(to),
            Some(Content::File { .. }) => row.ino.is_some(),
            None => true,
        };
    if !shown {
        return Ok(false);
    }
    let old = before.as_ref().and_then(|b| b.row.content.clone());
    let b = match before {
        // The same file as before, elsewhere or with another mode and time. What else changed of it
        // is the user's doing.
        Some(mut b) if Some(b.row.stat.ino) == row.ino => {
            if meta.mode != b.row.mode && meta.mode == wanted.mode {
                (b.row.mode, b.asked_mode) = (meta.mode, meta.mode);
            }
            if meta.mtime_ns != b.row.mtime && Some(meta.mtime_ns) == wanted.mtime {
                (b.row.mtime, b.asked_mtime) = (meta.mtime_ns, meta.mtime_ns);
            }
            b.row.parent = wanted.parent;
            b.row.name.clone_from(&wanted.name);
            b.row.seen.clone_from(&wanted.seen);
            b.row.racy |= b.row.kind == Kind::File;
            b
        }
        // Read again by the scan: what the user wrote into it since is an edit of what he saw there.
        _ => Base {
            row: BaseRow {
                id: row.id,
                copy_of: wanted.copy_of,
                parent: wanted.parent,
                name: wanted.name.clone(),
                kind: wanted.kind,
                content: wanted.content.clone(),
                seen: wanted.seen.clone(),
                mode: meta.mode,
                mtime: meta.mtime_ns,
                stat: meta.stat(),
                racy: wanted.kind == Kind::File,
            },
            asked_mode: meta.mode,
            asked_mtime: meta.mtime_ns,
        },
    };
    make_room(tx, n, wanted)?;
    base::put(tx, n, &b)?;
    forget_content(tx, n, old.as_ref(), wanted.content.as_ref(), &row.id)?;
    Ok(true)
}

/// A directory that was made writable for the moment of a step gets its mode back, or the scan would
/// take that for the user's doing.
fn give_back_modes(tx: &Connection, n: i64, disk: &dyn Disk, row: &Placing) -> Result<(), DbError> {
    let from = base::get(tx, n, &row.id)?.map(|b| b.row.parent);
    let to = row.wanted.as_ref().map(|w| w.parent);
    let mut dirs: Vec<ItemId> = from.into_iter().chain(to).collect();
    while let Some(dir) = dirs.pop() {
        let Some(b) = base::get(tx, n, &dir)? else {
            continue;
        };
        dirs.push(b.row.parent);
        let Some(path) = base::path(tx, n, &dir)? else {
            continue;
        };
        let lifted = |m: &Meta| {
            m.kind == MetaKind::Dir && m.mode != b.row.mode && m.mode == lift(b.row.mode)
        };
        if disk.meta(&path).ok().flatten().is_some_and(|m| lifted(&m)) {
            let given = disk.set_mode(&path, b.row.mode);
            if let Err(error) = given.and_then(|()| disk.sync_dir(&path)) {
                tracing::warn!(%path, %error, "the directory stays writable");
            }
        }
    }
    Ok(())
}

fn clear(tx: &Connection, n: i64, disk: &dyn Disk, row: &Placing) -> Result<(), DbError> {
    if let Some(b) = base::get(tx, n, &row.id)?
        && let Some(path) = base::path(tx, n, &row.id)?
        && disk.meta(&path).ok().flatten().is_none()
    {
        // A move is done or not done: what stands in neither place was deleted, as a scan will see.
        // Where a step takes something away, for good or to put something there, an empty place
        // says nothing.
        let same = row.wanted.is_some() && row.ino == Some(b.row.stat.ino);
        if !same {
            forget_subtree(tx, n, &row.id)?;
        }
    }
    if let Some(wanted) = &row.wanted
        && base::get(tx, n, &row.id)?.is_none_or(|b| b.row.content != wanted.content)
    {
        forget_content(tx, n, wanted.content.as_ref(), None, &row.id)?;
    }
    dirty::mark(tx, n, &row.item, 0)?;
    placing::remove(tx, n, &row.id)
}
