//! The brake: when most of a folder is deleted elsewhere at once, this device stops and asks.
//!
//! The log goes on; only the disk waits. Deletions of one go carry one act (a random number), so
//! the answer is one record for the whole mesh: `continue` confirms the acts, and every stopped
//! device goes on; `revert` takes the deletions back, and every device that had followed gets the
//! files again from those that had not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ownmesh_crdt::doc::Edit;
use ownmesh_crdt::item::{self, Content, ItemState, Kind, Place};
use ownmesh_crdt::op::Scalar;
use ownmesh_crypto::ItemId;

use super::docs::Docs;
use super::ignoring::stands_ignored;
use super::recover::forget_subtree;
use super::{Effect, Engine, Now, Space};
use crate::command::CommandError;
use crate::db::items::ItemRow;
use crate::db::{Connection, DbError, base, dirty, items, settings, spaces};
use crate::disk::rules::Rules;
use crate::disk::trash;

/// Below so many files nobody calls it "most of the folder".
const FEW: u64 = 10;
/// One file in so many: fewer deletions are done without waiting for more to come.
const MANY: u64 = 5;
/// Many deletions wait until none came for so long, but not longer than the other, ms: most of a
/// folder is not deleted in one moment, and is to be asked about as a whole.
const QUIET: u64 = 1_000;
const QUIET_MAX: u64 = 10_000;
/// Deletions within this time count as one go, ms.
const WINDOW: u64 = 600_000;
/// The document that holds a space's shared answers; no scan makes an item of this id.
pub(super) const SETTINGS: ItemId = ItemId::from_bytes([0xfe; 16]);

/// What one go deletes here.
#[derive(Debug, Default)]
struct Pending {
    /// Files that wait to be deleted and whose deletion nobody has confirmed.
    unconfirmed: u64,
    /// Files that it has deleted here already.
    carried: u64,
    acts: BTreeSet<[u8; 8]>,
    /// What an answer is about; of what it has deleted already, with the content that is in the trash.
    items: BTreeMap<ItemId, Option<Content>>,
}

/// An item that was deleted here because others had.
#[derive(Clone, Debug)]
pub(super) struct Went {
    /// When.
    pub(super) at: u64,
    pub(super) id: ItemId,
    /// What it held.
    pub(super) content: Option<Content>,
}

impl Pending {
    fn total(&self) -> u64 {
        match self.unconfirmed {
            0 => 0,
            some => some + self.carried,
        }
    }

    fn is_most_of(&self, files: u64) -> bool {
        self.total() >= FEW && self.total() * 2 > files
    }

    /// Counts what was deleted here lately because others had: as far as it is still deleted, and nobody has
    /// said that it is meant.
    fn add_carried(&mut self, tx: &Connection, space: &Space) -> Result<(), DbError> {
        let n = space.row.n;
        let answers = items::get(tx, n, &SETTINGS)?.unwrap_or_default();
        let mut places = BTreeMap::new();
        for went in &space.deletions {
            let Some(row) = items::get(tx, n, &went.id)? else {
                continue;
            };
            let Some(state) = ItemState::from_registers(&row.doc.regs) else {
                continue;
            };
            let dead = match state.kind {
                Kind::Dir => state.deleted,
                Kind::File | Kind::Symlink => state.versions.is_empty(),
            };
            // What came back, or was made again, is not gone; nor is what waits to be deleted once more.
            let Place { parent, name } = &state.place;
            let stands = base::at(tx, n, parent, name)?.is_some();
            if dead && !stands && !is_confirmed(&answers, &state) {
                // Of what went twice from one place the last one counts.
                match places.insert((*parent, name.clone()), went.id) {
                    Some(before) if before != went.id => drop(self.items.remove(&before)),
                    Some(_) => {}
                    None => self.carried += u64::from(state.kind != Kind::Dir),
                }
                self.acts.extend(state.tomb_acts);
                self.items.insert(went.id, went.content.clone());
            }
        }
        Ok(())
    }
}

fn is_confirmed(answers: &ItemRow, state: &ItemState) -> bool {
    let mut acts = state.tomb_acts.iter();
    acts.any(|act| answers.doc.regs.winner(&key(act)).is_some())
}

pub(super) fn key(act: &[u8; 8]) -> String {
    let hex: String = act.iter().map(|b| format!("{b:02x}")).collect();
    format!("go/{hex}")
}

/// Whether somebody has said that the deletions of an act are meant.
pub(super) fn answered(tx: &Connection, n: i64, act: &[u8; 8]) -> Result<bool, DbError> {
    let answers = items::get(tx, n, &SETTINGS)?.unwrap_or_default();
    Ok(!ownmesh_crdt::mutated!(ActOutlivesAnswer) && answers.doc.regs.winner(&key(act)).is_some())
}

fn pending(tx: &Connection, n: i64, rules: &Rules) -> Result<Pending, DbError> {
    let answers = items::get(tx, n, &SETTINGS)?.unwrap_or_default();
    let mut out = Pending::default();
    for id in dirty::dead(tx, n)? {
        let Some(row) = items::get(tx, n, &id)? else {
            continue;
        };
        let Some(state) = ItemState::from_registers(&row.doc.regs) else {
            continue;
        };
        // No rule deletes: what is ignored stays, whatever becomes of it elsewhere.
        if let Some(row) = base::get(tx, n, &id)?
            && stands_ignored(tx, n, rules, &row)?
        {
            continue;
        }
        out.items.insert(id, None);
        // What stands here no more was carried out already, and is counted as that.
        let stands = base::get(tx, n, &id)?.is_some() || !base::copies(tx, n, &id)?.is_empty();
        if state.kind == Kind::Dir || !stands {
            continue;
        }
        if !is_confirmed(&answers, &state) {
            out.unconfirmed += 1;
            out.acts.extend(state.tomb_acts);
        }
    }
    Ok(out)
}

/// What is asked.
fn question(pending: &Pending, files: u64) -> String {
    let (total, carried) = (pending.total(), pending.carried);
    let mut why =
        format!("deletions: {total} of {files} files were deleted on another device at once");
    if carried > 0 {
        let _ = write!(why, "; {carried} of them are in the trash here already");
    }
    why
}

/// When deletions that are held back are looked at again.
pub(super) fn held_until((since, last): (u64, u64)) -> u64 {
    (last + QUIET).min(since + QUIET_MAX)
}

impl Engine {
    /// Whether the disk of a space has to wait for an answer. Called before each planning pass.
    pub(super) fn brake(&mut self, now: Now, n: i64) -> Result<bool, DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(false);
        };
        while space
            .deletions
            .front()
            .is_some_and(|went| went.at + WINDOW < now.mono)
        {
            space.deletions.pop_front();
        }
        // Only what is new on the list since the last look can change the answer.
        let newest = dirty::newest(self.db.read(), n)?;
        let more = newest != space.brake_seen;
        let held = space.held.take();
        if !more && held.is_none() {
            return Ok(false);
        }
        let seen = std::mem::replace(&mut space.brake_seen, newest);
        let after = if held.is_some() { 0 } else { seen };
        if !dirty::any_dead(self.db.read(), n, after)? {
            return Ok(false);
        }
        let mut pending = pending(self.db.read(), n, &space.ignoring.rules)?;
        let shown = base::files(self.db.read(), n)?.saturating_sub(space.ignoring.files);
        // Looked through only where it matters.
        pending.carried = space.deletions.len() as u64;
        if pending.is_most_of(shown + pending.carried) {
            pending.carried = 0;
            pending.add_carried(self.db.read(), space)?;
            let items = &pending.items;
            space.deletions.retain(|went| items.contains_key(&went.id));
        }
        let (total, files) = (pending.total(), shown + pending.carried);
        if total < FEW || total * MANY <= files {
            return Ok(false);
        }
        if !pending.is_most_of(files) {
            // It may be the beginning of more: what was deleted before the stop is not brought back by it.
            let (since, last) = held.unwrap_or((now.mono, now.mono));
            let last = if more { now.mono } else { last };
            if now.mono < held_until((since, last)) {
                space.held = Some((since, last));
                return Ok(true);
            }
            return Ok(false);
        }
        space.asked = Some(total);
        // The question stands beyond a restart, and so does what it counts.
        let id = space.row.id;
        let lately = space.deletions.iter().map(|w| (w.id, w.content.as_ref()));
        self.db.write(|tx| settings::put_carried(tx, &id, lately))?;
        self.set_stopped(n, Some(question(&pending, files)))?;
        Ok(true)
    }

    /// A stopped space looks again whether its question was answered elsewhere.
    pub(super) fn look_again(&mut self, n: i64) -> Result<(), DbError> {
        let stopped = self.spaces.get(&n).is_some_and(|s| {
            s.row
                .stopped
                .as_deref()
                .is_some_and(|w| w.starts_with("deletions"))
        });
        if !stopped {
            return Ok(());
        }
        let pending = self.asked_about(n)?;
        let all = base::files(self.db.read(), n)?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let files = all.saturating_sub(space.ignoring.files) + pending.carried;
        // Files of one's own, or a restart, answer nothing: only deletions taken back or confirmed do.
        let total = pending.total();
        let less = *space.asked.get_or_insert(total) > total;
        if total == 0 || less && !pending.is_most_of(files) {
            return self.resume(n);
        }
        space.asked = space.asked.max(Some(total));
        // Of most of a folder the first part comes first: people answer by the whole number.
        let why = Some(question(&pending, files));
        if space.row.stopped != why {
            space.row.stopped = why;
            let row = space.row.clone();
            self.db.write(|tx| spaces::update(tx, &row))?;
        }
        Ok(())
    }

    /// All that the question of a stopped space is about.
    fn asked_about(&self, n: i64) -> Result<Pending, DbError> {
        let mut pending = pending(self.db.read(), n, &self.rules(n))?;
        if let Some(space) = self.spaces.get(&n) {
            pending.add_carried(self.db.read(), space)?;
        }
        Ok(pending)
    }

    /// The question is answered. The folder may have become another one while it stood: it is looked
    /// at before anything is written.
    fn resume(&mut self, n: i64) -> Result<(), DbError> {
        if let Some(space) = self.spaces.get_mut(&n) {
            space.asked = None;
            space.scanned = false;
            space.want_scan(None);
            let id = space.row.id;
            self.db.write(|tx| settings::put_carried(tx, &id, []))?;
        }
        self.set_stopped(n, None)
    }

    fn stopped_by_brake(&self, name: &str) -> Result<i64, CommandError> {
        let n = self.space_by_name(name)?;
        let why = self
            .spaces
            .get(&n)
            .and_then(|s| s.row.stopped.as_deref())
            .unwrap_or("");
        if why.starts_with("deletions") {
            return Ok(n);
        }
        let message = if why.is_empty() {
            format!("the space {name} is not stopped")
        } else {
            format!("the space {name} is stopped for another reason: {why}")
        };
        Err(CommandError::refused(message).about(name))
    }

    /// The folder of a space that stands still because it is not the one it was.
    ///
    /// # Errors
    /// No such space, or it is paused.
    pub(crate) fn stopped_folder(&self, name: &str) -> Result<Option<String>, CommandError> {
        let n = self.space_by_name(name)?;
        self.not_paused(n)?;
        let stopped = self.spaces.get(&n).filter(|s| s.is_without_folder());
        Ok(stopped.map(|s| s.row.path.clone()))
    }

    /// Whether an answer had its effect on the folder.
    ///
    /// # Errors
    /// The folder could not be marked as the space's, and why.
    pub(crate) fn folder_in_order(&self, name: &str) -> Result<(), CommandError> {
        let n = self.space_by_name(name)?;
        let Some(space) = self.spaces.get(&n).filter(|s| s.is_without_folder()) else {
            return Ok(());
        };
        let why = space.problems.get("").map(|p| p.reason.as_str());
        let why = why.or(space.stopped()).unwrap_or_default();
        Err(CommandError::failed(format!("{name} is still stopped: {why}")).about(name))
    }

    /// The answer "go on": for every device of the mesh.
    ///
    /// # Errors
    /// No such space, or it is not stopped.
    pub fn go_on(&mut self, name: &str) -> Result<(), CommandError> {
        let n = self.space_by_name(name)?;
        self.not_paused(n)?;
        let space = self.spaces.get(&n);
        let folder = space.is_some_and(Space::is_without_folder);
        if space.is_some_and(|s| s.stopped().is_some()) {
            self.write_down(
                "continued",
                None,
                Some(name),
                format!("{name} was told to go on"),
            );
        }
        if folder {
            // What stands there is taken for the folder from now on; the next scan says what is in
            // it, and the others' brakes ask before they follow a folder that lost most of its files.
            self.effects.push(Effect::Mark { space: n });
            return Ok(());
        }
        let n = self.stopped_by_brake(name)?;
        let failed = |e: DbError| CommandError::failed(e.to_string());
        let acts = self.asked_about(n).map_err(failed)?.acts;
        self.edit_items(n, |docs, actor| {
            let mut row = docs.load(&SETTINGS)?;
            let edits: Vec<Edit> = acts
                .iter()
                .map(|act| Edit {
                    key: key(act),
                    put: Some(Scalar::Bool(true)),
                    pred: row.doc.regs.ops(&key(act)),
                })
                .collect();
            docs.author(actor, &SETTINGS, &mut row, &edits)?;
            Ok(())
        })
        .map_err(failed)?;
        self.resume(n).map_err(failed)
    }

    /// The answer "bring it back": for every device of the mesh; or, of a folder that is not the one
    /// it was, for this one: what is there is compared as on joining, and the rest fetched.
    ///
    /// # Errors
    /// No such space, or it is not stopped.
    pub fn revert(&mut self, name: &str) -> Result<(), CommandError> {
        let n = self.space_by_name(name)?;
        self.not_paused(n)?;
        if self.spaces.get(&n).is_some_and(|s| s.stopped().is_some()) {
            self.write_down(
                "reverted",
                None,
                Some(name),
                format!("{name} was told to bring back"),
            );
        }
        let failed = |e: DbError| CommandError::failed(e.to_string());
        if self.spaces.get(&n).is_some_and(Space::is_without_folder) {
            // Before the folder is marked, and for good: one that is marked, empty and known to have had files
            // is one whose files were deleted.
            self.db
                .write_durable(|tx| forget_subtree(tx, n, &ItemId::ROOT))
                .map_err(failed)?;
            self.effects.push(Effect::Mark { space: n });
            return Ok(());
        }
        let n = self.stopped_by_brake(name)?;
        let mut found = self.asked_about(n).map_err(failed)?.items;
        if let Some(space) = self.spaces.get(&n) {
            // Nobody may have what the trash has no more.
            found.retain(|_, went| match went {
                Some(Content::File { hash, .. }) => space.kept.contains(&trash::front(hash)),
                _ => true,
            });
        }
        self.edit_items(n, |docs, actor| {
            for (id, went) in &found {
                let mut row = docs.load(id)?;
                let held = base::get(docs.tx, n, id)?.and_then(|b| b.row.content);
                let edits = item::revive(&row.doc.regs, held.as_ref().or(went.as_ref()));
                docs.author(actor, id, &mut row, &edits)?;
            }
            Ok(())
        })
        .map_err(failed)?;
        self.resume(n).map_err(failed)
    }

    /// Authors changes that do not come from the disk.
    pub(super) fn edit_items(
        &mut self,
        n: i64,
        edit: impl FnOnce(&mut Docs<'_>, &ownmesh_crypto::Incarnation) -> Result<(), DbError>,
    ) -> Result<(), DbError> {
        let actor = self.incarnation();
        self.own_log(n)?;
        let now = self.seen_at;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let mut row = space.row.clone();
        let tally = &mut self.tally;
        space.row = self.db.write(|tx| {
            let mut totals = row.totals;
            edit(&mut Docs::new(tx, n, &mut totals, tally, now), &actor)?;
            row.totals = totals;
            spaces::update(tx, &row)?;
            Ok::<_, DbError>(row)
        })?;
        space.again = true;
        Ok(())
    }
}
