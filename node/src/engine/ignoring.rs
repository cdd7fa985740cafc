//! Ignore rules in force: what they keep from the disk, and what becomes of it when they change.
//!
//! A rule says "neither sent nor received here" and nothing else. So an item whose place is ignored is
//! left as it is: its difference between mesh and disk waits off the list of what there is to do, and
//! comes back onto it whenever that may have ended. Guarded against: a rule that deletes (what went
//! while it was ignored is forgotten, not gone); a directory deleted elsewhere that takes ignored files
//! along; and a folder full of build output that is sent because its space's rules came after it
//! ([`Rules::alone`]). docs/design/0008-ignore-rules.md has the reasons.

use std::collections::BTreeSet;
use std::sync::Arc;

use ownmesh_crdt::item::Kind;
use ownmesh_crdt::mutated;
use ownmesh_crypto::ItemId;

use super::plan::Sides;
use super::recover::forget_subtree;
use super::scan::ScanWaiter;
use super::space::DISK;
use super::{Effect, Engine, Now};
use crate::db::{Connection, Db, DbError, base, dirty, ignored, items};
use crate::disk::RelPath;
use crate::disk::rules::{Rules, SHARED};
use crate::disk::scan::{ProblemKind, ScanReport};

/// How long a folder that is being merged waits for the rules of its space, ms.
const PATIENCE: u64 = 30_000;

/// What a space knows of its rules.
#[derive(Debug, Default)]
pub(super) struct Ignoring {
    /// Those in force.
    pub(super) rules: Arc<Rules>,
    /// Entries that the last looks passed over.
    pub(super) passed: Arc<BTreeSet<ItemId>>,
    /// Directories in which something ignored stands.
    pub(super) keeps: BTreeSet<ItemId>,
    /// Files of base that are ignored.
    pub(super) files: u64,
    /// Until when nothing but the rule file is had.
    pub(super) alone_until: Option<u64>,
    /// The folder is about to be watched anew.
    pub(super) rewatch: bool,
    /// Names that something ignored has and an item is to get.
    pub(super) blocked: Vec<RelPath>,
}

/// What the rules say of an item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Free,
    /// It stays as it is. `lacking`: its bytes are not here, by this device's own choice.
    Held { lacking: bool },
    /// The mesh has it elsewhere, where nothing ignores it: what stands of it in an ignored place is no
    /// longer it.
    Out(Vec<ItemId>),
}

impl Ignoring {
    /// As it was when the last process ended.
    pub(super) fn load(conn: &Connection, n: i64) -> Result<Self, DbError> {
        let texts = ignored::rules(conn, n)?;
        Ok(Self {
            rules: Arc::new(Rules::parse(texts).unwrap_or_default()),
            passed: Arc::new(ignored::passed(conn, n)?),
            files: ignored::files(conn, n)?,
            ..Self::default()
        })
    }

    /// A look has ended: what it passed over is known now, and what waited is looked at again.
    pub(super) fn looked(
        &mut self,
        db: &mut Db,
        n: i64,
        all: bool,
        report: &ScanReport,
    ) -> Result<(), DbError> {
        if self.rules.is_alone() {
            return Ok(());
        }
        // What could not be read was not compared either.
        let whole = all
            && !report
                .problems
                .iter()
                .any(|p| p.kind == ProblemKind::Unreadable);
        let passed: BTreeSet<ItemId> = if whole {
            report.passed.clone()
        } else {
            self.passed.union(&report.passed).copied().collect()
        };
        if all {
            self.keeps.clone_from(&report.keeps);
        } else {
            self.keeps.extend(&report.keeps);
        }
        let changed = passed != *self.passed;
        if changed || all && ignored::waiting(db.read(), n)? > 0 {
            self.files = db.write(|tx| {
                if changed {
                    ignored::put_passed(tx, n, &passed, true)?;
                }
                if all {
                    ignored::release(tx, n)?;
                }
                ignored::files(tx, n)
            })?;
            self.passed = Arc::new(passed);
        }
        Ok(())
    }
}

/// Where the mesh has an item's directory; none if that is not known.
fn mesh_path(tx: &Connection, n: i64, dir: &ItemId) -> Result<Option<RelPath>, DbError> {
    let (mut names, mut at) = (Vec::new(), *dir);
    for _ in 0..4_096 {
        if at == ItemId::ROOT {
            names.reverse();
            return Ok(RelPath::parse(&names.join("/")).ok());
        }
        match items::place(tx, n, &at)?.map(|s| (s.ep, s.shown)) {
            Some((Some(up), Some(shown))) => {
                names.push(shown);
                at = up;
            }
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Whether what stands on the disk as an item, or its conflict copy, is ignored. A copy goes the way of
/// its item, whatever it is called.
pub(super) fn stands_ignored(
    tx: &Connection,
    n: i64,
    rules: &Rules,
    row: &base::Base,
) -> Result<bool, DbError> {
    if rules.is_empty() {
        return Ok(false);
    }
    let Some(path) = base::path(tx, n, &row.row.id)? else {
        return Ok(false);
    };
    Ok(if row.row.copy_of.is_some() {
        path.parent().is_some_and(|dir| rules.ignores(&dir, true))
    } else {
        rules.ignores(&path, row.row.kind == Kind::Dir)
    })
}

/// What the rules say of an item.
pub(super) fn verdict(
    tx: &Connection,
    n: i64,
    rules: &Rules,
    sides: &Sides,
) -> Result<Verdict, DbError> {
    if rules.is_empty() || !sides.known || mutated!(RulesForgotten) {
        return Ok(Verdict::Free);
    }
    let mut there = Vec::new();
    for row in &sides.base {
        if stands_ignored(tx, n, rules, row)? {
            there.push(row.row.id);
        }
    }
    let Some(wanted) = sides.wanted.iter().find(|w| w.copy_of.is_none()) else {
        return Ok(if there.is_empty() {
            Verdict::Free
        } else {
            Verdict::Held { lacking: false }
        });
    };
    let dir = mesh_path(tx, n, &wanted.parent)?;
    let Some(path) = dir.and_then(|dir| dir.join(&wanted.name).ok()) else {
        return Ok(Verdict::Free);
    };
    let is_dir = wanted.kind == Kind::Dir;
    if rules.ignores(&path, is_dir) {
        let mut rows = sides.base.iter();
        let here = rows.any(|b| b.row.id == wanted.id && b.row.content == wanted.content);
        let lacking = !is_dir && !here && !rules.shared_ignores(&path, is_dir);
        return Ok(Verdict::Held { lacking });
    }
    Ok(if there.is_empty() {
        Verdict::Free
    } else {
        Verdict::Out(there)
    })
}

/// Items that others are told are missing here, and their bytes: what is to come, and what this device
/// alone does not want. What all devices ignore nobody waits for.
pub(super) fn missing(conn: &Connection, n: i64) -> Result<(u64, u64), DbError> {
    let (to_come, unwanted) = (dirty::total(conn, n)?, ignored::lacking(conn, n)?);
    Ok((to_come.0 + unwanted.0, to_come.1 + unwanted.1))
}

impl Engine {
    /// Other rules hold from now on. Nothing is written before everything was looked at under them.
    pub(super) fn rules_hold(
        &mut self,
        n: i64,
        rules: Arc<Rules>,
        waiters: Vec<ScanWaiter>,
    ) -> Result<(), DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        self.db.write(|tx| {
            ignored::put_rules(tx, n, rules.texts())?;
            ignored::release(tx, n)
        })?;
        tracing::info!(space = space.name, "the ignore rules changed");
        space.ignoring.rules = rules;
        space.scan_waiters.extend(waiters);
        space.again = true;
        space.brake_seen = 0;
        space.want_scan(None);
        space.scanned = false;
        // The watcher leaves alone what is ignored. What changes before the new one stands is found by
        // one more look.
        space.ignoring.rewatch = true;
        let path = space.row.path.clone();
        self.effects.push(Effect::Watch { space: n, path });
        Ok(())
    }

    /// A folder that is being merged learns the rules of its space before it is looked at: the files
    /// that they name are not to be sent.
    pub(super) fn rules_first(&mut self, now: Now, n: i64) -> Result<(), DbError> {
        if self.shared_rules(n)?.is_none() || mutated!(RulesAfterMerge) {
            return Ok(());
        }
        if let Some(space) = self.spaces.get_mut(&n).filter(|s| s.row.merging) {
            space.ignoring.rules = Arc::new(Rules::alone());
            space.ignoring.alone_until = Some(now.mono + PATIENCE);
        }
        Ok(())
    }

    /// The rule file as the mesh has it, unless disk and mesh agree on it.
    fn shared_rules(&self, n: i64) -> Result<Option<ItemId>, DbError> {
        let conn = self.db.read();
        for (id, spot) in items::claims(conn, n, &ItemId::ROOT, SHARED)? {
            if spot.alive && spot.shown.as_deref() == Some(SHARED) && spot.kind == Some(Kind::File)
            {
                let agreed = base::get(conn, n, &id)?.is_some() && !dirty::has(conn, n, &id)?;
                return Ok((!agreed).then_some(id));
            }
        }
        Ok(None)
    }

    /// While only the rule file is had: gets it. Returns false once it is here, or was waited for
    /// long enough: then all of the folder is looked at.
    pub(super) fn learns_rules(&mut self, now: Now, n: i64) -> Result<bool, DbError> {
        let until = self.spaces.get(&n).and_then(|s| s.ignoring.alone_until);
        let Some(until) = until else {
            return Ok(false);
        };
        let lacking = self.shared_rules(n)?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(false);
        };
        match lacking {
            Some(id) if now.mono < until => {
                // And nothing else is planned; the list is read anew after the look at everything.
                space.queue.clear();
                space.queued.clear();
                space.steps.clear();
                space.steps.push_back(id);
                Ok(true)
            }
            lacking => {
                if lacking.is_some() {
                    tracing::warn!(space = space.name, "merged without the space's rules");
                }
                space.ignoring.alone_until = None;
                space.ignoring.rules = Arc::default();
                space.scanned = false;
                space.again = true;
                space.want_scan(None);
                self.start_scan(n);
                Ok(false)
            }
        }
    }

    /// The rules in force in a space.
    pub(crate) fn rules(&self, n: i64) -> Arc<Rules> {
        let space = self.spaces.get(&n);
        space
            .map(|s| Arc::clone(&s.ignoring.rules))
            .unwrap_or_default()
    }

    /// Says of names that something ignored has in an item's way.
    pub(super) fn tell_blocked(&mut self, n: i64) {
        let wall = self.seen_at.wall;
        let Some(space) = self.spaces.get_mut(&n) else {
            return;
        };
        for path in std::mem::take(&mut space.ignoring.blocked) {
            let reason = "something that is ignored on this device has its name: \
                          rename that, or change the rule (mesh ignore test)";
            space.problem(path.as_str(), DISK, reason.to_owned(), wall);
        }
    }
}

/// What stands in an ignored place is no longer the item.
pub(super) fn forget(tx: &Connection, n: i64, ids: &[ItemId]) -> Result<(), DbError> {
    ids.iter().try_for_each(|id| forget_subtree(tx, n, id))
}
