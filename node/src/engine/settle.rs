//! Steps were taken: base follows what the disk shows.
//!
//! The rows of a group and the end of its `placing` rows are one transaction. A row is written only
//! for what was really done: one that came for a step that was refused would make the next scan read
//! what stands there as the user's edit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ownmesh_crdt::item::Kind;
use ownmesh_crdt::mutated;
use ownmesh_crypto::ItemId;

use super::author::forget_content;
use super::brake::Went;
use super::group::{Intent, Then, step_path};
use super::plan::Wanted;
use super::space::RETRY;
use super::{Engine, Job, Notice, Now};
use crate::db::base::{self, Base};
use crate::db::{Connection, DbError, dirty, ignored, items, placing};
use crate::disk::base::BaseRow;
use crate::disk::perform::{Outcome, Refused, Step};
use crate::disk::rules::SHARED;
use crate::disk::{Meta, RelPath, Stat, names, trash};

impl Engine {
    /// Steps were taken: base follows what the disk shows.
    pub(super) fn performed(
        &mut self,
        now: Now,
        n: i64,
        job: Job,
        outcomes: Vec<Outcome>,
    ) -> Result<(), DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let Some(group) = space.group_of(job) else {
            return Ok(());
        };
        let (mut done, mut rescan, mut retry) = (0_u64, Vec::new(), false);
        let mut removed = Vec::new();
        let mut displaced = false;
        // Entries that were not taken under their names, and whether the names are to blame.
        let mut refused_names = Vec::new();
        // Files that a step met as nobody expected them: read now, however often they change.
        let mut met = Vec::new();
        // Items whose steps were refused, whether a look may tell why, and what is in the way.
        let mut refusals: Vec<(&Intent, bool, String, String)> = Vec::new();
        // Steps into a name that something ignored has: `name/` says nothing of a file of that name.
        let mut blocked: Vec<(ItemId, RelPath)> = Vec::new();
        let rules = Arc::clone(&space.ignoring.rules);
        let metas: BTreeMap<ItemId, Meta> =
            space.ready.iter().map(|(id, r)| (*id, r.meta)).collect();
        // What was not taken out of its place still stands there, whatever became of it.
        let in_place: BTreeSet<ItemId> = group
            .iter()
            .zip(&outcomes)
            .filter(|(i, o)| matches!(i.step, Step::Park { .. }) && o.done.is_err())
            .map(|(i, _)| *i.step.id())
            .collect();
        self.db.write(|tx| {
            // Rows of moved entries first make room for one another.
            for (intent, outcome) in group.iter().zip(&outcomes) {
                if outcome.done.is_ok() && matches!(intent.then, Then::Moved { .. }) {
                    base::remove(tx, n, intent.step.id())?;
                } else if outcome.done.is_err()
                    && matches!(intent.step, Step::Unpark { .. })
                    && !in_place.contains(intent.step.id())
                {
                    // Not a deletion: it stands aside, or is made again.
                    super::recover::unparked(
                        tx,
                        n,
                        intent.step.id(),
                        outcome.done == Err(Refused::Aside),
                    )?;
                }
            }
            for (intent, outcome) in group.iter().zip(&outcomes) {
                placing::remove(tx, n, intent.step.id())?;
                match &outcome.done {
                    Ok(meta) => {
                        done += 1;
                        if let Then::Removed { row } = &intent.then
                            && row.row.copy_of.is_none()
                        {
                            removed.push(Went {
                                at: now.mono,
                                id: row.row.id,
                                content: row.row.content.clone(),
                            });
                        }
                        displaced |= settle(tx, n, intent, meta.as_ref())?;
                    }
                    Err(refused) => {
                        if mutated!(BaseBeforeSwap)
                            && let Some(meta) = metas.get(intent.step.id())
                        {
                            settle(tx, n, intent, Some(meta))?;
                        } else if let Then::Put { wanted, .. } = &intent.then {
                            forget_content(tx, n, wanted.content.as_ref(), None, &wanted.id)?;
                        }
                        let path = step_path(&intent.step);
                        // A name is given up at once, or when it is not free after some looks.
                        if let Refused::Name | Refused::Alias = refused
                            && intent.step.names().is_some()
                        {
                            let certain = *refused == Refused::Name;
                            refused_names.push((*intent.step.id(), certain));
                            if certain {
                                retry = true;
                                continue;
                            }
                        }
                        match refused {
                            Refused::Occupied if rules.splits(path) => {
                                ignored::block(tx, n, &intent.item)?;
                                blocked.push((intent.item, path.clone()));
                            }
                            Refused::Aside
                            | Refused::Alias
                            | Refused::Changed
                            | Refused::Occupied
                            | Refused::Missing
                            | Refused::NotEmpty => {
                                rescan.push(path.parent().unwrap_or(RelPath::ROOT));
                                let (at, why) = (path.to_string(), refused.to_string());
                                refusals.push((intent, true, at, why));
                                met.push(*intent.step.id());
                                if *refused == Refused::NotEmpty {
                                    rescan.push(path.clone());
                                }
                            }
                            _ => {
                                let (at, why) = (path.to_string(), refused.to_string());
                                refusals.push((intent, false, at, why));
                            }
                        }
                    }
                }
            }
            Ok::<_, DbError>(())
        })?;
        for (intent, outcome) in group.iter().zip(&outcomes) {
            let id = intent.step.id();
            if outcome.done.is_ok()
                && let Some(hash) = intent.then.takes_away()
            {
                space.kept.insert(trash::front(hash));
            }
            // A content that came meanwhile waits for its own step.
            let other = |staged: &String| space.ready.get(id).is_some_and(|r| r.staged != *staged);
            let waits = matches!(&intent.step, Step::Write { staged, .. } if other(staged));
            // What the disk refused stays staged: it is not fetched again for the next try.
            let missing = outcome.done == Err(Refused::Missing);
            let over = outcome.done.is_ok() || missing;
            if matches!(intent.then, Then::Put { .. }) && !waits && over {
                space.underway.remove(id);
                space.staged_for.remove(&(intent.item, *id));
                if let Some(ready) = space.ready.remove(id)
                    && missing
                {
                    space.unwanted.push(ready.staged);
                }
            }
            if outcome.done.is_ok() {
                space.is_refused_no_more(&intent.item);
                space.awkward.remove(id);
                space.problems.remove(step_path(&intent.step).as_str());
            }
            let waits = blocked.iter().any(|(item, _)| *item == intent.item);
            if !waits && space.queued.insert(intent.item) {
                space.queue.push_back(intent.item);
            }
        }
        let rule_file = |path: &&RelPath| path.as_str() == SHARED;
        if group.iter().any(|i| i.step.paths().iter().any(rule_file)) {
            // Others' rules are read with the next look.
            space.want_scan(Some(vec![RelPath::ROOT]));
        }
        let names = blocked.into_iter().map(|(_, path)| path);
        space.ignoring.blocked.extend(names);
        for (id, certain) in refused_names {
            space.refuses_name(id, certain);
        }
        for id in &met {
            space.pace.let_go(id);
        }
        space.deletions.extend(removed);
        for (intent, looked, path, reason) in refusals {
            if space.refuse(intent.item, looked, now.mono) {
                let id = *intent.step.id();
                space.tell_refused(&intent.item, id, path, reason, now.wall);
            }
        }
        if displaced {
            space.want_scan(None);
        }
        if !rescan.is_empty() {
            rescan.sort();
            rescan.dedup();
            space.want_scan(Some(rescan));
        }
        if retry {
            space.retry_at = Some(now.mono + RETRY);
        }
        space.again = true;
        space.ack_due |= done > 0;
        let name = space.name.clone();
        self.tell_blocked(n);
        if done > 0 {
            self.notice(Notice::Updated {
                space: name,
                items: done,
            });
        }
        Ok(())
    }
}

/// Base follows one step. Returns whether something else had been standing there.
fn settle(tx: &Connection, n: i64, intent: &Intent, meta: Option<&Meta>) -> Result<bool, DbError> {
    let stat = meta.map(Meta::stat);
    let mut displaced = false;
    match (&intent.then, meta, stat) {
        (Then::Put { wanted, old, .. }, Some(meta), Some(stat)) => {
            displaced = make_room(tx, n, wanted)?;
            base::put(tx, n, &row(wanted, meta, stat))?;
            forget_content(tx, n, old.as_ref(), wanted.content.as_ref(), &wanted.id)?;
        }
        (Then::Moved { row, wanted }, Some(meta), Some(stat)) => {
            let mut b = (**row).clone();
            b.row.parent = wanted.parent;
            b.row.name.clone_from(&wanted.name);
            b.row.seen.p.clone_from(&wanted.seen.p);
            if b.row.kind != Kind::Dir {
                b.row.stat = stat;
                b.row.mtime = meta.mtime_ns;
            }
            displaced = make_room(tx, n, wanted)?;
            base::put(tx, n, &b)?;
        }
        (Then::Meta { row, wanted }, Some(meta), Some(stat)) => {
            let mut b = (**row).clone();
            b.asked_mode = wanted.mode;
            b.asked_mtime = wanted.mtime.unwrap_or(b.asked_mtime);
            (b.row.mode, b.row.mtime, b.row.stat, b.row.racy) =
                (meta.mode, meta.mtime_ns, stat, b.row.kind == Kind::File);
            base::put(tx, n, &b)?;
        }
        (Then::Removed { row }, _, _) => {
            base::remove(tx, n, &row.row.id)?;
            forget_content(tx, n, row.row.content.as_ref(), None, &row.row.id)?;
        }
        _ => {}
    }
    if let (Some(changes), Then::Put { wanted, .. }, Some(_)) = (intent.changes, &intent.then, meta)
    {
        // The usual case, one file that arrived: nothing happened to it meanwhile, nor to what its
        // place and life depend on.
        let same = items::get(tx, n, &intent.item)?.is_some_and(|i| {
            i.doc.changes == changes
                && i.spot.conflict == 0
                && i.spot.alive
                && i.spot.ep == Some(wanted.parent)
                && i.spot
                    .shown
                    .is_some_and(|s| names::fits(&s, &wanted.id, &wanted.name))
        });
        if same && wanted.copy_of.is_none() && base::copies(tx, n, &intent.item)?.is_empty() {
            dirty::clean(tx, n, &intent.item)?;
        }
    }
    Ok(displaced)
}

/// What base still has under the name of an entry that stands there now was moved or deleted by the
/// user in the moment before. A scan finds out which: its row waits under a name that nothing has.
/// Returns whether there was one.
pub(super) fn make_room(tx: &Connection, n: i64, wanted: &Wanted) -> Result<bool, DbError> {
    match base::at(tx, n, &wanted.parent, &wanted.name)? {
        Some(mut other) if other.row.id != wanted.id => {
            other.row.name = base::aside(&other.row.id, &wanted.id, &wanted.name);
            base::put(tx, n, &other)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn row(wanted: &Wanted, meta: &Meta, stat: Stat) -> Base {
    Base {
        row: BaseRow {
            id: wanted.id,
            copy_of: wanted.copy_of,
            parent: wanted.parent,
            name: wanted.name.clone(),
            kind: wanted.kind,
            content: wanted.content.clone(),
            seen: wanted.seen.clone(),
            mode: meta.mode,
            mtime: meta.mtime_ns,
            stat,
            racy: false,
        },
        asked_mode: if wanted.copy_of.is_some() {
            meta.mode
        } else {
            wanted.mode
        },
        asked_mtime: wanted.mtime.unwrap_or(meta.mtime_ns),
    }
}
