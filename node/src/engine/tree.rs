//! Keeps the tree columns of every item equal to what the documents alone say.
//!
//! Per item: the directory it hangs in (`ep`), whether it is alive, its name on disk (`shown`).
//! Each update touches only what depends on the change, yet the result is a pure function of the
//! documents (`crdt::tree` holds the rules), so that all devices end with the same tree in
//! whatever order changes arrived. [`check`] recomputes everything from scratch and compares.

use std::collections::{BTreeMap, BTreeSet};

use ownmesh_crdt::item::{ItemState, Kind};
use ownmesh_crdt::tree::{Claim, conflicted, cycle_breaker, settle, unsuffixed};
use ownmesh_crypto::ItemId;

use crate::db::items::{self, ItemRow, Spot};
use crate::db::spaces::Totals;
use crate::db::{Connection, DbError, base, dirty};

/// The tree of one space inside one transaction.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    pub(super) tx: &'a Connection,
    pub(super) space: i64,
    pub(super) totals: &'a mut Totals,
}

/// Directory chains deeper than this are taken for a cycle that leads elsewhere.
const MAX_DEPTH: usize = 4_096;

impl Tree<'_> {
    /// Stores `row` after its document changed and brings the tree up to date.
    pub(super) fn store(&mut self, id: &ItemId, row: &mut ItemRow) -> Result<(), DbError> {
        let new = row.k == 0;
        let old = row.spot.clone();
        let Some(state) = ItemState::from_registers(&row.doc.regs) else {
            row.k = items::put(self.tx, self.space, id, row)?;
            return Ok(());
        };
        let s = &mut row.spot;
        s.up = Some((state.place.parent, state.place.name.clone()));
        s.kind = Some(state.kind);
        s.since = Some(state.place_op);
        s.size = match state.content() {
            Some(ownmesh_crdt::item::Content::File { size, .. }) => *size,
            _ => 0,
        };
        s.conflict = u32::try_from(state.conflicts().len()).unwrap_or(u32::MAX);
        s.deleted = match state.kind {
            Kind::Dir => state.deleted,
            Kind::File | Kind::Symlink => state.versions.is_empty(),
        };
        if old.alive {
            self.totals.bytes += s.size.cast_signed() - old.size.cast_signed();
        }
        let moved = old.up.as_ref().map(|u| u.0) != Some(state.place.parent);
        let renamed =
            !moved && old.up.as_ref().map(|u| u.1.as_str()) != Some(state.place.name.as_str());
        let reordered = old.since != s.since;
        let old_cycle = if moved && old.up.is_some() {
            self.cycle(id)?
        } else {
            Vec::new()
        };
        row.k = items::put(self.tx, self.space, id, row)?;
        dirty::mark(self.tx, self.space, id, row.spot.size)?;

        if moved {
            self.hang(id, old.up.as_ref().map(|u| u.1.as_str()))?;
            let new_cycle = self.cycle(id)?;
            for other in old_cycle
                .iter()
                .chain(&new_cycle)
                .filter(|other| *other != id)
            {
                self.hang(other, None)?;
            }
        } else if (renamed || reordered) && old.alive {
            if let (Some(ep), Some((_, name))) = (old.ep, &old.up) {
                self.settle(&ep, name)?;
            }
            if let (Some(ep), Some((_, name))) = (row.spot.ep, &row.spot.up) {
                self.settle(&ep, name)?;
            }
        }
        if reordered && !moved {
            // Which move of a cycle is dropped depends on when each was made.
            for member in self.cycle(id)? {
                self.hang(&member, None)?;
            }
        }
        self.breathe(id)?;
        if new && row.spot.kind == Some(Kind::Dir) {
            for child in items::waiting_for(self.tx, self.space, id)? {
                self.hang(&child, None)?;
                for other in self.cycle(&child)? {
                    if other != child {
                        self.hang(&other, None)?;
                    }
                }
            }
        }
        if let Some(now) = items::place(self.tx, self.space, id)? {
            row.spot = now;
        }
        Ok(())
    }

    /// The items of the move cycle `id` is part of, by winning places; empty if it is in none.
    fn cycle(&self, id: &ItemId) -> Result<Vec<ItemId>, DbError> {
        let mut members = vec![*id];
        let mut at = *id;
        for _ in 0..MAX_DEPTH {
            let Some(spot) = items::place(self.tx, self.space, &at)? else {
                return Ok(Vec::new());
            };
            let (Some(Kind::Dir), Some(up)) = (spot.kind, spot.up) else {
                return Ok(Vec::new());
            };
            at = up.0;
            if at == *id {
                return Ok(members);
            }
            if at == ItemId::ROOT || members.contains(&at) {
                return Ok(Vec::new());
            }
            members.push(at);
        }
        Ok(Vec::new())
    }

    fn wanted_ep(&self, id: &ItemId, spot: &Spot) -> Result<Option<ItemId>, DbError> {
        let Some((parent, _)) = &spot.up else {
            return Ok(None);
        };
        if *parent == ItemId::ROOT {
            return Ok(Some(ItemId::ROOT));
        }
        match items::place(self.tx, self.space, parent)? {
            Some(p) if p.kind == Some(Kind::Dir) => {}
            _ => return Ok(None),
        }
        let mut claims = Vec::new();
        for member in self.cycle(id)? {
            if let Some(since) = items::place(self.tx, self.space, &member)?.and_then(|s| s.since) {
                claims.push(Claim { id: member, since });
            }
        }
        Ok(Some(if cycle_breaker(&claims) == Some(*id) {
            ItemId::ROOT
        } else {
            *parent
        }))
    }

    /// Moves an item to the directory it belongs in. `old_name`: the name it was shown under there,
    /// if that changed with it.
    fn hang(&mut self, id: &ItemId, old_name: Option<&str>) -> Result<(), DbError> {
        let Some(mut spot) = items::place(self.tx, self.space, id)? else {
            return Ok(());
        };
        let want = self.wanted_ep(id, &spot)?;
        let Some((_, name)) = spot.up.clone() else {
            return Ok(());
        };
        if want == spot.ep {
            if let (Some(ep), Some(old)) = (want, old_name) {
                self.settle(&ep, old)?;
                self.settle(&ep, &name)?;
            }
            return Ok(());
        }
        let before = spot.ep;
        spot.ep = want;
        if want.is_none() {
            spot.shown = None;
        }
        items::put_spot(self.tx, self.space, id, &spot)?;
        dirty::mark(self.tx, self.space, id, spot.size)?;
        if spot.alive {
            if let Some(dir) = before {
                self.settle(&dir, old_name.unwrap_or(&name))?;
                self.add_kids(&dir, -1)?;
            }
            if let Some(dir) = want {
                self.add_kids(&dir, 1)?;
                self.settle(&dir, &name)?;
            }
        }
        Ok(())
    }

    fn add_kids(&mut self, dir: &ItemId, by: i64) -> Result<(), DbError> {
        if *dir == ItemId::ROOT {
            return Ok(());
        }
        if let Some(mut spot) = items::place(self.tx, self.space, dir)? {
            spot.kids += by;
            items::put_spot(self.tx, self.space, dir, &spot)?;
            self.breathe(dir)?;
        }
        Ok(())
    }

    /// Brings `alive` of an item, and of the directories above it, up to date.
    fn breathe(&mut self, id: &ItemId) -> Result<(), DbError> {
        let Some(mut spot) = items::place(self.tx, self.space, id)? else {
            return Ok(());
        };
        let alive = spot.kind.is_some()
            && (!spot.deleted
                || spot.kids > 0 && !ownmesh_crdt::mutated!(DirectoryDiesWithChildren));
        if alive == spot.alive {
            return Ok(());
        }
        spot.alive = alive;
        if !alive {
            spot.shown = None;
        }
        items::put_spot(self.tx, self.space, id, &spot)?;
        dirty::mark_anew(self.tx, self.space, id, spot.size)?;
        // A conflict copy that becomes an item, or was one: whose file it is changes with that.
        if let Some((main, _)) = base::get(self.tx, self.space, id)?.and_then(|b| b.row.copy_of) {
            dirty::mark(self.tx, self.space, &main, 0)?;
        }
        let sign = if alive { 1 } else { -1 };
        self.totals.items += sign;
        if spot.kind == Some(Kind::File) {
            self.totals.files += sign;
            self.totals.bytes += sign * spot.size.cast_signed();
        }
        if let (Some(dir), Some((_, name))) = (spot.ep, &spot.up) {
            self.settle(&dir, name)?;
            self.add_kids(&dir, sign)?;
        }
        Ok(())
    }

    /// Gives the live items that claim one name in one directory their names on disk, and those
    /// whose derived names may be that name.
    fn settle(&mut self, dir: &ItemId, name: &str) -> Result<(), DbError> {
        self.settle_one(dir, name)?;
        if let Some(original) = unsuffixed(name) {
            self.settle_one(dir, &original)?;
        }
        let Some(main) = conflicted(name) else {
            return Ok(());
        };
        // Their copies may have to make way, or get their names back.
        let more = unsuffixed(&main);
        for name in [Some(main), more].into_iter().flatten() {
            for (id, spot) in items::claims(self.tx, self.space, dir, &name)? {
                if spot.conflict > 0 {
                    dirty::mark(self.tx, self.space, &id, spot.size)?;
                }
            }
        }
        Ok(())
    }

    fn settle_one(&mut self, dir: &ItemId, name: &str) -> Result<(), DbError> {
        let claims = items::claims(self.tx, self.space, dir, name)?;
        let (tx, space) = (self.tx, self.space);
        // A name that cannot be looked up counts as free: the check finds it.
        let taken = |name: &str| items::claims(tx, space, dir, name).is_ok_and(|c| !c.is_empty());
        let mut spots: BTreeMap<ItemId, Spot> = claims.into_iter().collect();
        let asked: Vec<Claim> = spots
            .iter()
            .filter_map(|(id, s)| {
                Some(Claim {
                    id: *id,
                    since: s.since?,
                })
            })
            .collect();
        for (id, shown) in settle(name, &asked, &taken) {
            let Some(spot) = spots.get_mut(&id) else {
                continue;
            };
            if spot.shown.as_deref() != Some(shown.as_str()) {
                spot.shown = Some(shown);
                items::put_spot(self.tx, self.space, &id, spot)?;
                dirty::mark(self.tx, self.space, &id, spot.size)?;
            }
        }
        Ok(())
    }
}

/// A difference between stored and recomputed tree.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// Item.
    pub id: ItemId,
    /// As stored.
    pub stored: Spot,
    /// As the documents say.
    pub derived: Spot,
}

/// Rebuilds every document from its changes and the whole tree from the documents, and compares.
/// Costs a pass over the space; for tests and the consistency check.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn check(conn: &Connection, space: i64) -> Result<Vec<Difference>, DbError> {
    let (stored, mut tree) = derive(conn, space)?;
    let mut out = Vec::new();
    for (id, spot) in stored {
        let derived = tree.remove(&id).unwrap_or_default();
        if derived != spot {
            out.push(Difference {
                id,
                stored: spot,
                derived,
            });
        }
    }
    Ok(out)
}

type Spots = BTreeMap<ItemId, Spot>;

fn derive(conn: &Connection, space: i64) -> Result<(Spots, Spots), DbError> {
    let mut stored = BTreeMap::new();
    let mut tree: BTreeMap<ItemId, Spot> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = items::page(conn, space, after.as_ref(), 1_000)?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for row in page {
            let Some(id) = row.id else { continue };
            let doc = ownmesh_crdt::doc::ItemDoc::rebuild(&row.doc.body)
                .map_err(|_| DbError::Damaged("document"))?;
            let mut spot = Spot::default();
            if doc != row.doc {
                // Shows up as a difference: the stored row claims something else.
                spot.kids = -1;
            } else if let Some(state) = ItemState::from_registers(&doc.regs) {
                spot = Spot {
                    up: Some((state.place.parent, state.place.name.clone())),
                    kind: Some(state.kind),
                    since: Some(state.place_op),
                    size: match state.content() {
                        Some(ownmesh_crdt::item::Content::File { size, .. }) => *size,
                        _ => 0,
                    },
                    conflict: u32::try_from(state.conflicts().len()).unwrap_or(u32::MAX),
                    deleted: if state.kind == Kind::Dir {
                        state.deleted
                    } else {
                        state.versions.is_empty()
                    },
                    ..Spot::default()
                };
            }
            stored.insert(id, row.spot);
            tree.insert(id, spot);
        }
    }
    let ids: Vec<ItemId> = tree.keys().copied().collect();
    for id in &ids {
        let ep = derived_ep(&tree, id);
        if let Some(spot) = tree.get_mut(id) {
            spot.ep = ep;
        }
    }
    // Everything not deleted is alive, and so is every directory above it.
    let mut alive: BTreeSet<ItemId> = BTreeSet::new();
    for id in &ids {
        let mut at = *id;
        if tree[id].kind.is_none() || tree[id].deleted {
            continue;
        }
        while alive.insert(at) {
            match tree[&at].ep {
                Some(up) if up != ItemId::ROOT => at = up,
                _ => break,
            }
        }
    }
    let mut groups: BTreeMap<(ItemId, String), Vec<Claim>> = BTreeMap::new();
    for id in &alive {
        let Some(spot) = tree.get_mut(id) else {
            continue;
        };
        spot.alive = true;
        let (Some(ep), Some((_, name)), Some(since)) = (spot.ep, spot.up.clone(), spot.since)
        else {
            continue;
        };
        groups
            .entry((ep, name))
            .or_default()
            .push(Claim { id: *id, since });
        if let Some(dir) = tree.get_mut(&ep) {
            dir.kids += 1;
        }
    }
    for ((dir, name), claims) in &groups {
        let taken = |name: &str| groups.contains_key(&(*dir, name.to_owned()));
        for (id, shown) in settle(name, claims, &taken) {
            if let Some(spot) = tree.get_mut(&id) {
                spot.shown = Some(shown);
            }
        }
    }
    Ok((stored, tree))
}

fn derived_ep(tree: &Spots, id: &ItemId) -> Option<ItemId> {
    let parent = tree[id].up.as_ref()?.0;
    if parent == ItemId::ROOT {
        return Some(parent);
    }
    if tree.get(&parent)?.kind != Some(Kind::Dir) {
        return None;
    }
    let mut members = vec![*id];
    let mut at = parent;
    while at != *id {
        if members.contains(&at) {
            return Some(parent);
        }
        members.push(at);
        match tree.get(&at).map(|s| (s.kind, s.up.as_ref())) {
            Some((Some(Kind::Dir), Some((up, _)))) if *up != ItemId::ROOT => at = *up,
            _ => return Some(parent),
        }
    }
    if tree[id].kind != Some(Kind::Dir) {
        return Some(parent);
    }
    let claims: Vec<Claim> = members
        .iter()
        .filter_map(|m| {
            Some(Claim {
                id: *m,
                since: tree[m].since?,
            })
        })
        .collect();
    Some(if cycle_breaker(&claims) == Some(*id) {
        ItemId::ROOT
    } else {
        parent
    })
}

#[cfg(test)]
mod tests {
    use ownmesh_crdt::item::{self, Content, Place};
    use ownmesh_crypto::ids::ContentHash;
    use ownmesh_crypto::{Incarnation, SpaceId};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::db::{Db, spaces};
    use crate::engine::Now;
    use crate::engine::docs::{Docs, Tally};

    /// Four directories and two files move, are renamed, deleted and brought back at random, into one
    /// another too, as changes of several devices do together.
    #[test]
    fn what_is_stored_is_what_the_documents_say() {
        for seed in 0..40 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut below = |n: u8| (rng.next_u32() % u32::from(n)) as u8;
            let mut db = Db::memory().unwrap();
            let (now, actor) = (Now { mono: 0, wall: 0 }, Incarnation::from_bytes([1; 8]));
            let item = |n: u8| match n {
                0 => ItemId::ROOT,
                n => ItemId::from_bytes([n; 16]),
            };
            let (mut totals, mut tally) = (Totals::default(), Tally::default());
            let space = SpaceId::from_bytes([1; 16]);
            let n = db
                .write(|tx| spaces::add(tx, &space, "/f", 0, 1, None))
                .unwrap();
            for step in 0..60 {
                db.write(|tx| {
                    let mut docs = Docs::new(tx, n, &mut totals, &mut tally, now);
                    let which = 1 + below(6);
                    let (id, is_dir) = (item(which), which < 5);
                    let mut row = docs.load(&id)?;
                    let place = Place {
                        parent: item(below(7)),
                        name: format!("d{}", below(3)),
                    };
                    let edits = match ItemState::from_registers(&row.doc.regs) {
                        None if is_dir => item::create(Kind::Dir, &place, None, None, None),
                        None => item::create(Kind::File, &place, Some(&held()), None, None),
                        Some(state) => match below(6) {
                            0 => item::delete(
                                &state.seen(),
                                [below(200); 8],
                                state.content(),
                                &row.doc.regs,
                            ),
                            1 => item::revive(&row.doc.regs, (!is_dir).then_some(&held())),
                            2 | 3 => item::rename(&state.seen(), &place),
                            _ => {
                                let parent = state.place.parent;
                                item::rename(&state.seen(), &Place { parent, ..place })
                            }
                        },
                    };
                    docs.author(&actor, &id, &mut row, &edits)?;
                    Ok::<_, DbError>(())
                })
                .unwrap();
                let wrong = check(db.read(), n).unwrap();
                assert!(wrong.is_empty(), "seed {seed}, step {step}: {wrong:#?}");
            }
        }
    }

    fn held() -> Content {
        Content::File {
            size: 3,
            hash: ContentHash::from_bytes([7; 32]),
        }
    }
}
