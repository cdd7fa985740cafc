//! What entries are called on this disk: where [`names`] meets the steps.
//!
//! Whoever stands under a name keeps it; an entry that comes to where its twin stands gets a local name.
//! That is decided anew only when an entry is made or moved, so two twins never push each other to and
//! fro, and what a scan finds is compared with the name that base has.

use ownmesh_crdt::item::Content;
use ownmesh_crypto::ItemId;

use super::pass::Pass;
use super::plan::{Sides, Wanted};
use super::{Engine, Space};
use crate::db::{DbError, base, items, marks};
use crate::disk::names::{self, Traits};

/// A refusal that says nothing about the name is believed to be about it after so many.
const TRIES: u8 = 3;

impl Engine {
    /// What the filesystem of a folder does, found out when it was opened; as it was known before where
    /// that could not be tried.
    pub fn folder_does(&mut self, n: i64, found: Option<Traits>) {
        let Some(space) = self.spaces.get_mut(&n) else {
            return;
        };
        let key = key(n);
        let known = marks::get(self.db.read(), &key).ok().flatten();
        let known = known.as_deref().and_then(Traits::decode);
        space.traits = found.or(known).unwrap_or_default();
        space.again = true;
        let Some(found) = found.filter(|found| known != Some(*found)) else {
            return;
        };
        let kept = self.db.write(|tx| {
            marks::put(tx, &key, &found.encode())?;
            // What could not stand on the filesystem before may do so now.
            if known.is_some() {
                crate::db::here::mark_absent(tx, n)?;
            }
            Ok::<_, DbError>(())
        });
        if let Err(error) = kept {
            tracing::error!(%error, "what the folder's filesystem does could not be kept");
        }
    }
}

/// Under which key of the database it is kept what a filesystem does.
pub(crate) fn key(n: i64) -> String {
    format!("traits/{n}")
}

impl Space {
    /// Whether an item cannot stand on this filesystem at all, and so nothing is left to do for it.
    pub(super) fn cannot_hold(&self, sides: &Sides) -> bool {
        let no_form = |w: &Wanted| match &w.content {
            Some(Content::Link { target }) => {
                !self.traits.symlinks || !self.traits.raw && names::has_raw(target)
            }
            _ => false,
        };
        sides.base.is_empty() && !sides.wanted.is_empty() && sides.wanted.iter().all(no_form)
    }

    /// The disk did not take an entry under its name: `certain` if the name is to blame.
    pub(super) fn refuses_name(&mut self, id: ItemId, certain: bool) {
        let count = self.awkward.entry(id).or_default();
        *count = if certain {
            (*count / TRIES + 1) * TRIES
        } else {
            count.saturating_add(1)
        };
    }

    /// Which local name an entry is to have; 0 for none.
    fn level(&self, id: &ItemId) -> u8 {
        let tried = self.awkward.get(id).copied().unwrap_or(0) / TRIES;
        tried.min(names::LEVELS)
    }
}

/// The name of an entry that is to be made or moved, on this disk.
pub(super) fn local_name(
    pass: &Pass<'_>,
    space: &Space,
    wanted: &Wanted,
) -> Result<String, DbError> {
    let in_root = wanted.parent == ItemId::ROOT;
    let level = space.level(&wanted.id);
    if level == 0 && space.traits.holds(in_root, &wanted.name) && !has_twin(pass, wanted)? {
        return Ok(wanted.name.clone());
    }
    Ok(names::derive(&wanted.name, &wanted.id, level.max(1)))
}

/// Whether another entry stands, and stays, under a name that this filesystem takes for the same.
fn has_twin(pass: &Pass<'_>, wanted: &Wanted) -> Result<bool, DbError> {
    for other in pass.alike(&wanted.parent, &wanted.name)? {
        if other == wanted.id {
            continue;
        }
        let copy = base::get(pass.tx, pass.n, &other)?.and_then(|b| b.row.copy_of);
        let leaves = match (copy, items::place(pass.tx, pass.n, &other)?) {
            (None, Some(spot)) => {
                let key = names::fold(&wanted.name);
                !spot.alive
                    || spot.ep != Some(wanted.parent)
                    || spot.shown.is_none_or(|shown| names::fold(&shown) != key)
            }
            _ => false,
        };
        if !leaves {
            return Ok(true);
        }
    }
    Ok(false)
}
