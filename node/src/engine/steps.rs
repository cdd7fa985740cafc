//! The steps for one item, and for whatever stands in its way.
//!
//! `plan` says what an item lacks; here that becomes steps in an order the disk can follow: what
//! stands under a name goes its own way first, and a circle (two files that swap their names, a
//! directory that moves into its own inside) is cut by parking. Nothing is ever written over in
//! order to make room.

use ownmesh_crdt::item::{Content, Kind};
use ownmesh_crypto::{DeviceId, ItemId};

use super::Space;
use super::group::Then;
use super::ignoring::{Verdict, forget, verdict};
use super::local::local_name;
use super::pass::Pass;
use super::plan::{self, Next, Wanted};
use crate::db::base::{self, Base};
use crate::db::{DbError, dirty, items};
use crate::disk::names::fold;
use crate::disk::perform::{self, Step};

/// What became of planning one item.
pub(super) enum Planned {
    Clean,
    Stepped,
    Fetch(Vec<Wanted>),
    /// It is ignored, or something in it is: it stays as it is. `lacking`: its bytes are not here.
    Held {
        lacking: bool,
    },
    /// Something else has to happen first.
    Later,
}

/// Plans one item. `above`: items whose place waits for this one; seeing itself there means a
/// circle, which is cut by parking.
pub(super) fn one(
    pass: &mut Pass<'_>,
    space: &mut Space,
    item: &ItemId,
    sides: &plan::Sides,
    above: &mut Vec<ItemId>,
    names: &dyn Fn(&DeviceId) -> String,
) -> Result<Planned, DbError> {
    let mut fetch = Vec::new();
    let mut out = Planned::Later;
    match verdict(pass.tx, pass.n, &space.ignoring.rules, sides)? {
        Verdict::Free => {}
        Verdict::Held { lacking } => {
            space.discard(item, |_, _| false);
            return Ok(Planned::Held { lacking });
        }
        // Steps that are gathered already may rest on what base says now.
        Verdict::Out(_) if !pass.group.is_empty() => return Ok(Planned::Later),
        Verdict::Out(ids) => {
            forget(pass.tx, pass.n, &ids)?;
            let sides = plan::sides(pass.tx, pass.n, item, &space.secret, names)?;
            return one(pass, space, item, &sides, above, names);
        }
    }
    space.discard(item, |id, hash| sides.wants(id, hash));
    space.too_large.remove(item);
    if space.cannot_hold(sides) {
        return Ok(Planned::Clean);
    }
    for next in plan::next(sides) {
        match next {
            Next::Clean => {
                space.discard(item, |_, _| false);
                // What was a conflict copy, then this item, and is dead before its file became this
                // item's: the file is its first item's to remove.
                let file = base::get(pass.tx, pass.n, item)?;
                if let Some((main, _)) = file.and_then(|b| b.row.copy_of) {
                    dirty::mark(pass.tx, pass.n, &main, 0)?;
                    space.again = true;
                }
                return Ok(Planned::Clean);
            }
            Next::Rekey(old, _) if pass.touched.contains(&old) => return Ok(Planned::Later),
            Next::Rekey(old, b) => {
                base::remove(pass.tx, pass.n, &old)?;
                base::put(pass.tx, pass.n, &b)?;
                let sides = plan::sides(pass.tx, pass.n, item, &space.secret, names)?;
                return one(pass, space, item, &sides, above, names);
            }
            Next::Adopt(b) => {
                base::put(pass.tx, pass.n, &b)?;
                // Whatever else there is to do shows in the next look.
                let sides = plan::sides(pass.tx, pass.n, item, &space.secret, names)?;
                return one(pass, space, item, &sides, above, names);
            }
            Next::Make(mut wanted) => {
                if pass.touched.contains(&wanted.id) {
                    continue;
                }
                wanted.name = local_name(pass, space, &wanted)?;
                above.push(wanted.id);
                let free = vacate(pass, space, &wanted, above, names)?;
                above.pop();
                if !free {
                    continue;
                }
                if let Some(more) = make(pass, space, item, wanted, None, sides.changes)? {
                    fetch.push(more);
                } else {
                    out = Planned::Stepped;
                }
            }
            Next::Replace(b, wanted) => {
                if pass.touched.contains(&wanted.id) || pass.path(&b.row.id)?.is_none() {
                    continue;
                }
                if let Some(more) = make(pass, space, item, wanted, Some(&b), sides.changes)? {
                    fetch.push(more);
                } else {
                    out = Planned::Stepped;
                }
            }
            Next::Move(b, mut wanted) => {
                if pass.touched.contains(&wanted.id) && !pass.parked.contains(&wanted.id) {
                    continue;
                }
                wanted.name = local_name(pass, space, &wanted)?;
                above.push(wanted.id);
                let free = vacate(pass, space, &wanted, above, names)?;
                above.pop();
                if free && shift(pass, item, &b, wanted)? {
                    out = Planned::Stepped;
                }
            }
            Next::Meta(b, wanted) => {
                let Some(path) = pass.path(&b.row.id)? else {
                    continue;
                };
                if pass.touched.contains(&wanted.id) {
                    continue;
                }
                let mtime = wanted.mtime.unwrap_or(b.row.mtime);
                let step = Step::Meta {
                    id: wanted.id,
                    path,
                    mode: wanted.mode,
                    mtime,
                    expect: b.row.stat,
                };
                pass.push(*item, step, Then::Meta { row: b, wanted }, None);
                out = Planned::Stepped;
            }
            // What stands in it is not mesh's to take away.
            Next::Remove(b) if space.ignoring.keeps.contains(&b.row.id) => {
                return Ok(Planned::Held { lacking: false });
            }
            Next::Remove(b) => {
                if take_away(pass, item, b)? {
                    out = Planned::Stepped;
                }
            }
        }
    }
    Ok(if fetch.is_empty() {
        out
    } else {
        Planned::Fetch(fetch)
    })
}

/// Makes an entry whose name is free, or replaces what stands there; returns what has to be fetched first.
fn make(
    pass: &mut Pass<'_>,
    space: &mut Space,
    item: &ItemId,
    wanted: Wanted,
    over: Option<&Base>,
    changes: u32,
) -> Result<Option<Wanted>, DbError> {
    let Some(dir) = pass.path(&wanted.parent)? else {
        return Ok(None);
    };
    let Ok(path) = dir.join(&wanted.name) else {
        return Ok(None);
    };
    let id = wanted.id;
    let mut chunks = Vec::new();
    let step = match (&wanted.content, wanted.kind) {
        (_, Kind::Dir) => Step::MakeDir {
            id,
            path,
            mode: wanted.mode,
        },
        (Some(Content::Link { target }), _) => Step::Link {
            id,
            path,
            target: target.clone(),
            over: over.map(|b| b.row.stat),
            mtime: wanted.mtime,
        },
        (Some(Content::File { hash, .. }), _) => match space.ready.get_mut(&id) {
            Some(ready) if ready.hash == *hash => {
                // Fetched while it was another item's copy: that item must not throw it away now.
                space.staged_for.remove(&(ready.item, id));
                space.staged_for.insert((*item, id));
                ready.item = *item;
                chunks.clone_from(&ready.chunks);
                Step::Write {
                    id,
                    path,
                    staged: ready.staged.clone(),
                    over: over.map(|b| b.row.stat),
                    mode: wanted.mode,
                    mtime: wanted.mtime.unwrap_or(ready.meta.mtime_ns),
                }
            }
            _ if wanted.bytes() > space.traits.max_file => {
                space.too_large.insert(*item);
                return Ok(None);
            }
            _ => return Ok((!space.underway.contains(&id)).then_some(wanted)),
        },
        (None, _) => return Ok(None),
    };
    pass.place(id, wanted.parent, &wanted.name);
    let old = over.and_then(|b| b.row.content.clone());
    pass.push(
        *item,
        step,
        Then::Put {
            wanted,
            chunks,
            old,
        },
        Some(changes),
    );
    Ok(None)
}

fn shift(pass: &mut Pass<'_>, item: &ItemId, b: &Base, wanted: Wanted) -> Result<bool, DbError> {
    let Some(dir) = pass.path(&wanted.parent)? else {
        return Ok(false);
    };
    // Into its own inside: what is above it moves first, and it in a later pass.
    let mut up = wanted.parent;
    for _ in 0..4_096 {
        if up == b.row.id {
            return Ok(false);
        }
        let parent = match pass.moved.get(&up) {
            Some(Some((parent, _))) => *parent,
            _ => match base::get(pass.tx, pass.n, &up)? {
                Some(row) => row.row.parent,
                None => break,
            },
        };
        up = parent;
    }
    let Ok(to) = dir.join(&wanted.name) else {
        return Ok(false);
    };
    let id = wanted.id;
    let step = if pass.parked.remove(&id) {
        Step::Unpark { id, to }
    } else {
        let Some(from) = pass.path(&id)? else {
            return Ok(false);
        };
        pass.free(b);
        let expect = b.row.stat;
        // Only in case, say: the new name is free only when the old one is gone.
        let same_place = (b.row.parent, fold(&b.row.name)) == (wanted.parent, fold(&wanted.name));
        if pass.folds && same_place {
            pass.push(*item, Step::Park { id, from, expect }, Then::Parked, None);
            Step::Unpark { id, to }
        } else {
            Step::Move {
                id,
                from,
                to,
                expect,
            }
        }
    };
    pass.place(id, wanted.parent, &wanted.name);
    pass.push(
        *item,
        step,
        Then::Moved {
            row: Box::new(b.clone()),
            wanted,
        },
        None,
    );
    Ok(true)
}

fn take_away(pass: &mut Pass<'_>, item: &ItemId, b: Box<Base>) -> Result<bool, DbError> {
    let id = b.row.id;
    if pass.touched.contains(&id) {
        return Ok(false);
    }
    let Some(path) = pass.path(&id)? else {
        return Ok(false);
    };
    if b.row.kind == Kind::Dir && base::has_children(pass.tx, pass.n, &id)? {
        // Its content goes first, in a group of its own.
        return Ok(false);
    }
    pass.free(&b);
    pass.moved.insert(id, None);
    let step = Step::Remove {
        id,
        path,
        kind: b.row.kind,
        expect: b.row.stat,
    };
    pass.push(*item, step, Then::Removed { row: b }, None);
    Ok(true)
}

/// Makes the name an entry is to have free: what stands there goes its own way first, or is parked
/// if that leads in a circle. Returns false if it is not free in this pass.
fn vacate(
    pass: &mut Pass<'_>,
    space: &mut Space,
    wanted: &Wanted,
    above: &mut Vec<ItemId>,
    names: &dyn Fn(&DeviceId) -> String,
) -> Result<bool, DbError> {
    let Some(other) = pass.at(&wanted.parent, &wanted.name)? else {
        return Ok(true);
    };
    if other == wanted.id {
        return Ok(true);
    }
    let Some(row) = base::get(pass.tx, pass.n, &other)? else {
        return Ok(false);
    };
    if above.contains(&other) {
        return park(pass, other, &row);
    }
    if pass.touched.contains(&other) || above.len() > 64 {
        return Ok(false);
    }
    let item = row.row.copy_of.map_or(other, |c| c.0);
    let sides = plan::sides(pass.tx, pass.n, &item, &space.secret, names)?;
    above.push(other);
    let planned = one(pass, space, &item, &sides, above, names)?;
    above.pop();
    if matches!(planned, Planned::Held { .. }) {
        let dir = pass.path(&wanted.parent)?;
        let path = dir.and_then(|dir| dir.join(&wanted.name).ok());
        space.ignoring.blocked.extend(path);
        return Ok(false);
    }
    if pass.at(&wanted.parent, &wanted.name)?.is_none() {
        return Ok(true);
    }
    // It, or something in it if it is to go itself, is the very entry that waits for its place, or for
    // that of another, or is to go into it.
    let mut goes_inside = false;
    let place = sides.wanted.iter().find(|w| w.id == other);
    let leaving = match place {
        Some(place) => vec![place.parent],
        None => survivors(pass, other)?,
    };
    for to in leaving {
        for waiting in above.iter().chain([&wanted.id]) {
            goes_inside |= is_inside(pass, to, *waiting)?;
        }
    }
    // Parked it stays within this group, so the directory it goes to has to be there by then.
    let there = match place {
        Some(place) => pass.path(&place.parent)?.is_some(),
        None => false,
    };
    match (goes_inside, there) {
        (false, _) => Ok(false),
        (true, true) => park(pass, other, &row),
        (true, false) => set_aside(pass, item, &row),
    }
}

/// What still stands in a directory becomes less with each pass; so many entries are looked at.
const LOOK: usize = 1_000;

/// What stands below a directory and lives on elsewhere.
fn survivors(pass: &Pass<'_>, dir: ItemId) -> Result<Vec<ItemId>, DbError> {
    let (mut open, mut out) = (vec![dir], Vec::new());
    let mut seen = 0;
    while let Some(at) = open.pop().filter(|_| seen < LOOK) {
        for id in base::child_ids(pass.tx, pass.n, &at)? {
            seen += 1;
            let item = base::get(pass.tx, pass.n, &id)?
                .and_then(|b| b.row.copy_of)
                .map_or(id, |c| c.0);
            if items::place(pass.tx, pass.n, &item)?.is_some_and(|s| s.alive) {
                out.extend([id, item]);
            }
            open.push(id);
        }
        out.sort_unstable();
        out.dedup();
    }
    Ok(out)
}

/// An entry makes way under a name of its own, for later groups to go on from there: a directory that is
/// to go, with all that is still in it; what is to go where nothing is yet.
fn set_aside(pass: &mut Pass<'_>, item: ItemId, row: &Base) -> Result<bool, DbError> {
    let id = row.row.id;
    if pass.touched.contains(&id) {
        return Ok(false);
    }
    let Some(from) = pass.path(&id)? else {
        return Ok(false);
    };
    let wanted = Wanted {
        id,
        copy_of: row.row.copy_of,
        parent: ItemId::ROOT,
        name: base::nowhere(&id),
        kind: row.row.kind,
        content: row.row.content.clone(),
        seen: row.row.seen.clone(),
        mode: row.row.mode,
        mtime: Some(row.row.mtime),
    };
    pass.free(row);
    pass.place(id, wanted.parent, &wanted.name);
    let step = Step::Move {
        id,
        from,
        to: perform::aside(&id),
        expect: row.row.stat,
    };
    let row = Box::new(row.clone());
    pass.push(item, step, Then::Moved { row, wanted }, None);
    Ok(true)
}

/// Whether the mesh's tree has a directory at or below another.
fn is_inside(pass: &Pass<'_>, dir: ItemId, outer: ItemId) -> Result<bool, DbError> {
    let mut at = dir;
    for _ in 0..4_096 {
        if at == outer {
            return Ok(true);
        }
        let spot = items::place(pass.tx, pass.n, &at)?;
        match spot.and_then(|s| s.ep) {
            Some(up) if at != ItemId::ROOT => at = up,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Takes an entry out of its place, for the time of this group.
fn park(pass: &mut Pass<'_>, id: ItemId, row: &Base) -> Result<bool, DbError> {
    if pass.touched.contains(&id) {
        return Ok(false);
    }
    let Some(from) = pass.path(&id)? else {
        return Ok(false);
    };
    pass.free(row);
    pass.parked.insert(id);
    let item = row.row.copy_of.map_or(id, |c| c.0);
    let expect = row.row.stat;
    pass.push(item, Step::Park { id, from, expect }, Then::Parked, None);
    Ok(true)
}
