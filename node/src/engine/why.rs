//! `mesh why`: everything known about one path, and what happens next.
//!
//! Reads only, and says no more than is known.

use ownmesh_crdt::item::{Content, ItemState, Kind};
use ownmesh_crypto::{DeviceId, ItemId};

use super::nowhere::LOST;
use super::others::fetched_when;
use super::space::DISK;
use super::{Engine, Now, Space};
use crate::command::CommandError;
use crate::db::base::Base;
use crate::db::items::ItemRow;
use crate::db::{DbError, base, dirty, items, logs, spaces};
use crate::disk::rules::Decision;
use crate::disk::{PRIVATE, RelPath, trash};
use crate::past::history;
use crate::status::{Problem, Time};
use crate::why::{OnDisk, Why, WhyState};

/// Which space a path is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    n: i64,
    /// The space's name.
    space: String,
    /// Below its root, without slashes around it; empty: the root.
    pub(crate) inside: String,
    /// On the disk.
    pub(crate) path: String,
}

/// What disk and mesh say about the path.
struct Known {
    base: Option<Base>,
    id: Option<ItemId>,
    row: Option<ItemRow>,
    state: Option<ItemState>,
}

impl Engine {
    /// Finds the space of a path: absolute, or below the root of a space that is named. Nothing: in none.
    ///
    /// # Errors
    /// No such space.
    pub(crate) fn locate(
        &self,
        space: Option<&str>,
        path: &str,
    ) -> Result<Option<Located>, CommandError> {
        let located = |s: &Space, inside: &str| Located {
            n: s.row.n,
            space: s.name.clone(),
            inside: inside.trim_matches('/').to_owned(),
            path: format!("{}/{}", s.row.path, inside.trim_matches('/')),
        };
        if let Some(name) = space {
            let n = self.space_by_name(name)?;
            return Ok(self.spaces.get(&n).map(|s| located(s, path)));
        }
        Ok(self.spaces.values().find_map(|s| {
            let inside = path.strip_prefix(s.row.path.as_str())?;
            (inside.is_empty() || inside.starts_with('/')).then(|| located(s, inside))
        }))
    }

    /// What is known about a path of a space, and what is on the disk there.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) fn why(
        &self,
        at: &Located,
        on_disk: Option<OnDisk>,
        now: Now,
    ) -> Result<Why, CommandError> {
        let Some(space) = self.spaces.get(&at.n) else {
            return Err(CommandError::not_found("space", &at.space));
        };
        let mut why = Why {
            path: at.inside.clone(),
            space: Some(at.space.clone()),
            on_disk,
            ..Why::default()
        };
        self.explain(space, &mut why, now)
            .map_err(|e: DbError| CommandError::failed(e.to_string()))?;
        Ok(why)
    }

    fn explain(&self, space: &Space, why: &mut Why, now: Now) -> Result<(), DbError> {
        if why.path == PRIVATE || why.path.starts_with(&format!("{PRIVATE}/")) {
            why.state = WhyState::Private;
            why.words
                .push("it is mesh's own: the trash and unfinished work; it never travels".into());
            why.next = "nothing".into();
            return Ok(());
        }
        let known = self.known(space, &why.path)?;
        why.item = known.id.map(|id| id.to_string());
        why.problem = problem(space, &why.path);
        if let (Some(id), Some(row)) = (&known.id, &known.row) {
            why.changed_by = self.changed_by(space, &known)?;
            if row.spot.conflict > 0 {
                let all = self.conflicts();
                why.conflict = all.into_iter().find(|c| c.item == id.to_string());
            }
        }
        if why.path.is_empty() {
            why.words.push("it is the root of the space".into());
        }
        self.judge(space, why, &known, now)?;
        if let Some(id) = known.id.filter(|_| known.state.is_some()) {
            why.devices = self.how_far(space, &id)?;
            why.words
                .extend(why.devices.iter().map(|d| d.words.clone()));
            // Here nothing is left to do; elsewhere somebody is asked.
            if why.state == WhyState::InSync
                && let Some(asks) = self.asks_elsewhere(space)
            {
                why.next = asks;
            }
            if why.devices.is_empty() {
                let alone = "no other device takes part in the space";
                why.words.push(alone.into());
            }
        }
        Ok(())
    }

    /// The item that stands at a path here, or that the mesh shows there, or that was deleted there.
    fn known(&self, space: &Space, path: &str) -> Result<Known, DbError> {
        let (conn, n) = (self.db.read(), space.row.n);
        let names: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let (mut dir, mut stands) = (Some(ItemId::ROOT), None);
        for name in &names {
            stands = match dir {
                Some(dir) => base::at(conn, n, &dir, name)?,
                None => None,
            };
            dir = stands.as_ref().map(|b| b.row.id);
        }
        let (mut dir, mut shown) = (Some(ItemId::ROOT), None);
        for (depth, name) in names.iter().enumerate() {
            let Some(at) = dir else { break };
            shown = items::shown_at(conn, n, &at, name)?;
            if shown.is_none() && depth + 1 == names.len() {
                shown = items::dead_at(conn, n, &at, name)?;
            }
            dir = shown;
        }
        // A copy of a conflict belongs to its item.
        let here = stands
            .as_ref()
            .map(|b| b.row.copy_of.map_or(b.row.id, |c| c.0));
        let id = here.or(shown.filter(|_| dir.is_some()));
        let row = match &id {
            Some(id) => items::get(conn, n, id)?,
            None => None,
        };
        let state = row
            .as_ref()
            .and_then(|row| ItemState::from_registers(&row.doc.regs));
        Ok(Known {
            base: stands,
            id,
            row,
            state,
        })
    }

    fn changed_by(&self, space: &Space, known: &Known) -> Result<Option<String>, DbError> {
        let Some(state) = &known.state else {
            return Ok(None);
        };
        let dead = known.row.as_ref().is_some_and(|row| !row.spot.alive);
        let op = if dead { state.tomb_ops.last() } else { None };
        let op = op
            .or(state.versions.last().map(|v| &v.0))
            .unwrap_or(&state.place_op);
        let writer = logs::writer(self.db.read(), space.row.n, &op.actor)?;
        Ok(writer.map(|d| self.device_name(&d)))
    }

    fn judge(&self, space: &Space, why: &mut Why, known: &Known, now: Now) -> Result<(), DbError> {
        let name = &space.name;
        let mut held = None;
        if space.is_paused() {
            why.words.push(format!("the space {name} is paused"));
            held = Some((WhyState::Paused, format!("mesh resume {name}")));
        } else if let Some(reason) = space.stopped() {
            why.words
                .push(format!("the space {name} is stopped: {reason}"));
            let next = format!("mesh continue {name}, or mesh revert {name}");
            held = Some((WhyState::Stopped, next));
        }
        let (mut state, mut next) = self.plain(space, why, known, now)?;
        // What the disk refused another item is nothing to one that waits for nothing.
        let refused = why.problem.take_if(|p| of_the_disk(p));
        if let Some(problem) = refused.filter(|_| state == WhyState::Waiting) {
            why.words.push(problem.reason.clone());
            next = format!("it is tried again by itself once the disk takes it; {next}");
            (state, why.problem) = (WhyState::Problem, Some(problem));
        }
        if let Some(id) = known.id
            && self.nowhere(space)?.contains(&id)
        {
            why.words.push(LOST.into());
            if state == WhyState::Waiting {
                next = self.help(space, &id, &why.path)?;
            }
        }
        (why.state, why.next) = match held {
            // What is settled stays so, whatever the space waits for.
            Some(held)
                if !matches!(
                    state,
                    WhyState::InSync | WhyState::OddKind | WhyState::Ignored
                ) =>
            {
                held
            }
            _ => (state, next),
        };
        Ok(())
    }

    fn plain(
        &self,
        space: &Space,
        why: &mut Why,
        known: &Known,
        now: Now,
    ) -> Result<(WhyState, String), DbError> {
        if why.on_disk.as_ref().is_some_and(|d| d.kind == "other") {
            why.words.push(
                "it is a socket, pipe or device; only files, directories and links travel".into(),
            );
            return Ok((WhyState::OddKind, "nothing".into()));
        }
        if let Some(problem) = why.problem.as_ref().filter(|p| !of_the_disk(p)) {
            why.words.push(problem.reason.clone());
            let next = "it is tried again by itself; mesh scan looks at once";
            return Ok((WhyState::Problem, next.into()));
        }
        if let Some(rule) = ignored(space, why, known) {
            let (line, file) = (rule.line, rule.file.path());
            why.words.push(format!(
                "line {line} of {file} ignores it: {}",
                rule.pattern
            ));
            if known.state.is_some() {
                why.words
                    .push("what the other devices have of it stays as it is".into());
            }
            let next = format!("nothing, until that line goes from {file}");
            return Ok((WhyState::Ignored, next));
        }
        let alive = known.row.as_ref().is_some_and(|row| row.spot.alive);
        let by = why.changed_by.clone();
        let by = by.map_or_else(String::new, |by| format!(" by {by}"));
        let Some(state) = known.state.as_ref() else {
            return Ok(if why.on_disk.is_some() && !why.path.is_empty() {
                why.words
                    .push("it is on the disk and was not taken in yet".into());
                (
                    WhyState::New,
                    "the next look at the folder takes it in: mesh scan".into(),
                )
            } else if why.path.is_empty() {
                (WhyState::InSync, "nothing".into())
            } else {
                why.words
                    .push("it is not on the disk, and the mesh knows nothing of that name".into());
                (WhyState::Unknown, "nothing".into())
            });
        };
        if !alive {
            why.words.push(format!("it was deleted{by}"));
            let stays = known
                .id
                .is_some_and(|id| space.ignoring.keeps.contains(&id));
            return Ok(if known.base.is_some() && why.on_disk.is_some() && stays {
                let next = "it stays on this disk for what is ignored in it";
                (WhyState::Deleted, next.into())
            } else if known.base.is_some() && why.on_disk.is_some() {
                (WhyState::Deleted, "it goes to the trash here too".into())
            } else if why.on_disk.is_some() {
                why.words
                    .push("something new of that name is on the disk".into());
                (
                    WhyState::New,
                    "the next look at the folder takes it in: mesh scan".into(),
                )
            } else {
                (WhyState::Deleted, self.where_kept(space, known)?)
            });
        }
        if let (Some(disk), Some(b)) = (&why.on_disk, &known.base)
            && changed(disk, b)
        {
            why.words
                .push("it was changed on the disk since it was last taken in".into());
            return Ok((
                WhyState::Changed,
                "the next look at the folder takes it in: mesh scan".into(),
            ));
        }
        if known.base.is_some() && why.on_disk.is_none() {
            why.words
                .push("it was here and is gone from the disk".into());
            let next = "the next look at the folder counts it as deleted: mesh scan";
            return Ok((WhyState::Changed, next.into()));
        }
        let copy = known.base.as_ref().is_some_and(|b| b.row.copy_of.is_some());
        let here = known.base.as_ref().map(|b| &b.row.content);
        if !copy && here != Some(&state.content().cloned()) {
            return self.lacking(space, why, known, state, now);
        }
        let open = known
            .id
            .is_some_and(|id| dirty::has(self.db.read(), space.row.n, &id).unwrap_or_default());
        if why.conflict.is_some() {
            let what = if copy {
                "it is one version of a conflict"
            } else {
                "it has a conflict"
            };
            why.words.push(format!(
                "{what}: there are versions that nobody chose between"
            ));
            return Ok((
                WhyState::Conflict,
                "mesh conflicts shows them, mesh conflicts resolve settles it".into(),
            ));
        }
        why.words.push(format!(
            "disk and mesh agree; the newest version was made{by}"
        ));
        let next = if open {
            "name, mode or time of it are about to be brought in line"
        } else {
            "nothing"
        };
        Ok((WhyState::InSync, next.into()))
    }

    /// Who still has the bytes of what was deleted: not the disk whose own user deleted it.
    fn where_kept(&self, space: &Space, known: &Known) -> Result<String, DbError> {
        // A tombstone hides what was there.
        let id = known.id.unwrap_or(ItemId::ROOT);
        let changes = history::changes(self.db.read(), space.row.n, &id)?.into_iter();
        let mut states = changes.filter_map(|one| one.after).rev();
        let kept = match states.find_map(|s| s.content().cloned()) {
            Some(Content::File { hash, .. }) => space.kept.contains(&trash::front(&hash)),
            _ => return Ok("nothing".into()),
        };
        if kept {
            return Ok("nothing; the trash of the folder keeps it for a while".into());
        }
        let members = spaces::members(self.db.read(), space.row.n)?;
        let others = members
            .iter()
            .filter(|m| m.joined && m.device != self.device);
        let others: Vec<String> = others.map(|m| self.device_name(&m.device)).collect();
        Ok(if others.is_empty() {
            "nothing; the trash here has not got it, and no other device takes part".into()
        } else {
            format!(
                "nothing; the trash here has not got it, that of {} may keep it for a while: mesh history shows it",
                others.join(", ")
            )
        })
    }

    /// The mesh has a content that the disk does not have.
    fn lacking(
        &self,
        space: &Space,
        why: &mut Why,
        known: &Known,
        state: &ItemState,
        now: Now,
    ) -> Result<(WhyState, String), DbError> {
        let by = why.changed_by.as_deref().unwrap_or("another device");
        let what = if known.base.is_some() {
            "a newer version"
        } else {
            "it"
        };
        why.words
            .push(format!("{by} has {what}, which is not here yet"));
        let id = known.id.unwrap_or(ItemId::ROOT);
        let under_way = space.fetching.values().find(|f| {
            f.wants
                .iter()
                .any(|(want, item)| want.id == id || *item == id)
        });
        if let Some(fetch) = under_way {
            let from = self.device_name(&fetch.device);
            if let Some(said) = self.rests(space, &fetch.device) {
                why.words.push(said);
                why.waits_for = vec![from];
                return Ok((WhyState::Waiting, fetched_when(&why.waits_for)));
            }
            why.words.push(format!("it is being fetched from {from}"));
            why.waits_for = vec![from];
            return Ok((
                WhyState::Waiting,
                "it appears when all of it is here".into(),
            ));
        }
        if space.ready.contains_key(&id) {
            return Ok((
                WhyState::Waiting,
                "its content is here and is about to be put in place".into(),
            ));
        }
        let Some(Content::File { hash, .. }) = state.content() else {
            return Ok((WhyState::Waiting, "it is about to be made".into()));
        };
        let holders = self.listeners(&space.row.id);
        let refused = |d: &DeviceId| {
            space
                .absent
                .get(&(*d, *hash))
                .is_some_and(|at| *at > now.mono)
        };
        let (not, may): (Vec<DeviceId>, Vec<DeviceId>) = holders.into_iter().partition(refused);
        let names = |devices: &[DeviceId]| devices.iter().map(|d| self.device_name(d)).collect();
        if !may.is_empty() {
            why.waits_for = names(&may);
            return Ok((WhyState::Waiting, "it is fetched in its turn".into()));
        }
        if let Some(next) = self.waits_for_resting(space, why)? {
            return Ok((WhyState::Waiting, next));
        }
        let members = spaces::members(self.db.read(), space.row.n)?;
        let away: Vec<DeviceId> = members
            .iter()
            .filter(|m| m.joined && m.device != self.device && !not.contains(&m.device))
            .map(|m| m.device)
            .collect();
        if !not.is_empty() {
            let list: Vec<String> = names(&not);
            why.words.push(format!(
                "{} did not have it when asked a moment ago",
                list.join(", ")
            ));
        }
        why.waits_for = names(&away);
        let next = if away.is_empty() {
            "it is asked for again in a moment".to_owned()
        } else {
            format!(
                "it is fetched when one of them is there: {}",
                why.waits_for.join(", ")
            )
        };
        Ok((WhyState::Waiting, next))
    }
}

/// What is known to be wrong with a path, or with the disk as a whole.
fn problem(space: &Space, path: &str) -> Option<Problem> {
    let found = space.problems.get_key_value(path);
    let found = found.or_else(|| space.problems.get_key_value(""));
    found.map(|(item, p)| Problem {
        item: (!item.is_empty()).then(|| item.clone()),
        kind: p.kind.into(),
        reason: p.reason.clone(),
        since: Some(Time::from_millis(p.since)),
    })
}

/// Whether it is told of the disk as a whole, of which it named the item it was met at.
fn of_the_disk(problem: &Problem) -> bool {
    problem.item.is_none() && problem.kind == DISK
}

/// The rule that keeps a path out.
fn ignored(space: &Space, why: &Why, known: &Known) -> Option<Decision> {
    let path = RelPath::parse(&why.path).ok()?;
    let is_dir = match &why.on_disk {
        Some(disk) => disk.kind == "directory",
        None => known.row.as_ref()?.spot.kind == Some(Kind::Dir),
    };
    let rule = space.ignoring.rules.decide(&path, is_dir);
    rule.filter(|rule| rule.ignored)
}

/// Whether the disk shows something else than what was last taken in, as far as size and time tell.
fn changed(disk: &OnDisk, b: &Base) -> bool {
    let kind = match b.row.kind {
        Kind::File => "file",
        Kind::Dir => "directory",
        Kind::Symlink => "symlink",
    };
    let mtime = Some(Time::from_nanos(b.row.mtime.into()));
    disk.kind != kind
        || b.row.kind == Kind::File && (disk.size != b.row.stat.size || disk.mtime != mtime)
}
