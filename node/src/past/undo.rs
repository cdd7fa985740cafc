//! What items have to become so that somebody's changes are undone, and what stands against it.
//!
//! Decides nothing by itself: the plan is shown, its contents are gathered, and then the engine carries it out, item by
//! item if its document is still the one that was read here. The danger guarded against is to take away what others did
//! later: what they built on stays, a directory they put something in stays, and a name they use now is left to them.

use std::collections::{BTreeMap, BTreeSet};

use ownmesh_crdt::doc::ChangeHash;
use ownmesh_crdt::item::{Content, ItemState, Kind, Place};
use ownmesh_crdt::op::Registers;
use ownmesh_crdt::past::{Past, Without, bring_back, without};
use ownmesh_crypto::{ContentHash, DeviceId, ItemId};

use super::find;
use crate::command::{UndoItem, UndoLeft};
use crate::db::items::ItemRow;
use crate::db::{Connection, DbError, base, items};
use crate::disk::RelPath;
use crate::disk::rules::Rules;

/// Whose changes, since when.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// This device's; everybody's if it is none.
    pub(crate) device: Option<DeviceId>,
    /// Unix milliseconds.
    pub(crate) since: i64,
    /// This path and what is below it; empty: everything.
    pub(crate) below: String,
}

/// What an item is to become.
#[derive(Clone, Debug)]
pub(crate) enum Become {
    /// Nothing: it was made since.
    Gone,
    /// What it was, at this place.
    This(Box<ItemState>, Place),
    /// A new item like this one.
    New(Box<ItemState>, Place),
}

/// One item of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) id: ItemId,
    /// The document this was read from.
    pub(crate) heads: Vec<ChangeHash>,
    pub(crate) to: Become,
    /// Bytes that have to be had first.
    pub(crate) needs: Option<(ContentHash, u64)>,
    pub(crate) shown: UndoItem,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) items: Vec<Planned>,
    pub(crate) left: Vec<UndoLeft>,
}

/// How many items are read at once.
const PAGE: usize = 1_000;

/// What `choice` means for a space. What `rules` ignore is left, and so is a directory it is in.
pub(crate) fn plan(
    conn: &Connection,
    space: &find::Where,
    choice: &Choice,
    rules: &Rules,
    names: &BTreeMap<DeviceId, String>,
) -> Result<Plan, DbError> {
    let writers = find::writers(conn, space.n)?;
    let chosen = |past: &Past| {
        past.time >= choice.since
            && choice
                .device
                .is_none_or(|d| writers.get(&past.actor) == Some(&d))
    };
    let mut planner = Planner {
        conn,
        space,
        rules,
        plan: Plan::default(),
        at: BTreeMap::new(),
    };
    let mut after = None;
    loop {
        let page = items::page(conn, space.n, after.as_ref(), PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for row in page {
            let theirs = |d: &DeviceId| {
                let mut actors = row.doc.actors.keys();
                actors.any(|actor| writers.get(actor) == Some(d))
            };
            let (Some(id), true) = (row.id, choice.device.as_ref().is_none_or(theirs)) else {
                continue;
            };
            let Some(now) = ItemState::from_registers(&row.doc.regs) else {
                continue;
            };
            match without(&row.doc.body, &chosen).map_err(|_| DbError::Damaged("document"))? {
                Without::Untouched => {}
                Without::Overtaken { by, before } => {
                    if !is_same(&row.doc.regs, &now, before.as_ref()) {
                        let by = writers.get(&by).and_then(|d| names.get(d));
                        let by = by.map_or("another device", String::as_str);
                        let path = find::path(conn, space.n, &now.place)?;
                        planner.leave(choice, path, format!("{by} changed it later"));
                    }
                }
                Without::Before(before) => planner.add(choice, id, &row, &now, before)?,
            }
        }
    }
    planner.keep_directories()?;
    planner.find_names()?;
    Ok(planner.plan)
}

fn is_same(regs: &Registers, now: &ItemState, before: Option<&ItemState>) -> bool {
    match before {
        Some(before) if !before.deleted => bring_back(regs, before, &before.place).is_empty(),
        _ => now.deleted,
    }
}

struct Planner<'a> {
    conn: &'a Connection,
    space: &'a find::Where,
    rules: &'a Rules,
    plan: Plan,
    /// Where each item is in the plan.
    at: BTreeMap<ItemId, usize>,
}

impl Planner<'_> {
    fn leave(&mut self, choice: &Choice, path: String, why: String) {
        if lies_below(&path, &choice.below) {
            self.plan.left.push(UndoLeft {
                space: self.space.name.clone(),
                path,
                why,
                may_have: Vec::new(),
            });
        }
    }

    fn add(
        &mut self,
        choice: &Choice,
        id: ItemId,
        row: &ItemRow,
        now: &ItemState,
        before: Option<ItemState>,
    ) -> Result<(), DbError> {
        if is_same(&row.doc.regs, now, before.as_ref()) {
            return Ok(());
        }
        let path = find::path(self.conn, self.space.n, &now.place)?;
        let before = before.filter(|b| !b.deleted);
        let was = match &before {
            Some(b) if b.place != now.place => Some(find::path(self.conn, self.space.n, &b.place)?),
            _ => None,
        };
        let inside = |path: &String| lies_below(path, &choice.below);
        if !inside(&path) && !was.as_ref().is_some_and(inside) {
            return Ok(());
        }
        // Before directories are looked at: one stays where something ignored stays in it.
        let is_dir = now.kind == Kind::Dir;
        if RelPath::parse(&path).is_ok_and(|at| self.rules.ignores(&at, is_dir)) {
            let why = "an ignore rule keeps it as it is; mesh ignore test names the rule";
            self.plan.left.push(UndoLeft {
                space: self.space.name.clone(),
                path,
                why: why.into(),
                may_have: Vec::new(),
            });
            return Ok(());
        }
        let mut shown = UndoItem {
            space: self.space.name.clone(),
            path,
            what: "removed".into(),
            ..UndoItem::default()
        };
        let mut needs = None;
        let to = match before {
            None => Become::Gone,
            Some(before) if before.versions.len() > 1 && !before.conflicts().is_empty() => {
                let why = "it was in conflict then; choose a version with mesh history";
                self.leave(choice, shown.path, why.into());
                return Ok(());
            }
            Some(before) => {
                shown.what = what(now, &before).into();
                shown.to = was;
                if let Some(Content::File { size, hash }) = before.content() {
                    shown.size = *size;
                    needs = self.lacks(&id, &before)?.then_some((*hash, *size));
                }
                let place = before.place.clone();
                Become::This(Box::new(before), place)
            }
        };
        self.at.insert(id, self.plan.items.len());
        self.plan.items.push(Planned {
            id,
            heads: row.doc.heads.clone(),
            to,
            needs,
            shown,
        });
        Ok(())
    }

    /// Whether its bytes do not stand under its own name already.
    fn lacks(&self, id: &ItemId, before: &ItemState) -> Result<bool, DbError> {
        let stands = base::get(self.conn, self.space.n, id)?;
        Ok(stands.is_none_or(|b| b.row.content.as_ref() != before.content()))
    }

    /// Whether a living item will be gone from where it is now.
    fn goes(&self, id: &ItemId, dir: &ItemId, name: Option<&str>) -> bool {
        match self.at.get(id).map(|n| &self.plan.items[*n].to) {
            Some(Become::Gone) => true,
            Some(Become::This(_, place)) => {
                place.parent != *dir || name.is_some_and(|name| place.name != name)
            }
            _ => false,
        }
    }

    /// A directory that was made since stays as long as something that stays is in it: somebody else's, or ignored.
    fn keep_directories(&mut self) -> Result<(), DbError> {
        loop {
            let mut kept = BTreeSet::new();
            for one in self
                .plan
                .items
                .iter()
                .filter(|p| matches!(p.to, Become::Gone))
            {
                let children = items::children(self.conn, self.space.n, &one.id)?;
                if children.iter().any(|(id, _)| !self.goes(id, &one.id, None)) {
                    kept.insert(one.id);
                }
            }
            if kept.is_empty() {
                return Ok(());
            }
            for one in std::mem::take(&mut self.plan.items) {
                if kept.contains(&one.id) {
                    self.plan.left.push(UndoLeft {
                        space: one.shown.space,
                        path: one.shown.path,
                        why: "something that stays is in it".into(),
                        may_have: Vec::new(),
                    });
                } else {
                    self.plan.items.push(one);
                }
            }
            let numbered = self.plan.items.iter().enumerate();
            self.at = numbered.map(|(n, one)| (one.id, n)).collect();
        }
    }

    /// A name that another living item has by then is left to it.
    fn find_names(&mut self) -> Result<(), DbError> {
        let mut taken: BTreeSet<(ItemId, String)> = BTreeSet::new();
        for n in 0..self.plan.items.len() {
            let one = &self.plan.items[n];
            let Become::This(_, place) = &one.to else {
                continue;
            };
            let (id, mut place) = (one.id, place.clone());
            let wanted = place.name.clone();
            let mut number = 0;
            while taken.contains(&(place.parent, place.name.clone()))
                || self.is_used(&id, &place)?
            {
                number += 1;
                place.name = restored(&wanted, number);
            }
            taken.insert((place.parent, place.name.clone()));
            if number > 0 {
                let to = find::path(self.conn, self.space.n, &place)?;
                let one = &mut self.plan.items[n];
                one.shown.to = Some(to);
                if let Become::This(_, at) = &mut one.to {
                    *at = place;
                }
            }
        }
        Ok(())
    }

    fn is_used(&self, id: &ItemId, place: &Place) -> Result<bool, DbError> {
        let claims = items::claims(self.conn, self.space.n, &place.parent, &place.name)?;
        let mine = claims.iter().any(|(claim, _)| claim == id);
        let others = |(claim, _): &(ItemId, _)| {
            claim != id && !self.goes(claim, &place.parent, Some(&place.name))
        };
        // Two that share a name already have it settled between them.
        Ok(!mine && claims.iter().any(others))
    }
}

fn what(now: &ItemState, before: &ItemState) -> &'static str {
    if now.deleted {
        "returned"
    } else if now.content() != before.content() {
        "content"
    } else if now.place != before.place {
        "renamed"
    } else if now.kind != Kind::Dir && now.mode == before.mode {
        "touched"
    } else {
        "mode"
    }
}

/// `a.txt` as `a (restored).txt`, `a (restored 2).txt`.
pub(crate) fn restored(name: &str, number: u32) -> String {
    let mark = match number {
        1 => " (restored)".to_owned(),
        n => format!(" (restored {n})"),
    };
    match name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) {
        Some((stem, kind)) => format!("{stem}{mark}.{kind}"),
        None => format!("{name}{mark}"),
    }
}

fn lies_below(path: &str, dir: &str) -> bool {
    let rest = path.strip_prefix(dir);
    dir.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        assert_eq!(restored("a.txt", 1), "a (restored).txt");
        assert_eq!(restored("a.txt", 2), "a (restored 2).txt");
        assert_eq!(restored(".profile", 1), ".profile (restored)");
        assert!(lies_below("a/b", "a") && lies_below("a", "a") && lies_below("a", ""));
        assert!(!lies_below("ab", "a") && !lies_below("a", "a/b"));
    }
}
