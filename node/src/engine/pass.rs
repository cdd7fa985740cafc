//! The disk as it will be once the steps gathered so far are taken.
//!
//! Base says where things stand now. A step that is planned by that alone would meet, on the disk,
//! what another step of its group has put there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use ownmesh_crypto::ItemId;

use super::group::{Intent, Then};
use crate::db::base::{self, Base};
use crate::db::{Connection, DbError};
use crate::disk::perform::Step;
use crate::disk::{RelPath, names};

/// One planning pass: what the disk will look like after the steps gathered so far.
pub(super) struct Pass<'a> {
    pub(super) tx: &'a Connection,
    pub(super) n: i64,
    pub(super) group: Vec<Intent>,
    /// Entries as they will stand: where, or gone.
    pub(super) moved: BTreeMap<ItemId, Option<(ItemId, String)>>,
    /// Names taken or freed by the group.
    pub(super) names: BTreeMap<(ItemId, String), Option<ItemId>>,
    pub(super) parked: BTreeSet<ItemId>,
    pub(super) touched: BTreeSet<ItemId>,
    /// Whether the filesystem takes some names for one; then also what stands in the directories that
    /// were looked at, by what such names have in common.
    pub(super) folds: bool,
    alike: RefCell<BTreeMap<ItemId, Alike>>,
}

/// Entries of a directory by [`names::fold`] of their names.
type Alike = BTreeMap<String, BTreeSet<ItemId>>;

impl<'a> Pass<'a> {
    pub(super) fn new(tx: &'a Connection, n: i64, folds: bool) -> Self {
        Self {
            tx,
            n,
            group: Vec::new(),
            moved: BTreeMap::new(),
            names: BTreeMap::new(),
            parked: BTreeSet::new(),
            touched: BTreeSet::new(),
            folds,
            alike: RefCell::default(),
        }
    }

    /// Entries that will stand under a name, or under one that the filesystem takes for the same; none
    /// where it takes none for one.
    pub(super) fn alike(&self, dir: &ItemId, name: &str) -> Result<BTreeSet<ItemId>, DbError> {
        if !self.folds {
            return Ok(BTreeSet::new());
        }
        let mut alike = self.alike.borrow_mut();
        if !alike.contains_key(dir) {
            let mut known = Alike::new();
            let add = |known: &mut Alike, name: &str, id| {
                known.entry(names::fold(name)).or_default().insert(id);
            };
            for (id, name) in crate::db::here::names(self.tx, self.n, dir)? {
                if self.names.get(&(*dir, name.clone())) != Some(&None) {
                    add(&mut known, &name, id);
                }
            }
            for ((at, name), id) in self.names.range((*dir, String::new())..) {
                if at != dir {
                    break;
                }
                if let Some(id) = id {
                    add(&mut known, name, *id);
                }
            }
            alike.insert(*dir, known);
        }
        let known = alike.get(dir).and_then(|a| a.get(&names::fold(name)));
        Ok(known.cloned().unwrap_or_default())
    }

    /// Where an entry will be.
    pub(super) fn path(&self, id: &ItemId) -> Result<Option<RelPath>, DbError> {
        let mut names = Vec::new();
        let mut at = *id;
        for _ in 0..4_096 {
            if at == ItemId::ROOT {
                names.reverse();
                return RelPath::parse(&names.join("/"))
                    .map(Some)
                    .map_err(|_| DbError::Damaged("name"));
            }
            let (parent, name) = match self.moved.get(&at) {
                Some(Some(place)) => place.clone(),
                Some(None) => return Ok(None),
                None => match base::get(self.tx, self.n, &at)? {
                    Some(b) => (b.row.parent, b.row.name),
                    None => return Ok(None),
                },
            };
            names.push(name);
            at = parent;
        }
        Ok(None)
    }

    /// What will stand under a name.
    pub(super) fn at(&self, parent: &ItemId, name: &str) -> Result<Option<ItemId>, DbError> {
        match self.names.get(&(*parent, name.to_owned())) {
            Some(Some(id)) => return Ok(Some(*id)),
            Some(None) => return Ok(self.alike(parent, name)?.pop_first()),
            None => {}
        }
        if let Some(b) = base::at(self.tx, self.n, parent, name)? {
            return Ok(Some(b.row.id));
        }
        Ok(self.alike(parent, name)?.pop_first())
    }

    pub(super) fn place(&mut self, id: ItemId, parent: ItemId, name: &str) {
        self.names.insert((parent, name.to_owned()), Some(id));
        if let Some(known) = self.alike.get_mut().get_mut(&parent) {
            known.entry(names::fold(name)).or_default().insert(id);
        }
        self.moved.insert(id, Some((parent, name.to_owned())));
    }

    pub(super) fn free(&mut self, b: &Base) {
        self.names.insert((b.row.parent, b.row.name.clone()), None);
        if let Some(known) = self.alike.get_mut().get_mut(&b.row.parent)
            && let Some(ids) = known.get_mut(&names::fold(&b.row.name))
        {
            ids.remove(&b.row.id);
        }
    }

    pub(super) fn push(&mut self, item: ItemId, step: Step, then: Then, changes: Option<u32>) {
        self.touched.insert(*step.id());
        self.group.push(Intent {
            item,
            step,
            then,
            changes,
        });
    }

    /// An item that was parked but found no place in this pass must not stay parked: it stays where
    /// it is, and so does whatever rests on its going.
    pub(super) fn drop_parked(&mut self) {
        let steps: Vec<&Step> = self.group.iter().map(|i| &i.step).collect();
        let mut keep = kept(&steps).into_iter();
        self.group.retain(|_| keep.next().unwrap_or(true));
    }
}

/// Which steps can be taken if nothing is to stay parked.
fn kept(steps: &[&Step]) -> Vec<bool> {
    let mut keep = vec![true; steps.len()];
    loop {
        let unparked = |id: &ItemId| {
            let is = |(n, s): (usize, &&Step)| {
                keep[n] && matches!(s, Step::Unpark { id: i, .. } if i == id)
            };
            steps.iter().enumerate().any(is)
        };
        let stuck = |(n, step): (usize, &&Step)| {
            keep[n] && matches!(step, Step::Park { id, .. } if !unparked(id))
        };
        let Some(first) = steps.iter().enumerate().position(stuck) else {
            return keep;
        };
        // What a step that is not taken was to free or to put there, later steps count on.
        let mut lost: Vec<&RelPath> = Vec::new();
        for (n, step) in steps.iter().enumerate().skip(first) {
            let paths = step.paths();
            let rests = paths
                .iter()
                .any(|p| lost.iter().any(|l| p.starts_with(l) || l.starts_with(p)));
            if n == first || !keep[n] || rests {
                keep[n] = false;
                lost.extend(paths);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Stat;

    #[test]
    fn only_what_rests_on_a_park_without_a_place_is_dropped() {
        let id = |n: u8| ItemId::from_bytes([n; 16]);
        let path = |p: &str| RelPath::parse(p).unwrap();
        let expect = Stat::default();
        let shift = |n, from: &str, to: &str| Step::Move {
            id: id(n),
            from: path(from),
            to: path(to),
            expect,
        };
        let park = |n, from: &str| Step::Park {
            id: id(n),
            from: path(from),
            expect,
        };
        let unpark = |n, to: &str| Step::Unpark {
            id: id(n),
            to: path(to),
        };
        let steps = [
            (true, shift(1, "before", "a/before")),
            (false, park(2, "d")),
            // Takes the name, and what goes into it, or to the name that would be free then.
            (false, shift(3, "e", "d")),
            (false, shift(4, "x", "d/x")),
            (false, shift(5, "y", "e/y")),
            // A circle that needs one of those names, and one that needs none.
            (false, park(6, "p")),
            (false, shift(7, "q", "p")),
            (false, unpark(6, "x")),
            (true, park(8, "r")),
            (true, shift(9, "s", "r")),
            (true, unpark(8, "s")),
            (true, shift(10, "dd", "f")),
        ];
        let all: Vec<&Step> = steps.iter().map(|s| &s.1).collect();
        let expected: Vec<bool> = steps.iter().map(|s| s.0).collect();
        assert_eq!(kept(&all), expected);
    }
}
