//! After a crash: what was under way on the disk is looked at before anything else.
//!
//! A `placing` row says that a step was about to be taken. What stands at its path now is not taken
//! for the user's edit before that is cleared up, and a path that is empty because the step was half
//! done is never read as the user's deletion: its base row goes instead, and the item is made again.

use std::collections::BTreeMap;

use ownmesh_crdt::doc::{ChangeOp, CheckedChange};
use ownmesh_crdt::item::{Content, ItemState, Kind, Seen};
use ownmesh_crdt::op::{OpId, Scalar};
use ownmesh_crypto::{ItemId, SpaceSecret};

use super::Engine;
use crate::db::base::{self, Base};
use crate::db::placing::{self, Placing};
use crate::db::{Connection, DbError, dirty, items};
use crate::disk::base::BaseRow;
use crate::disk::hash::hash_file;
use crate::disk::{Disk, Meta, MetaKind, RelPath, TMP, perform, private, trash};

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
        if ownmesh_crdt::mutated!(NoRecovery) {
            return Ok(());
        }
        let Some((_, secret)) = self.space_keys(n) else {
            return Ok(());
        };
        let rows = placing::all(self.db.read(), n).map_err(|e| e.to_string())?;
        let staged: BTreeMap<String, u64> = rows
            .iter()
            .filter_map(|r| Some((r.staged.clone()?, r.ino)))
            .collect();
        // Parked entries go back where base has them, or aside if that place is taken.
        let mut moved = Vec::new();
        for row in &rows {
            let parked = perform::parked(&row.id);
            if disk.meta(&parked).map_err(|e| e.to_string())?.is_none() {
                continue;
            }
            let home = base::path(self.db.read(), n, &row.id).map_err(|e| e.to_string())?;
            let free = home.filter(|home| disk.meta(home).ok().flatten().is_none());
            if let Some(home) = free
                && disk.rename_new(&parked, &home).is_ok()
            {
                drop(disk.sync_dir(&home.parent().unwrap_or(RelPath::ROOT)));
                continue;
            }
            let stands = disk.rename_new(&parked, &perform::aside(&row.id)).is_ok();
            if stands {
                drop(disk.sync_dir(&RelPath::ROOT));
            }
            moved.push((row.id, stands));
        }
        let ours = |path: &RelPath, meta: &Meta| {
            let Some(name) = path.name() else {
                return false;
            };
            path.parent() == Some(private(TMP))
                && name.starts_with("s-")
                && staged.get(name).is_none_or(|ino| *ino == meta.ino)
        };
        let saved = perform::salvage(disk, &ours, &|name| {
            trash::name(seconds, &ItemId::ROOT, name)
        })
        .map_err(|e| e.to_string())?;
        for path in &saved {
            tracing::warn!(%path, "a crash left this half done; it was brought to the trash");
        }
        // What is left there is ours and of no use, except large contents that can be continued.
        for entry in disk.list(&private(TMP)).map_err(|e| e.to_string())? {
            if let Ok(name) = entry.name
                && !name.ends_with(".part")
            {
                drop(disk.remove(&private(TMP).join(&name).map_err(|e| e.to_string())?));
            }
        }
        self.db
            .write(|tx| {
                for (id, stands) in &moved {
                    unparked(tx, n, id, *stands)?;
                }
                for id in base::orphans(tx, n)? {
                    forget_subtree(tx, n, &id)?;
                }
                let ours = |row: &Placing| saved.iter().any(|path| is_of(path, &row.id));
                rows.iter()
                    .try_for_each(|row| clear(tx, n, disk, row, ours(row), &secret))?;
                // Directories before what is in them, whatever order the rows have.
                let mut progress = true;
                while progress {
                    progress = false;
                    for row in &rows {
                        progress |= remember(tx, n, disk, row, &secret)?;
                    }
                }
                Ok(())
            })
            .map_err(|e: DbError| e.to_string())
    }
}

/// Whether a file that was brought to the trash had been taken out of an entry's place by a step.
fn is_of(path: &RelPath, id: &ItemId) -> bool {
    let name = path.name().unwrap_or_default();
    name.ends_with(&format!("rm-{id}")) || name.ends_with(&format!("over-{id}"))
}

/// `taken`: the step had taken what stood there away and got no further.
fn clear(
    tx: &Connection,
    n: i64,
    disk: &dyn Disk,
    row: &Placing,
    taken: bool,
    secret: &SpaceSecret,
) -> Result<(), DbError> {
    if let Some(path) = base::path(tx, n, &row.id)?
        && disk.meta(&path).ok().flatten().is_none()
    {
        // A move is done or not done: what stands in neither place was deleted, as a scan will see.
        // Only where a step takes something away before it puts something there, or removes what
        // the mesh has deleted, an empty place says nothing.
        let alive = items::place(tx, n, &row.item)?.is_some_and(|s| s.alive);
        if taken || !alive {
            forget_subtree(tx, n, &row.id)?;
        }
    }
    if let Some(mut b) = base::get(tx, n, &row.id)?
        && let Some(path) = base::path(tx, n, &row.id)?
    {
        // What stands there now may be the new content already, put there by the step and not by the
        // user: it supersedes nothing.
        let ours = disk
            .meta(&path)
            .ok()
            .flatten()
            .is_some_and(|m| m.ino == row.ino);
        if ours || b.row.kind == Kind::Symlink {
            b.row.seen.c.clear();
            if let Some(placed) = placed_by_us(tx, n, disk, &path, row, secret)? {
                // Not read as an edit even if the mesh has gone on since: it would come back as a
                // conflict, or bring back what was deleted.
                b.row.seen.c = placed.ops;
                b.row.content = Some(placed.content);
                (b.row.mode, b.row.mtime, b.row.stat) =
                    (placed.meta.mode, placed.meta.mtime_ns, placed.meta.stat());
                (b.asked_mode, b.asked_mtime, b.row.racy) = (b.row.mode, b.row.mtime, true);
            }
            base::put(tx, n, &b)?;
        }
    }
    dirty::mark(tx, n, &row.item, 0)?;
    placing::remove(tx, n, &row.id)
}

/// Something new was put in place and the process died before base said so. It is what the mesh asked
/// for, not what the user made: a deletion that arrives before the first scan must find it, or it
/// would be taken for a new file and come back. Returns whether base says so now.
fn remember(
    tx: &Connection,
    n: i64,
    disk: &dyn Disk,
    row: &Placing,
    secret: &SpaceSecret,
) -> Result<bool, DbError> {
    if row.id != row.item || base::get(tx, n, &row.id)?.is_some() {
        return Ok(false);
    }
    let Ok(path) = RelPath::parse(&row.path) else {
        return Ok(false);
    };
    let Some(meta) = disk.meta(&path).ok().flatten() else {
        return Ok(false);
    };
    let Some(item) = items::get(tx, n, &row.item)? else {
        return Ok(false);
    };
    let (Some(parent), Some(name)) = (item.spot.ep, item.spot.shown.clone()) else {
        return Ok(false);
    };
    let here = path.name() == Some(name.as_str())
        && base::path(tx, n, &parent)? == path.parent()
        && base::at(tx, n, &parent, &name)?.is_none();
    let Some(state) = ItemState::from_registers(&item.doc.regs).filter(|_| here) else {
        return Ok(false);
    };
    let (content, ops) = match (state.kind, meta.kind) {
        (Kind::Dir, MetaKind::Dir) => (None, Vec::new()),
        (Kind::File, MetaKind::File) => match placed_by_us(tx, n, disk, &path, row, secret)? {
            Some(placed) => (Some(placed.content), placed.ops),
            None => return Ok(false),
        },
        _ => return Ok(false),
    };
    let b = Base {
        row: BaseRow {
            id: row.item,
            copy_of: None,
            parent,
            name,
            kind: state.kind,
            content,
            seen: Seen {
                c: ops,
                ..state.seen()
            },
            mode: meta.mode,
            mtime: meta.mtime_ns,
            stat: meta.stat(),
            racy: true,
        },
        asked_mode: meta.mode,
        asked_mtime: meta.mtime_ns,
    };
    base::put(tx, n, &b)?;
    Ok(true)
}

/// What a step put in place.
struct Placed {
    content: Content,
    /// The operations of it that still stand.
    ops: Vec<OpId>,
    meta: Meta,
}

/// The file at `path`, if it is the one a step swapped in and holds what the item held at some time:
/// anything else is the user's.
fn placed_by_us(
    tx: &Connection,
    n: i64,
    disk: &dyn Disk,
    path: &RelPath,
    row: &Placing,
    secret: &SpaceSecret,
) -> Result<Option<Placed>, DbError> {
    let Some(meta) = disk.meta(path).ok().flatten() else {
        return Ok(None);
    };
    if row.staged.is_none() || meta.ino != row.ino || meta.kind != MetaKind::File {
        return Ok(None);
    }
    let Ok(hashed) = hash_file(disk, path, secret) else {
        return Ok(None);
    };
    let Some(item) = items::get(tx, n, &row.item)? else {
        return Ok(None);
    };
    let changes = item
        .doc
        .changes()
        .map_err(|_| DbError::Damaged("document"))?;
    let ever = changes
        .iter()
        .filter_map(|bytes| CheckedChange::check(bytes).ok())
        .any(|change| change.ops().iter().any(|op| puts(op, &hashed.content)));
    if !ever {
        return Ok(None);
    }
    let state = ItemState::from_registers(&item.doc.regs);
    Ok(Some(Placed {
        ops: state.map(|s| s.ops_of(&hashed.content)).unwrap_or_default(),
        content: hashed.content,
        meta: hashed.meta,
    }))
}

fn puts(op: &ChangeOp, content: &Content) -> bool {
    match &op.put {
        Some(Scalar::Bytes(bytes)) if op.key == "c" => {
            Content::decode(bytes).as_ref() == Some(content)
        }
        _ => false,
    }
}
