//! Three trees: what the mesh says, what base remembers, and from the two what to do on the disk.
//!
//! [`next`] is a pure function of one item's two sides: the next single step towards agreement.
//! One step per pass keeps every intermediate state of the disk one that base describes. The order
//! of steps on one item: conflict copies first (their bytes may lie in the very file that is about
//! to be replaced), then move, content, mode and mtime; copies nobody needs any more go last.

use ownmesh_crdt::item::{Content, ItemState, Kind, Seen};
use ownmesh_crdt::op::{OpId, Scalar};
use ownmesh_crdt::tree::{conflict_name, suffixed};
use ownmesh_crypto::{ContentHash, DeviceId, ItemId, SpaceSecret};

use super::author::version_hash;
use crate::db::base::{self, Base};
use crate::db::items::ItemRow;
pub(super) use crate::db::placing::Wanted;
use crate::db::{Connection, DbError, items, logs};
use crate::disk::names;

/// The two sides of one item.
#[derive(Clone, Debug)]
pub(super) struct Sides {
    /// What the mesh says; empty when the item is dead. The item first, then its copies.
    pub(super) wanted: Vec<Wanted>,
    /// What stands on the disk. The item first, then its copies.
    pub(super) base: Vec<Base>,
    /// Changes in the document when this was read.
    pub(super) changes: u32,
    /// The acts of its tombstones, if it is dead.
    pub(super) acts: Vec<[u8; 8]>,
    /// False while the document, or the directory it hangs in, has not arrived.
    pub(super) known: bool,
}

impl Sides {
    /// Whether an entry is to hold this content.
    pub(super) fn wants(&self, id: &ItemId, hash: &ContentHash) -> bool {
        let holds =
            |c: &Option<Content>| matches!(c, Some(Content::File { hash: h, .. }) if h == hash);
        self.wanted.iter().any(|w| w.id == *id && holds(&w.content))
    }
}

/// The next step for an item.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Disk and mesh agree.
    Clean,
    /// Make it (directory or symlink), or fetch its content and then write it.
    Make(Wanted),
    /// Move it.
    Move(Box<Base>, Wanted),
    /// Replace its content.
    Replace(Box<Base>, Wanted),
    /// Set mode and mtime.
    Meta(Box<Base>, Wanted),
    /// Only base has to follow: the disk shows it already.
    Adopt(Base),
    /// Only base has to follow: the copy has another id now.
    Rekey(ItemId, Base),
    /// Remove it.
    Remove(Box<Base>),
}

/// Mode of a file whose document names none.
const DEFAULT_FILE: u32 = 0o644;
/// Mode of a directory whose document names none.
const DEFAULT_DIR: u32 = 0o755;

/// Reads both sides of an item.
pub(super) fn sides(
    tx: &Connection,
    space: i64,
    id: &ItemId,
    secret: &SpaceSecret,
    device_name: &dyn Fn(&DeviceId) -> String,
) -> Result<Sides, DbError> {
    let row = items::get(tx, space, id)?.unwrap_or_default();
    // The file of a conflict copy that has become an item of its own is that item's, from then on.
    let mut base: Vec<Base> = base::get(tx, space, id)?
        .into_iter()
        .filter(|b| b.row.copy_of.is_none() || row.spot.alive)
        .collect();
    for copy in base::copies(tx, space, id)? {
        if !items::place(tx, space, &copy.row.id)?.is_some_and(|s| s.alive) {
            base.push(copy);
        }
    }
    let state = ItemState::from_registers(&row.doc.regs);
    let mut out = Sides {
        wanted: Vec::new(),
        base,
        changes: row.doc.changes,
        acts: Vec::new(),
        known: state.is_some(),
    };
    let Some(state) = state else { return Ok(out) };
    if !row.spot.alive {
        out.acts = state.tomb_acts;
        return Ok(out);
    }
    let (Some(parent), Some(shown)) = (row.spot.ep, row.spot.shown.clone()) else {
        out.known = false;
        return Ok(out);
    };
    out.wanted
        .push(main(id, &state, &row, parent, shown.clone()));
    for (op, content) in state.conflicts() {
        let hash = version_hash(secret, &content);
        let copy = secret.conflict_item(id, &hash, op.counter, &op.actor);
        if items::place(tx, space, &copy)?.is_some_and(|s| s.alive) {
            continue;
        }
        let device = match logs::writer(tx, space, &op.actor)? {
            Some(device) => device_name(&device),
            None => String::from("unknown"),
        };
        let mut name = conflict_name(&shown, &device, hash.as_bytes());
        // Somebody may have called a file of his own so. A name that cannot be looked up counts as
        // free: a step then finds what stands there.
        let taken =
            |name: &str| items::claims(tx, space, &parent, name).is_ok_and(|c| !c.is_empty());
        if taken(&name) {
            let free = |_: &str| false;
            let looks = !ownmesh_crdt::mutated!(CopyNameTaken);
            name = suffixed(&name, &copy, if looks { &taken } else { &free });
        }
        out.wanted.push(Wanted {
            id: copy,
            copy_of: Some((*id, op)),
            parent,
            name,
            kind: state.kind,
            seen: Seen {
                c: state.ops_of(&content),
                ..Seen::default()
            },
            content: Some(content),
            mode: state.mode.unwrap_or(DEFAULT_FILE),
            mtime: mtime_by(&row, &op).or(state.mtime),
        });
    }
    Ok(out)
}

/// The time of modification that the writer of a losing version recorded with it, if that still stands.
/// What else is shown must be the same on every device: the item's own.
fn mtime_by(row: &ItemRow, version: &OpId) -> Option<i64> {
    let mut all = row.doc.regs.all("t").iter().rev();
    all.find_map(|(op, value)| match value {
        Scalar::Int(ns) if op.actor == version.actor => Some(*ns),
        _ => None,
    })
}

fn main(id: &ItemId, state: &ItemState, row: &ItemRow, parent: ItemId, name: String) -> Wanted {
    let content = state.content().cloned();
    let seen = Seen {
        c: content
            .as_ref()
            .map(|c| state.ops_of(c))
            .unwrap_or_default(),
        ..state.seen()
    };
    let default = if state.kind == Kind::Dir {
        DEFAULT_DIR
    } else {
        DEFAULT_FILE
    };
    Wanted {
        id: *id,
        copy_of: None,
        parent,
        name,
        kind: row.spot.kind.unwrap_or(state.kind),
        content,
        seen,
        mode: state.mode.unwrap_or(default),
        mtime: if state.kind == Kind::Dir {
            None
        } else {
            state.mtime
        },
    }
}

/// Decides the next steps of an item. Pure.
///
/// Returns steps that do not stand in each other's way: all of the item's copies may be made at
/// once, but the item's own file is only replaced when no copy that is still lacking has its bytes.
pub(super) fn next(sides: &Sides) -> Vec<Next> {
    if !sides.known {
        return vec![Next::Clean];
    }
    let on_disk = |id: &ItemId| sides.base.iter().find(|b| b.row.id == *id);
    let mut steps = Vec::new();
    for wanted in sides.wanted.iter().filter(|w| w.copy_of.is_some()) {
        // The same bytes may stand there under the id of another operation that put them.
        let same = |b: &&Base| {
            b.row.copy_of.is_some()
                && b.row.content == wanted.content
                && !sides.wanted.iter().any(|w| w.id == b.row.id)
        };
        if on_disk(&wanted.id).is_none()
            && let Some(twin) = sides.base.iter().find(same)
        {
            let mut b = twin.clone();
            (b.row.id, b.row.copy_of) = (wanted.id, wanted.copy_of);
            b.row.seen = wanted.seen.clone();
            return vec![Next::Rekey(twin.row.id, b)];
        }
        steps.extend(toward(wanted, on_disk(&wanted.id)));
    }
    if let Some(wanted) = sides.wanted.iter().find(|w| w.copy_of.is_none()) {
        // Only a copy with the very bytes that stand here has to come first: one whose bytes are on a
        // device that is away holds nothing up.
        let needed = |b: &Base| {
            let copies = steps.iter().filter_map(|s| match s {
                Next::Make(copy) | Next::Replace(_, copy) => Some(&copy.content),
                _ => None,
            });
            copies.into_iter().any(|content| *content == b.row.content)
        };
        let step = toward(wanted, on_disk(&wanted.id)).filter(|s| match s {
            Next::Replace(b, _) => !needed(b),
            _ => true,
        });
        steps.extend(step);
    }
    // A copy that is gone from the mesh may be the version that is about to become the main one:
    // its file is a source of the bytes until the main file shows them.
    if steps.is_empty() {
        for b in &sides.base {
            if !sides.wanted.iter().any(|w| w.id == b.row.id) {
                steps.push(Next::Remove(Box::new(b.clone())));
            }
        }
    }
    if steps.is_empty() {
        vec![Next::Clean]
    } else {
        steps
    }
}

fn toward(wanted: &Wanted, base: Option<&Base>) -> Option<Next> {
    let Some(b) = base else {
        return Some(Next::Make(wanted.clone()));
    };
    if b.row.kind != wanted.kind {
        // Ids include the kind, so this is a damaged or hostile document: leave the disk alone.
        return None;
    }
    if b.row.parent != wanted.parent || !names::fits(&wanted.name, &wanted.id, &b.row.name) {
        return Some(Next::Move(Box::new(b.clone()), wanted.clone()));
    }
    // What it is called here it goes on to be called.
    let as_here = || Wanted {
        name: b.row.name.clone(),
        ..wanted.clone()
    };
    if b.row.content != wanted.content {
        return Some(Next::Replace(Box::new(b.clone()), as_here()));
    }
    let mtime = wanted.mtime.unwrap_or(b.asked_mtime);
    let mode = if wanted.copy_of.is_some() {
        b.asked_mode
    } else {
        wanted.mode
    };
    let chmod = wanted.kind != Kind::Symlink && b.asked_mode != mode;
    if chmod || b.asked_mtime != mtime {
        return Some(Next::Meta(Box::new(b.clone()), as_here()));
    }
    if b.row.seen != wanted.seen || b.row.copy_of != wanted.copy_of {
        let mut b = b.clone();
        b.row.seen = wanted.seen.clone();
        b.row.copy_of = wanted.copy_of;
        return Some(Next::Adopt(b));
    }
    None
}

/// Whether content, mode, mtime and seen operations of a base row are what the document says; its
/// place and copies are the caller's to compare.
pub(super) fn agrees(tx: &Connection, space: i64, b: &Base) -> Result<bool, DbError> {
    let Some(row) = items::get(tx, space, &b.row.id)? else {
        return Ok(false);
    };
    let Some(state) = ItemState::from_registers(&row.doc.regs) else {
        return Ok(false);
    };
    let (Some(parent), Some(shown)) = (row.spot.ep, row.spot.shown.clone()) else {
        return Ok(false);
    };
    Ok(toward(&main(&b.row.id, &state, &row, parent, shown), Some(b)).is_none())
}

#[cfg(test)]
mod tests {
    use ownmesh_crypto::Incarnation;

    use super::*;
    use crate::disk::Stat;
    use crate::disk::base::BaseRow;

    fn content(n: u8) -> Option<Content> {
        let hash = ContentHash::from_bytes([n; 32]);
        Some(Content::File { hash, size: 1 })
    }

    fn wanted(n: u8, copy: bool, version: u8) -> Wanted {
        let actor = Incarnation::from_bytes([1; 8]);
        let op = OpId { counter: 1, actor };
        Wanted {
            id: ItemId::from_bytes([n; 16]),
            copy_of: copy.then_some((ItemId::from_bytes([1; 16]), op)),
            parent: ItemId::ROOT,
            name: format!("f{n}"),
            kind: Kind::File,
            content: content(version),
            seen: Seen::default(),
            mode: 0o644,
            mtime: Some(1),
        }
    }

    /// The disk shows version 1 of a file; the mesh has version 2, and a copy.
    fn steps(copy: u8) -> Vec<&'static str> {
        let main = wanted(1, false, 2);
        let base = Base {
            row: BaseRow {
                id: main.id,
                copy_of: None,
                parent: main.parent,
                name: main.name.clone(),
                kind: main.kind,
                content: content(1),
                seen: Seen::default(),
                mode: main.mode,
                mtime: 1,
                stat: Stat::default(),
                racy: false,
            },
            asked_mode: main.mode,
            asked_mtime: 1,
        };
        let sides = Sides {
            wanted: vec![main, wanted(2, true, copy)],
            base: vec![base],
            changes: 0,
            acts: Vec::new(),
            known: true,
        };
        let name = |step: &Next| match step {
            Next::Make(_) => "make",
            Next::Replace(..) => "replace",
            _ => "other",
        };
        next(&sides).iter().map(name).collect()
    }

    #[test]
    fn a_file_is_replaced_once_no_copy_needs_its_bytes() {
        assert_eq!(steps(1), ["make"], "the copy's bytes stand here");
        assert_eq!(steps(3), ["make", "replace"], "they are somewhere else");
    }
}
