//! Looking at a space's disk: when, which part, and what its findings become.
//!
//! A folder that is not the one it was (no marker, another filesystem) stops the space, or its
//! emptiness would be taken for the deletion of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ownmesh_crdt::mutated;
use tokio::sync::oneshot;

use super::author::Author;
use super::brake::answered;
use super::docs::Docs;
use super::membership::JOINING;
use super::space::{Busy, Problem, RETRY, SCAN};
use super::{Effect, Engine, Job, Now, Space};
use crate::command::CommandError;
use crate::db::{DbError, dirty, spaces};
use crate::disk::RelPath;
use crate::disk::scan::{Found, Guard, Look, ProblemKind, ScanError, ScanReport, Scope};

/// Somebody waiting for the end of a scan.
pub(super) type ScanWaiter = oneshot::Sender<Result<(), CommandError>>;

/// A full scan finds what the watcher missed.
pub(super) const FULL_EVERY: u64 = 3_600_000;
/// The same while not all of the folder is watched, counted from the end of the last one: about the
/// time in which a person goes to another device to look, and never a scan on the heels of another.
const UNWATCHED_EVERY: u64 = 60_000;

/// A file that changed while it was read is read again after so long, ms.
const CHANGING: u64 = 500;
/// What may have moved to where a look did not come is gone if it was not met in this time, ms: the
/// watcher tells of a rename in a tenth of it.
const MISSING: u64 = 500;

impl Engine {
    /// The watcher saw something, or a peer's question showed it.
    pub(super) fn disturbed(&mut self, n: i64, dirs: Vec<RelPath>) {
        if let Some(space) = self.spaces.get_mut(&n) {
            space.want_scan((!dirs.is_empty()).then_some(dirs));
        }
    }

    /// The folder is watched, or why not all of it is: then scans come often, and people are told.
    pub(crate) fn watched(&mut self, now: Now, n: i64, lacking: Option<String>) {
        let Some(space) = self.spaces.get_mut(&n) else {
            return;
        };
        let before = space.unwatched.take();
        let anew = std::mem::take(&mut space.ignoring.rewatch);
        let Some(why) = lacking else {
            if before.is_some() || anew {
                // What changed before the watcher stood.
                space.want_scan(None);
            }
            return;
        };
        if before.is_none() {
            tracing::warn!(space = space.name, why, "not all of the folder is watched");
        }
        space.unwatched = Some(Problem {
            kind: "watch",
            reason: format!("changes are noticed within a minute or so, not at once: {why}"),
            since: before.map_or(now.wall, |p| p.since),
        });
        space.full_at = space.full_at.min(now.mono + UNWATCHED_EVERY);
    }

    /// When the next full scan is due; before it, the folder is watched anew if not all of it is.
    pub(super) fn full_scan_due(&mut self, now: Now, n: i64) {
        let Some(space) = self.spaces.get_mut(&n).filter(|s| now.mono >= s.full_at) else {
            return;
        };
        space.want_scan(None);
        space.full_at = space.next_full(now);
        if space.unwatched.is_some() {
            let path = space.row.path.clone();
            self.effects.push(Effect::Watch { space: n, path });
        }
    }

    /// The folder that stands there now is the space's: on this filesystem, with a new marker.
    pub fn marked(&mut self, n: i64, fs: Result<u64, String>) {
        let Some(space) = self.spaces.get_mut(&n) else {
            return;
        };
        match fs {
            Ok(fs) => {
                space.row.fs = fs;
                space.scanned = false;
                space.want_scan(None);
                if let Err(error) = self.set_stopped(n, None) {
                    tracing::error!(%error, "the space could not go on");
                }
            }
            Err(reason) => {
                // What is told is why it failed now, not what was wrong before.
                space.problems.remove("");
                let wall = self.seen_at.wall;
                space.problem("", "folder", reason, wall);
            }
        }
    }

    /// Starts a scan if one is wanted and the disk is free.
    pub(super) fn start_scan(&mut self, n: i64) {
        let job = self.next_job();
        let Some(space) = self.spaces.get_mut(&n) else {
            return;
        };
        let stopped = space.row.stopped.as_deref();
        if space.busy.is_some() || space.is_paused() || stopped == Some(JOINING) {
            return;
        }
        let Some(mut scope) = space.scan.take() else {
            return;
        };
        if let Scope::Dirs(dirs) = &mut scope {
            space.unreadable_in(dirs);
        }
        let waiters = if scope == Scope::All {
            std::mem::take(&mut space.scan_waiters)
        } else {
            Vec::new()
        };
        let guard = Guard {
            space: space.row.id,
            fs_id: space.row.fs,
        };
        space.busy = Some(Busy::Scan {
            job,
            news: BTreeMap::new(),
            scope: scope.clone(),
            waiters,
        });
        let rules = Arc::clone(&space.ignoring.rules);
        let passed = Arc::clone(&space.ignoring.passed);
        // Only what the watcher saw waits: a look at everything leaves nothing out.
        let now = self.seen_at.mono;
        let held = match scope {
            Scope::All => BTreeSet::new(),
            Scope::Dirs(_) => space.pace.waiting(now).into_keys().collect(),
        };
        let again = match scope {
            Scope::All => {
                space.doubted.clear();
                BTreeSet::new()
            }
            Scope::Dirs(_) => space.decided(now),
        };
        self.effects.push(Effect::Scan {
            space: n,
            job,
            guard,
            look: Look {
                scope,
                held,
                rules,
                passed,
                again,
            },
        });
    }

    /// Looks at a space's disk now; answers through `done` when that has ended.
    pub fn scan(&mut self, name: &str, now: Now, done: ScanWaiter) {
        let found = self.space_by_name(name);
        match found.and_then(|n| self.not_paused(n).map(|()| n)) {
            Err(error) => drop(done.send(Err(error))),
            Ok(n) => {
                if let Some(space) = self.spaces.get_mut(&n) {
                    space.refused.clear();
                    space.no_room = None;
                    space.want_scan(None);
                    space.scan_waiters.push(done);
                }
                self.start_scan(n);
                drop(self.turn(now));
            }
        }
    }

    /// Findings arrived: author them.
    pub(super) fn found(
        &mut self,
        now: Now,
        n: i64,
        job: Job,
        found: Vec<Found>,
    ) -> Result<(), DbError> {
        let incarnation = self.incarnation();
        self.own_log(n)?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let Some(Busy::Scan {
            job: running, news, ..
        }) = &mut space.busy
        else {
            return Ok(());
        };
        if *running != job {
            return Ok(());
        }
        let act = match space.row.act {
            // One act is what a person does at one go: it ends a minute after its last deletion, and
            // with the answer to it, which was given without knowing what else would go.
            Some((act, at))
                if now.wall.abs_diff(at) < 60_000 && !answered(self.db.read(), n, &act)? =>
            {
                act
            }
            _ => {
                let mut act = [0; 8];
                self.rng.fill_bytes(&mut act);
                act
            }
        };
        for one in &found {
            if let Found::Edited { id, .. } = one {
                space.pace.taken(*id, now.mono);
            }
        }
        let content = found.iter().any(|f| {
            matches!(
                f,
                Found::Created {
                    content: Some(_),
                    ..
                } | Found::Edited { .. }
            )
        });
        let authored = self.tally.authored;
        let mut row = space.row.clone();
        let (secret, tally) = (&space.secret, &mut self.tally);
        let (row, news) = self.db.write(|tx| {
            let mut totals = row.totals;
            let mut made = news.clone();
            let mut author = Author {
                docs: Docs::new(tx, n, &mut totals, tally, now),
                secret,
                actor: incarnation,
                act,
                news: &mut made,
                deleted: false,
                merging: row.merging,
                modes: space.traits.modes,
            };
            for one in found {
                author.take(one)?;
            }
            if author.deleted {
                row.act = Some((act, now.wall));
            }
            row.totals = totals;
            spaces::update(tx, &row)?;
            Ok::<_, DbError>((row, made))
        })?;
        space.row = row;
        if let Some(Busy::Scan { news: kept, .. }) = &mut space.busy {
            *kept = news;
        }
        if self.tally.authored != authored {
            space.again = true;
            if content {
                space.unsynced = Some(Vec::new());
            }
        }
        Ok(())
    }

    /// A scan ended: problems are listed, a folder that is not the one it was stops the space.
    pub(super) fn scanned(
        &mut self,
        now: Now,
        n: i64,
        job: Job,
        result: Result<ScanReport, ScanError>,
    ) -> Result<(), DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let (scope, waiters) = match space.busy.take() {
            Some(Busy::Scan {
                job: running,
                scope,
                waiters,
                ..
            }) if running == job => (scope, waiters),
            other => {
                space.busy = other;
                return Ok(());
            }
        };
        if let Err(ScanError::Rules(rules)) = result {
            return self.rules_hold(n, rules, waiters);
        }
        space.again = true;
        // What came for an item that the user's own doing settled is thrown away when it is planned.
        let staged: Vec<_> = space.staged_for.iter().map(|(item, _)| *item).collect();
        for item in staged {
            if !dirty::has(self.db.read(), n, &item)? && space.queued.insert(item) {
                space.queue.push_back(item);
            }
        }
        let mut answer = Ok(());
        match result {
            Ok(report) => {
                space.looked_at(&scope);
                let kind = problem_kind(ProblemKind::Rules);
                space.problems.retain(|_, problem| problem.kind != kind);
                let all = scope == Scope::All;
                space.ignoring.looked(&mut self.db, n, all, &report)?;
                if scope == Scope::All {
                    space.scanned = true;
                    space.full_at = space.next_full(now);
                    space.later = Default::default();
                    self.effects.push(Effect::Sweep { space: n });
                    // Only the rule file was looked at.
                    let alone = space.ignoring.rules.is_alone();
                    if !alone && std::mem::take(&mut space.row.merging) {
                        let row = space.row.clone();
                        self.db.write(|tx| spaces::update(tx, &row))?;
                    }
                }
                if !report.held.is_empty() {
                    let due = space.pace.waiting(now.mono).into_values().min();
                    space.look_later(report.held, due.unwrap_or(now.mono));
                }
                space.look_again(report.doubted, now.mono + MISSING);
                for problem in report.problems {
                    if problem.kind == ProblemKind::Changing {
                        let dir = problem.path.parent().unwrap_or(RelPath::ROOT);
                        space.look_later([dir], now.mono + CHANGING);
                    }
                    let path = problem.path.to_string();
                    space.problem(&path, problem_kind(problem.kind), problem.reason, now.wall);
                }
                if space
                    .row
                    .stopped
                    .as_deref()
                    .is_some_and(|why| why.starts_with("folder"))
                {
                    self.set_stopped(n, None)?;
                }
            }
            Err(error) => {
                let reason = error.to_string();
                answer = Err(CommandError::failed(reason.clone()));
                match error {
                    ScanError::MarkerMissing
                    | ScanError::OtherFilesystem
                    | ScanError::RootMissing
                    | ScanError::Io(_) => {
                        space.retry_at = Some(now.mono + 10 * RETRY);
                        self.set_stopped(n, Some(format!("folder: {reason}")))?;
                    }
                    // Nothing is wrong with the folder, and nobody else looks where this one did.
                    ScanError::Stopped | ScanError::Base(_) | ScanError::Rules(_) => {
                        tracing::error!(%reason, "a scan came to no end");
                        space.problem("", SCAN, reason, now.wall);
                        let at = now.mono + RETRY;
                        match scope {
                            _ if mutated!(ScanOnce) => {}
                            Scope::All => space.full_at = at,
                            Scope::Dirs(dirs) => space.look_later(dirs, at),
                        }
                    }
                }
            }
        }
        for waiter in waiters {
            drop(waiter.send(answer.clone()));
        }
        Ok(())
    }
}

impl Space {
    fn next_full(&self, now: Now) -> u64 {
        let every = if self.unwatched.is_some() && !mutated!(UnwatchedForgotten) {
            UNWATCHED_EVERY
        } else {
            FULL_EVERY
        };
        now.mono + every
    }
}

pub(super) fn problem_kind(kind: ProblemKind) -> &'static str {
    use ProblemKind as K;
    match kind {
        K::Unreadable => "unreadable",
        K::Name => "name",
        K::Special => "special",
        K::Changing => "changing",
        K::Rules => "rules",
        K::Database => "database",
    }
}
